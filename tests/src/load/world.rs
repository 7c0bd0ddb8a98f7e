//! Accounts in shared rooms behind one proxy or several, and a load of events that is put on them.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::clients::{self, Clients};
use super::homeserver::Homeserver;
use super::machine::Machine;
use super::step::{Memory, Step};
use crate::postgres::{Database, Postgres};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::wait::{eventually, eventually_within};

/// How long what is left over after a step may take.
const REST: Duration = Duration::from_mins(10);

/// On how many a load is put.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Accounts, each with one device.
    pub accounts: usize,
    /// Rooms, shared among them.
    pub rooms: usize,
    /// Of the accounts, in each room.
    pub members: usize,
    /// How many accounts have a v2 client that waits.
    pub clients: usize,
    /// How many proxies share the database.
    pub replicas: usize,
}

/// What the load is put on.
#[derive(Debug)]
pub struct World {
    /// The homeserver.
    pub homeserver: Homeserver,
    proxies: Vec<Proxy>,
    clients: Clients,
    machine: Machine,
    random: Random,
}

impl World {
    /// All accounts are logged in, and some wait.
    pub async fn make(postgres: &Postgres, crowd: &Crowd) -> (Self, Memory) {
        let homeserver = Homeserver::start(crowd.accounts, crowd.rooms, crowd.members);
        let database = postgres.database().await;
        let machine = Machine::of(postgres, &database).await;
        let max_polls = (crowd.accounts * 2).to_string();
        let flags = ["-log-level", "warn", "-max-polls", &max_polls, "-device-idle", "86400"];
        let mut proxies = Vec::new();
        for _ in 0..crowd.replicas {
            proxies.push(Proxy::start_with(&homeserver.url(), &database, &flags).await);
        }
        let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
        let memory = || proxies.iter().map(Proxy::memory_kib).sum::<u64>();
        let begun = memory();
        eprintln!("{} accounts log in", crowd.accounts);
        let stand = clients::log_in(&urls, crowd.accounts).await;
        let logged_in = memory();
        let clients = Clients::wait(&urls, &homeserver, &stand[..crowd.clients]);
        let world = Self { homeserver, proxies, clients, machine, random: Random::seeded(1) };
        // One event for everybody, so that all that waits has been through its way once.
        for room in 0..crowd.rooms {
            world.homeserver.somebody_speaks(room);
        }
        world.is_at_rest().await;
        let expected = world.clients.sent(&world.homeserver);
        assert_eq!(world.clients.take().events, expected, "a client was told twice");
        let waiting = world.proxies.iter().map(Proxy::memory_kib).sum();
        (world, Memory { begun, logged_in, waiting })
    }

    /// Somebody speaks so often, for so long.
    pub async fn play(&mut self, rate: f64, seconds: u32) -> Step {
        eprintln!("{rate} events a second");
        let rooms = self.homeserver.rooms() as u64;
        let sent = self.clients.sent(&self.homeserver);
        let told = self.homeserver.told_all();
        let before = self.machine.look(&self.proxies, &self.homeserver).await;
        self.homeserver.forget_polls();
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
        let costs = self.machine.look(&self.proxies, &self.homeserver).await.since(before);
        let mut seen = self.clients.take();
        seen.latencies.sort_unstable();
        let told = self.homeserver.told_all() - told;
        let polls = self.homeserver.polls();
        Step {
            rate,
            took: begun.elapsed(),
            rest: all_spoken.elapsed(),
            told,
            polls: polls.telling,
            all_polls: polls.begun.len(),
            backlog,
            latencies: seen.latencies,
            doubled: seen.doubled,
            costs,
            told_rate: f64::from(u32::try_from(told).unwrap()) / f64::from(seconds),
        }
    }

    /// Where all that the proxies know is.
    pub fn database(&self) -> &Database {
        self.proxies[0].database()
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
