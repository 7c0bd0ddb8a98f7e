//! What the proxy asks of its database, by Postgres' own count. It is read through another database of the same server,
//! so that the looking is not counted.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::postgres::{Database, Postgres};
use tokio_postgres::Client;

/// The setting that makes the server count statements. It counts those of both sides alike.
pub(crate) const SETTING: &str = "shared_preload_libraries=pg_stat_statements";

/// How long a connection may keep to itself what it did, in seconds, and one more.
const LATE: Duration = Duration::from_secs(11);

/// Counts the statements in one database.
#[derive(Debug)]
pub(crate) struct Statements {
    client: Client,
    database: String,
}

/// How often each statement was run, by the name that it begins with, or else by its first words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(BTreeMap<String, f64>);

impl Statements {
    pub(crate) async fn of(database: &Database, postgres: &Postgres) -> Self {
        let client = postgres.database().await.connect().await.unwrap();
        client.batch_execute("CREATE EXTENSION pg_stat_statements").await.expect(
            "the module pg_stat_statements is not installed. Debian has it in the server's package \
             (tests/setup postgres); elsewhere it is in postgresql-contrib",
        );
        Self { client, database: database.name().to_owned() }
    }

    /// All that have been run so far.
    pub(crate) async fn look(&self) -> Calls {
        let query = "
            SELECT CASE
                    WHEN query LIKE '-- %::%' THEN split_part(split_part(query, '-- ', 2), E'\\n', 1)
                    ELSE LEFT(query, 40)
                END AS name,
                SUM(calls)::FLOAT8 AS calls
            FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1)
            GROUP BY 1";
        let rows = self.client.query(query, &[&self.database]).await.unwrap();
        Calls(rows.iter().map(|row| (row.get("name"), row.get("calls"))).collect())
    }

    /// The transactions so far, once all connections have told of theirs. It takes eleven seconds, which count as well.
    pub(crate) async fn transactions(&self) -> f64 {
        tokio::time::sleep(LATE).await;
        let query = "SELECT xact_commit::FLOAT8 FROM pg_stat_database WHERE datname = $1";
        self.client.query_one(query, &[&self.database]).await.unwrap().get(0)
    }
}

impl Calls {
    /// Those since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let calls = self.0.iter().map(|(name, calls)| {
            (name.clone(), calls - earlier.0.get(name).copied().unwrap_or_default())
        });
        Self(calls.filter(|(_, calls)| *calls > 0.0).collect())
    }

    /// Those of two intervals together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (name, calls) in &other.0 {
            *sum.0.entry(name.clone()).or_default() += calls;
        }
        sum
    }

    /// Those that are more than what happens by itself, of which this was seen in so many times less time.
    pub(crate) fn beyond(&self, quiet: &Self, times: f64) -> Self {
        let calls = self.0.iter().map(|(name, calls)| {
            (name.clone(), calls - times * quiet.0.get(name).copied().unwrap_or_default())
        });
        Self(calls.filter(|(_, calls)| *calls > 0.0).collect())
    }

    /// All of them.
    pub(crate) fn total(&self) -> f64 {
        // The sum of nothing would be a minus zero.
        self.0.values().fold(0.0, |sum, calls| sum + calls)
    }

    /// Those of one name.
    pub(crate) fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The most frequent, in words, divided by how often something happened.
    pub(crate) fn in_words(&self, times: f64) -> String {
        let mut calls: Vec<(&String, f64)> =
            self.0.iter().map(|(name, calls)| (name, calls / times)).collect();
        calls.sort_by(|one, other| other.1.total_cmp(&one.1));
        let words: Vec<String> = calls
            .iter()
            .filter(|(_, calls)| *calls >= 0.05)
            .map(|(name, calls)| format!("{name} {calls:.1}"))
            .collect();
        words.join(", ")
    }
}
