//! The rooms of a poll: what each is to the account from now on, and writing that down.
//!
//! Part of [`ingest`](super::ingest), in its transaction: [`reads`] asks what is known of them, which the plan is made of;
//! [`writes`] stores what follows.

mod account_rooms;
mod reads;
mod writes;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

pub(super) use self::{reads::Known, writes::Writes};
use super::{
    Poll, RoomUpdate,
    bodies::BodyIds,
    state_plan::{Mode, Plan, plan},
};
use crate::{AccountId, BodyId, Error, Position, RoomNid, Section};

/// The rooms of a poll.
#[derive(Clone, Copy)]
pub(super) struct Rooms<'a> {
    pub(super) account_id: AccountId,
    pub(super) poll: &'a Poll,
    pub(super) room_nids: &'a HashMap<String, RoomNid>,
}

/// What is known of a room before the poll.
struct Before {
    section: Section,
    members_complete: bool,
    /// The user's own member event.
    own_member_event: Option<String>,
    notification_count: i64,
    highlight_count: i64,
    thread_counts: Option<Bytes>,
}

/// A room of the poll with what its place in the stream makes of it.
#[expect(clippy::struct_excessive_bools, reason = "each goes to a column of its own")]
pub(super) struct Planned<'a> {
    nid: RoomNid,
    update: &'a RoomUpdate,
    section_before: Option<Section>,
    newly_joined: bool,
    /// The poll brought the whole state of the room.
    anew: bool,
    /// The head need not hold every member any more.
    members_unknown: bool,
    /// The poll brought other unread counts than before.
    counted: bool,
    /// The bodies of its timeline.
    timeline: Vec<BodyId>,
    state: Plan,
}

impl Planned<'_> {
    /// Whether upstream counted something in this poll: its counts are others than before, and not all zero.
    fn notifies(&self) -> bool {
        let Some(counts) = &self.update.counts else { return false };
        let any = counts.notification_count > 0 || counts.highlight_count > 0;
        self.counted && (any || counts.threads.is_some())
    }
}

/// Whether a poll brings other unread counts than were known before it.
fn counts_change(update: &RoomUpdate, before: Option<&Before>) -> bool {
    let Some(counts) = &update.counts else { return false };
    let new = (counts.notification_count, counts.highlight_count, counts.threads.as_ref());
    let old = before.map_or((0, 0, None), |known| {
        (known.notification_count, known.highlight_count, known.thread_counts.as_ref())
    });
    new != old
}

impl<'a> Rooms<'a> {
    /// What becomes of each room at `pos`, given what was known of them.
    pub(super) fn plan(
        &self,
        pos: Position,
        mut known: Known,
        bodies: &BodyIds,
    ) -> Result<Vec<Planned<'a>>, Error> {
        let nothing = HashSet::new();
        let mut planned = Vec::with_capacity(self.poll.rooms.len());
        for update in &self.poll.rooms {
            let nid = self.nid(&update.room_id)?;
            let before = known.before.get(&nid);
            let newly_joined = self.is_newly_joined(pos, update, before);
            let mode = self.mode(pos, update, before);
            let head = known.heads.remove(&nid).unwrap_or_default();
            let old = known.superseded.get(&nid).unwrap_or(&nothing);
            let timeline = update.timeline.iter().map(|event| bodies.of(event));
            planned.push(Planned {
                nid,
                update,
                section_before: before.map(|before| before.section),
                newly_joined,
                anew: mode == Mode::Replace,
                members_unknown: newly_joined || update.section != Section::Join,
                counted: counts_change(update, before),
                timeline: timeline.collect::<Result<_, _>>()?,
                state: plan(update, mode, head, old, |event| bodies.of(event))?,
            });
        }
        Ok(planned)
    }

    fn nid(&self, room_id: &str) -> Result<RoomNid, Error> {
        self.room_nids.get(room_id).copied().ok_or_else(|| Error::Inconsistent {
            table: "rooms",
            column: "room_id",
            key: room_id.to_owned(),
        })
    }

    /// Whether the stream begins anew here, after polls of which upstream knows nothing any more.
    fn restarts(&self, pos: Position) -> bool {
        self.poll.asked_since.is_none() && pos > Position(1)
    }

    /// Whether the user comes (back) into the room in this poll: a join that the head already holds is
    /// only told again. Where the stream begins anew so does every joined room, for nobody knows what
    /// happened in between.
    fn is_newly_joined(&self, pos: Position, update: &RoomUpdate, before: Option<&Before>) -> bool {
        if update.section != Section::Join {
            return false;
        }
        before.is_none_or(|before| {
            let joins_anew =
                update.joins_anew.is_some() && update.joins_anew != before.own_member_event;
            before.section != Section::Join || joins_anew || self.restarts(pos)
        })
    }

    /// How the poll's state of a room relates to its head. A left room keeps its head; an invite says
    /// nothing about it; a room that was joined and left in one poll comes with its full state.
    fn mode(&self, pos: Position, update: &RoomUpdate, before: Option<&Before>) -> Mode {
        let Some(before) = before else { return Mode::Replace };
        match (update.section, before.section) {
            (Section::Join, _) if self.is_newly_joined(pos, update, Some(before)) => Mode::Replace,
            (Section::Leave, Section::Invite | Section::Knock) => Mode::Replace,
            _ => Mode::Delta { members_complete: before.members_complete },
        }
    }
}
