//! What the proxies and Postgres have cost so far, by the kernel's count and by Postgres' own.

use std::fs;
use std::time::Duration;

use super::homeserver::Homeserver;
use crate::postgres::{Database, Postgres};
use crate::proxy::Proxy;
use tokio_postgres::Client;

/// The kernel's unit of processor time on Linux, whatever the machine.
const MILLISECONDS_A_TICK: u64 = 10;

/// Where costs are looked up.
#[derive(Debug)]
pub struct Machine {
    sql: Client,
    postgres: u32,
}

/// Costs up to a moment, or between two.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Transactions committed. Postgres counts them up to a second late.
    pub commits: f64,
    /// Transactions that wrote something, of the whole server.
    pub writes: f64,
    /// Bytes of write-ahead log.
    pub wal: f64,
    /// Seconds of processor time of the proxies.
    pub proxy: f64,
    /// And of all processes of Postgres.
    pub postgres: f64,
    /// And of the homeserver.
    pub homeserver: f64,
}

impl Machine {
    /// For the proxies on a database.
    pub async fn of(postgres: &Postgres, database: &Database) -> Self {
        Self { sql: database.connect().await.unwrap(), postgres: postgres.id() }
    }

    /// Everything up to now.
    pub async fn look(&self, proxies: &[Proxy], homeserver: &Homeserver) -> Costs {
        let counted = "
            SELECT
                xact_commit::FLOAT8 AS commits,
                pg_snapshot_xmax(pg_current_snapshot())::TEXT::FLOAT8 AS writes,
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::FLOAT8 AS wal
            FROM pg_stat_database
            WHERE datname = current_database()";
        let row = self.sql.query_one(counted, &[]).await.unwrap();
        Costs {
            commits: row.get("commits"),
            writes: row.get("writes"),
            wal: row.get("wal"),
            proxy: proxies.iter().map(|proxy| own_time(&stat(proxy.id()))).sum(),
            postgres: self.postgres_time(),
            homeserver: homeserver.processor_time(),
        }
    }

    /// The time of all that run, and of those that have ended.
    fn postgres_time(&self) -> f64 {
        let first = stat(self.postgres);
        let children = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let fields = try_stat(id)?;
            (fields[PARENT] == u64::from(self.postgres)).then(|| own_time(&fields))
        });
        own_time(&first) + ended_time(&first) + children.sum::<f64>()
    }
}

impl Costs {
    /// What came after an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            commits: self.commits - earlier.commits,
            writes: self.writes - earlier.writes,
            wal: self.wal - earlier.wal,
            proxy: self.proxy - earlier.proxy,
            postgres: self.postgres - earlier.postgres,
            homeserver: self.homeserver - earlier.homeserver,
        }
    }
}

// Places in /proc/<id>/stat behind the name of the program, see proc(5).
const PARENT: usize = 1;
const OWN: [usize; 2] = [11, 12];
const ENDED: [usize; 2] = [13, 14];

fn own_time(fields: &[u64]) -> f64 {
    seconds(OWN.iter().map(|place| fields[*place]).sum())
}

fn ended_time(fields: &[u64]) -> f64 {
    seconds(ENDED.iter().map(|place| fields[*place]).sum())
}

fn seconds(ticks: u64) -> f64 {
    Duration::from_millis(ticks * MILLISECONDS_A_TICK).as_secs_f64()
}

fn stat(id: u32) -> Vec<u64> {
    try_stat(id).expect("the process runs")
}

fn try_stat(id: u32) -> Option<Vec<u64>> {
    fields(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn fields(stat: &str) -> Option<Vec<u64>> {
    let (_name, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect())
}

/// The number of the thread that asks.
pub(super) fn this_thread() -> u32 {
    let text = fs::read_to_string("/proc/thread-self/stat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Seconds of processor time of a thread of this process.
pub(super) fn thread_time(thread: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    own_time(&fields(&text).expect("the kernel's own format"))
}
