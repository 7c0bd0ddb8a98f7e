//! What the process counts of itself, for Prometheus. All metrics are here; who has something to tell calls a method that
//! says what happened.
//!
//! Recording is an addition to an atomic number: no lock, no text. What is no event but a state (connections of the pool,
//! accounts in memory) is looked at when a scrape asks, and what costs the database something ([`sizes`]) once a minute.
//! What each metric means stands in docs/operations.md; a test holds that table against what is served.

mod each;
mod histogram;
pub(crate) mod labels;
mod pollers;
mod process;
pub(crate) mod sizes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use store::{Observation, TableSize};

use self::each::{Each, EachPair, Named};
use self::histogram::Histogram;
use self::labels::{
    Activity, Api, Cache, Call, CallOutcome, Kind, Lookup, PollKind, PollOutcome, Source, Status,
};
pub(crate) use self::pollers::PollerWatch;
use self::pollers::Pollers;
use self::process::Process;
use crate::state::State;

/// All metrics of the process. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: EachPair<Kind, Status, Counter>,
    answer_seconds: Each<Kind, Histogram>,
    waiting: Each<Api, Gauge>,
    /// By the name of the error: those of `error`, and no others.
    errors: Family<[(&'static str, &'static str); 1], Counter>,
    connections: Gauge,
    polls: EachPair<PollKind, PollOutcome, Counter>,
    poll_store_seconds: Each<PollKind, Histogram>,
    poll_reply_bytes: Each<PollKind, Histogram>,
    poll_rooms: Histogram,
    poll_events: Histogram,
    quarantined: Counter,
    pollers: Each<Activity, Gauge>,
    oldest_success: Gauge<f64, AtomicU64>,
    watched: Arc<Pollers>,
    upstream_requests: EachPair<Call, CallOutcome, Counter>,
    upstream_seconds: Each<Call, Histogram>,
    homeserver_answers: Gauge,
    /// See [`Homeserver`].
    homeserver: AtomicU8,
    cache_lookups: EachPair<Cache, Lookup, Counter>,
    v2_looks: Each<Source, Counter>,
    store: StoreMetrics,
    accounts: Gauge,
    devices: Gauge,
}

/// What there is to tell of the database.
#[derive(Debug)]
struct StoreMetrics {
    connections_max: Gauge,
    connections_open: Gauge,
    connections_idle: Gauge,
    connections_waiting: Gauge,
    connection_seconds: Histogram,
    connection_failures: Counter,
    statement_seconds: Histogram,
    statement_failures: Counter,
    table_bytes: Family<[(&'static str, String); 1], Gauge>,
    table_rows: Family<[(&'static str, String); 1], Gauge>,
    inbox_backlog: Gauge,
}

/// What the last request to the homeserver said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Homeserver {
    /// Nobody has asked it yet.
    Unknown,
    /// It answered.
    Answers,
    /// It did not, or failed.
    Away,
}

/// The beginning of a name's registration.
fn named(name: &'static str, help: &'static str) -> Named {
    Named { name, help }
}

impl Metrics {
    /// All of them, at zero.
    pub(crate) fn new() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process::new()));
        let r = all.sub_registry_with_prefix("syncv3");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Which program this is", version);
        let (counter, gauge, seconds) = (Counter::default, Gauge::default, Histogram::of_seconds);
        let inner = Inner {
            requests: EachPair::register(r, named("requests", "Requests answered, by what they are for and the class of their status"), ["kind", "status"], counter),
            answer_seconds: Each::register(r, named("answer_seconds", "Time from a request to the head of its answer, without what it waited for news"), "kind", seconds),
            waiting: Each::register(r, named("waiting_requests", "Requests that wait for news"), "api", gauge),
            errors: {
                let errors = Family::default();
                r.register("errors", "Requests that ended in an error, by which", errors.clone());
                errors
            },
            connections: named("client_connections", "Connections of clients").register(r, gauge()),
            polls: EachPair::register(r, named("polls", "Polls of the homeserver, by kind and what became of them"), ["kind", "outcome"], counter),
            poll_store_seconds: Each::register(r, named("poll_store_seconds", "Time from a poll's reply to its commit"), "kind", seconds),
            poll_reply_bytes: Each::register(r, named("poll_reply_bytes", "Sizes of replies that were stored"), "kind", Histogram::of_bytes),
            poll_rooms: named("poll_rooms", "Rooms in a main poll that was stored").register(r, Histogram::of_counts()),
            poll_events: named("poll_events", "Events of timelines in a main poll that was stored").register(r, Histogram::of_counts()),
            quarantined: named("quarantined", "Pieces of replies that could not be understood").register(r, counter()),
            pollers: Each::register(r, named("pollers", "Pollers, by what they do"), "activity", gauge),
            oldest_success: named("poll_oldest_success_seconds", "Time since its last success of the poller that has waited longest for one, of those that poll").register(r, Gauge::default()),
            watched: Arc::new(Pollers::new()),
            upstream_requests: EachPair::register(r, named("upstream_requests", "Requests to the homeserver, by what they ask for and what became of them"), ["call", "outcome"], counter),
            upstream_seconds: Each::register(r, named("upstream_seconds", "Time to the homeserver's answer; polls are held by it for up to 25 seconds"), "call", seconds),
            homeserver_answers: named("homeserver_answers", "Whether the homeserver answered the last request: 1, or 0").register(r, gauge()),
            homeserver: AtomicU8::new(0),
            cache_lookups: EachPair::register(r, named("cache_lookups", "Looks into what is kept in memory, and whether it was there"), ["cache", "result"], counter),
            v2_looks: Each::register(r, named("v2_looks", "Looks of GET /sync with a since for what polls brought after it, and where that was found"), "source", counter),
            store: StoreMetrics::register(r),
            accounts: named("accounts", "Accounts in memory").register(r, gauge()),
            devices: named("devices", "Devices in memory").register(r, gauge()),
            registry: all,
        };
        Self(Arc::new(inner))
    }

    /// A request is answered.
    pub(crate) fn answered(&self, kind: Kind, status: hyper::StatusCode, took: Duration) {
        self.0.requests.of(kind, Status::of(status)).inc();
        self.0.answer_seconds.of(kind).took(took);
    }

    /// A request ended in an error of this name.
    pub(crate) fn failed(&self, error: &'static str) {
        self.0.errors.get_or_create(&[("error", error)]).inc();
    }

    /// A request waits for news until the guard is dropped.
    pub(crate) fn waits(&self, api: Api) -> Counted {
        Counted::begin(self.0.waiting.of(api))
    }

    /// A client is connected until the guard is dropped.
    pub(crate) fn connected(&self) -> Counted {
        Counted::begin(&self.0.connections)
    }

    /// A poller runs until the guard is dropped.
    pub(crate) fn poller(&self) -> PollerWatch {
        self.0.watched.watch()
    }

    /// A poll has ended.
    pub(crate) fn polled(&self, kind: PollKind, outcome: PollOutcome) {
        self.0.polls.of(kind, outcome).inc();
    }

    /// A poll of this size is stored, this long after its reply came.
    pub(crate) fn poll_stored(&self, kind: PollKind, reply: usize, took: Duration) {
        self.0.poll_reply_bytes.of(kind).saw(reply);
        self.0.poll_store_seconds.of(kind).took(took);
    }

    /// What a main poll brought is stored.
    pub(crate) fn ingested(&self, rooms: usize, events: usize, quarantined: usize) {
        self.0.poll_rooms.saw(rooms);
        self.0.poll_events.saw(events);
        self.0.quarantined.inc_by(u64::try_from(quarantined).unwrap_or(u64::MAX));
    }

    /// The homeserver has answered, or failed to.
    pub(crate) fn asked_upstream(&self, call: Call, outcome: CallOutcome, took: Duration) {
        self.0.upstream_requests.of(call, outcome).inc();
        self.0.upstream_seconds.of(call).took(took);
        let seen = if outcome.is_answer() { Homeserver::Answers } else { Homeserver::Away };
        self.0.homeserver.store(seen as u8, Ordering::Relaxed);
        self.0.homeserver_answers.set(i64::from(outcome.is_answer()));
    }

    /// What the last request to the homeserver said of it.
    pub(crate) fn homeserver(&self) -> Homeserver {
        let seen = self.0.homeserver.load(Ordering::Relaxed);
        let known = [Homeserver::Unknown, Homeserver::Answers, Homeserver::Away];
        known.into_iter().find(|known| *known as u8 == seen).unwrap_or(Homeserver::Unknown)
    }

    /// Something was looked for in memory.
    pub(crate) fn looked_up(&self, cache: Cache, was_there: bool) {
        let result = if was_there { Lookup::Hit } else { Lookup::Miss };
        self.0.cache_lookups.of(cache, result).inc();
    }

    /// A `GET /sync` looked for what polls brought after its `since`, and found it there.
    pub(crate) fn looked(&self, source: Source) {
        self.0.v2_looks.of(source).inc();
    }

    /// Something happened in the store.
    pub(crate) fn observe(&self, observation: Observation) {
        let store = &self.0.store;
        match observation {
            Observation::Connection { waited, got } => {
                store.connection_seconds.took(waited);
                store.connection_failures.inc_by(u64::from(!got));
            }
            Observation::Statement { took, failed } => {
                store.statement_seconds.took(took);
                store.statement_failures.inc_by(u64::from(failed));
            }
            // How many there are for what is the store's own business, and its tests count them.
            Observation::RoundTrip => {}
            Observation::RoomIds { found, missing } => {
                for (result, count) in [(Lookup::Hit, found), (Lookup::Miss, missing)] {
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.0.cache_lookups.of(Cache::RoomIds, result).inc_by(count);
                }
            }
        }
    }

    fn set_sizes(&self, tables: &[TableSize], inbox_backlog: i64) {
        let store = &self.0.store;
        for TableSize { table, bytes, rows } in tables {
            let label = [("table", table.clone())];
            store.table_bytes.get_or_create(&label).set(*bytes);
            store.table_rows.get_or_create(&label).set(*rows);
        }
        store.inbox_backlog.set(inbox_backlog);
    }

    /// Everything in the text format of OpenMetrics. Without a state, which is there once the database is, what is looked
    /// at only now stays at zero.
    pub(crate) fn expose(&self, state: Option<&State>) -> Result<String, fmt::Error> {
        if let Some(state) = state {
            self.look_at(state);
        }
        let (pollers, oldest) = self.0.watched.count();
        for (activity, count) in pollers {
            self.0.pollers.of(activity).set(count);
        }
        self.0.oldest_success.set(oldest.as_secs_f64());
        let mut exposed = String::with_capacity(64 * 1024);
        text::encode(&mut exposed, &self.0.registry)?;
        Ok(exposed)
    }

    fn look_at(&self, state: &State) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (accounts, devices) = state.accounts.count();
        self.0.accounts.set(count(accounts));
        self.0.devices.set(count(devices));
        let (pool, store) = (state.store.pool_use(), &self.0.store);
        store.connections_max.set(count(pool.most));
        store.connections_open.set(count(pool.open));
        store.connections_idle.set(count(pool.available));
        store.connections_waiting.set(count(pool.waiting));
    }
}

impl StoreMetrics {
    fn register(r: &mut Registry) -> Self {
        let (counter, gauge, seconds) = (Counter::default, Gauge::default, Histogram::of_seconds);
        let of_tables = |r: &mut Registry, name, help| {
            let family = Family::default();
            r.register::<&str, &str>(name, help, Family::clone(&family));
            family
        };
        Self {
            connections_max: named(
                "database_connections_max",
                "The most connections to the database",
            )
            .register(r, gauge()),
            connections_open: named("database_connections_open", "Connections to the database")
                .register(r, gauge()),
            connections_idle: named(
                "database_connections_idle",
                "Connections to the database that nobody uses",
            )
            .register(r, gauge()),
            connections_waiting: named(
                "database_connections_waiting",
                "Operations that wait for a connection",
            )
            .register(r, gauge()),
            connection_seconds: named(
                "database_connection_wait_seconds",
                "Time until an operation got a connection, or gave up",
            )
            .register(r, seconds()),
            connection_failures: named(
                "database_connection_failures",
                "Operations that got no connection",
            )
            .register(r, counter()),
            statement_seconds: named("database_statement_seconds", "Time that a statement took")
                .register(r, seconds()),
            statement_failures: named(
                "database_statement_failures",
                "Statements that were refused, or whose connection broke",
            )
            .register(r, counter()),
            table_bytes: of_tables(
                r,
                "table_bytes",
                "Size of a table with its indexes; looked at once a minute",
            ),
            table_rows: of_tables(
                r,
                "table_rows",
                "Rows of a table as Postgres estimates them; looked at once a minute",
            ),
            inbox_backlog: named(
                "to_device_backlog",
                "To-device messages that no client has acknowledged; counted once a minute",
            )
            .register(r, gauge()),
        }
    }
}

/// Counts for as long as it is held.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
