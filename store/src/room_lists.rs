//! Tables `account_rooms` and `room_updates`, read for lists of rooms: narrow rows of every room that is listed, and of
//! those that changed.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{
    AccountId, Error, Position, RoomNid, Section, Store,
    ids::NO_ROOM,
    room_heads::{bytes_of, ids_of_many, now, position_of},
    tx::{Flight, Statement, params},
};

/// A room as lists sort and filter it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    /// Its number.
    pub room_nid: RoomNid,
    /// Its Matrix ID.
    pub room_id: String,
    /// Where it is listed; an invite that the user has forgotten counts as left.
    pub section: Section,
    /// When it last stirred, in milliseconds. 0 if not known.
    pub recency: i64,
    /// Unread notifications outside threads.
    pub notification_count: i64,
    /// Unread highlights outside threads.
    pub highlight_count: i64,
    /// `unread_thread_notifications`, a JSON object.
    pub thread_counts: Option<Bytes>,
}

/// Rooms of an account, and what its user calls direct, all as of one poll.
#[derive(Clone, Debug)]
pub struct RoomList {
    /// The poll: the last that is stored.
    pub as_of: Position,
    /// The rooms, in no order.
    pub rooms: Vec<ListedRoom>,
    /// The account data `m.direct`, the whole JSON event, and the poll that brought it.
    pub direct: Option<(Bytes, Position)>,
}

/// The columns of a [`ListedRoom`] but for its ID, of `account_rooms h`.
macro_rules! listed_columns {
    () => {
        "h.room_nid,
        CASE WHEN h.forgotten THEN 3::SMALLINT ELSE h.section END AS section,
        h.recency, h.notification_count, h.highlight_count, h.thread_counts"
    };
}

impl Store {
    /// Every room of the account but for those that it left.
    pub async fn room_list(&self, account_id: AccountId) -> Result<RoomList, Error> {
        let mut flight = Flight::default();
        let as_of = flight.add(now(account_id));
        let rows = flight.add(Statement::new(
            concat!(
                    "-- room_lists::room_list
                    WITH h AS MATERIALIZED (
                        SELECT ",
                    listed_columns!(),
                    " FROM account_rooms h
                        WHERE h.account_id = $1 AND h.section = ANY('{0,1,2}') AND NOT h.forgotten
                    ),
                    ",
                    ids_of_many!(),
                    "
                    SELECT h.room_nid, r.room_id, h.section, h.recency, h.notification_count, h.highlight_count,
                        h.thread_counts
                    FROM h
                    JOIN named r ON r.room_nid = h.room_nid"
                ),
            params![account_id.0],
        ));
        let direct = flight.add(direct(account_id, Position(0)));
        let mut answers = self.read_together("room_lists::room_list", &flight).await?;
        let as_of = position_of(&answers.take(as_of), account_id)?;
        let direct = direct_of(&answers.take(direct));
        let rows = answers.take(rows);
        let rooms = rows.iter().map(listed).collect::<Result<_, _>>()?;
        Ok(RoomList { as_of, rooms, direct })
    }

    /// The rooms that polls after `since` mentioned, left ones among them; and `m.direct`, if it changed after that.
    pub async fn room_list_changes(
        &self,
        account_id: AccountId,
        since: Position,
    ) -> Result<RoomList, Error> {
        let mut flight = Flight::default();
        let as_of = flight.add(now(account_id));
        let rows = flight.add(Statement::new(
            concat!(
                "-- room_lists::room_list_changes
                    SELECT
                        (SELECT r.room_id FROM rooms r WHERE r.room_nid = h.room_nid) AS room_id, ",
                listed_columns!(),
                " FROM (
                        SELECT DISTINCT room_nid
                        FROM room_updates
                        WHERE account_id = $1 AND pos > $2
                    ) u
                    CROSS JOIN LATERAL (
                        SELECT room_nid, section, forgotten, recency,
                            notification_count, highlight_count, thread_counts
                        FROM account_rooms
                        WHERE account_id = $1 AND room_nid = u.room_nid
                        LIMIT 1
                    ) h"
            ),
            params![account_id.0, since.0],
        ));
        let direct = flight.add(direct(account_id, since));
        let mut answers = self.read_together("room_lists::room_list_changes", &flight).await?;
        let as_of = position_of(&answers.take(as_of), account_id)?;
        let direct = direct_of(&answers.take(direct));
        let rows = answers.take(rows);
        let rooms = rows.iter().map(listed).collect::<Result<_, _>>()?;
        Ok(RoomList { as_of, rooms, direct })
    }
}

/// The account data `m.direct`, if it last changed after a position.
fn direct(account_id: AccountId, since: Position) -> Statement<'static> {
    Statement::new(
        "-- room_lists::direct
        SELECT event, pos
        FROM account_data
        WHERE account_id = $1 AND room_nid = $2 AND event_type = 'm.direct' AND pos > $3",
        params![account_id.0, NO_ROOM.0, since.0],
    )
}

fn direct_of(rows: &[Row]) -> Option<(Bytes, Position)> {
    let row = rows.first()?;
    Some((Bytes::from(row.get::<_, Vec<u8>>("event")), Position(row.get("pos"))))
}

fn listed(row: &Row) -> Result<ListedRoom, Error> {
    Ok(ListedRoom {
        room_nid: RoomNid(row.get("room_nid")),
        room_id: row.get("room_id"),
        section: Section::from_db(row.get("section"))?,
        recency: row.get("recency"),
        notification_count: row.get("notification_count"),
        highlight_count: row.get("highlight_count"),
        thread_counts: bytes_of(row, "thread_counts"),
    })
}
