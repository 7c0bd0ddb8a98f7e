//! How large the tables are, for whoever watches them. Estimates that cost nothing, whatever the size.

use crate::{Error, Store};

/// A table and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// On disk, with its indexes and what is stored out of line.
    pub bytes: i64,
    /// How many rows it has, as the server last estimated.
    pub rows: i64,
}

impl Store {
    /// Every table of the database, by name.
    pub async fn table_sizes(&self) -> Result<Vec<TableSize>, Error> {
        let rows = self
            .query(
                "sizes::table_sizes",
                "-- sizes::table_sizes
                SELECT c.relname AS name,
                    pg_total_relation_size(c.oid) AS bytes,
                    GREATEST(c.reltuples, 0)::BIGINT AS live_rows
                FROM pg_class c
                WHERE c.relkind = 'r'
                    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'accounts'::regclass)
                ORDER BY c.relname",
                &[],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| TableSize {
                table: row.get::<_, &str>("name").to_owned(),
                bytes: row.get("bytes"),
                rows: row.get("live_rows"),
            })
            .collect())
    }

    /// How many to-device messages wait to be acknowledged, as the server's statistics have it.
    pub async fn inbox_backlog(&self) -> Result<i64, Error> {
        let rows = self
            .query(
                "sizes::inbox_backlog",
                "-- sizes::inbox_backlog
                SELECT pg_stat_get_live_tuples('device_inbox'::regclass) AS waiting",
                &[],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get("waiting")))
    }
}
