//! What the program is for: how much faster than the homeserver it stands before, and how its costs grow.
//!
//! Each row of the table in `docs/performance.md` has a module in [`rows`]. Those against a homeserver ask a real Synapse
//! and a proxy before it the same in turn, so that what else the machine does slows both; the others have a scripted
//! homeserver that can play accounts of any size. `tests/run speed` runs it; a small form of it is a step of `tests/run`.
#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark a panic is the right answer to anything unexpected"
)]

mod options;
mod report;
mod row;
mod rows;

use std::process::ExitCode;

use tests::bench::{run, say};
use tests::paths;

use self::options::Options;

fn main() -> ExitCode {
    run(Options::read, bench)
}

async fn bench(options: &Options) -> ExitCode {
    let rows = rows::measure(options).await;
    say(&report::table(&rows));
    if let Some(path) = &options.json {
        // Cargo runs a benchmark in the directory of its package; people are in that of the repository.
        let path = paths::repository().join(path);
        std::fs::write(path, report::to_json(&rows).to_string()).unwrap();
    }
    let faults =
        rows.iter().filter_map(|row| row.fault.as_deref().map(|fault| (row.number, fault)));
    let mut outcome = ExitCode::SUCCESS;
    for (number, fault) in faults {
        say(&format!("row {number}: {fault}\n"));
        outcome = ExitCode::FAILURE;
    }
    outcome
}
