//! Which rooms a reply tells, and how much of each: anew, with what is new, or for the last time.
//!
//! It looks at where rooms stand and what polls changed in them, never at what they hold.

use std::collections::BTreeSet;

use store::{Position, RoomChange, RoomHead, RoomNid, Section};

use super::{
    asked::Asked,
    place::{Measure, Place},
};
use crate::{
    error::Error,
    v3::view::View,
    views::{Extent, Wanted},
};

/// A room to tell.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// The room, and how much of it.
    pub(super) wanted: Wanted,
    /// It comes anew.
    pub(super) initial: bool,
    /// Other unread counts than before: reason enough to tell it.
    pub(super) counted: bool,
}

/// What a reply tells.
#[derive(Debug)]
pub(super) struct Plan {
    /// The rooms, in the order of their numbers.
    pub(super) rooms: Vec<Planned>,
    /// The rooms that the session has been told of after the reply.
    pub(super) told: BTreeSet<RoomNid>,
    /// And how much of each.
    pub(super) measure: Measure,
}

impl Plan {
    /// For a session that has been answered up to `place`.
    pub(super) async fn make(
        asked: &Asked,
        view: &View<'_>,
        place: Option<&Place>,
    ) -> Result<Self, Error> {
        let now_asked = Measure::of(asked);
        let (since, told_before) = match place {
            Some(place) => (view.retained(place.pos)?, place.told.rooms(view.sets)?),
            None => (view.now, BTreeSet::new()),
        };
        let followed = asked.followed.rooms(view, &told_before).await?;
        // A client that names rooms has dropped those that it names no more. Those that left the active set have
        // perhaps been left by the user.
        let listened = if asked.followed.is_room_list() {
            told_before.clone()
        } else {
            told_before.intersection(&followed).copied().collect()
        };
        let changes = view.changes_of(since, &listened).await?;
        let covered = place.is_some_and(|place| place.measure.covers(&now_asked));

        let mut rooms = Vec::new();
        let mut told: BTreeSet<RoomNid> = followed.intersection(&told_before).copied().collect();
        let mut anew = followed.clone();
        if covered {
            anew.retain(|room| !told.contains(room));
        }
        for change in changes {
            let room = change.room.head.room_nid;
            if change.room.head.section != Section::Join {
                told.remove(&room);
                anew.remove(&room);
                rooms.push(left(change, since));
            } else if told.contains(&room) && !anew.contains(&room) {
                if change.room.newly_joined {
                    anew.insert(room);
                } else {
                    rooms.push(changed(change, since));
                }
            }
        }
        told.retain(|room| !anew.contains(room));
        let measure = place.map(|place| place.measure).filter(|_| covered && !told.is_empty());
        let mut any_anew = false;
        let heads = asked.followed.joined(view, &anew).await?;
        // What was left after this moment is told so next time.
        let gone = |room: &RoomNid| !heads.iter().any(|head| head.room_nid == *room);
        told.extend(anew.intersection(&told_before).filter(|room| gone(room)));
        for head in heads {
            // Of a room that was joined, or got a gap, after this moment there is nothing yet to be told.
            if head.segment_pos <= view.now {
                any_anew = true;
                told.insert(head.room_nid);
                rooms.push(whole(head));
            }
        }
        rooms.sort_by_key(|room| room.wanted.head.room_nid);
        let measure = match measure {
            Some(measure) if any_anew => measure.and(&now_asked),
            Some(measure) => measure,
            None => now_asked,
        };
        Ok(Self { rooms, told, measure })
    }
}

fn whole(head: RoomHead) -> Planned {
    let wanted = Wanted { head, extent: Extent::Whole { since: None } };
    Planned { wanted, initial: true, counted: false }
}

fn changed(change: RoomChange, since: Position) -> Planned {
    let extent = Extent::Since { since, cut: change.room.cut, full_state: false };
    let counted = change.counted;
    Planned { wanted: Wanted { head: change.room.head, extent }, initial: false, counted }
}

/// A room that the user is out of. One that was left, joined again and left once more comes anew before it goes.
fn left(change: RoomChange, since: Position) -> Planned {
    if !change.room.newly_joined {
        return changed(change, since);
    }
    whole(change.room.head)
}
