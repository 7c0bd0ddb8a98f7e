//! Empty tables made anew in partitions, as an operator would do it: by what the catalogue says of them.

use std::fmt::Write as _;

use tokio_postgres::Client;

/// How many partitions each table has. The number of each is one digit: see [`partition`].
const PARTITIONS: usize = 4;

/// Makes these tables anew, in partitions by account, with all that they had but their rows.
pub(super) async fn in_partitions(sql: &Client, tables: &[String]) {
    let mut script = String::new();
    let keys = foreign_keys(sql, tables).await;
    for ForeignKey { table, name, .. } in &keys {
        writeln!(script, "ALTER TABLE {table} DROP CONSTRAINT {name};").unwrap();
    }
    for table in tables {
        writeln!(
            script,
            "ALTER TABLE {table} RENAME TO {table}_whole;
             CREATE TABLE {table} (LIKE {table}_whole INCLUDING ALL EXCLUDING IDENTITY) PARTITION BY HASH (account_id);
             DROP TABLE {table}_whole;"
        )
        .unwrap();
        // Before PostgreSQL 17 a table in partitions has no identity columns.
        for column in identity_columns(sql, table).await {
            writeln!(
                script,
                "CREATE SEQUENCE {table}_{column};
                 ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval('{table}_{column}');"
            )
            .unwrap();
        }
        let options = options(sql, table).await;
        for number in 0..PARTITIONS {
            writeln!(
                script,
                "CREATE TABLE {table}_part_{number} PARTITION OF {table}
                 FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number}){options};"
            )
            .unwrap();
        }
    }
    for ForeignKey { table, name, definition } in &keys {
        writeln!(script, "ALTER TABLE {table} ADD CONSTRAINT {name} {definition};").unwrap();
    }
    sql.batch_execute(&script).await.unwrap();
}

/// The table and the partition that a partition, or one of its indexes, is named after.
pub(super) fn partition(name: &str) -> Option<(&str, &str)> {
    let (table, rest) = name.split_once("_part_")?;
    Some((table, rest.get(..1)?))
}

struct ForeignKey {
    table: String,
    name: String,
    definition: String,
}

/// The foreign keys from these tables, and to them.
async fn foreign_keys(sql: &Client, tables: &[String]) -> Vec<ForeignKey> {
    let rows = sql
        .query(
            "SELECT conrelid::regclass::TEXT, conname::TEXT, pg_get_constraintdef(oid)
             FROM pg_constraint
             WHERE contype = 'f'
                AND (conrelid::regclass::TEXT = ANY($1) OR confrelid::regclass::TEXT = ANY($1))",
            &[&tables],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| ForeignKey { table: row.get(0), name: row.get(1), definition: row.get(2) })
        .collect()
}

async fn identity_columns(sql: &Client, table: &str) -> Vec<String> {
    let rows = sql
        .query(
            "SELECT attname::TEXT FROM pg_attribute WHERE attrelid = $1::TEXT::regclass AND attidentity <> ''",
            &[&table],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The table's storage parameters, which partitions have and what they are partitions of has not.
async fn options(sql: &Client, table: &str) -> String {
    let row = sql
        .query_one(
            "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::TEXT::regclass",
            &[&table],
        )
        .await
        .unwrap();
    let options: Option<String> = row.get(0);
    options.map(|options| format!(" WITH ({options})")).unwrap_or_default()
}
