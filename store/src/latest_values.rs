//! The latest-value tables, read: account data, receipts, presence, device lists.
//!
//! Each row knows the position at which it last changed; a delta is what changed after a position.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{AccountId, Error, Position, RoomNid, Store, ids::NO_ROOM};

/// A stored receipt.
#[derive(Clone, Debug)]
pub struct StoredReceipt {
    /// Whose.
    pub user_id: String,
    /// `m.read`, `m.read.private`, …
    pub receipt_type: String,
    /// The thread; empty for an unthreaded receipt.
    pub thread_id: String,
    /// The event it points at.
    pub event_id: String,
    /// The JSON object with `ts` and `thread_id`, verbatim.
    pub data: Bytes,
}

/// Stored presence of a user.
#[derive(Clone, Debug)]
pub struct StoredPresence {
    /// Who.
    pub user_id: String,
    /// The event without `content.last_active_ago`.
    pub event: Bytes,
    /// When the user was last active, in milliseconds.
    pub last_active_ts: Option<i64>,
}

/// `device_lists` over a stretch of the stream.
#[derive(Clone, Debug, Default)]
pub struct DeviceListChanges {
    /// Users whose devices changed, or who now share an encrypted room.
    pub changed: Vec<String>,
    /// Users who no longer share one.
    pub left: Vec<String>,
}

impl Store {
    /// Global account data that last changed after `since` and up to `until`: the whole JSON events by type.
    pub async fn global_account_data(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let rows = self
            .query(
                "latest_values::global_account_data",
                "-- latest_values::global_account_data
                SELECT event_type, event
                FROM account_data
                WHERE account_id = $1 AND pos > $2 AND pos <= $4 AND room_nid = $3
                ORDER BY pos, event_type",
                &[&account_id.0, &since.0, &NO_ROOM.0, &until.0],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| (row.get("event_type"), Bytes::from(row.get::<_, Vec<u8>>("event"))))
            .collect())
    }

    /// One piece of global account data, the whole JSON event.
    pub async fn global_account_data_of(
        &self,
        account_id: AccountId,
        event_type: &str,
    ) -> Result<Option<Bytes>, Error> {
        let rows = self
            .query(
                "latest_values::global_account_data_of",
                "-- latest_values::global_account_data_of
                SELECT event
                FROM account_data
                WHERE account_id = $1 AND room_nid = $2 AND event_type = $3",
                &[&account_id.0, &NO_ROOM.0, &event_type],
            )
            .await?;
        Ok(rows.first().map(|row| Bytes::from(row.get::<_, Vec<u8>>("event"))))
    }

    /// Account data of rooms that last changed up to `until`, each room's since its own position.
    pub async fn room_account_data(
        &self,
        account_id: AccountId,
        rooms: &[(RoomNid, Position)],
        until: Position,
    ) -> Result<HashMap<RoomNid, Vec<(String, Bytes)>>, Error> {
        let (nids, since) = columns(rooms);
        let rows = self
            .query(
                "latest_values::room_account_data",
                "-- latest_values::room_account_data
                SELECT d.room_nid, d.event_type, d.event
                FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, since)
                JOIN account_data d
                    ON d.account_id = $1 AND d.room_nid = t.room_nid AND d.pos > t.since AND d.pos <= $4
                ORDER BY d.room_nid, d.pos, d.event_type",
                &[&account_id.0, &nids, &since, &until.0],
            )
            .await?;
        let mut data: HashMap<RoomNid, Vec<(String, Bytes)>> = HashMap::new();
        for row in rows {
            data.entry(RoomNid(row.get("room_nid")))
                .or_default()
                .push((row.get("event_type"), Bytes::from(row.get::<_, Vec<u8>>("event"))));
        }
        Ok(data)
    }

    /// One piece of account data of each of these rooms, the whole JSON event.
    pub async fn room_account_data_of(
        &self,
        account_id: AccountId,
        rooms: &[RoomNid],
        event_type: &str,
    ) -> Result<HashMap<RoomNid, Bytes>, Error> {
        let nids: Vec<i64> = rooms.iter().map(|nid| nid.0).collect();
        let rows = self
            .query(
                "latest_values::room_account_data_of",
                "-- latest_values::room_account_data_of
                SELECT t.room_nid, d.event
                FROM UNNEST($2::BIGINT[]) AS t (room_nid)
                CROSS JOIN LATERAL (
                    SELECT event
                    FROM account_data
                    WHERE account_id = $1 AND room_nid = t.room_nid AND event_type = $3
                    LIMIT 1
                ) d",
                &[&account_id.0, &nids, &event_type],
            )
            .await?;
        let event = |row: &tokio_postgres::Row| Bytes::from(row.get::<_, Vec<u8>>("event"));
        Ok(rows.iter().map(|row| (RoomNid(row.get("room_nid")), event(row))).collect())
    }

    /// Receipts of rooms that last changed up to `until`, each room's since its own position.
    pub async fn receipts(
        &self,
        account_id: AccountId,
        rooms: &[(RoomNid, Position)],
        until: Position,
    ) -> Result<HashMap<RoomNid, Vec<StoredReceipt>>, Error> {
        let (nids, since) = columns(rooms);
        let rows = self
            .query(
                "latest_values::receipts",
                "-- latest_values::receipts
                SELECT r.room_nid, r.user_id, r.receipt_type, r.thread_id, r.event_id, r.data
                FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, since)
                JOIN receipts r
                    ON r.account_id = $1 AND r.room_nid = t.room_nid AND r.pos > t.since AND r.pos <= $4
                ORDER BY r.room_nid, r.event_id, r.receipt_type, r.thread_id DESC, r.user_id",
                &[&account_id.0, &nids, &since, &until.0],
            )
            .await?;
        let mut receipts: HashMap<RoomNid, Vec<StoredReceipt>> = HashMap::new();
        for row in rows {
            receipts.entry(RoomNid(row.get("room_nid"))).or_default().push(StoredReceipt {
                user_id: row.get("user_id"),
                receipt_type: row.get("receipt_type"),
                thread_id: row.get("thread_id"),
                event_id: row.get("event_id"),
                data: Bytes::from(row.get::<_, Vec<u8>>("data")),
            });
        }
        Ok(receipts)
    }

    /// Presence that last changed after `since` and up to `until`.
    pub async fn presence(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
    ) -> Result<Vec<StoredPresence>, Error> {
        let rows = self
            .query(
                "latest_values::presence",
                "-- latest_values::presence
                SELECT user_id, event, last_active_ts
                FROM presence
                WHERE account_id = $1 AND pos > $2 AND pos <= $3
                ORDER BY pos, user_id",
                &[&account_id.0, &since.0, &until.0],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| StoredPresence {
                user_id: row.get("user_id"),
                event: Bytes::from(row.get::<_, Vec<u8>>("event")),
                last_active_ts: row.get("last_active_ts"),
            })
            .collect())
    }

    /// `device_lists` after `since` and up to `until`; for each user the last verdict.
    pub async fn device_list_changes(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
    ) -> Result<DeviceListChanges, Error> {
        let rows = self
            .query(
                "latest_values::device_list_changes",
                "-- latest_values::device_list_changes
                SELECT DISTINCT ON (user_id) user_id, has_left
                FROM device_list_changes
                WHERE account_id = $1 AND pos > $2 AND pos <= $3
                ORDER BY user_id, pos DESC",
                &[&account_id.0, &since.0, &until.0],
            )
            .await?;
        let mut changes = DeviceListChanges::default();
        for row in rows {
            let list = if row.get("has_left") { &mut changes.left } else { &mut changes.changed };
            list.push(row.get("user_id"));
        }
        Ok(changes)
    }
}

impl Store {
    /// Everybody who is known to share an encrypted room with the account, or is invited to one: whose keys may have
    /// changed when nobody can say whose have.
    pub async fn sharers(&self, account_id: AccountId) -> Result<Vec<String>, Error> {
        let rows = self
            .query(
                "latest_values::sharers",
                "-- latest_values::sharers
                SELECT DISTINCT m.state_key
                FROM account_rooms h
                JOIN room_state e
                    ON e.account_id = $1
                    AND e.room_nid = h.room_nid
                    AND e.event_type = 'm.room.encryption'
                    AND e.state_key = ''
                JOIN room_state m
                    ON m.account_id = $1
                    AND m.room_nid = h.room_nid
                    AND m.event_type = 'm.room.member'
                JOIN event_bodies b ON b.body_id = m.body_id
                WHERE h.account_id = $1
                    AND h.section = 0
                    AND b.membership IN ('join', 'invite')",
                &[&account_id.0],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("state_key")).collect())
    }
}

fn columns(rooms: &[(RoomNid, Position)]) -> (Vec<i64>, Vec<i64>) {
    rooms.iter().map(|(nid, since)| (nid.0, since.0)).unzip()
}
