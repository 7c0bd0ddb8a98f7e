//! What the plan of a poll's rooms is made of: how they stand, and the state that the poll may change.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;

use super::{Before, Rooms};
use crate::{
    BodyId, Error, Position, RoomNid, Section,
    account_stream::{
        Event, RoomUpdate, StateBlock,
        bodies::BodyIds,
        state_plan::{HeadEntry, Mode, StateKey},
    },
    room_heads::bytes_of,
    tx::{Flight, Statement, Tx, params},
};

/// What is known of the rooms before the poll.
#[derive(Default)]
pub(in crate::account_stream) struct Known {
    pub(super) before: HashMap<RoomNid, Before>,
    /// The head entries that the poll may change: the keys it mentions, and everything of a room whose state it replaces.
    pub(super) heads: Heads,
    /// Bodies of state blocks that the head held once and no longer does. After a fork in a room's
    /// history upstream tells such state again before a timeline: it is not news.
    pub(super) superseded: HashMap<RoomNid, HashSet<BodyId>>,
}

type Heads = HashMap<RoomNid, HashMap<StateKey, HeadEntry>>;

impl<'a> Rooms<'a> {
    /// Asks how the rooms stand.
    pub(in crate::account_stream) fn before(&self) -> Option<Statement<'a>> {
        if self.poll.rooms.is_empty() {
            return None;
        }
        let nids: Vec<i64> = self.room_nids.values().map(|nid| nid.0).collect();
        Some(Statement::new(
            "-- write_rooms::before
            SELECT h.room_nid, h.section, h.members_complete, b.event_id AS own_member_event,
                h.notification_count, h.highlight_count, h.thread_counts
            FROM account_rooms h
            JOIN accounts a ON a.account_id = h.account_id
            LEFT JOIN room_state s
                ON s.account_id = h.account_id
                AND s.room_nid = h.room_nid
                AND s.event_type = 'm.room.member'
                AND s.state_key = a.user_id
            LEFT JOIN event_bodies b ON b.body_id = s.body_id
            WHERE h.account_id = $1 AND h.room_nid = ANY($2)",
            params![self.account_id.0, nids],
        ))
    }

    /// Asks for the head entries of the state keys that the poll mentions.
    pub(in crate::account_stream) fn heads(&self) -> Result<Option<Statement<'a>>, Error> {
        let (mut nids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for update in &self.poll.rooms {
            // Its state is replaced whatever the head holds: see `is_newly_joined`.
            if self.poll.asked_since.is_none() && update.section == Section::Join {
                continue;
            }
            let nid = self.nid(&update.room_id)?;
            for event in state(update).iter().chain(&update.timeline) {
                if let Some(state_key) = &event.state_key {
                    nids.push(nid.0);
                    types.push(event.event_type.as_str());
                    keys.push(state_key.as_str());
                }
            }
        }
        if nids.is_empty() {
            return Ok(None);
        }
        Ok(Some(Statement::new(
            "-- write_rooms::heads
            SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
            FROM (
                SELECT DISTINCT room_nid, event_type, state_key
                FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[]) AS t (room_nid, event_type, state_key)
            ) t
            JOIN room_state s
                ON s.account_id = $1
                AND s.room_nid = t.room_nid
                AND s.event_type = t.event_type
                AND s.state_key = t.state_key",
            params![self.account_id.0, nids, types, keys],
        )))
    }

    /// Reads the answers to [`Self::before`] and [`Self::heads`], and asks for what follows from them: mostly nothing. `pos`
    /// is the poll's.
    pub(in crate::account_stream) async fn known(
        &self,
        tx: &Tx,
        pos: Position,
        (before, heads): (&[Row], &[Row]),
        bodies: &BodyIds,
    ) -> Result<Known, Error> {
        let before = before.iter().map(Before::of).collect::<Result<HashMap<_, _>, _>>()?;
        let mut replaced = HashSet::new();
        for update in &self.poll.rooms {
            let nid = self.nid(&update.room_id)?;
            if self.mode(pos, update, before.get(&nid)) == Mode::Replace {
                replaced.insert(nid);
            }
        }
        let mut known = Known { before, ..Known::default() };
        let mentioned = heads.iter().map(head_entry);
        known.add_heads(mentioned.filter(|(nid, _, _)| !replaced.contains(nid)));
        let superseded = self.superseded(&known.heads, bodies)?;
        let mut flight = Flight::default();
        let anew = replaced.iter().filter(|nid| known.before.contains_key(nid)).map(|nid| nid.0);
        let anew = flight.add(self.whole_heads(anew.collect()));
        let superseded = flight.add(superseded);
        let mut answers = tx.fly(&flight).await?;
        known.add_heads(answers.take(anew).iter().map(head_entry));
        for row in answers.take(superseded) {
            let body_id = BodyId(row.get("old_body_id"));
            let nid = RoomNid(row.get("room_nid"));
            known.superseded.entry(nid).or_default().insert(body_id);
        }
        Ok(known)
    }

    fn whole_heads(&self, nids: Vec<i64>) -> Option<Statement<'a>> {
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::whole_heads
            SELECT room_nid, event_type, state_key, body_id, unsigned
            FROM room_state
            WHERE account_id = $1 AND room_nid = ANY($2)",
            params![self.account_id.0, nids],
        ))
    }

    /// Asks which bodies are [superseded](Known::superseded). A room whose state is replaced has none that count.
    fn superseded(&self, heads: &Heads, bodies: &BodyIds) -> Result<Option<Statement<'a>>, Error> {
        let (mut nids, mut body_ids) = (Vec::new(), Vec::new());
        for update in &self.poll.rooms {
            let nid = self.nid(&update.room_id)?;
            let (StateBlock::BeforeTimeline(state), false, Some(head)) =
                (&update.state, update.limited, heads.get(&nid))
            else {
                continue;
            };
            for event in state {
                let Some(state_key) = &event.state_key else { continue };
                let body_id = bodies.of(event)?;
                let current = head.get(&(event.event_type.clone(), state_key.clone()));
                if current.is_some_and(|current| current.body_id != body_id) {
                    nids.push(nid.0);
                    body_ids.push(body_id.0);
                }
            }
        }
        if nids.is_empty() {
            return Ok(None);
        }
        Ok(Some(Statement::new(
            "-- write_rooms::superseded
            SELECT DISTINCT c.room_nid, c.old_body_id
            FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, body_id)
            JOIN state_changes c
                ON c.account_id = $1 AND c.room_nid = t.room_nid AND c.old_body_id = t.body_id",
            params![self.account_id.0, nids, body_ids],
        )))
    }
}

impl Known {
    fn add_heads(&mut self, entries: impl Iterator<Item = (RoomNid, StateKey, HeadEntry)>) {
        for (nid, key, entry) in entries {
            self.heads.entry(nid).or_default().insert(key, entry);
        }
    }
}

impl Before {
    fn of(row: &Row) -> Result<(RoomNid, Self), Error> {
        let before = Self {
            section: Section::from_db(row.get("section"))?,
            members_complete: row.get("members_complete"),
            own_member_event: row.get("own_member_event"),
            notification_count: row.get("notification_count"),
            highlight_count: row.get("highlight_count"),
            thread_counts: bytes_of(row, "thread_counts"),
        };
        Ok((RoomNid(row.get("room_nid")), before))
    }
}

fn head_entry(row: &Row) -> (RoomNid, StateKey, HeadEntry) {
    let entry =
        HeadEntry { body_id: BodyId(row.get("body_id")), unsigned: bytes_of(row, "unsigned") };
    (RoomNid(row.get("room_nid")), (row.get("event_type"), row.get("state_key")), entry)
}

fn state(update: &RoomUpdate) -> &[Event] {
    let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) = &update.state;
    state
}
