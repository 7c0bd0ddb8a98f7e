//! How much one proxy, or several on one database, and one Postgres carry: events a second until they no longer keep up.
//!
//! A homeserver that costs next to nothing ([`homeserver`]) plays accounts in shared rooms; some of them have a client that
//! waits. At each rate it is seen whether what is told is also stored, how long it takes to the clients, and what an event
//! costs for each account that is told of it. `tests/run load` runs it; `docs/scaling.md` has the figures.
#![expect(
    clippy::unwrap_used,
    reason = "in a benchmark a panic is the right answer to anything unexpected"
)]

mod clients;
mod homeserver;
mod machine;
mod options;
mod report;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tests::paths;
use tests::postgres::Postgres;
use tests::proxy::Proxy;
use tests::random::Random;
use tests::wait::{eventually, eventually_within};
use tokio::time::sleep_until;

use self::clients::Clients;
use self::homeserver::Homeserver;
use self::machine::Machine;
use self::options::Options;
use self::report::{Memory, Step};

/// Where doubling the rate begins, in events a second, and how often it is doubled.
const FIRST_RATE: f64 = 5.0;
const DOUBLINGS: u8 = 12;

/// How long what is left over after a step may take.
const REST: Duration = Duration::from_mins(10);

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            say(&format!("{fault}\n"));
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bench(&options))
}

/// What the load is put on.
struct World {
    homeserver: Homeserver,
    proxies: Vec<Proxy>,
    clients: Clients,
    machine: Machine,
    random: Random,
}

async fn bench(options: &Options) -> ExitCode {
    // Durable, as in operation: what an event costs is to no small part the disk's. The small form looks at ratios, which
    // must not depend on when Postgres tidies up.
    let settings: &[&str] =
        if options.smoke { &["full_page_writes=off", "autovacuum=off"] } else { &["fsync=on"] };
    let postgres = Postgres::start_with(settings).await;
    let (mut world, memory) = World::make(&postgres, options).await;
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

impl World {
    /// All accounts are logged in, and some wait.
    async fn make(postgres: &Postgres, options: &Options) -> (Self, Memory) {
        let homeserver = Homeserver::start(options.accounts, options.rooms, options.members);
        let database = postgres.database().await;
        let machine = Machine::of(postgres, &database).await;
        let max_polls = (options.accounts * 2).to_string();
        let flags = ["-log-level", "warn", "-max-polls", &max_polls, "-device-idle", "86400"];
        let mut proxies = Vec::new();
        for _ in 0..options.replicas {
            proxies.push(Proxy::start_with(&homeserver.url(), &database, &flags).await);
        }
        let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
        let memory = || proxies.iter().map(Proxy::memory_kib).sum::<u64>();
        let begun = memory();
        eprintln!("{} accounts log in", options.accounts);
        let stand = clients::log_in(&urls, options.accounts).await;
        let logged_in = memory();
        let clients = Clients::wait(&urls, &homeserver, &stand[..options.clients]);
        let world = Self { homeserver, proxies, clients, machine, random: Random::seeded(1) };
        // One event for everybody, so that all that waits has been through its way once.
        for room in 0..options.rooms {
            world.homeserver.somebody_speaks(room);
        }
        world.is_at_rest().await;
        let expected = world.clients.sent(&world.homeserver);
        assert_eq!(world.clients.take().events, expected, "a client was told twice");
        let waiting = world.proxies.iter().map(Proxy::memory_kib).sum();
        (world, Memory { begun, logged_in, waiting })
    }

    /// Somebody speaks so often, for so long.
    async fn play(&mut self, rate: f64, seconds: u32) -> Step {
        eprintln!("{rate} events a second");
        let rooms = self.homeserver.rooms() as u64;
        let sent = self.clients.sent(&self.homeserver);
        let told = self.homeserver.told_all();
        let before = self.machine.look(&self.proxies).await;
        let begun = Instant::now();
        let (mut spoken, mut halfway) = (0_u32, None);
        loop {
            let due = begun + Duration::from_secs_f64(f64::from(spoken) / rate);
            if due >= begun + Duration::from_secs(seconds.into()) / 2 {
                halfway.get_or_insert_with(|| self.homeserver.backlog());
            }
            if due >= begun + Duration::from_secs(seconds.into()) {
                break;
            }
            // What paces the load, and waits for nothing.
            sleep_until(due.into()).await;
            let room = self.random.between(0, rooms - 1);
            self.homeserver.somebody_speaks(usize::try_from(room).unwrap());
            spoken += 1;
        }
        let backlog = [halfway.unwrap_or_default(), self.homeserver.backlog()];
        let all_spoken = Instant::now();
        self.is_at_rest_after(sent).await;
        let costs = self.machine.look(&self.proxies).await.since(before);
        let mut seen = self.clients.take();
        seen.latencies.sort_unstable();
        let told = self.homeserver.told_all() - told;
        Step {
            rate,
            took: begun.elapsed(),
            rest: all_spoken.elapsed(),
            told,
            backlog,
            latencies: seen.latencies,
            doubled: seen.doubled,
            costs,
            told_rate: f64::from(u32::try_from(told).unwrap()) / f64::from(seconds),
        }
    }

    /// Waits until everything is stored, and the clients have it.
    async fn is_at_rest(&self) {
        self.is_at_rest_after(0).await;
    }

    async fn is_at_rest_after(&self, sent_before: usize) {
        eventually_within(REST, "everything to be stored", async || {
            (self.homeserver.backlog() == 0).then_some(())
        })
        .await;
        let expected = self.clients.sent(&self.homeserver) - sent_before;
        eventually("the clients to have everything", async || {
            (self.clients.count() >= expected).then_some(())
        })
        .await;
    }
}

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
