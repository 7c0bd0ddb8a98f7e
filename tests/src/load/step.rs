//! One rate of events, and what came of it.

use std::time::Duration;

use super::machine::Costs;

/// One rate, and what came of it.
#[derive(Debug)]
pub struct Step {
    /// Events a second.
    pub rate: f64,
    /// How long it took, the rest that was left over included.
    pub took: Duration,
    /// Of that, how long the rest took.
    pub rest: Duration,
    /// Events, each counted for each account that was told of it.
    pub told: usize,
    /// In how many polls they were told.
    pub polls: usize,
    /// And how many there were in all, those that told nothing included.
    pub all_polls: usize,
    /// How many of them were not stored half-way, and when the last event happened.
    pub backlog: [usize; 2],
    /// From an event to the waiting clients. Sorted.
    pub latencies: Vec<Duration>,
    /// What clients were told more than once.
    pub doubled: usize,
    /// What it cost.
    pub costs: Costs,
    /// Events of all accounts a second.
    pub told_rate: f64,
}

/// The memory of the proxies, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Without accounts.
    pub begun: u64,
    /// With all accounts.
    pub logged_in: u64,
    /// And with the clients that wait.
    pub waiting: u64,
}

impl Step {
    /// Whether the proxies keep up: what is left over is no more than comes in a second, or does not grow any more.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many events")]
    pub fn is_sustained(&self) -> bool {
        let [halfway, end] = self.backlog.map(|backlog| backlog as f64);
        end <= self.told_rate.max(halfway * 1.25)
    }

    /// What an event that one account is told of costs.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many events")]
    pub fn each(&self, costs: f64) -> f64 {
        costs / (self.told as f64).max(1.0)
    }

    /// How many events a poll told that told any.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many events")]
    pub fn events_a_poll(&self) -> f64 {
        self.told as f64 / (self.polls as f64).max(1.0)
    }

    /// A percentile of the latencies, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let latency = self.latencies.get(last * percent / 100).copied().unwrap_or_default();
        latency.as_secs_f64() * 1_000.0
    }
}
