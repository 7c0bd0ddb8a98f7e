//! Statements that go to Postgres together: how few ways there and back a poll takes, and that it is stored whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{AccountId, DeviceUpdate, Error, Observation, Poll, Position, RoomUpdate, Store};
use tests::random::Random;
use tests::wait::eventually;
use tokio_postgres::error::SqlState;

use crate::database::Fresh;
use crate::polls::{Feed, light, message, room_with, room_with_state, state, to_device};

/// What was sent to Postgres.
#[derive(Clone, Default)]
struct Sent {
    round_trips: Arc<AtomicUsize>,
    statements: Arc<AtomicUsize>,
}

impl Sent {
    fn by(store: &Store) -> Self {
        let sent = Self::default();
        let Self { round_trips, statements } = sent.clone();
        store.observe(move |observation| {
            match observation {
                Observation::RoundTrip => round_trips.fetch_add(1, Ordering::AcqRel),
                Observation::Statement { .. } => statements.fetch_add(1, Ordering::AcqRel),
                _ => 0,
            };
        });
        sent
    }

    /// Round trips and statements since this was last asked.
    fn take(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::AcqRel);
        (take(&self.round_trips), take(&self.statements))
    }
}

#[tokio::test]
async fn a_poll_takes_two_ways_to_postgres_and_an_idle_one_takes_one() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let account = feed.account_id;
    let phone = fresh.store.device(account, "PHONE").await.unwrap().device_nid;
    let laptop = fresh.store.device(account, "LAPTOP").await.unwrap().device_nid;
    fresh.store.claim_main_poll(account, None, phone).await.unwrap();
    feed.rooms(vec![room_with("!r:x", vec![message("$0")])]).await;
    let sent = Sent::by(&fresh.store);
    let device = || DeviceUpdate {
        one_time_keys_count: Some(Bytes::from_static(b"{\"signed_curve25519\":50}")),
        ..to_device(phone, &["{}"])
    };

    // BEGIN, the lock, the body and its number, the room, redactions; the step, three tables of rooms, COMMIT.
    let one_event = vec![room_with("!r:x", vec![message("$1")])];
    let poll = Poll { rooms: one_event, device: Some(device()), ..feed.next() };
    feed.store(&poll).await.unwrap();
    assert_eq!(sent.take(), (2, 11));

    // And what the state was, what it is, and what undoes it.
    let topic = vec![state("$2", "m.room.topic", "")];
    feed.rooms(vec![room_with_state("!r:x", vec![], topic)]).await;
    assert_eq!(sent.take(), (2, 14));

    let idle = Poll { device: Some(device()), ..feed.next() };
    feed.store(&idle).await.unwrap();
    assert_eq!(sent.take(), (1, 1));

    // The very first one looks for messages that were told before.
    fresh.store.ingest_light(account, &light(None, "1", to_device(laptop, &["1"]))).await.unwrap();
    assert_eq!(sent.take(), (2, 6));
    let next = light(Some("1"), "2", to_device(laptop, &["2"]));
    fresh.store.ingest_light(account, &next).await.unwrap();
    assert_eq!(sent.take(), (1, 1));
}

/// Every table that the polls here write to, and where the account stands.
async fn stored(fresh: &Fresh) -> Vec<i64> {
    let tables = ["event_bodies", "polls", "room_updates", "timeline_events", "account_rooms"];
    let mut counts = Vec::new();
    for table in tables {
        counts.push(fresh.count(&format!("SELECT COUNT(*) FROM {table}")).await);
    }
    counts.push(fresh.count("SELECT pos FROM accounts").await);
    counts
}

/// No text of Postgres holds a zero byte: a statement with one is refused when it comes to run.
const REFUSED: &str = "\0";

#[tokio::test]
async fn an_error_in_the_middle_of_a_flight_stores_nothing_and_is_the_one_that_is_told() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    let before = stored(&fresh).await;

    let among_the_reads = room_with("!r:x", vec![message(REFUSED)]);
    let among_the_writes = RoomUpdate {
        prev_batch: Some(REFUSED.to_owned()),
        ..room_with("!r:x", vec![message("$2")])
    };
    for refused in [among_the_reads, among_the_writes] {
        let poll = Poll { rooms: vec![refused], ..feed.next() };
        let error = fresh.store.ingest(feed.account_id, &poll).await.unwrap_err();
        let Error::Db { name: "ingest::ingest", source } = &error else { panic!("{error:?}") };
        assert_eq!(source.code(), Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE), "{source:?}");
        assert_eq!(stored(&fresh).await, before);
    }

    assert_eq!(feed.rooms(vec![room_with("!r:x", vec![message("$2")])]).await, Position(2));
}

#[tokio::test]
async fn a_fenced_poll_leaves_nothing_behind() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let late = Poll { rooms: vec![room_with("!r:x", vec![message("$late")])], ..feed.next() };
    feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    let before = stored(&fresh).await;
    for asked_since in [None, Some("nowhere".to_owned())] {
        let late = Poll { asked_since, ..late.clone() };
        let outcome = fresh.store.ingest(feed.account_id, &late).await;
        assert!(matches!(outcome, Err(Error::Fenced { .. })), "{outcome:?}");
        let idle = Poll { rooms: Vec::new(), ..late };
        let outcome = fresh.store.ingest(feed.account_id, &idle).await;
        assert!(matches!(outcome, Err(Error::Fenced { .. })), "{outcome:?}");
    }
    assert_eq!(stored(&fresh).await, before);
}

/// Stores a poll with one event, from wherever the account stands.
async fn store_next(store: Store, account: AccountId, number: u64) {
    loop {
        let stands = store.account_by_id(account).await.unwrap().unwrap();
        let poll = Poll {
            asked_since: stands.upstream_since,
            next_batch: format!("s{number}"),
            rooms: vec![room_with("!r:x", vec![message(&format!("${number}"))])],
            ..Poll::default()
        };
        let outcome = store.ingest(account, &poll).await;
        // Fenced: what was given up a moment ago was stored after all.
        if !matches!(outcome, Err(Error::Fenced { .. })) {
            outcome.unwrap();
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_given_up_at_any_moment_is_stored_whole_or_not_at_all() {
    const ROUNDS: u64 = 100;
    let fresh = Fresh::database().await;
    let account = fresh.store.account("@alice:x").await.unwrap().account_id;
    let mut random = Random::seeded(3);
    for round in 0..ROUNDS {
        let given_up = tokio::spawn(store_next(fresh.store.clone(), account, 2 * round));
        // Not a wait for something to happen: the moment of giving up is what is tried.
        let moment = Instant::now() + Duration::from_micros(random.between(0, 4000));
        while Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        given_up.await.ok();
        store_next(fresh.store.clone(), account, 2 * round + 1).await;
    }
    let pos = fresh.count("SELECT pos FROM accounts").await;
    assert!(pos >= i64::try_from(ROUNDS).unwrap());
    for table in ["polls", "room_updates", "timeline_events"] {
        assert_eq!(fresh.count(&format!("SELECT COUNT(*) FROM {table}")).await, pos, "{table}");
    }
    let open = "SELECT COUNT(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    eventually("no transaction to be open", async || (fresh.count(open).await == 0).then_some(()))
        .await;
}
