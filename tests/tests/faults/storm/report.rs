//! What a storm has done and found, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

/// Figures of one world.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) world: String,
    pub(crate) seed: u64,
    pub(crate) lasted: Duration,
    pub(crate) rounds: u64,
    /// Those of them whose faults lasted for twenty seconds and more.
    pub(crate) long_rounds: u64,
    /// How often each fault was, and the longest time until all was well after a round with it.
    pub(crate) faults: BTreeMap<&'static str, (u64, Duration)>,
    pub(crate) longest_recovery: (Duration, String),
    /// Ends that nobody asked for: at marks, and of Postgres when its disk was full.
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) footprints: Vec<(&'static str, Footprint)>,
}

/// What a process and its database hold at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    /// The number of the process.
    pub(crate) process: u32,
    pub(crate) memory_kib: u64,
    pub(crate) files: usize,
    pub(crate) connections: i64,
    pub(crate) sessions: i64,
}

impl Footprint {
    /// Of a world in which nothing is wrong.
    pub(crate) async fn of(world: &World) -> Self {
        const CONNECTIONS: &str = "SELECT COUNT(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        Self {
            process: world.proxy.id(),
            memory_kib: world.proxy.memory_kib(),
            files: world.proxy.open_files(),
            connections: world.database.count(CONNECTIONS).await,
            sessions: world.database.count("SELECT COUNT(*) FROM sessions").await,
        }
    }
}

impl Report {
    /// As JSON, with what the witnesses of the world have counted.
    pub(crate) fn json(&self, world: &World) -> Value {
        let sum = |values: Vec<u64>| values.into_iter().sum::<u64>();
        let longest = world.testimonies(|one| one.longest_error.clone()).into_iter().max();
        let longest = longest.unwrap_or_default();
        let faults: BTreeMap<_, _> = self
            .faults
            .iter()
            .map(|(name, (times, longest))| {
                (name, json!({"times": times, "longest_recovery_s": longest.as_secs_f64()}))
            })
            .collect();
        let footprints: BTreeMap<_, _> = self
            .footprints
            .iter()
            .map(|(when, one)| {
                let one = json!({
                    "rss_kib": one.memory_kib, "open_files": one.files,
                    "postgres_connections": one.connections, "sessions": one.sessions,
                });
                (when, one)
            })
            .collect();
        json!({
            "homeserver": self.world, "seed": self.seed, "seconds": self.lasted.as_secs(),
            "rounds": self.rounds, "long_rounds": self.long_rounds,
            "faults_injected": sum(self.faults.values().map(|one| one.0).collect()),
            "faults": faults, "ends": self.ends,
            "messages_checked": sum(world.testimonies(|one| one.checked)),
            "requests": sum(world.testimonies(|one| one.requests)),
            "errors_while_faults_lasted_or_just_after": sum(world.testimonies(|one| one.errors)),
            "requests_abandoned": sum(world.testimonies(|one| one.vanished)),
            "requests_repeated": sum(world.testimonies(|one| one.replayed)),
            "gaps_filled": sum(world.testimonies(|one| one.gaps)),
            "longest_error_after_its_cause_s": longest.0.as_secs_f64(), "longest_error": longest.1,
            "longest_recovery_s": self.longest_recovery.0.as_secs_f64(),
            "longest_recovery_from": self.longest_recovery.1, "footprints": footprints,
        })
    }

    /// As a table of Markdown.
    pub(crate) fn table(&self, world: &World) -> String {
        let mut out = String::new();
        let json = self.json(world);
        let mut row = |name: &str, value: String| writeln!(out, "| {name} | {value} |").unwrap();
        row(
            &format!("{} homeserver", self.world),
            format!("{} s, seed {}", json["seconds"], self.seed),
        );
        row("---", "---".to_owned());
        for (name, key) in [
            ("Rounds", "rounds"),
            ("… with failures of 20 to 40 s", "long_rounds"),
            ("Failures", "faults_injected"),
            ("Messages checked", "messages_checked"),
            ("Requests", "requests"),
            ("… abandoned by their client", "requests_abandoned"),
            ("… repeated with an old token", "requests_repeated"),
            ("… that ended in an error", "errors_while_faults_lasted_or_just_after"),
            ("Gaps filled from `/messages`", "gaps_filled"),
            ("Longest error after its cause, s", "longest_error_after_its_cause_s"),
            ("Longest time until all was well, s", "longest_recovery_s"),
            ("… after", "longest_recovery_from"),
        ] {
            row(name, json[key].as_str().map_or_else(|| short(&json[key]), str::to_owned));
        }
        for (when, one) in &self.footprints {
            let Footprint { memory_kib, files, connections, sessions, .. } = one;
            row(
                &format!("{when}: RSS, files, connections, sessions"),
                format!("{} MiB, {files}, {connections}, {sessions}", memory_kib / 1_024),
            );
        }
        for (name, (times, longest)) in &self.faults {
            row(name, format!("{times} times, well after {:.1} s", longest.as_secs_f64()));
        }
        out
    }
}

fn short(value: &Value) -> String {
    value
        .as_f64()
        .filter(|_| value.is_f64())
        .map_or_else(|| value.to_string(), |one| format!("{one:.1}"))
}
