//! Everything that refers to bodies, read page by page in the order of the primary keys, which no row ever changes: what
//! is there all the time is seen, whatever else is written meanwhile.

use tokio_postgres::{Row, types::ToSql};

use super::Pace;
use crate::{Error, Store};

/// A value of a key, between two pages.
type Key = Box<dyn ToSql + Sync + Send>;

/// A kind of reference.
struct Source {
    name: &'static str,
    sql: &'static str,
    /// Before the first row.
    start: fn() -> Vec<Key>,
    /// The key of the last row of a page.
    key: fn(&Row) -> Vec<Key>,
}

/// A page: its references, each once, and the key of its last row.
macro_rules! page {
    ($name:literal, $table:literal, $keys:literal, $after:literal, $order:literal, $column:literal, $limit:literal) => {
        concat!(
            "-- ",
            $name,
            "
            WITH page AS MATERIALIZED (
                SELECT ",
            $keys,
            ", ",
            $column,
            " AS used
                FROM ",
            $table,
            "
                WHERE (",
            $keys,
            ") > ",
            $after,
            "
                ORDER BY ",
            $keys,
            "
                LIMIT ",
            $limit,
            "
            )
            SELECT ",
            $keys,
            ", (SELECT ARRAY_AGG(DISTINCT used) FROM page WHERE used IS NOT NULL) AS used
            FROM page
            ORDER BY ",
            $order,
            "
            LIMIT 1"
        )
    };
}

/// In this order, because references move from one to the next without being told anew: from the head to its undo, and
/// from the redactions that are known to the bodies that they prune.
const SOURCES: &[Source] = &[
    Source {
        name: "references::timelines",
        sql: page!(
            "references::timelines",
            "timeline_events",
            "account_id, room_nid, pos, ord",
            "($1, $2, $3, $4)",
            "account_id DESC, room_nid DESC, pos DESC, ord DESC",
            "body_id",
            "$5"
        ),
        start: || vec![Box::new(0_i64), Box::new(0_i64), Box::new(0_i64), Box::new(0_i32)],
        key: |row| {
            vec![number(row, "account_id"), number(row, "room_nid"), number(row, "pos"), ord(row)]
        },
    },
    Source {
        name: "references::heads",
        sql: page!(
            "references::heads",
            "room_state",
            "account_id, room_nid, event_type, state_key",
            "($1, $2, $3, $4)",
            "account_id DESC, room_nid DESC, event_type DESC, state_key DESC",
            "body_id",
            "$5"
        ),
        start: || vec![Box::new(0_i64), Box::new(0_i64), none(), none()],
        key: |row| {
            vec![
                number(row, "account_id"),
                number(row, "room_nid"),
                text(row, "event_type"),
                text(row, "state_key"),
            ]
        },
    },
    Source {
        name: "references::changes",
        sql: page!(
            "references::changes",
            "state_changes",
            "account_id, room_nid, pos, ord, event_type, state_key",
            "($1, $2, $3, $4, $5, $6)",
            "account_id DESC, room_nid DESC, pos DESC, ord DESC, event_type DESC, state_key DESC",
            "old_body_id",
            "$7"
        ),
        start: || {
            vec![Box::new(0_i64), Box::new(0_i64), Box::new(0_i64), Box::new(0_i32), none(), none()]
        },
        key: |row| {
            vec![
                number(row, "account_id"),
                number(row, "room_nid"),
                number(row, "pos"),
                ord(row),
                text(row, "event_type"),
                text(row, "state_key"),
            ]
        },
    },
    Source {
        name: "references::redactions",
        sql: page!(
            "references::redactions",
            "redactions",
            "event_id, room_nid",
            "($1, $2)",
            "event_id DESC, room_nid DESC",
            "redacted_by",
            "$3"
        ),
        start: || vec![none(), Box::new(0_i64)],
        key: |row| vec![text(row, "event_id"), number(row, "room_nid")],
    },
];

fn none() -> Key {
    Box::new(String::new())
}

fn number(row: &Row, column: &str) -> Key {
    Box::new(row.get::<_, i64>(column))
}

fn ord(row: &Row) -> Key {
    Box::new(row.get::<_, i32>("ord"))
}

fn text(row: &Row, column: &str) -> Key {
    Box::new(row.get::<_, String>(column))
}

impl Store {
    /// Gives every body that something refers to, some more than once, to `see`.
    pub(super) async fn references(
        &self,
        pace: Pace,
        mut see: impl FnMut(i64) + Send,
    ) -> Result<(), Error> {
        for source in SOURCES {
            let mut after = (source.start)();
            loop {
                let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(after.len() + 1);
                params.extend(after.iter().map(|key| &**key as &(dyn ToSql + Sync)));
                params.push(&pace.rows);
                let rows = self.query(source.name, source.sql, &params).await?;
                let Some(last) = rows.first() else { break };
                let used: Option<Vec<i64>> = last.get("used");
                used.into_iter().flatten().for_each(&mut see);
                after = (source.key)(last);
                pace.rest().await;
            }
        }
        self.redacting_bodies(pace, see).await
    }

    /// The redactions that stored bodies are pruned by.
    async fn redacting_bodies(&self, pace: Pace, mut see: impl FnMut(i64)) -> Result<(), Error> {
        let mut after = 0_i64;
        loop {
            let rows = self
                .query(
                    "references::redacting_bodies",
                    "-- references::redacting_bodies
                    SELECT DISTINCT redacted_by
                    FROM event_bodies
                    WHERE redacted_by > $1
                    ORDER BY redacted_by
                    LIMIT $2",
                    &[&after, &pace.rows],
                )
                .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.get("redacted_by");
            for row in &rows {
                see(row.get("redacted_by"));
            }
            pace.rest().await;
        }
    }
}
