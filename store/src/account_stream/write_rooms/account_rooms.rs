//! Table `account_rooms`: the latest values of each room that a poll mentions.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::{Planned, Writes};
use crate::{
    Error, RoomNid, Section, StoredRoom,
    room_heads::{head_columns, head_of},
    tx::{Statement, params},
};

/// Of so many rooms a poll is told what they are with it: more of them are not kept in memory.
const MOST_TOLD: usize = 64;

/// Writes the rows of a poll's rooms; what is not mentioned stays.
macro_rules! upsert {
    () => {
        "-- account_rooms::write_account_rooms
        INSERT INTO account_rooms AS h (
            account_id, room_nid, section, segment_pos, kicked,
            notification_count, highlight_count, thread_counts,
            heroes, joined_member_count, invited_member_count, summary_pos,
            stripped_state, typing, typing_pos, recency
        )
        SELECT
            $1, t.room_nid, t.section, $2::BIGINT, t.kicked,
            COALESCE(t.notification_count, 0), COALESCE(t.highlight_count, 0), t.thread_counts,
            t.heroes, t.joined, t.invited, $2::BIGINT,
            t.stripped_state, t.typing, CASE WHEN t.typing IS NULL THEN 0 ELSE $2::BIGINT END,
            COALESCE(t.recency, 0)
        FROM UNNEST(
            $3::BIGINT[], $4::SMALLINT[], $5::BOOLEAN[],
            $6::BIGINT[], $7::BIGINT[], $8::BYTEA[],
            $9::BYTEA[], $10::BIGINT[], $11::BIGINT[],
            $12::BYTEA[], $13::BYTEA[], $17::BIGINT[]
        ) AS t (
            room_nid, section, kicked,
            notification_count, highlight_count, thread_counts,
            heroes, joined, invited,
            stripped_state, typing, recency
        )
        ON CONFLICT (account_id, room_nid) DO UPDATE
        SET section = EXCLUDED.section,
            segment_pos = CASE
                WHEN EXCLUDED.room_nid = ANY($14) THEN EXCLUDED.segment_pos
                ELSE h.segment_pos
            END,
            members_complete = h.members_complete AND EXCLUDED.room_nid <> ALL($15),
            forgotten = h.forgotten AND EXCLUDED.section = 3,
            kicked = EXCLUDED.kicked,
            notification_count = CASE
                WHEN EXCLUDED.room_nid = ANY($16) THEN EXCLUDED.notification_count
                ELSE h.notification_count
            END,
            highlight_count = CASE
                WHEN EXCLUDED.room_nid = ANY($16) THEN EXCLUDED.highlight_count
                ELSE h.highlight_count
            END,
            thread_counts = CASE
                WHEN EXCLUDED.room_nid = ANY($16) THEN EXCLUDED.thread_counts
                ELSE h.thread_counts
            END,
            heroes = COALESCE(EXCLUDED.heroes, h.heroes),
            joined_member_count = COALESCE(EXCLUDED.joined_member_count, h.joined_member_count),
            invited_member_count = COALESCE(EXCLUDED.invited_member_count, h.invited_member_count),
            summary_pos = CASE
                WHEN EXCLUDED.heroes IS NULL
                    AND EXCLUDED.joined_member_count IS NULL
                    AND EXCLUDED.invited_member_count IS NULL
                    THEN h.summary_pos
                ELSE EXCLUDED.summary_pos
            END,
            stripped_state = EXCLUDED.stripped_state,
            typing = COALESCE(EXCLUDED.typing, h.typing),
            typing_pos = GREATEST(EXCLUDED.typing_pos, h.typing_pos),
            recency = CASE WHEN EXCLUDED.recency > 0 THEN EXCLUDED.recency ELSE h.recency END"
    };
}

impl<'a> Writes<'a> {
    /// What the poll says of each room's latest values; what it does not mention stays. Its answer is for [`Self::stored`].
    pub(super) fn write_account_rooms(&self) -> Statement<'a> {
        let mut rows = AccountRoomRows::default();
        for room in self.planned {
            rows.push(room);
        }
        let sql = if self.are_told() {
            concat!(upsert!(), " RETURNING ", head_columns!())
        } else {
            upsert!()
        };
        let params = params![
            self.account_id.0,
            self.pos.0,
            rows.nids,
            rows.sections,
            rows.kicked,
            rows.notification_counts,
            rows.highlight_counts,
            rows.thread_counts,
            rows.heroes,
            rows.joined,
            rows.invited,
            rows.stripped,
            rows.typing,
            rows.cut_nids,
            rows.anew_nids,
            rows.counted_nids,
            rows.recency,
        ];
        Statement::new(sql, params)
    }

    /// What the poll made of its rooms, if they are not too many, by the answer to [`Self::write_account_rooms`]. That comes in
    /// any order.
    pub(in crate::account_stream) fn stored(
        &self,
        rows: &[Row],
    ) -> Result<Option<Vec<StoredRoom>>, Error> {
        if !self.are_told() {
            return Ok(None);
        }
        let planned: HashMap<RoomNid, &Planned<'_>> =
            self.planned.iter().map(|room| (room.nid, room)).collect();
        let mut stored = Vec::with_capacity(rows.len());
        for row in rows {
            let head = head_of(row)?;
            let Some(room) = planned.get(&head.room_nid) else { continue };
            stored.push(StoredRoom {
                head,
                section_before: room.section_before,
                newly_joined: room.newly_joined,
                state_changed: !room.state.changes.is_empty(),
            });
        }
        Ok(Some(stored))
    }

    fn are_told(&self) -> bool {
        self.planned.len() <= MOST_TOLD
    }
}

/// The columns of the rows to write to `account_rooms`.
#[derive(Default)]
struct AccountRoomRows<'a> {
    nids: Vec<i64>,
    sections: Vec<i16>,
    kicked: Vec<bool>,
    notification_counts: Vec<Option<i64>>,
    highlight_counts: Vec<Option<i64>>,
    thread_counts: Vec<Option<&'a [u8]>>,
    heroes: Vec<Option<&'a [u8]>>,
    joined: Vec<Option<i64>>,
    invited: Vec<Option<i64>>,
    stripped: Vec<Option<&'a [u8]>>,
    typing: Vec<Option<&'a [u8]>>,
    recency: Vec<Option<i64>>,
    /// Rooms whose timeline begins anew here.
    cut_nids: Vec<i64>,
    /// Rooms whose members are unknown again.
    anew_nids: Vec<i64>,
    /// Rooms whose unread counts came.
    counted_nids: Vec<i64>,
}

impl<'a> AccountRoomRows<'a> {
    fn push(&mut self, room: &'a Planned<'_>) {
        let update = room.update;
        let counts = update.counts.as_ref();
        let cut = update.limited || room.newly_joined;
        self.nids.push(room.nid.0);
        self.sections.push(update.section.to_db());
        self.kicked.push(update.kicked);
        self.notification_counts.push(counts.map(|counts| counts.notification_count));
        self.highlight_counts.push(counts.map(|counts| counts.highlight_count));
        self.thread_counts.push(counts.and_then(|counts| counts.threads.as_deref()));
        self.heroes.push(update.summary.heroes.as_deref());
        self.joined.push(update.summary.joined_member_count);
        self.invited.push(update.summary.invited_member_count);
        self.stripped.push(update.stripped_state.as_deref());
        self.recency.push(update.recency);
        self.typing.push(match update.section {
            Section::Join => update.typing.as_deref(),
            // Nobody types in a room that the user is not in.
            _ => Some(b"{\"user_ids\":[]}"),
        });
        if cut {
            self.cut_nids.push(room.nid.0);
        }
        if room.members_unknown {
            self.anew_nids.push(room.nid.0);
        }
        if counts.is_some() {
            self.counted_nids.push(room.nid.0);
        }
    }
}
