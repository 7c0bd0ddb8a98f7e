//! Which list of members: whose membership counts, and in which order they stand.

/// A list of members of some room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) sort: Sort,
    pub(super) memberships: Memberships,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// By power level, highest first, then by name.
    #[default]
    ByPl,
    /// By name.
    ByName,
}

impl Sort {
    /// The order of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::ByPl, Self::ByName].into_iter().find(|sort| sort.name() == name)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ByPl => "by_pl",
            Self::ByName => "by_name",
        }
    }

    /// Its number in tokens.
    fn number(self) -> u8 {
        match self {
            Self::ByPl => 0,
            Self::ByName => 1,
        }
    }
}

/// A set of memberships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memberships(u8);

/// Every membership there is; its index is its bit in tokens, so the order never changes.
const NAMES: [&str; 5] = ["invite", "join", "knock", "leave", "ban"];

impl Default for Memberships {
    /// Those who are in the room, and those who are asked in.
    fn default() -> Self {
        Self(0b0_0011)
    }
}

impl Memberships {
    /// The memberships of these names; `None` if one of them is none.
    pub(super) fn of(names: &[&str]) -> Option<Self> {
        names.iter().try_fold(Self(0), |Self(set), name| Some(Self(set | bit(name)?)))
    }

    /// Their names.
    pub(super) fn names(self) -> Vec<&'static str> {
        NAMES.into_iter().filter(|name| self.contains(name)).collect()
    }

    /// Whether a membership is one of them.
    pub(super) fn contains(self, name: &str) -> bool {
        bit(name).is_some_and(|bit| self.0 & bit != 0)
    }
}

fn bit(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|index| 1 << index)
}

impl List {
    /// For tokens.
    pub(super) fn encode(self) -> [u8; 2] {
        [self.sort.number(), self.memberships.0]
    }

    /// Reads what [`List::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [sort, memberships] = bytes else { return None };
        let sort = [Sort::ByPl, Sort::ByName].into_iter().find(|it| it.number() == *sort)?;
        Some(Self { sort, memberships: Memberships(*memberships) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships() {
        let check = |names: &[&str], expected: Option<&[&str]>| {
            let set = Memberships::of(names);
            assert_eq!(set.map(Memberships::names).as_deref(), expected, "{names:?}");
        };
        check(&[], Some(&[]));
        check(&["join", "invite"], Some(&["invite", "join"]));
        check(&["ban", "ban"], Some(&["ban"]));
        check(&["ban", "leave", "knock", "join", "invite"], Some(&NAMES));
        check(&["join", "joined"], None);
        check(&["Join"], None);
        assert_eq!(Memberships::of(&["join", "invite"]), Some(Memberships::default()));
        assert!(!Memberships::default().contains("leave"));
        assert!(!Memberships::default().contains(""));
    }

    #[test]
    fn lists_round_trip() {
        for sort in [Sort::ByPl, Sort::ByName] {
            for memberships in 0..32 {
                let list = List { sort, memberships: Memberships(memberships) };
                assert_eq!(List::decode(&list.encode()), Some(list));
                assert_eq!(Sort::of(sort.name()), Some(sort));
            }
        }
        assert_eq!(List::decode(&[9, 0]), None);
        assert_eq!(List::decode(&[0]), None);
    }
}
