//! What Postgres was asked, by its own count: independent of the clock, and the same in every run.

use std::collections::BTreeMap;

use tests::postgres::Database;
use tests::wait::eventually;
use tokio_postgres::Client;

/// The setting that makes the server count statements.
pub(crate) const SETTING: &str = "shared_preload_libraries=pg_stat_statements";

/// Tables that are as large as a device has sessions, whatever the account: read through while that costs less than an
/// index, so that how many rows of them are read says nothing.
const OF_SESSIONS: &[&str] = &[
    "sessions",
    "session_params",
    "session_sets",
    "refinery_schema_history",
    "replicas",
    "chores",
];

/// A look at the counters of one database.
#[derive(Debug)]
pub(crate) struct Counters(Client);

/// What was asked so far, or between two looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// By the name that each statement of the store begins with.
    pub(crate) statements: BTreeMap<String, Statement>,
    /// By table: the rows that scans of it, or of its indexes, came upon.
    pub(crate) rows_read: BTreeMap<String, f64>,
}

/// The runs of one statement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statement {
    /// How often it was run.
    pub(crate) calls: f64,
    /// The rows that it gave.
    pub(crate) rows: f64,
    /// The blocks that it touched, in the cache or not.
    pub(crate) blocks: f64,
    /// The time that it took the server, in milliseconds.
    pub(crate) milliseconds: f64,
    /// Of that, compiling it: what the server does with statements that it expects to be long.
    pub(crate) compiling: f64,
}

impl Counters {
    /// Counts from now on.
    pub(crate) async fn of(database: &Database) -> Self {
        let client = database.connect().await.unwrap();
        client.batch_execute("CREATE EXTENSION pg_stat_statements").await.expect(
            "the module pg_stat_statements is not installed. Debian has it in the server's package \
             (tests/setup postgres); elsewhere it is in postgresql-contrib",
        );
        Self(client)
    }

    /// Brings the planner's knowledge of the tables up to date, as the server does by itself from time to time.
    pub(crate) async fn settle(&self) {
        self.0.batch_execute("VACUUM ANALYZE").await.unwrap();
    }

    /// Everything so far.
    pub(crate) async fn look(&self) -> Asked {
        self.hang_up().await;
        let statements = "
            SELECT split_part(split_part(query, '-- ', 2), E'\\n', 1) AS name,
                SUM(calls)::FLOAT8 AS calls,
                SUM(rows)::FLOAT8 AS rows,
                SUM(shared_blks_hit + shared_blks_read)::FLOAT8 AS blocks,
                SUM(total_exec_time)::FLOAT8 AS milliseconds,
                SUM(jit_generation_time + jit_inlining_time + jit_optimization_time
                    + jit_emission_time)::FLOAT8 AS compiling
            FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '-- %::%'
                AND query !~ '^-- (replicas|membership|retention|chores|bodies|history)::'
            GROUP BY 1";
        let tables = "
            SELECT t.relname::TEXT AS name,
                (t.seq_tup_read + COALESCE((
                    SELECT SUM(i.idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid
                ), 0))::FLOAT8 AS rows
            FROM pg_stat_user_tables t
            WHERE t.relname <> ALL($1)";
        let statements = self.0.query(statements, &[]).await.unwrap();
        let tables = self.0.query(tables, &[&OF_SESSIONS]).await.unwrap();
        Asked {
            statements: statements
                .iter()
                .map(|row| {
                    let statement = Statement {
                        calls: row.get("calls"),
                        rows: row.get("rows"),
                        blocks: row.get("blocks"),
                        milliseconds: row.get("milliseconds"),
                        compiling: row.get("compiling"),
                    };
                    (row.get("name"), statement)
                })
                .collect(),
            rows_read: tables.iter().map(|row| (row.get("name"), row.get("rows"))).collect(),
        }
    }

    /// Ends the connections of the proxy's pool: a connection tells what it read when it ends, or else only seconds later. The
    /// proxy makes new ones. The one with which it says that it lives, and holds a lock, is left alone.
    async fn hang_up(&self) {
        let ended = self
            .0
            .query(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity a
                WHERE datname = current_database() AND application_name = 'syncv3' AND NOT EXISTS (
                    SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory')",
                &[],
            )
            .await
            .unwrap();
        let ended: Vec<i32> = ended.iter().map(|row| row.get("pid")).collect();
        let left = "SELECT COUNT(*) FROM pg_stat_activity WHERE pid = ANY($1)";
        eventually("the proxy's connections to end", async || {
            let left: i64 = self.0.query_one(left, &[&ended]).await.unwrap().get(0);
            (left == 0).then_some(())
        })
        .await;
    }
}

impl Asked {
    /// What was asked since an earlier look, divided by the number of replies.
    pub(crate) fn since(&self, earlier: &Self, replies: f64) -> Self {
        self.combine(earlier, |now, then| (now - then) / replies)
    }

    /// What was asked besides something else.
    pub(crate) fn without(&self, other: &Self) -> Self {
        self.combine(other, |all, other| all - other)
    }

    /// Statements run.
    pub(crate) fn calls(&self) -> f64 {
        self.statements.values().map(|statement| statement.calls).sum()
    }

    /// Rows given by statements.
    pub(crate) fn rows(&self) -> f64 {
        self.statements.values().map(|statement| statement.rows).sum()
    }

    /// Rows that scans came upon.
    pub(crate) fn rows_read(&self) -> f64 {
        self.rows_read.values().sum()
    }

    /// Blocks touched.
    pub(crate) fn blocks(&self) -> f64 {
        self.statements.values().map(|statement| statement.blocks).sum()
    }

    fn combine(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        let statements = self.statements.iter().map(|(name, mine)| {
            let theirs = other.statements.get(name).copied().unwrap_or_default();
            let statement = Statement {
                calls: with(mine.calls, theirs.calls),
                rows: with(mine.rows, theirs.rows),
                blocks: with(mine.blocks, theirs.blocks),
                milliseconds: with(mine.milliseconds, theirs.milliseconds),
                compiling: with(mine.compiling, theirs.compiling),
            };
            (name.clone(), statement)
        });
        let rows_read = self.rows_read.iter().map(|(table, mine)| {
            (table.clone(), with(*mine, other.rows_read.get(table).copied().unwrap_or_default()))
        });
        Self {
            statements: statements.filter(|(_, statement)| statement.calls != 0.0).collect(),
            rows_read: rows_read.filter(|(_, rows)| *rows != 0.0).collect(),
        }
    }
}
