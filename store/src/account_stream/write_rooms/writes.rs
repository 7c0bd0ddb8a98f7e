//! What a poll's rooms leave behind: `room_updates`, `timeline_events` with what they copy and the gaps before them, the
//! head and its undo. `account_rooms` has a file of its own.

use super::Planned;
use crate::{
    AccountId, Position,
    account_stream::Poll,
    tx::{Flight, Seat, Statement, params},
};

/// The rooms of a poll, ready to be written.
pub(in crate::account_stream) struct Writes<'a> {
    pub(in crate::account_stream) account_id: AccountId,
    pub(in crate::account_stream) pos: Position,
    pub(in crate::account_stream) poll: &'a Poll,
    pub(in crate::account_stream) planned: &'a [Planned<'a>],
}

impl<'a> Writes<'a> {
    /// Adds the statements that there is something to do for. Gives where the answer for [`Self::stored`] will be.
    pub(in crate::account_stream) fn add(&self, flight: &mut Flight<'a>) -> Seat {
        if self.planned.is_empty() {
            return Seat::default();
        }
        flight.add(self.write_updates());
        flight.add(self.write_timelines());
        flight.add(self.write_copies());
        flight.add(self.write_scans());
        flight.add(self.write_state_changes());
        flight.add(self.remove_heads());
        flight.add(self.write_heads());
        flight.add(self.write_account_rooms())
    }

    fn write_updates(&self) -> Statement<'a> {
        let nids: Vec<i64> = self.planned.iter().map(|room| room.nid.0).collect();
        let sections: Vec<i16> =
            self.planned.iter().map(|room| room.update.section.to_db()).collect();
        let limited: Vec<bool> = self.planned.iter().map(|room| room.update.limited).collect();
        let newly: Vec<bool> = self.planned.iter().map(|room| room.newly_joined).collect();
        let lens: Vec<i32> = self
            .planned
            .iter()
            .map(|room| i32::try_from(room.update.timeline.len()).unwrap_or(i32::MAX))
            .collect();
        let prev_batches: Vec<Option<&str>> =
            self.planned.iter().map(|room| room.update.prev_batch.as_deref()).collect();
        let counted: Vec<bool> = self.planned.iter().map(|room| room.counted).collect();
        let notifies: Vec<bool> = self.planned.iter().map(Planned::notifies).collect();
        Statement::new(
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
            params![
                self.account_id.0,
                self.pos.0,
                nids,
                sections,
                limited,
                newly,
                lens,
                prev_batches,
                counted,
                notifies,
            ],
        )
    }

    fn write_timelines(&self) -> Option<Statement<'a>> {
        let (mut nids, mut ords, mut body_ids) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ages, mut unsigneds) = (Vec::new(), Vec::new());
        for room in self.planned {
            for (ord, (event, body_id)) in
                room.update.timeline.iter().zip(&room.timeline).enumerate()
            {
                nids.push(room.nid.0);
                ords.push(i32::try_from(ord).unwrap_or(i32::MAX));
                body_ids.push(body_id.0);
                ages.push(event.age_ts);
                unsigneds.push(event.unsigned.as_deref());
            }
        }
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::write_timelines
            INSERT INTO timeline_events (account_id, room_nid, pos, ord, body_id, age_ts, unsigned)
            SELECT $1, t.room_nid, $2, t.ord, t.body_id, t.age_ts, t.unsigned
            FROM UNNEST($3::BIGINT[], $4::INTEGER[], $5::BIGINT[], $6::BIGINT[], $7::BYTEA[])
                AS t (room_nid, ord, body_id, age_ts, unsigned)",
            params![self.account_id.0, self.pos.0, nids, ords, body_ids, ages, unsigneds],
        ))
    }

    /// Where content of other events stands in the timelines.
    fn write_copies(&self) -> Option<Statement<'a>> {
        let (mut nids, mut event_ids, mut ords) = (Vec::new(), Vec::new(), Vec::new());
        for room in self.planned {
            for (ord, event) in room.update.timeline.iter().enumerate() {
                for event_id in &event.copies {
                    nids.push(room.nid.0);
                    event_ids.push(event_id.as_str());
                    ords.push(i32::try_from(ord).unwrap_or(i32::MAX));
                }
            }
        }
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::write_copies
            INSERT INTO event_copies (account_id, room_nid, event_id, pos, ord)
            SELECT DISTINCT $1::BIGINT, t.room_nid, t.event_id, $2::BIGINT, t.ord
            FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::INTEGER[]) AS t (room_nid, event_id, ord)",
            params![self.account_id.0, self.pos.0, nids, event_ids, ords],
        ))
    }

    /// The gaps in which redactions of what is stored may have gone unheard: where the room's state was
    /// told anew, so was what is redacted in it.
    fn write_scans(&self) -> Option<Statement<'a>> {
        let Some(until) = &self.poll.asked_since else { return None };
        let gaps = self.planned.iter().filter(|room| room.update.limited && !room.anew);
        let (nids, from): (Vec<i64>, Vec<&str>) =
            gaps.filter_map(|room| Some((room.nid.0, room.update.prev_batch.as_deref()?))).unzip();
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::write_scans
            INSERT INTO redaction_scans (account_id, room_nid, pos, from_token, until_token)
            SELECT $1, t.room_nid, $2, t.from_token, $3
            FROM UNNEST($4::BIGINT[], $5::TEXT[]) AS t (room_nid, from_token)",
            params![self.account_id.0, self.pos.0, until, nids, from],
        ))
    }

    fn write_state_changes(&self) -> Option<Statement<'a>> {
        let (mut nids, mut ords, mut types, mut keys) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut old_ids, mut old_unsigneds) = (Vec::new(), Vec::new());
        for room in self.planned {
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
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::write_state_changes
            INSERT INTO state_changes (
                account_id, room_nid, pos, ord, event_type, state_key, old_body_id, old_unsigned
            )
            SELECT $1, t.room_nid, $2, t.ord, t.event_type, t.state_key, t.old_body_id, t.old_unsigned
            FROM UNNEST($3::BIGINT[], $4::INTEGER[], $5::TEXT[], $6::TEXT[], $7::BIGINT[], $8::BYTEA[])
                AS t (room_nid, ord, event_type, state_key, old_body_id, old_unsigned)
            ON CONFLICT (account_id, room_nid, pos, ord, event_type, state_key) DO NOTHING",
            params![
                self.account_id.0,
                self.pos.0,
                nids,
                ords,
                types,
                keys,
                old_ids,
                old_unsigneds,
            ],
        ))
    }

    fn remove_heads(&self) -> Option<Statement<'a>> {
        let (mut nids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for room in self.planned {
            for (event_type, state_key) in &room.state.remove {
                nids.push(room.nid.0);
                types.push(event_type.as_str());
                keys.push(state_key.as_str());
            }
        }
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::remove_heads
            DELETE FROM room_state s
            USING UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[]) AS t (room_nid, event_type, state_key)
            WHERE s.account_id = $1
                AND s.room_nid = t.room_nid
                AND s.event_type = t.event_type
                AND s.state_key = t.state_key",
            params![self.account_id.0, nids, types, keys],
        ))
    }

    fn write_heads(&self) -> Option<Statement<'a>> {
        let (mut nids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut body_ids, mut unsigneds) = (Vec::new(), Vec::new());
        for room in self.planned {
            for ((event_type, state_key), entry) in &room.state.set {
                nids.push(room.nid.0);
                types.push(event_type.as_str());
                keys.push(state_key.as_str());
                body_ids.push(entry.body_id.0);
                unsigneds.push(entry.unsigned.as_deref());
            }
        }
        if nids.is_empty() {
            return None;
        }
        Some(Statement::new(
            "-- write_rooms::write_heads
            INSERT INTO room_state (account_id, room_nid, event_type, state_key, body_id, unsigned)
            SELECT $1, t.room_nid, t.event_type, t.state_key, t.body_id, t.unsigned
            FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BYTEA[])
                AS t (room_nid, event_type, state_key, body_id, unsigned)
            ON CONFLICT (account_id, room_nid, event_type, state_key) DO UPDATE
            SET body_id = EXCLUDED.body_id, unsigned = EXCLUDED.unsigned",
            params![self.account_id.0, nids, types, keys, body_ids, unsigneds],
        ))
    }
}
