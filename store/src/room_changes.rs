//! Table `room_updates`, read for sync v3: what a stretch of the stream, with a beginning and an end, says of rooms.

use tokio_postgres::Row;

use crate::{
    AccountId, ChangedRoom, Error, Position, RoomNid, Section, Store,
    room_heads::{head_columns, head_of},
};

/// A room that a stretch of the stream mentioned.
#[derive(Clone, Debug)]
pub struct RoomChange {
    /// The room, with its section as of the end of the stretch. Its other values are those of now.
    pub room: ChangedRoom,
    /// The last poll that brought events of its timeline, or a gap in it.
    pub stirred: Option<Position>,
    /// Whether a poll found the user outside of it.
    pub was_out: bool,
    /// Whether its unread counts changed.
    pub counted: bool,
    /// The polls in which upstream counted something in it, oldest first.
    pub notified: Vec<Position>,
}

/// What is told of the rooms of the updates `u`.
macro_rules! change_columns {
    () => {
        concat!(
            "SELECT g.newly_joined, g.cut, g.stirred, g.was_out, g.counted, g.notified,
                g.section_after,
                p.section AS section_before, ",
            head_columns!(),
            " FROM (
                SELECT
                    room_nid,
                    BOOL_OR(newly_joined) AS newly_joined,
                    MAX(pos) FILTER (WHERE limited OR newly_joined) AS cut,
                    MAX(pos) FILTER (WHERE timeline_len > 0 OR limited) AS stirred,
                    BOOL_OR(section <> 0) AS was_out,
                    BOOL_OR(counted) AS counted,
                    ARRAY_AGG(pos ORDER BY pos) FILTER (WHERE notifies) AS notified,
                    (ARRAY_AGG(section ORDER BY pos DESC))[1] AS section_after
                FROM u
                GROUP BY room_nid
            ) g
            JOIN account_rooms h ON h.account_id = $1 AND h.room_nid = g.room_nid
            LEFT JOIN LATERAL (
                SELECT section
                FROM room_updates
                WHERE account_id = $1 AND room_nid = g.room_nid AND pos <= $2
                ORDER BY pos DESC
                LIMIT 1
            ) p ON TRUE
            ORDER BY g.room_nid"
        )
    };
}

impl Store {
    /// The rooms that polls after `since` and up to `until` mentioned; with `only`, those of them. In the order of their
    /// numbers.
    pub async fn room_changes(
        &self,
        account_id: AccountId,
        since: Position,
        until: Position,
        only: Option<&[RoomNid]>,
    ) -> Result<Vec<RoomChange>, Error> {
        let rows = match only {
            None => {
                self.query(
                    "room_changes::room_changes",
                    concat!(
                        "-- room_changes::room_changes
                        WITH u AS (
                            SELECT room_nid, pos, section, limited, newly_joined, timeline_len, counted, notifies
                            FROM room_updates
                            WHERE account_id = $1 AND pos > $2 AND pos <= $3
                        ) ",
                        change_columns!()
                    ),
                    &[&account_id.0, &since.0, &until.0],
                )
                .await?
            }
            Some(rooms) => {
                let nids: Vec<i64> = rooms.iter().map(|nid| nid.0).collect();
                self.query(
                    "room_changes::room_changes",
                    concat!(
                        "-- room_changes::room_changes (of certain rooms)
                        WITH u AS (
                            SELECT c.room_nid, c.pos, c.section, c.limited, c.newly_joined, c.timeline_len,
                                c.counted, c.notifies
                            FROM UNNEST($4::BIGINT[]) AS t (room_nid)
                            JOIN room_updates c
                                ON c.account_id = $1
                                AND c.room_nid = t.room_nid
                                AND c.pos > $2
                                AND c.pos <= $3
                        ) ",
                        change_columns!()
                    ),
                    &[&account_id.0, &since.0, &until.0, &nids],
                )
                .await?
            }
        };
        rows.iter().map(change_of).collect()
    }
}

fn change_of(row: &Row) -> Result<RoomChange, Error> {
    let before: Option<i16> = row.get("section_before");
    let mut head = head_of(row)?;
    head.section = Section::from_db(row.get("section_after"))?;
    Ok(RoomChange {
        room: ChangedRoom {
            head,
            section_before: before.map(Section::from_db).transpose()?,
            newly_joined: row.get("newly_joined"),
            cut: row.get::<_, Option<i64>>("cut").map(Position),
        },
        stirred: row.get::<_, Option<i64>>("stirred").map(Position),
        was_out: row.get("was_out"),
        counted: row.get("counted"),
        notified: row
            .get::<_, Option<Vec<i64>>>("notified")
            .unwrap_or_default()
            .into_iter()
            .map(Position)
            .collect(),
    })
}
