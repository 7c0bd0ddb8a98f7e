//! The orders of a list, applied in turn as tie-breaks.

use crate::account::room_index::SortBy;

/// One order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// One that the room index knows.
    Index(SortBy),
    /// That of the spaces.
    Space,
}

/// Every order by its name.
const NAMES: [(&str, Order); 5] = [
    ("by_recency", Order::Index(SortBy::Recency)),
    ("by_name", Order::Index(SortBy::Name)),
    ("by_notification_count", Order::Index(SortBy::NotificationCount)),
    ("by_highlight_count", Order::Index(SortBy::HighlightCount)),
    ("by_space_order", Order::Space),
];

/// The order of a list: never empty, nothing in it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sort(Vec<Order>);

impl Default for Sort {
    fn default() -> Self {
        Self(vec![Order::Index(SortBy::Recency)])
    }
}

impl Sort {
    /// The orders of these names, as far as there are such.
    pub(super) fn of(names: &[&str]) -> Self {
        let mut orders: Vec<Order> = Vec::new();
        for name in names {
            let known = NAMES.iter().find(|(known, _)| known == name);
            if let Some((_, order)) = known
                && !orders.contains(order)
            {
                orders.push(*order);
            }
        }
        if orders.is_empty() { Self::default() } else { Self(orders) }
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let name = |order| NAMES.iter().find(|(_, known)| known == order).map(|(name, _)| *name);
        self.0.iter().filter_map(name).collect()
    }

    /// Whether the order of spaces is among them.
    pub(super) fn by_space_order(&self) -> bool {
        self.0.contains(&Order::Space)
    }

    /// The orders before that of spaces, which leaves no ties; all of them where it is not among them.
    pub(super) fn in_index(&self) -> Vec<SortBy> {
        let of_index = |order: &Order| match order {
            Order::Index(by) => Some(*by),
            Order::Space => None,
        };
        self.0.iter().map_while(of_index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_orders_are_left_out() {
        let check = |asked: &[&str], expected: &[&str]| {
            assert_eq!(Sort::of(asked).names(), expected);
        };
        check(&[], &["by_recency"]);
        check(&["by_magic"], &["by_recency"]);
        check(&["by_name", "by_magic", "by_recency"], &["by_name", "by_recency"]);
        check(&["by_name", "by_name"], &["by_name"]);
    }

    #[test]
    fn the_order_of_spaces_leaves_no_ties() {
        let sort = Sort::of(&["by_highlight_count", "by_space_order", "by_name"]);
        assert!(sort.by_space_order());
        assert_eq!(sort.in_index(), [SortBy::HighlightCount]);
        assert_eq!(sort.names(), ["by_highlight_count", "by_space_order", "by_name"]);
    }
}
