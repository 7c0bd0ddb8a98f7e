//! Table `account_data`, read for sync v3: the account data of rooms, of whichever rooms have some.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{AccountId, Error, Position, Store};

/// Account data of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomAccountData {
    /// The room's Matrix ID.
    pub room_id: String,
    /// Whole JSON events, verbatim, in the order in which they last changed.
    pub events: Vec<Bytes>,
}

impl Store {
    /// The account data of every joined room, as far as it last changed up to `until`.
    pub async fn account_data_of_joined_rooms(
        &self,
        account_id: AccountId,
        until: Position,
    ) -> Result<Vec<RoomAccountData>, Error> {
        let rows = self
            .query(
                "room_account_data::account_data_of_joined_rooms",
                "-- room_account_data::account_data_of_joined_rooms
                SELECT (SELECT r.room_id FROM rooms r WHERE r.room_nid = h.room_nid) AS room_id, d.event
                FROM account_rooms h
                JOIN account_data d
                    ON d.account_id = $1 AND d.room_nid = h.room_nid AND d.pos <= $2
                WHERE h.account_id = $1 AND h.section = 0
                ORDER BY h.room_nid, d.pos, d.event_type",
                &[&account_id.0, &until.0],
            )
            .await?;
        Ok(by_room(&rows))
    }

    /// The account data of rooms that last changed after `since` and up to `until`; of rooms that the account came into
    /// in that stretch, all that last changed up to `until`.
    pub async fn room_account_data_changes(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
    ) -> Result<Vec<RoomAccountData>, Error> {
        let rows = self
            .query(
                "room_account_data::room_account_data_changes",
                "-- room_account_data::room_account_data_changes
                SELECT (SELECT r.room_id FROM rooms r WHERE r.room_nid = c.room_nid) AS room_id, c.event
                FROM (
                    SELECT room_nid, pos, event_type, event
                    FROM account_data
                    WHERE account_id = $1 AND pos > $2 AND pos <= $3 AND room_nid > 0
                    UNION ALL
                    SELECT d.room_nid, d.pos, d.event_type, d.event
                    FROM (
                        SELECT DISTINCT room_nid
                        FROM room_updates
                        WHERE account_id = $1 AND pos > $2 AND pos <= $3 AND newly_joined
                    ) j
                    JOIN account_data d
                        ON d.account_id = $1 AND d.room_nid = j.room_nid AND d.pos <= $2
                ) c
                ORDER BY c.room_nid, c.pos, c.event_type",
                &[&account_id.0, &since.0, &until.0],
            )
            .await?;
        Ok(by_room(&rows))
    }
}

/// Puts together what belongs to one room: its rows stand side by side.
fn by_room(rows: &[Row]) -> Vec<RoomAccountData> {
    let mut rooms: Vec<RoomAccountData> = Vec::new();
    for row in rows {
        let room_id: &str = row.get("room_id");
        let event = Bytes::from(row.get::<_, Vec<u8>>("event"));
        match rooms.last_mut() {
            Some(room) if room.room_id == room_id => room.events.push(event),
            _ => rooms.push(RoomAccountData { room_id: room_id.to_owned(), events: vec![event] }),
        }
    }
    rooms
}
