//! Rooms sorted in one order, section by section. Pure: a room that changes is taken out where it stood and put in where it
//! belongs.

use std::{cmp::Ordering, sync::Arc};

use store::Section;

use super::{Entry, SortBy};

/// The rooms of the sections that are listed, each section sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    by: Vec<SortBy>,
    joined: Vec<Arc<Entry>>,
    invited: Vec<Arc<Entry>>,
    knocked: Vec<Arc<Entry>>,
}

impl Order {
    /// Sorts rooms.
    pub(super) fn of<'a>(by: &[SortBy], rooms: impl Iterator<Item = &'a Arc<Entry>>) -> Self {
        let mut order = Self { by: by.to_vec(), ..Self::default() };
        for entry in rooms {
            if let Some(list) = order.list(entry.room.section) {
                list.push(Arc::clone(entry));
            }
        }
        for list in [&mut order.joined, &mut order.invited, &mut order.knocked] {
            list.sort_unstable_by(|one, other| compare(by, one, other));
        }
        order
    }

    /// What it goes by.
    pub(super) fn by(&self) -> &[SortBy] {
        &self.by
    }

    /// The rooms of a section.
    pub(super) fn section(&self, section: Section) -> &[Arc<Entry>] {
        match section {
            Section::Join => &self.joined,
            Section::Invite => &self.invited,
            Section::Knock => &self.knocked,
            Section::Leave => &[],
        }
    }

    /// Takes out a room, given as it is in here.
    pub(super) fn remove(&mut self, entry: &Entry) {
        if let (Ok(at), Some(list)) = (self.search(entry), self.list(entry.room.section)) {
            list.remove(at);
        }
    }

    /// Puts in a room that is not in here.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>) {
        if let (Err(at), Some(list)) = (self.search(entry), self.list(entry.room.section)) {
            list.insert(at, Arc::clone(entry));
        }
    }

    fn search(&self, entry: &Entry) -> Result<usize, usize> {
        let list = self.section(entry.room.section);
        list.binary_search_by(|other| compare(&self.by, other, entry))
    }

    fn list(&mut self, section: Section) -> Option<&mut Vec<Arc<Entry>>> {
        match section {
            Section::Join => Some(&mut self.joined),
            Section::Invite => Some(&mut self.invited),
            Section::Knock => Some(&mut self.knocked),
            Section::Leave => None,
        }
    }
}

fn compare(by: &[SortBy], one: &Entry, other: &Entry) -> Ordering {
    let (a, b) = (&one.room, &other.room);
    let ordering = |by: &SortBy| match by {
        SortBy::Recency => b.recency.cmp(&a.recency),
        SortBy::Name => one.name_key.cmp(&other.name_key),
        SortBy::NotificationCount => b.unread.notifications.cmp(&a.unread.notifications),
        SortBy::HighlightCount => b.unread.highlights.cmp(&a.unread.highlights),
    };
    // No two rooms have one ID, so every room has its place.
    by.iter()
        .map(ordering)
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| a.room_id.cmp(&b.room_id))
}
