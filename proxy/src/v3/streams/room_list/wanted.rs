//! Which entries a reply is to have, and how much each is to tell. What is in them is `entry`'s business.

use store::{Position, RoomChange, RoomHead};

/// A room that is to be told.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The room.
    pub(super) head: RoomHead,
    /// How it is told.
    pub(super) how: How,
}

/// How a room is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Whole, as it stood after a poll.
    Whole {
        /// The poll.
        at: Position,
    },
    /// What is new.
    Since(News),
    /// The events that notify.
    Notifying {
        /// What is new to a client that has got the room; `None` for one that has not.
        news: Option<News>,
        /// Events of polls after this position only.
        after: Position,
        /// And only of these polls; `None` for all.
        polls: Option<Vec<Position>>,
    },
}

/// What is known to be new of a room before its events are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The client was told up to here.
    pub(super) since: Position,
    /// The last hard cut after it.
    pub(super) cut: Option<Position>,
    /// Whether unread counts changed, or may have.
    pub(super) counted: bool,
    /// Whether `is_dm` changed.
    pub(super) dm_changed: bool,
    /// Why the room is looked at.
    pub(super) occasion: Occasion,
}

/// Why a room is looked at that the client has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// There may be something new in it: else it is not told.
    Change,
    /// It is told even if there is nothing new.
    Page,
    /// It is told with all of its state, and not with what changed of it.
    OtherState,
}

impl News {
    /// After `since`, as far as `change` knows.
    pub(super) fn of(change: Option<&RoomChange>, since: Position) -> Self {
        Self {
            since,
            cut: change.and_then(|change| change.room.cut).filter(|cut| *cut > since),
            counted: change.is_some_and(|change| change.counted),
            dm_changed: false,
            occasion: Occasion::Change,
        }
    }
}

/// Whether the user has come (back) into a room after `since`, so that what was told of it before is void.
pub(super) fn rejoined(change: Option<&RoomChange>, since: Position) -> bool {
    change.is_some_and(|change| {
        change.room.newly_joined && change.room.cut.is_none_or(|cut| cut > since)
    })
}
