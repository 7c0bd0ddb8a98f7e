//! What a sync costs in a small account and in a large one: the same, but for `GET /sync` without a `since`.
//!
//! Two accounts of a scripted homeserver, each behind a proxy and a database of its own, are asked the same in turn, so that
//! what else the machine does slows both. Besides the time, Postgres says what it was asked ([`counters`]): the
//! same in every run, whatever the clock says. `tests/run bench` runs it; `docs/performance.md` has the figures.
#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark a panic is the right answer to anything unexpected"
)]

mod cases;
mod counters;
mod figures;
mod memory;
mod options;
mod report;
mod world;

use std::process::ExitCode;

use serde_json::{Value, json};
use tests::bench::{run, say};
use tests::paths;
use tests::postgres::Postgres;

use self::cases::{Case, Kind, Ready, Warmth};
use self::counters::Asked;
use self::figures::{Compared, Figures};
use self::memory::Memory;
use self::options::Options;
use self::world::World;

/// How often a reply is asked for to count what Postgres is asked. The counts are the same each time, but for plans: those of
/// the first few runs of a statement are made for their parameters.
const COUNTED: u8 = 4;

fn main() -> ExitCode {
    run(Options::read, bench)
}

async fn bench(options: &Options) -> ExitCode {
    let postgres = Postgres::start_with(&[counters::SETTING]).await;
    let mut worlds = [
        World::make(&postgres, options.rooms[0]).await,
        World::make(&postgres, options.rooms[1]).await,
    ];
    let mut compared = Vec::new();
    for case in cases::all() {
        if figures::name(&case).contains(&options.only) && (!options.smoke || is_quick(&case)) {
            compared.push(compare(&mut worlds, case, options).await);
        }
    }
    say(&report::table(&compared));

    let mut memory = Vec::new();
    if !options.smoke {
        for world in &mut worlds {
            memory.push(memory::measure(world).await);
        }
    }
    for memory in &memory {
        say(&format!("{}\n", memory.line()));
    }
    if let Some(path) = &options.json {
        // Cargo runs a benchmark in the directory of its package; people are in that of the repository.
        let path = paths::repository().join(path);
        std::fs::write(path, to_json(&compared, &memory).to_string()).unwrap();
    }
    let limits = if options.smoke { figures::SMOKE } else { figures::CLAIMED };
    let faults: Vec<String> =
        compared.iter().flat_map(|compared| compared.faults(limits)).collect();
    for fault in &faults {
        say(&format!("{fault}\n"));
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether a case is one for every day: the others take too long.
fn is_quick(case: &Case) -> bool {
    let lists = ["20 rooms", "20 rooms by name", "whole list", "GET /sync"];
    let takes_long = matches!(case.kind, Kind::V2First | Kind::WakeUp { .. });
    lists.contains(&case.name) && case.warmth == Warmth::Warm && !takes_long
}

async fn compare(worlds: &mut [World; 2], case: Case, options: &Options) -> Compared {
    // The table comes at the end, which is minutes away.
    eprintln!("{}", figures::name(&case));
    let [small, large] = worlds;
    let mut ready = [case.prepare(small).await, case.prepare(large).await];
    let mut times = [Vec::new(), Vec::new()];
    for run in 0..runs(&case, options) {
        // Each goes first as often as the other.
        for which in [run % 2, (run + 1) % 2] {
            let world = if which == 0 { &mut *small } else { &mut *large };
            times[which].push(case.run(world, &mut ready[which]).await);
        }
    }
    let [ready_small, ready_large] = &mut ready;
    let asked = [count(&case, small, ready_small).await, count(&case, large, ready_large).await];
    let ([times_small, times_large], [asked_small, asked_large]) = (times, asked);
    let worlds = [
        Figures::new(small.rooms(), times_small, asked_small),
        Figures::new(large.rooms(), times_large, asked_large),
    ];
    Compared { case, worlds }
}

fn runs(case: &Case, options: &Options) -> usize {
    match (case.kind, case.warmth) {
        (Kind::V2First, _) => 6.min(options.runs),
        (_, Warmth::Cold) => (options.runs / 4).max(4),
        (_, Warmth::Warm) => options.runs,
    }
}

/// What Postgres is asked for one reply. Storing the event before it is not part of it.
async fn count(case: &Case, world: &mut World, ready: &mut Ready) -> Asked {
    let replies = f64::from(COUNTED);
    let begun = world.counters.look().await;
    for _ in 0..COUNTED {
        case.run(world, ready).await;
    }
    let asked = world.counters.look().await.since(&begun, replies);
    if !case.follows_an_event() || case.warmth == Warmth::Cold {
        return asked;
    }
    let begun = world.counters.look().await;
    for _ in 0..COUNTED {
        case.somebody_has_spoken(world, ready).await;
    }
    let events = world.counters.look().await.since(&begun, replies);
    asked.without(&events)
}

fn to_json(compared: &[Compared], memory: &[Memory]) -> Value {
    let replies: Vec<Value> = compared.iter().map(Compared::to_json).collect();
    let memory: Vec<Value> = memory.iter().map(Memory::to_json).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({"cores": cores, "replies": replies, "memory": memory})
}
