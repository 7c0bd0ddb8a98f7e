//! How much one proxy, or several on one database, and one Postgres carry: events a second until they no longer keep up.
//!
//! A homeserver that costs next to nothing ([`tests::load`]) plays accounts in shared rooms; some of them have a client that
//! waits. At each rate it is seen whether what is told is also stored, how long it takes to the clients, and what an event
//! costs for each account that is told of it. `tests/run load` runs it; `docs/scaling.md` has the figures.
#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark a panic is the right answer to anything unexpected"
)]

mod options;
mod report;

use std::process::ExitCode;

use tests::bench::{run, say};
use tests::load::step::Step;
use tests::load::world::World;
use tests::paths;
use tests::postgres::Postgres;

use self::options::Options;

/// Where doubling the rate begins, in events a second, and how often it is doubled.
const FIRST_RATE: f64 = 5.0;
const DOUBLINGS: u8 = 12;

fn main() -> ExitCode {
    run(Options::read, bench)
}

async fn bench(options: &Options) -> ExitCode {
    // Durable, as in operation: what an event costs is to no small part the disk's. The small form looks at ratios, which
    // must not depend on when Postgres tidies up.
    let settings: &[&str] =
        if options.smoke { &["full_page_writes=off", "autovacuum=off"] } else { &["fsync=on"] };
    let postgres = Postgres::start_with(settings).await;
    let (mut world, memory) = World::make(&postgres, &options.crowd()).await;
    let mut steps = Vec::new();
    if options.rates.is_empty() {
        let mut rate = FIRST_RATE;
        for _ in 0..DOUBLINGS {
            let step = world.play(rate, options.seconds).await;
            let sustained = step.is_sustained();
            steps.push(step);
            if !sustained {
                break;
            }
            rate *= 2.0;
        }
    }
    for rate in &options.rates {
        steps.push(world.play(*rate, options.seconds).await);
    }
    say(&report::table(&steps, memory, options));
    if let Some(path) = &options.json {
        // Cargo runs a benchmark in the directory of its package; people are in that of the repository.
        let path = paths::repository().join(path);
        std::fs::write(path, report::to_json(&steps, memory, options).to_string()).unwrap();
    }
    let faults = faults(&steps, options);
    for fault in &faults {
        say(&format!("{fault}\n"));
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What no machine is too slow for. That everything came is seen already: a step does not end before.
fn faults(steps: &[Step], options: &Options) -> Vec<String> {
    let mut faults = Vec::new();
    let doubled: usize = steps.iter().map(|step| step.doubled).sum();
    if doubled > 0 {
        faults.push(format!("{doubled} events came twice"));
    }
    if let (true, [first, .., last]) = (options.smoke, steps) {
        let (before, after) = (first.each(first.costs.wal), last.each(last.costs.wal));
        if after > before * 1.5 {
            faults.push(format!("WAL for each event grows from {before:.0} to {after:.0} bytes"));
        }
    }
    faults
}
