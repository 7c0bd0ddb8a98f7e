//! What an account sees of its rooms: timelines with truthful `limited`, and state at their start.
//!
//! Both APIs stand on this. A view is a pure function of a stretch of the account stream and of what
//! the client wants; it knows neither query parameters nor the shape of an answer. Everything is
//! loaded for many rooms at once.

mod event_fields;
pub(crate) mod facts;
mod look_back;
mod reads;
mod room;
mod room_name;
mod state;
mod timeline;

use store::{Position, RoomHead};

pub(crate) use self::{
    event_fields::EventFields,
    look_back::LookBack,
    room::{RoomView, View, load, members_told},
    state::{heroes, state_before},
    timeline::{TimelineView, load as load_timelines},
};

/// Which stretch of a room's history a view covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything that is retained since the last hard cut: the client knows nothing of the room.
    Whole {
        /// The position of a client that knows other rooms. Here the timeline counts as limited; it holds nothing
        /// from before, which the client may have been told when the user was in the room in former times.
        since: Option<Position>,
    },
    /// What came after a position, that of a `since`.
    Since {
        /// The position.
        since: Position,
        /// The last hard cut after it: nothing from before it may be shown with what follows.
        cut: Option<Position>,
        /// The client asked for the full state all the same.
        full_state: bool,
    },
}

/// A room to view.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The room as it stands.
    pub(crate) head: RoomHead,
    /// How much of it.
    pub(crate) extent: Extent,
}

impl Wanted {
    /// Latest values are wanted when they changed after this position.
    pub(crate) fn values_since(&self) -> Position {
        match self.extent {
            Extent::Whole { .. } => Position(0),
            Extent::Since { full_state: true, .. } => Position(0),
            Extent::Since { since, .. } => since,
        }
    }

    /// Whether the summary is told: to a client that lacks it, or when it changed.
    pub(crate) fn tells_summary(&self) -> bool {
        self.head.summary_pos > self.values_since() || self.wants_full_state()
    }

    /// Whether the whole state is wanted.
    fn wants_full_state(&self) -> bool {
        matches!(self.extent, Extent::Whole { .. } | Extent::Since { full_state: true, .. })
    }

    /// Events of polls after this position only.
    fn timeline_after(&self) -> Position {
        match self.extent {
            Extent::Whole { since } => {
                before(self.head.segment_pos).max(since.unwrap_or(Position(0)))
            }
            Extent::Since { since, cut, .. } => cut.map_or(since, |cut| since.max(before(cut))),
        }
    }

    /// Whether events are missing before everything that may be shown.
    fn is_cut(&self) -> bool {
        match self.extent {
            Extent::Whole { since } => since.is_some() || self.head.segment_limited,
            Extent::Since { cut, .. } => cut.is_some(),
        }
    }
}

fn before(pos: Position) -> Position {
    Position(pos.0.saturating_sub(1))
}
