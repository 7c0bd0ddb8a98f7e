//! What these rows share: a Postgres, and how a reply is read and a figure made.

use std::time::{Duration, Instant};

use tests::client::{encode, http_client};
use tests::load::homeserver::Homeserver;
use tests::load::machine::Machine;
use tests::load::open_files;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;
use tests::wait::{eventually_within, look_away};

/// How long anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_hours(1);

/// A proxy that uses less processor time than this between two looks has nothing to do, in seconds; and that much more for
/// each poll that begins meanwhile, because the one before it brought nothing.
const REST: f64 = 0.03;
const IDLE_POLL: f64 = 0.004;

/// One Postgres for all rows, and whether they are small.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) postgres: Postgres,
    pub(super) smoke: bool,
    /// How many files and connections a process may have open.
    pub(super) open_files: u64,
}

impl Bench {
    pub(super) async fn start(smoke: bool) -> Self {
        let open_files = open_files::allow_many();
        // Durable, as in operation. The small form looks at ratios, which must not depend on when Postgres tidies up.
        let settings: &[&str] =
            if smoke { &["full_page_writes=off", "autovacuum=off"] } else { &["fsync=on"] };
        Self { postgres: Postgres::start_with(settings).await, smoke, open_files }
    }

    /// The first in a run for figures, the second in a small one.
    pub(super) fn choose<T>(&self, usual: T, smoke: T) -> T {
        if self.smoke { smoke } else { usual }
    }

    /// A proxy of its own, with a database of its own.
    pub(super) async fn proxy(&self, homeserver: &Homeserver, flags: &[&str]) -> Proxy {
        let database = self.postgres.database().await;
        let flags = [&["-log-level", "warn", "-max-polls", "100000"], flags].concat();
        Proxy::start_with(&homeserver.url(), &database, &flags).await
    }

    pub(super) async fn machine(&self, database: &Database) -> Machine {
        Machine::of(&self.postgres, database).await
    }
}

/// Waits until the proxy has nothing to do.
pub(super) async fn at_rest(proxy: &Proxy, machine: &Machine, homeserver: &Homeserver) {
    let proxies = std::slice::from_ref(proxy);
    eventually_within(PATIENCE, "the proxy to have nothing to do", async || {
        let before = machine.look(proxies, homeserver).await.proxy;
        let polls = homeserver.polls().begun.len();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            look_away().await;
        }
        let used = machine.look(proxies, homeserver).await.proxy - before;
        let polls = number(homeserver.polls().begun.len() - polls);
        (used < REST + polls * IDLE_POLL).then_some(())
    })
    .await;
}

/// A sync, read to its end and forgotten.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: usize,
    pub(super) took: Duration,
}

/// Has an account's first poll begin, and waits until a client is answered, though with nothing of it. A client that was
/// told that it takes too long comes again.
pub(super) async fn comes_in(server: &str, account: usize) {
    let filter = encode(r#"{"room":{"rooms":[]}}"#);
    let url = format!("{server}/_matrix/client/v3/sync?timeout=0&filter={filter}");
    eventually_within(PATIENCE, "the account's first answer", async || {
        let request = http_client().get(&url).bearer_auth(Homeserver::token(account));
        let reply = request.timeout(PATIENCE).send().await.unwrap();
        (reply.status() == 200).then_some(())
    })
    .await;
}

/// Asks for an initial sync with a filter.
pub(super) async fn initial_sync(server: &str, account: usize, filter: &str) -> Read {
    let url = format!("{server}/_matrix/client/v3/sync?timeout=0&filter={}", encode(filter));
    let begun = Instant::now();
    let request = http_client().get(url).bearer_auth(Homeserver::token(account));
    let mut reply = request.timeout(PATIENCE).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let mut bytes = 0;
    while let Some(chunk) = reply.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    Read { bytes, took: begun.elapsed() }
}

/// The middle one.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "no machine has so much")]
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}
