//! The figures, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};
use tests::load::step::{Memory, Step};

use crate::options::Options;

fn row(step: &Step) -> String {
    let time = step.took.as_secs_f64();
    format!(
        "| {:.0} | {:.0} | {} | {} → {} | {:.0} / {:.0} / {:.0} | {:.2} | {:.1} | {:.0} % | {:.0} % | {:.2} |",
        step.rate,
        step.told_rate,
        if step.is_sustained() { "yes" } else { "no" },
        step.backlog[0],
        step.backlog[1],
        step.percentile(50),
        step.percentile(95),
        step.percentile(99),
        step.each(step.costs.commits),
        step.each(step.costs.wal) / 1024.0,
        step.costs.proxy / time * 100.0,
        step.costs.postgres / time * 100.0,
        step.each(step.costs.proxy + step.costs.postgres) * 1_000.0,
    )
}

fn step_to_json(step: &Step) -> Value {
    json!({
        "events_per_second": step.rate, "told_per_second": step.told_rate, "told": step.told,
        "seconds": step.took.as_secs_f64(), "seconds_for_the_rest": step.rest.as_secs_f64(),
        "backlog": step.backlog, "sustained": step.is_sustained(), "doubled": step.doubled,
        "latency_ms": {"p50": step.percentile(50), "p95": step.percentile(95), "p99": step.percentile(99)},
        "commits_each": step.each(step.costs.commits), "wal_bytes_each": step.each(step.costs.wal),
        "proxy_cpu_seconds": step.costs.proxy, "postgres_cpu_seconds": step.costs.postgres,
        "writing_transactions_each": step.each(step.costs.writes),
        "homeserver_cpu_seconds": step.costs.homeserver, "events_a_poll": step.events_a_poll(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "no machine has so much")]
fn line(memory: Memory, options: &Options) -> String {
    let each = |grown: u64, of: usize| grown as f64 / of.max(1) as f64;
    format!(
        "memory: {} KiB without accounts; {:.1} KiB more an account, {:.1} KiB more a waiting client\n",
        memory.begun,
        each(memory.logged_in.saturating_sub(memory.begun), options.accounts),
        each(memory.waiting.saturating_sub(memory.logged_in), options.clients),
    )
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
        writeln!(text, "{}", row(step)).expect("a String takes everything");
    }
    text + "\n" + &line(memory, options)
}

/// Everything, for programs.
pub(crate) fn to_json(steps: &[Step], memory: Memory, options: &Options) -> Value {
    let Options { accounts, rooms, members, clients, replicas, .. } = options;
    let steps: Vec<Value> = steps.iter().map(step_to_json).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Memory { begun, logged_in, waiting } = memory;
    json!({
        "cores": cores, "accounts": accounts, "rooms": rooms, "members_per_room": members,
        "clients": clients, "replicas": replicas, "steps": steps,
        "memory_kib": {"begun": begun, "logged_in": logged_in, "waiting": waiting},
    })
}
