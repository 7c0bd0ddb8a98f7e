//! The figures, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::Costs;
use crate::options::Options;

/// One rate, and what came of it.
#[derive(Debug)]
pub(crate) struct Step {
    /// Events a second.
    pub(crate) rate: f64,
    /// How long it took, the rest that was left over included.
    pub(crate) took: Duration,
    /// Of that, how long the rest took.
    pub(crate) rest: Duration,
    /// Events, each counted for each account that was told of it.
    pub(crate) told: usize,
    /// How many of them were not stored half-way, and when the last event happened.
    pub(crate) backlog: [usize; 2],
    /// From an event to the waiting clients. Sorted.
    pub(crate) latencies: Vec<Duration>,
    /// What clients were told more than once.
    pub(crate) doubled: usize,
    pub(crate) costs: Costs,
    /// Events of all accounts a second.
    pub(crate) told_rate: f64,
}

/// The memory of the proxies, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) begun: u64,
    pub(crate) logged_in: u64,
    pub(crate) waiting: u64,
}

impl Step {
    /// Whether the proxies keep up: what is left over is no more than comes in a second, or does not grow any more.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many events")]
    pub(crate) fn is_sustained(&self) -> bool {
        let [halfway, end] = self.backlog.map(|backlog| backlog as f64);
        end <= self.told_rate.max(halfway * 1.25)
    }

    /// What an event that one account is told of costs.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many events")]
    pub(crate) fn each(&self, costs: f64) -> f64 {
        costs / (self.told as f64).max(1.0)
    }

    fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let latency = self.latencies.get(last * percent / 100).copied().unwrap_or_default();
        latency.as_secs_f64() * 1_000.0
    }

    fn row(&self) -> String {
        let time = self.took.as_secs_f64();
        format!(
            "| {:.0} | {:.0} | {} | {} → {} | {:.0} / {:.0} / {:.0} | {:.2} | {:.1} | {:.0} % | {:.0} % | {:.2} |",
            self.rate,
            self.told_rate,
            if self.is_sustained() { "yes" } else { "no" },
            self.backlog[0],
            self.backlog[1],
            self.percentile(50),
            self.percentile(95),
            self.percentile(99),
            self.each(self.costs.commits),
            self.each(self.costs.wal) / 1024.0,
            self.costs.proxy / time * 100.0,
            self.costs.postgres / time * 100.0,
            self.each(self.costs.proxy + self.costs.postgres) * 1_000.0,
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "events_per_second": self.rate, "told_per_second": self.told_rate, "told": self.told,
            "seconds": self.took.as_secs_f64(), "seconds_for_the_rest": self.rest.as_secs_f64(),
            "backlog": self.backlog, "sustained": self.is_sustained(), "doubled": self.doubled,
            "latency_ms": {"p50": self.percentile(50), "p95": self.percentile(95), "p99": self.percentile(99)},
            "commits_each": self.each(self.costs.commits), "wal_bytes_each": self.each(self.costs.wal),
            "proxy_cpu_seconds": self.costs.proxy, "postgres_cpu_seconds": self.costs.postgres,
        })
    }
}

impl Memory {
    #[expect(clippy::cast_precision_loss, reason = "no machine has so much")]
    fn line(self, options: &Options) -> String {
        let each = |grown: u64, of: usize| grown as f64 / of.max(1) as f64;
        format!(
            "memory: {} KiB without accounts; {:.1} KiB more an account, {:.1} KiB more a waiting client\n",
            self.begun,
            each(self.logged_in.saturating_sub(self.begun), options.accounts),
            each(self.waiting.saturating_sub(self.logged_in), options.clients),
        )
    }
}

/// A table in Markdown, as `docs/scaling.md` has it.
pub(crate) fn table(steps: &[Step], memory: Memory, options: &Options) -> String {
    let Options { accounts, rooms, members, clients, replicas, .. } = options;
    let mut text = format!(
        "{accounts} accounts, {rooms} rooms of {members}, {clients} waiting clients, {replicas} proxies\n\n\
         | events/s | told/s | sustained | backlog | latency, ms (p50 / p95 / p99) | commits each | WAL each, KiB | proxy CPU | Postgres CPU | CPU each, ms |\n\
         |--:|--:|---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for step in steps {
        writeln!(text, "{}", step.row()).expect("a String takes everything");
    }
    text + "\n" + &memory.line(options)
}

/// Everything, for programs.
pub(crate) fn to_json(steps: &[Step], memory: Memory, options: &Options) -> Value {
    let Options { accounts, rooms, members, clients, replicas, .. } = options;
    let steps: Vec<Value> = steps.iter().map(Step::to_json).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Memory { begun, logged_in, waiting } = memory;
    json!({
        "cores": cores, "accounts": accounts, "rooms": rooms, "members_per_room": members,
        "clients": clients, "replicas": replicas, "steps": steps,
        "memory_kib": {"begun": begun, "logged_in": logged_in, "waiting": waiting},
    })
}
