//! The figures of one case, in both worlds, and what may be said of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cases::{Case, Kind, Warmth};
use crate::counters::Asked;

/// What one world showed.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) rooms: usize,
    /// Sorted.
    times: Vec<Duration>,
    /// What Postgres was asked for one reply.
    pub(crate) asked: Asked,
}

/// A case and what both worlds showed: the small one first.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) case: Case,
    pub(crate) worlds: [Figures; 2],
}

/// How far the large account may be from the small one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many times as long its replies may take.
    time: f64,
    /// And so many milliseconds more.
    pause: f64,
    /// How many times as much Postgres may be asked.
    asked: f64,
}

/// What we claim. Indexes of larger tables are a level or two deeper, hence so many more blocks.
pub(crate) const CLAIMED: Limits = Limits { time: 1.5, pause: 0.0, asked: 1.5 };

/// What no machine is too busy for.
pub(crate) const SMOKE: Limits = Limits { time: 3.0, pause: 5.0, asked: 1.5 };

/// Rows and blocks that are neither here nor there: a level more of an index, a full page split in two; and what a session
/// that has read a whole list carries, two or three bytes a room.
const ALLOWANCE: f64 = 100.0;

impl Figures {
    pub(crate) fn new(rooms: usize, mut times: Vec<Duration>, asked: Asked) -> Self {
        times.sort_unstable();
        Self { rooms, times, asked }
    }

    /// The median, in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// What nine out of ten replies stay below, in milliseconds.
    pub(crate) fn p90(&self) -> f64 {
        self.percentile(90)
    }

    fn percentile(&self, percent: usize) -> f64 {
        let place = (self.times.len() - 1) * percent / 100;
        self.times[place].as_secs_f64() * 1_000.0
    }
}

impl Compared {
    /// How much longer the large account waits.
    pub(crate) fn ratio(&self) -> f64 {
        self.worlds[1].median() / self.worlds[0].median()
    }

    /// What we claim and the figures do not bear out.
    pub(crate) fn faults(&self, limits: Limits) -> Vec<String> {
        if !self.case.claim {
            return Vec::new();
        }
        let [small, large] = &self.worlds;
        let mut faults = Vec::new();
        let mut hold = |what: &str, small: f64, large: f64, limit: f64, allowance: f64| {
            if large > small * limit + allowance {
                let name = self.name();
                faults.push(format!("{name}: {what} grows from {small:.1} to {large:.1}"));
            }
        };
        hold("the time", small.median(), large.median(), limits.time, limits.pause);
        // What has to be made anew after a start may be read once.
        if self.case.warmth == Warmth::Warm {
            let (small, large) = (&small.asked, &large.asked);
            hold("statements", small.calls(), large.calls(), limits.asked, 1.0);
            hold("rows read", small.rows_read(), large.rows_read(), limits.asked, ALLOWANCE);
            hold("blocks", small.blocks(), large.blocks(), limits.asked, ALLOWANCE);
        }
        faults
    }

    /// The case in words.
    pub(crate) fn name(&self) -> String {
        name(&self.case)
    }

    /// Everything, for programs.
    pub(crate) fn to_json(&self) -> Value {
        let worlds: Vec<Value> = self.worlds.iter().map(Figures::to_json).collect();
        json!({
            "reply": self.name(), "claimed": self.case.claim, "ratio": self.ratio(), "accounts": worlds,
        })
    }
}

impl Figures {
    fn to_json(&self) -> Value {
        let statements: Vec<Value> = self
            .asked
            .statements
            .iter()
            .map(|(name, statement)| {
                json!({
                    "name": name, "calls": statement.calls, "rows": statement.rows, "blocks": statement.blocks,
                    "ms": statement.milliseconds, "compiling_ms": statement.compiling,
                })
            })
            .collect();
        json!({
            "rooms": self.rooms, "runs": self.times.len(), "median_ms": self.median(), "p90_ms": self.p90(),
            "statements": self.asked.calls(), "rows_given": self.asked.rows(), "rows_read": self.asked.rows_read(),
            "blocks": self.asked.blocks(), "by_statement": statements, "rows_read_by_table": self.asked.rows_read,
        })
    }
}

/// A case in words.
pub(crate) fn name(case: &Case) -> String {
    let kind = match case.kind {
        Kind::V2First | Kind::First => "first reply",
        Kind::V2Delta | Kind::Delta { .. } => "after one event",
        Kind::Nothing { .. } => "nothing new",
        Kind::WakeUp { .. } => "wake-up",
    };
    let warmth = match case.warmth {
        Warmth::Warm => "",
        Warmth::Cold => ", after a start",
    };
    format!("{}: {kind}{warmth}", case.name)
}
