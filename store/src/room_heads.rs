//! Tables `account_rooms` and `room_updates`, read: where each room of an account stands, and which
//! rooms a stretch of the stream mentioned.

use bytes::Bytes;
use tokio_postgres::Row;

use crate::{
    AccountId, Error, Position, RoomNid, Store,
    tx::{Flight, Statement, params},
};

/// The part of a sync reply that lists a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// `rooms.join`.
    Join,
    /// `rooms.invite`.
    Invite,
    /// `rooms.knock`.
    Knock,
    /// `rooms.leave`.
    Leave,
}

impl Section {
    pub(crate) fn to_db(self) -> i16 {
        match self {
            Self::Join => 0,
            Self::Invite => 1,
            Self::Knock => 2,
            Self::Leave => 3,
        }
    }

    pub(crate) fn from_db(number: i16) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Join),
            1 => Ok(Self::Invite),
            2 => Ok(Self::Knock),
            3 => Ok(Self::Leave),
            other => Err(Error::Inconsistent {
                table: "account_rooms",
                column: "section",
                key: other.to_string(),
            }),
        }
    }
}

/// A room of an account as it stands now.
#[expect(clippy::struct_excessive_bools, reason = "a row of a table, each column on its own")]
#[derive(Clone, Debug)]
pub struct RoomHead {
    /// Its number.
    pub room_nid: RoomNid,
    /// Its Matrix ID.
    pub room_id: String,
    /// Where it is listed.
    pub section: Section,
    /// Timelines are served from this position on: the last hard cut.
    pub segment_pos: Position,
    /// Upstream left events out before that cut.
    pub segment_limited: bool,
    /// The head holds every member.
    pub members_complete: bool,
    /// In section leave: somebody else ended the membership.
    pub kicked: bool,
    /// In section leave or invite: the user has forgotten the room.
    pub forgotten: bool,
    /// Unread notifications outside threads.
    pub notification_count: i64,
    /// Unread highlights outside threads.
    pub highlight_count: i64,
    /// `unread_thread_notifications`, a JSON object.
    pub thread_counts: Option<Bytes>,
    /// `m.heroes`, a JSON list.
    pub heroes: Option<Bytes>,
    /// `m.joined_member_count`.
    pub joined_member_count: Option<i64>,
    /// `m.invited_member_count`.
    pub invited_member_count: Option<i64>,
    /// When the summary last changed.
    pub summary_pos: Position,
    /// `invite_state` or `knock_state`, verbatim.
    pub stripped_state: Option<Bytes>,
    /// The content of the latest `m.typing`.
    pub typing: Option<Bytes>,
    /// When it last changed.
    pub typing_pos: Position,
    /// When the room last stirred, in milliseconds: `origin_server_ts` of the last event, but no later than it was
    /// received; of an invite, when it came. 0 if not known.
    pub recency: i64,
}

/// A room that a stretch of the stream mentioned.
#[derive(Clone, Debug)]
pub struct ChangedRoom {
    /// Where it stands at the end of the stretch.
    pub head: RoomHead,
    /// Where it was listed before the stretch; `None` if it was unknown.
    pub section_before: Option<Section>,
    /// The account came (back) into it in the stretch.
    pub newly_joined: bool,
    /// The last hard cut in the stretch.
    pub cut: Option<Position>,
}

// The room ID is looked up row by row: joined, a long list of rooms makes Postgres read through everybody's.
/// The columns of a [`RoomHead`], of `account_rooms h`; `$1` is the account.
macro_rules! head_columns {
    () => {
        "h.room_nid,
        (SELECT r.room_id FROM rooms r WHERE r.room_nid = h.room_nid) AS room_id,
        h.section, h.segment_pos,
        COALESCE((
            SELECT s.limited
            FROM room_updates s
            WHERE s.account_id = $1 AND s.pos = h.segment_pos AND s.room_nid = h.room_nid
        ), TRUE) AS segment_limited,
        h.members_complete, h.kicked, h.forgotten, h.notification_count, h.highlight_count,
        h.thread_counts, h.heroes, h.joined_member_count, h.invited_member_count, h.summary_pos,
        h.stripped_state, h.typing, h.typing_pos, h.recency"
    };
}

pub(crate) use head_columns;

// The numbers of rooms that an account was told of at once stand together, so that their IDs lie in a few blocks. Looked up
// one by one, each costs three; joined, Postgres reads through everybody's.
/// `named (room_nid, room_id)`: the IDs of at least the rooms `h`, which may be many. Rooms with nearby numbers are looked up
/// as one range.
macro_rules! ids_of_many {
    () => {
        "ranges AS (
            SELECT MIN(room_nid) AS first, MAX(room_nid) AS last
            FROM (
                SELECT room_nid, COUNT(*) FILTER (WHERE gap > 16) OVER (ORDER BY room_nid) AS number
                FROM (SELECT room_nid, room_nid - LAG(room_nid) OVER (ORDER BY room_nid) AS gap FROM h) g
            ) n
            GROUP BY number
        ),
        named AS MATERIALIZED (
            SELECT r.room_nid, r.room_id
            FROM ranges
            CROSS JOIN LATERAL (
                SELECT room_nid, room_id
                FROM rooms
                WHERE room_nid BETWEEN ranges.first AND ranges.last
                OFFSET 0
            ) r
        )"
    };
}

pub(crate) use ids_of_many;

impl Store {
    /// Every room of the account in these sections, in the order of their numbers.
    pub async fn rooms_in(
        &self,
        account_id: AccountId,
        sections: &[Section],
    ) -> Result<Vec<RoomHead>, Error> {
        let sections: Vec<i16> = sections.iter().map(|section| section.to_db()).collect();
        let rows = self
            .query(
                "room_heads::rooms_in",
                concat!(
                    "-- room_heads::rooms_in
                    SELECT ",
                    head_columns!(),
                    " FROM account_rooms h
                    WHERE h.account_id = $1 AND h.section = ANY($2)
                    ORDER BY h.room_nid"
                ),
                &[&account_id.0, &sections],
            )
            .await?;
        rows.iter().map(head_of).collect()
    }

    /// The joined rooms of the account: numbers and IDs, and nothing else.
    pub async fn joined_rooms(
        &self,
        account_id: AccountId,
    ) -> Result<Vec<(RoomNid, String)>, Error> {
        let rows = self
            .query(
                "room_heads::joined_rooms",
                concat!(
                    "-- room_heads::joined_rooms
                    WITH h AS MATERIALIZED (
                        SELECT room_nid
                        FROM account_rooms
                        WHERE account_id = $1 AND section = 0
                    ),
                    ",
                    ids_of_many!(),
                    "
                    SELECT h.room_nid, r.room_id
                    FROM h
                    JOIN named r ON r.room_nid = h.room_nid
                    ORDER BY h.room_nid"
                ),
                &[&account_id.0],
            )
            .await?;
        Ok(rows.iter().map(|row| (RoomNid(row.get("room_nid")), row.get("room_id"))).collect())
    }

    /// The joined rooms of the account in which somebody types, as far as is known.
    pub async fn rooms_with_typing(&self, account_id: AccountId) -> Result<Vec<String>, Error> {
        let rows = self
            .query(
                "room_heads::rooms_with_typing",
                "-- room_heads::rooms_with_typing
                SELECT r.room_id
                FROM account_rooms h
                JOIN rooms r ON r.room_nid = h.room_nid
                WHERE h.account_id = $1
                    AND h.section = 0
                    AND POSITION('@'::BYTEA IN h.typing) > 0",
                &[&account_id.0],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("room_id")).collect())
    }

    /// One room of the account; `None` if it was never told of it.
    pub async fn room_head(
        &self,
        account_id: AccountId,
        room_nid: RoomNid,
    ) -> Result<Option<RoomHead>, Error> {
        let rows = self
            .query(
                "room_heads::room_head",
                concat!(
                    "-- room_heads::room_head
                    SELECT ",
                    head_columns!(),
                    " FROM account_rooms h
                    WHERE h.account_id = $1 AND h.room_nid = $2"
                ),
                &[&account_id.0, &room_nid.0],
            )
            .await?;
        rows.first().map(head_of).transpose()
    }

    /// Those of these rooms that the account was ever told of, in the order of their numbers.
    pub async fn room_heads(
        &self,
        account_id: AccountId,
        rooms: &[RoomNid],
    ) -> Result<Vec<RoomHead>, Error> {
        let nids: Vec<i64> = rooms.iter().map(|nid| nid.0).collect();
        let rows = self
            .query(
                "room_heads::room_heads",
                concat!(
                    "-- room_heads::room_heads
                    SELECT ",
                    head_columns!(),
                    " FROM account_rooms h
                    WHERE h.account_id = $1 AND h.room_nid = ANY($2)
                    ORDER BY h.room_nid"
                ),
                &[&account_id.0, &nids],
            )
            .await?;
        rows.iter().map(head_of).collect()
    }

    /// The rooms that polls after `since` mentioned, with the position up to which that is: the end of
    /// the stream at this moment.
    pub async fn changed_rooms(
        &self,
        account_id: AccountId,
        since: Position,
    ) -> Result<(Position, Vec<ChangedRoom>), Error> {
        let mut flight = Flight::default();
        let now = flight.add(now(account_id));
        let rows = flight.add(Statement::new(
            concat!(
                "-- room_heads::changed_rooms
                    SELECT u.newly_joined, u.cut, p.section AS section_before, ",
                head_columns!(),
                " FROM (
                        SELECT
                            room_nid,
                            BOOL_OR(newly_joined) AS newly_joined,
                            MAX(pos) FILTER (WHERE limited OR newly_joined) AS cut
                        FROM room_updates
                        WHERE account_id = $1 AND pos > $2
                        GROUP BY room_nid
                    ) u
                    JOIN account_rooms h ON h.account_id = $1 AND h.room_nid = u.room_nid
                    LEFT JOIN LATERAL (
                        SELECT section
                        FROM room_updates
                        WHERE account_id = $1 AND room_nid = u.room_nid AND pos <= $2
                        ORDER BY pos DESC
                        LIMIT 1
                    ) p ON TRUE
                    ORDER BY u.room_nid"
            ),
            params![account_id.0, since.0],
        ));
        let mut answers = self.read_together("room_heads::changed_rooms", &flight).await?;
        let now = position_of(&answers.take(now), account_id)?;
        let rows = answers.take(rows);
        let rooms = rows
            .iter()
            .map(|row| {
                let before: Option<i16> = row.get("section_before");
                Ok(ChangedRoom {
                    head: head_of(row)?,
                    section_before: before.map(Section::from_db).transpose()?,
                    newly_joined: row.get("newly_joined"),
                    cut: row.get::<_, Option<i64>>("cut").map(Position),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok((now, rooms))
    }

    /// Records that the user has forgotten a room that it is not in.
    pub async fn forget_room(&self, account_id: AccountId, room_nid: RoomNid) -> Result<(), Error> {
        self.query(
            "room_heads::forget_room",
            "-- room_heads::forget_room
            UPDATE account_rooms
            SET forgotten = TRUE
            WHERE account_id = $1 AND room_nid = $2 AND section IN (1, 3)",
            &[&account_id.0, &room_nid.0],
        )
        .await?;
        Ok(())
    }
}

/// The position of the last poll stored, as the transaction sees it.
pub(crate) fn now(account_id: AccountId) -> Statement<'static> {
    Statement::new(
        "-- room_heads::now
        SELECT pos FROM accounts WHERE account_id = $1",
        params![account_id.0],
    )
}

/// The position, by the answer to [`now`].
pub(crate) fn position_of(rows: &[Row], account_id: AccountId) -> Result<Position, Error> {
    rows.first().map(|row| Position(row.get("pos"))).ok_or_else(|| Error::Inconsistent {
        table: "accounts",
        column: "account_id",
        key: account_id.to_string(),
    })
}

pub(crate) fn head_of(row: &Row) -> Result<RoomHead, Error> {
    Ok(RoomHead {
        room_nid: RoomNid(row.get("room_nid")),
        room_id: row.get("room_id"),
        section: Section::from_db(row.get("section"))?,
        segment_pos: Position(row.get("segment_pos")),
        segment_limited: row.get("segment_limited"),
        members_complete: row.get("members_complete"),
        kicked: row.get("kicked"),
        forgotten: row.get("forgotten"),
        notification_count: row.get("notification_count"),
        highlight_count: row.get("highlight_count"),
        thread_counts: bytes_of(row, "thread_counts"),
        heroes: bytes_of(row, "heroes"),
        joined_member_count: row.get("joined_member_count"),
        invited_member_count: row.get("invited_member_count"),
        summary_pos: Position(row.get("summary_pos")),
        stripped_state: bytes_of(row, "stripped_state"),
        typing: bytes_of(row, "typing"),
        typing_pos: Position(row.get("typing_pos")),
        recency: row.get("recency"),
    })
}

/// A nullable BYTEA column.
pub(crate) fn bytes_of(row: &Row, column: &str) -> Option<Bytes> {
    row.get::<_, Option<Vec<u8>>>(column).map(Bytes::from)
}
