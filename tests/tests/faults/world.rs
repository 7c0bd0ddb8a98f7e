//! A homeserver, Postgres, the proxy between them, wires that can be cut, and clients that check every message.

mod homeserver;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::client::Client;
use tests::forwarder::Forwarder;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;
use tests::random::Random;
use tests::shim::Shim;
use tests::wait::look_away;
use tests::witness::{Calm, GRACE, Habits, Testimony, Version, Witness};
use tokio::task::JoinSet;

pub(crate) use self::homeserver::Homeserver;

/// The longest reply that a proxy here reads, in bytes: what is huge need not be hundreds of megabytes.
pub(crate) const LARGEST_REPLY: usize = 4 * 1024 * 1024;

/// What an end of the proxy begins with, where the supervisor counts it.
pub(crate) const THE_PROXY: &str = "the proxy: ";

/// Everything that a fault can fall upon.
pub(crate) struct World {
    /// For reports.
    pub(crate) name: &'static str,
    pub(crate) homeserver: Homeserver,
    pub(crate) postgres: Arc<Postgres>,
    /// The database, not through the wire.
    pub(crate) database: Database,
    pub(crate) proxy: Arc<Proxy>,
    /// Proxy and Postgres share a machine: its clock and its disk.
    pub(crate) shim: Arc<Shim>,
    pub(crate) to_postgres: Forwarder,
    pub(crate) to_homeserver: Forwarder,
    /// The devices that the witnesses sync with.
    pub(crate) devices: Vec<Client>,
    /// A device of the first user that nobody watches.
    pub(crate) ghost: Client,
    pub(crate) calm: Calm,
    witnesses: Vec<Seat>,
    tasks: Mutex<JoinSet<()>>,
}

/// A witness that has taken its place.
struct Seat {
    name: String,
    /// The device, by its number in `devices`.
    device: usize,
    testimony: Arc<Mutex<Testimony>>,
}

impl World {
    /// A world with a homeserver that keeps books, or with a real one.
    pub(crate) async fn begins(name: &'static str, homeserver: Homeserver) -> Self {
        let shim = Arc::new(Shim::new().await);
        let postgres = Arc::new(Postgres::start_under(&shim).await);
        Self::on(name, homeserver, postgres, shim, None).await
    }

    /// The same on a fresh database of a server that is there. Where a mark is named the proxy does not run yet, and its
    /// first process is killed at the mark.
    pub(crate) async fn on(
        name: &'static str,
        homeserver: Homeserver,
        postgres: Arc<Postgres>,
        shim: Arc<Shim>,
        mark: Option<&str>,
    ) -> Self {
        let database = postgres.database().await;
        let to_postgres = Forwarder::to_postgres(&database).await;
        let to_homeserver = Forwarder::to_port(homeserver.port()).await;
        let wired = to_postgres.database(&database);
        let largest = LARGEST_REPLY.to_string();
        let flags = ["-max-reply-bytes", &largest, "-log-level", "info"];
        let proxy = Proxy::prepare(&to_homeserver.url(), &wired, &flags).under(&shim);
        match mark {
            Some(mark) => proxy.kill_at(mark),
            None => drop(proxy.start_again().await),
        }
        let (devices, ghost) = homeserver.devices(&proxy.url()).await;
        Self {
            name,
            homeserver,
            postgres,
            database,
            proxy: Arc::new(proxy),
            shim,
            to_postgres,
            to_homeserver,
            devices,
            ghost,
            calm: Arc::new(Mutex::new(Some(Instant::now()))),
            witnesses: Vec::new(),
            tasks: Mutex::default(),
        }
    }

    /// On each device a client of either sync begins to sync.
    pub(crate) async fn is_witnessed(&mut self, habits: Habits, seed: u64) {
        let room_ids = self.homeserver.rooms();
        let mut beginning = JoinSet::new();
        for (device, client) in self.devices.iter().enumerate() {
            for version in [Version::V2, Version::V3] {
                let number = u64::try_from(self.witnesses.len()).unwrap();
                let mut witness =
                    Witness::new(client, version, habits, &room_ids, &self.calm, seed ^ number);
                let testimony = witness.testimony();
                self.witnesses.push(Seat { name: witness.name(), device, testimony });
                beginning.spawn(async move {
                    witness.begins().await;
                    witness
                });
            }
        }
        // Nobody acknowledges anything before everybody is somebody whom messages are kept for.
        let mut settling = JoinSet::new();
        for mut witness in beginning.join_all().await {
            settling.spawn(async move {
                witness.settles().await;
                witness
            });
        }
        for witness in settling.join_all().await {
            self.tasks.lock().unwrap().spawn(witness.goes_on());
        }
    }

    /// From now on messages come, so many a second, until the world ends.
    pub(crate) fn speaks(self: &Arc<Self>, pause: Duration, seed: u64) {
        let world = Arc::clone(self);
        self.tasks.lock().unwrap().spawn(async move {
            let mut random = Random::seeded(seed);
            loop {
                world.homeserver.say_something(&mut random, &world.devices).await;
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// From now on whatever ends by itself is started again, as a service manager does. Gives where the ends are counted.
    pub(crate) fn is_supervised(self: &Arc<Self>) -> Arc<Mutex<Vec<String>>> {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (world, counted) = (Arc::clone(self), Arc::clone(&ends));
        self.tasks.lock().unwrap().spawn(async move {
            loop {
                {
                    // Locked before it looks: whoever counts what has ended up to now counts all of it.
                    let mut ends = counted.lock().unwrap();
                    if let Some(status) = world.proxy.revive() {
                        ends.push(format!("{THE_PROXY}{status}"));
                    }
                    if let Some(status) = world.postgres.revive() {
                        ends.push(format!("Postgres: {status}"));
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        ends
    }

    /// Something goes wrong, until `fault` is over: from then on errors count.
    pub(crate) async fn suffers(&self, fault: impl Future<Output = ()>) -> Instant {
        *self.calm.lock().unwrap() = None;
        fault.await;
        let over = Instant::now();
        *self.calm.lock().unwrap() = Some(over);
        over
    }

    /// Waits until every witness has a good answer and everything that was sent up to now, and says how long after `over`
    /// that was.
    ///
    /// # Panics
    ///
    /// When that takes longer than is promised, or a witness has something to complain of.
    pub(crate) async fn recovers(&self, over: Instant, from: &str) -> Duration {
        let said = self.homeserver.said();
        let sent: Vec<u64> = self.devices.iter().map(|one| self.homeserver.sent_to(one)).collect();
        loop {
            self.assert_no_violation();
            let behind: Vec<String> = self
                .witnesses
                .iter()
                .filter_map(|seat| seat.is_behind(over, &said, sent[seat.device]))
                .collect();
            let late = over.elapsed();
            if behind.is_empty() {
                return late;
            }
            assert!(
                late <= GRACE,
                "{}: {late:?} after {from}:\n{}\n{}\n{}\n{}",
                self.name,
                behind.join("\n"),
                self.proxy.log_tail(),
                self.postgres.log_tail(),
                self.homeserver.log_tail(),
            );
            look_away().await;
        }
    }

    /// Checks that no witness has seen what must not be, and that all of them live.
    #[track_caller]
    pub(crate) fn assert_no_violation(&self) {
        if let Some(ended) = self.tasks.lock().unwrap().try_join_next() {
            panic!("{}: a task has ended: {ended:?}", self.name);
        }
        for seat in &self.witnesses {
            let testimony = seat.testimony.lock().unwrap();
            let found = &testimony.violations;
            assert!(
                found.is_empty(),
                "{}: {} has {} complaints, first:\n{}\n{}",
                self.name,
                seat.name,
                found.len(),
                found[..found.len().min(3)].join("\n"),
                self.proxy.log_tail()
            );
            let (late, what) = &testimony.longest_error;
            assert!(*late <= GRACE, "{}: {late:?} after its cause: {what}", self.name);
        }
    }

    /// What all witnesses have seen, one after the other.
    pub(crate) fn testimonies<T>(&self, of: impl Fn(&Testimony) -> T) -> Vec<T> {
        self.witnesses.iter().map(|seat| of(&seat.testimony.lock().unwrap())).collect()
    }

    /// Ends the witnesses, the senders and the supervisor.
    pub(crate) async fn falls_silent(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.shutdown().await;
    }
}

impl Seat {
    /// What it is waiting for, if for anything.
    fn is_behind(&self, over: Instant, said: &[(String, u64)], sent: u64) -> Option<String> {
        let testimony = self.testimony.lock().unwrap();
        let name = &self.name;
        if testimony.last_good.is_none_or(|good| good < over) {
            return Some(format!("{name} has had no good answer"));
        }
        if testimony.to_device < sent {
            let due = testimony.to_device;
            return Some(format!("{name} waits for to-device message {due} of {sent}"));
        }
        said.iter().find_map(|(room_id, said)| {
            let due = testimony.rooms.get(room_id).copied().unwrap_or_default();
            (due < *said).then(|| format!("{name} waits for message {due} of {said} in {room_id}"))
        })
    }
}
