//! The rooms of a poll: what each is to the account from now on, and writing that down: `room_updates`,
//! `timeline_events` with what they copy and the gaps before them, the head and its undo.
//!
//! Part of [`ingest`](super::ingest), in its transaction. `account_rooms` has a file of its own.

mod account_rooms;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tokio::try_join;

use super::{
    Poll, RoomUpdate, StateBlock,
    bodies::BodyIds,
    state_plan::{HeadEntry, Mode, Plan, StateKey, plan},
};
use crate::{AccountId, BodyId, Error, Position, RoomNid, Section, room_heads::bytes_of, tx::Tx};

/// The rooms of a poll, ready to be written.
pub(super) struct Rooms<'a> {
    pub(super) account_id: AccountId,
    pub(super) pos: Position,
    pub(super) poll: &'a Poll,
    pub(super) room_nids: &'a HashMap<String, RoomNid>,
    pub(super) bodies: &'a BodyIds,
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
struct Planned<'a> {
    nid: RoomNid,
    update: &'a RoomUpdate,
    newly_joined: bool,
    /// The poll brought the whole state of the room.
    anew: bool,
    /// The head need not hold every member any more.
    members_unknown: bool,
    /// The poll brought other unread counts than before.
    counted: bool,
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

impl Rooms<'_> {
    pub(super) async fn write(&self, tx: &Tx) -> Result<(), Error> {
        if self.poll.rooms.is_empty() {
            return Ok(());
        }
        let before = self.before(tx).await?;
        let mut heads = self.heads(tx, &before).await?;
        let superseded = self.superseded(tx, &heads).await?;
        let nothing = HashSet::new();
        let mut planned = Vec::with_capacity(self.poll.rooms.len());
        for update in &self.poll.rooms {
            let nid = self.nid(&update.room_id)?;
            let known = before.get(&nid);
            let newly_joined = self.is_newly_joined(update, known);
            let mode = self.mode(update, known);
            let head = heads.remove(&nid).unwrap_or_default();
            let old = superseded.get(&nid).unwrap_or(&nothing);
            let state = plan(update, mode, head, old, |event| self.bodies.of(event))?;
            let members_unknown = newly_joined || update.section != Section::Join;
            let anew = mode == Mode::Replace;
            let counted = counts_change(update, known);
            planned.push(Planned {
                nid,
                update,
                newly_joined,
                anew,
                members_unknown,
                counted,
                state,
            });
        }
        try_join!(
            self.write_updates(tx, &planned),
            self.write_timelines(tx, &planned),
            self.write_copies(tx, &planned),
            self.write_scans(tx, &planned),
            self.write_state_changes(tx, &planned),
            self.write_heads(tx, &planned),
            self.write_account_rooms(tx, &planned),
        )?;
        Ok(())
    }

    fn nid(&self, room_id: &str) -> Result<RoomNid, Error> {
        self.room_nids.get(room_id).copied().ok_or_else(|| Error::Inconsistent {
            table: "rooms",
            column: "room_id",
            key: room_id.to_owned(),
        })
    }

    /// Whether the stream begins anew here, after polls of which upstream knows nothing any more.
    fn restarts(&self) -> bool {
        self.poll.asked_since.is_none() && self.pos > Position(1)
    }

    /// Whether the user comes (back) into the room in this poll: a join that the head already holds is
    /// only told again. Where the stream begins anew so does every joined room, for nobody knows what
    /// happened in between.
    fn is_newly_joined(&self, update: &RoomUpdate, before: Option<&Before>) -> bool {
        if update.section != Section::Join {
            return false;
        }
        before.is_none_or(|before| {
            let joins_anew =
                update.joins_anew.is_some() && update.joins_anew != before.own_member_event;
            before.section != Section::Join || joins_anew || self.restarts()
        })
    }

    /// How the poll's state of a room relates to its head. A left room keeps its head; an invite says
    /// nothing about it; a room that was joined and left in one poll comes with its full state.
    fn mode(&self, update: &RoomUpdate, before: Option<&Before>) -> Mode {
        let Some(before) = before else { return Mode::Replace };
        match (update.section, before.section) {
            (Section::Join, _) if self.is_newly_joined(update, Some(before)) => Mode::Replace,
            (Section::Leave, Section::Invite | Section::Knock) => Mode::Replace,
            _ => Mode::Delta { members_complete: before.members_complete },
        }
    }

    async fn before(&self, tx: &Tx) -> Result<HashMap<RoomNid, Before>, Error> {
        let nids: Vec<i64> = self.room_nids.values().map(|nid| nid.0).collect();
        let rows = tx
            .query(
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
                &[&self.account_id.0, &nids],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let before = Before {
                    section: Section::from_db(row.get("section"))?,
                    members_complete: row.get("members_complete"),
                    own_member_event: row.get("own_member_event"),
                    notification_count: row.get("notification_count"),
                    highlight_count: row.get("highlight_count"),
                    thread_counts: bytes_of(row, "thread_counts"),
                };
                Ok((RoomNid(row.get("room_nid")), before))
            })
            .collect()
    }

    /// The head entries that the poll may change: the keys it mentions, and everything of a room
    /// whose state it replaces.
    async fn heads(
        &self,
        tx: &Tx,
        before: &HashMap<RoomNid, Before>,
    ) -> Result<HashMap<RoomNid, HashMap<StateKey, HeadEntry>>, Error> {
        let mut replaced = Vec::new();
        let (mut nids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for update in &self.poll.rooms {
            let nid = self.nid(&update.room_id)?;
            let Some(known) = before.get(&nid) else { continue };
            if self.mode(update, Some(known)) == Mode::Replace {
                replaced.push(nid.0);
                continue;
            }
            let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) =
                &update.state;
            for event in state.iter().chain(&update.timeline) {
                if let Some(state_key) = &event.state_key {
                    nids.push(nid.0);
                    types.push(event.event_type.as_str());
                    keys.push(state_key.as_str());
                }
            }
        }
        let mut heads: HashMap<RoomNid, HashMap<StateKey, HeadEntry>> = HashMap::new();
        if nids.is_empty() && replaced.is_empty() {
            return Ok(heads);
        }
        let rows = tx
            .query(
                "-- write_rooms::heads
                SELECT s.room_nid, s.event_type, s.state_key, s.body_id, s.unsigned
                FROM (
                    SELECT DISTINCT room_nid, event_type, state_key
                    FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[])
                        AS t (room_nid, event_type, state_key)
                ) t
                JOIN room_state s
                    ON s.account_id = $1
                    AND s.room_nid = t.room_nid
                    AND s.event_type = t.event_type
                    AND s.state_key = t.state_key
                UNION ALL
                SELECT room_nid, event_type, state_key, body_id, unsigned
                FROM room_state
                WHERE account_id = $1 AND room_nid = ANY($5)",
                &[&self.account_id.0, &nids, &types, &keys, &replaced],
            )
            .await?;
        for row in rows {
            let entry = HeadEntry {
                body_id: BodyId(row.get("body_id")),
                unsigned: bytes_of(&row, "unsigned"),
            };
            heads
                .entry(RoomNid(row.get("room_nid")))
                .or_default()
                .insert((row.get("event_type"), row.get("state_key")), entry);
        }
        Ok(heads)
    }

    /// Bodies of state blocks that the head held once and no longer does. After a fork in a room's
    /// history upstream tells such state again before a timeline: it is not news.
    async fn superseded(
        &self,
        tx: &Tx,
        heads: &HashMap<RoomNid, HashMap<StateKey, HeadEntry>>,
    ) -> Result<HashMap<RoomNid, HashSet<BodyId>>, Error> {
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
                let body_id = self.bodies.of(event)?;
                let current = head.get(&(event.event_type.clone(), state_key.clone()));
                if current.is_some_and(|current| current.body_id != body_id) {
                    nids.push(nid.0);
                    body_ids.push(body_id.0);
                }
            }
        }
        let mut superseded: HashMap<RoomNid, HashSet<BodyId>> = HashMap::new();
        if nids.is_empty() {
            return Ok(superseded);
        }
        let rows = tx
            .query(
                "-- write_rooms::superseded
                SELECT DISTINCT c.room_nid, c.old_body_id
                FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, body_id)
                JOIN state_changes c
                    ON c.account_id = $1 AND c.room_nid = t.room_nid AND c.old_body_id = t.body_id",
                &[&self.account_id.0, &nids, &body_ids],
            )
            .await?;
        for row in rows {
            let body_id = BodyId(row.get("old_body_id"));
            superseded.entry(RoomNid(row.get("room_nid"))).or_default().insert(body_id);
        }
        Ok(superseded)
    }

    async fn write_updates(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let nids: Vec<i64> = planned.iter().map(|room| room.nid.0).collect();
        let sections: Vec<i16> = planned.iter().map(|room| room.update.section.to_db()).collect();
        let limited: Vec<bool> = planned.iter().map(|room| room.update.limited).collect();
        let newly: Vec<bool> = planned.iter().map(|room| room.newly_joined).collect();
        let lens: Vec<i32> = planned
            .iter()
            .map(|room| i32::try_from(room.update.timeline.len()).unwrap_or(i32::MAX))
            .collect();
        let prev_batches: Vec<Option<&str>> =
            planned.iter().map(|room| room.update.prev_batch.as_deref()).collect();
        let counted: Vec<bool> = planned.iter().map(|room| room.counted).collect();
        let notifies: Vec<bool> = planned.iter().map(Planned::notifies).collect();
        tx.execute(
            "-- write_rooms::write_updates
            INSERT INTO room_updates (
                account_id, pos, room_nid, section, limited, newly_joined, timeline_len, prev_batch,
                counted, notifies
            )
            SELECT $1, $2, t.room_nid, t.section, t.limited, t.newly_joined, t.timeline_len, t.prev_batch,
                t.counted, t.notifies
            FROM UNNEST(
                $3::BIGINT[], $4::SMALLINT[], $5::BOOLEAN[], $6::BOOLEAN[], $7::INTEGER[], $8::TEXT[],
                $9::BOOLEAN[], $10::BOOLEAN[]
            ) AS t (
                room_nid, section, limited, newly_joined, timeline_len, prev_batch, counted, notifies
            )",
            &[
                &self.account_id.0,
                &self.pos.0,
                &nids,
                &sections,
                &limited,
                &newly,
                &lens,
                &prev_batches,
                &counted,
                &notifies,
            ],
        )
        .await?;
        Ok(())
    }

    async fn write_timelines(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let (mut nids, mut ords, mut body_ids) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ages, mut unsigneds) = (Vec::new(), Vec::new());
        for room in planned {
            for (ord, event) in room.update.timeline.iter().enumerate() {
                nids.push(room.nid.0);
                ords.push(i32::try_from(ord).unwrap_or(i32::MAX));
                body_ids.push(self.bodies.of(event)?.0);
                ages.push(event.age_ts);
                unsigneds.push(event.unsigned.as_deref());
            }
        }
        if nids.is_empty() {
            return Ok(());
        }
        tx.execute(
            "-- write_rooms::write_timelines
            INSERT INTO timeline_events (account_id, room_nid, pos, ord, body_id, age_ts, unsigned)
            SELECT $1, t.room_nid, $2, t.ord, t.body_id, t.age_ts, t.unsigned
            FROM UNNEST($3::BIGINT[], $4::INTEGER[], $5::BIGINT[], $6::BIGINT[], $7::BYTEA[])
                AS t (room_nid, ord, body_id, age_ts, unsigned)",
            &[&self.account_id.0, &self.pos.0, &nids, &ords, &body_ids, &ages, &unsigneds],
        )
        .await?;
        Ok(())
    }

    /// Where content of other events stands in the timelines.
    async fn write_copies(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let (mut nids, mut event_ids, mut ords) = (Vec::new(), Vec::new(), Vec::new());
        for room in planned {
            for (ord, event) in room.update.timeline.iter().enumerate() {
                for event_id in &event.copies {
                    nids.push(room.nid.0);
                    event_ids.push(event_id.as_str());
                    ords.push(i32::try_from(ord).unwrap_or(i32::MAX));
                }
            }
        }
        if nids.is_empty() {
            return Ok(());
        }
        tx.execute(
            "-- write_rooms::write_copies
            INSERT INTO event_copies (account_id, room_nid, event_id, pos, ord)
            SELECT DISTINCT $1::BIGINT, t.room_nid, t.event_id, $2::BIGINT, t.ord
            FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::INTEGER[]) AS t (room_nid, event_id, ord)",
            &[&self.account_id.0, &self.pos.0, &nids, &event_ids, &ords],
        )
        .await?;
        Ok(())
    }

    /// The gaps in which redactions of what is stored may have gone unheard: where the room's state was
    /// told anew, so was what is redacted in it.
    async fn write_scans(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let Some(until) = &self.poll.asked_since else { return Ok(()) };
        let gaps = planned.iter().filter(|room| room.update.limited && !room.anew);
        let (nids, from): (Vec<i64>, Vec<&str>) =
            gaps.filter_map(|room| Some((room.nid.0, room.update.prev_batch.as_deref()?))).unzip();
        if nids.is_empty() {
            return Ok(());
        }
        tx.execute(
            "-- write_rooms::write_scans
            INSERT INTO redaction_scans (account_id, room_nid, pos, from_token, until_token)
            SELECT $1, t.room_nid, $2, t.from_token, $3
            FROM UNNEST($4::BIGINT[], $5::TEXT[]) AS t (room_nid, from_token)",
            &[&self.account_id.0, &self.pos.0, until, &nids, &from],
        )
        .await?;
        Ok(())
    }

    async fn write_state_changes(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let (mut nids, mut ords, mut types, mut keys) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut old_ids, mut old_unsigneds) = (Vec::new(), Vec::new());
        for room in planned {
            for change in &room.state.changes {
                nids.push(room.nid.0);
                ords.push(change.ord);
                types.push(change.key.0.as_str());
                keys.push(change.key.1.as_str());
                old_ids.push(change.old.as_ref().map(|old| old.body_id.0));
                old_unsigneds.push(change.old.as_ref().and_then(|old| old.unsigned.as_deref()));
            }
        }
        if nids.is_empty() {
            return Ok(());
        }
        tx.execute(
            "-- write_rooms::write_state_changes
            INSERT INTO state_changes (
                account_id, room_nid, pos, ord, event_type, state_key, old_body_id, old_unsigned
            )
            SELECT $1, t.room_nid, $2, t.ord, t.event_type, t.state_key, t.old_body_id, t.old_unsigned
            FROM UNNEST($3::BIGINT[], $4::INTEGER[], $5::TEXT[], $6::TEXT[], $7::BIGINT[], $8::BYTEA[])
                AS t (room_nid, ord, event_type, state_key, old_body_id, old_unsigned)
            ON CONFLICT (account_id, room_nid, pos, ord, event_type, state_key) DO NOTHING",
            &[
                &self.account_id.0,
                &self.pos.0,
                &nids,
                &ords,
                &types,
                &keys,
                &old_ids,
                &old_unsigneds,
            ],
        )
        .await?;
        Ok(())
    }

    async fn write_heads(&self, tx: &Tx, planned: &[Planned<'_>]) -> Result<(), Error> {
        let (mut gone_nids, mut gone_types, mut gone_keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut nids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut body_ids, mut unsigneds) = (Vec::new(), Vec::new());
        for room in planned {
            for (event_type, state_key) in &room.state.remove {
                gone_nids.push(room.nid.0);
                gone_types.push(event_type.as_str());
                gone_keys.push(state_key.as_str());
            }
            for ((event_type, state_key), entry) in &room.state.set {
                nids.push(room.nid.0);
                types.push(event_type.as_str());
                keys.push(state_key.as_str());
                body_ids.push(entry.body_id.0);
                unsigneds.push(entry.unsigned.as_deref());
            }
        }
        if !gone_nids.is_empty() {
            tx.execute(
                "-- write_rooms::write_heads
                DELETE FROM room_state s
                USING UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[]) AS t (room_nid, event_type, state_key)
                WHERE s.account_id = $1
                    AND s.room_nid = t.room_nid
                    AND s.event_type = t.event_type
                    AND s.state_key = t.state_key",
                &[&self.account_id.0, &gone_nids, &gone_types, &gone_keys],
            )
            .await?;
        }
        if !nids.is_empty() {
            tx.execute(
                "-- write_rooms::write_heads
                INSERT INTO room_state (account_id, room_nid, event_type, state_key, body_id, unsigned)
                SELECT $1, t.room_nid, t.event_type, t.state_key, t.body_id, t.unsigned
                FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BYTEA[])
                    AS t (room_nid, event_type, state_key, body_id, unsigned)
                ON CONFLICT (account_id, room_nid, event_type, state_key) DO UPDATE
                SET body_id = EXCLUDED.body_id, unsigned = EXCLUDED.unsigned",
                &[&self.account_id.0, &nids, &types, &keys, &body_ids, &unsigneds],
            )
            .await?;
        }
        Ok(())
    }
}
