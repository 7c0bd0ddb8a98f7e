//! What is told of which room. Pure: it knows neither the store nor how a reply is written.
//!
//! A room *stands open* while the user is invited to it or has knocked on it. What the place says has been told is every
//! room that stood open then, but those that it lists as untold.

use std::collections::{BTreeMap, BTreeSet};

use store::{RoomChange, RoomHead, RoomNid, Section};

/// What was read of the account.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Nothing was told yet.
    pub(super) is_first: bool,
    /// Of the rooms that stood open at the place, those that were not told.
    pub(super) untold: BTreeSet<RoomNid>,
    /// The rooms that polls mentioned since and that stood open before or stand open now.
    pub(super) changed: Vec<RoomChange>,
    /// Every room that stands open, where all are looked at.
    pub(super) open: Vec<RoomHead>,
    /// The rooms that polls mentioned which are stored already and not yet told. What was read of these may be of then.
    pub(super) later: Vec<RoomChange>,
}

/// What there is to say.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Rooms that stand open.
    pub(super) rooms: Vec<RoomHead>,
    /// The IDs of those that were told and are to be told no more.
    pub(super) left: Vec<String>,
    /// The rooms that stand open and are not told.
    pub(super) untold: BTreeSet<RoomNid>,
}

impl News {
    /// Whether there is nothing to say.
    pub(super) fn is_nothing(&self) -> bool {
        self.rooms.is_empty() && self.left.is_empty()
    }
}

/// Whether a room of this section stands open.
pub(super) fn is_open(section: Section) -> bool {
    matches!(section, Section::Invite | Section::Knock)
}

impl Found {
    /// Decides what to say, of the rooms that are `shown`.
    pub(super) fn decide(self, shown: impl Fn(&RoomHead) -> bool) -> News {
        let Self { is_first, untold, changed, open, later } = self;
        let later: BTreeMap<RoomNid, Option<Section>> = later
            .into_iter()
            .map(|change| (change.room.head.room_nid, change.room.section_before))
            .collect();
        let mut news = News { untold: untold.clone(), ..News::default() };
        let mut seen = BTreeSet::new();
        for RoomChange { room, .. } in changed {
            let nid = room.head.room_nid;
            seen.insert(nid);
            let was_told = room.section_before.is_some_and(is_open) && !untold.contains(&nid);
            if !is_open(room.head.section) {
                news.closes(room.head, was_told);
            } else if !later.contains_key(&nid) {
                news.stands_open(room.head, was_told, true, &shown);
            } else if !was_told {
                // It comes with the next reply, and until then there is nothing to take back.
                news.untold.insert(nid);
            }
        }
        for room in open {
            let nid = room.room_nid;
            if !seen.contains(&nid) && !later.contains_key(&nid) {
                let was_told = !is_first && !untold.contains(&nid);
                news.stands_open(room, was_told, false, &shown);
            }
        }
        if is_first {
            let still_open = later.into_iter().filter(|(_, section)| section.is_some_and(is_open));
            news.untold.extend(still_open.map(|(nid, _)| nid));
        }
        news
    }
}

impl News {
    fn closes(&mut self, room: RoomHead, was_told: bool) {
        self.untold.remove(&room.room_nid);
        if was_told {
            self.left.push(room.room_id);
        }
    }

    fn stands_open(
        &mut self,
        room: RoomHead,
        was_told: bool,
        has_changed: bool,
        shown: impl Fn(&RoomHead) -> bool,
    ) {
        if shown(&room) {
            self.untold.remove(&room.room_nid);
            if has_changed || !was_told {
                self.rooms.push(room);
            }
        } else {
            self.untold.insert(room.room_nid);
            if was_told {
                self.left.push(room.room_id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
