//! How large the tables are, for whoever watches them. Estimates that cost nothing, whatever the size.

use crate::{Error, Store};

/// A table and its size; of one in partitions, theirs together.
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
                SELECT t.relname AS name,
                    SUM(pg_total_relation_size(c.oid))::BIGINT AS bytes,
                    SUM(GREATEST(c.reltuples, 0))::BIGINT AS live_rows
                FROM pg_class c
                LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
                JOIN pg_class t ON t.oid = COALESCE(i.inhparent, c.oid)
                WHERE c.relkind = 'r'
                    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'accounts'::regclass)
                GROUP BY t.relname
                ORDER BY t.relname",
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
                SELECT SUM(pg_stat_get_live_tuples(t.oid))::BIGINT AS waiting
                FROM (
                    SELECT 'device_inbox'::regclass AS oid
                    UNION ALL
                    -- Its partitions, where it has some.
                    SELECT inhrelid FROM pg_inherits WHERE inhparent = 'device_inbox'::regclass
                ) t",
                &[],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get("waiting")))
    }
}
