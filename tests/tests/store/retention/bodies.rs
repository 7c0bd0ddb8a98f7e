//! Unused bodies: what a sweep takes, what it leaves, and that nobody who stores an event at that moment loses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use store::{BodySweep, Pace, Store, Swept};
use tests::random::Random;

use super::{DAY, HOUR, PACE, horizon, in_use, round};
use crate::database::Fresh;
use crate::polls::{Feed, message, redaction, room_with, state};

const ROOM: &str = "!r:x";

fn sweep(now: i64) -> BodySweep {
    // Windows of a few bodies: an account's are spread over many.
    BodySweep { now, oldest: now - 10 * DAY, window: 3, pace: PACE }
}

async fn sweeps(store: &Store, now: i64) -> (u64, u64) {
    let Swept { marked, removed, .. } = store.sweep_bodies(sweep(now)).await.unwrap();
    (marked, removed)
}

/// Bodies that something refers to, and that are not there.
const DANGLING: &str = "
    SELECT COUNT(*) FROM (
        SELECT body_id FROM timeline_events
        UNION ALL SELECT body_id FROM room_state
        UNION ALL SELECT old_body_id FROM state_changes WHERE old_body_id IS NOT NULL
        UNION ALL SELECT redacted_by FROM redactions
        UNION ALL SELECT redacted_by FROM event_bodies WHERE redacted_by IS NOT NULL
    ) r
    WHERE NOT EXISTS (SELECT 1 FROM event_bodies b WHERE b.body_id = r.body_id)";

/// An account with twenty messages, of which none is kept, and a topic that is kept.
async fn forgetful(fresh: &Fresh, user_id: &str) -> Feed {
    let mut feed = Feed::of(&fresh.store, user_id).await;
    in_use(&feed).await;
    for number in 0..20 {
        let timeline = vec![
            state(&format!("$topic-{number}"), "m.room.topic", ""),
            message(&format!("$message-{number}")),
        ];
        feed.rooms(vec![room_with(ROOM, timeline)]).await;
    }
    for now in [DAY, 2 * DAY] {
        round(&fresh.store, horizon(now, now, 1), PACE).await;
    }
    feed
}

#[tokio::test]
async fn a_body_goes_when_two_sweeps_have_met_it_nowhere() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = forgetful(&fresh, "@alice:x").await;
    // Of forty, two are in the last timeline, and one of them is the head; the topic before is its undo.
    assert_eq!(sweeps(store, 3 * DAY).await, (37, 0));
    assert_eq!(sweeps(store, 3 * DAY + HOUR).await, (0, 0), "a mark has to stand for a while");
    // One is told again, by whomever.
    feed.rooms(vec![room_with("!other:x", vec![message("$message-3")])]).await;
    assert_eq!(sweeps(store, 4 * DAY).await, (0, 36));
    assert_eq!(sweeps(store, 5 * DAY).await, (0, 0));
    assert_eq!(fresh.count("SELECT COUNT(*) FROM event_bodies").await, 4);
    assert_eq!(fresh.count(DANGLING).await, 0);
    // What went may come back.
    feed.rooms(vec![room_with("!other:x", vec![message("$message-4"), message("$message-3")])])
        .await;
    assert_eq!(fresh.count(DANGLING).await, 0);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM event_bodies").await, 5);
}

/// A sweep that takes long: what it marks at its end stands from then on, and not from when it began.
#[tokio::test]
async fn a_mark_says_when_it_was_set() {
    let fresh = Fresh::database().await;
    forgetful(&fresh, "@alice:x").await;
    let pace = Pace { rows: 7, pause: Duration::from_millis(10) };
    fresh.store.sweep_bodies(BodySweep { window: 1000, pace, ..sweep(3 * DAY) }).await.unwrap();
    // It rests six times while it reads which bodies there are.
    let marked = "SELECT MIN(unused_since) FROM event_bodies";
    assert!(fresh.count(marked).await >= 3 * DAY + 60);
}

/// A mark by a clock that was ahead counts from when that is noticed.
#[tokio::test]
async fn a_mark_from_the_future_is_set_anew() {
    let fresh = Fresh::database().await;
    forgetful(&fresh, "@alice:x").await;
    assert_eq!(sweeps(&fresh.store, 400 * DAY).await, (37, 0));
    assert_eq!(sweeps(&fresh.store, 3 * DAY).await, (37, 0));
    assert_eq!(sweeps(&fresh.store, 4 * DAY).await, (0, 37));
}

/// A mark that was wrong, because the reference came while it was read, is taken off by the next sweep.
#[tokio::test]
async fn a_body_that_is_used_after_all_loses_its_mark() {
    let fresh = Fresh::database().await;
    forgetful(&fresh, "@alice:x").await;
    let mark = "UPDATE event_bodies SET unused_since = 1";
    fresh.sql().await.batch_execute(mark).await.unwrap();
    let Swept { removed, .. } = fresh.store.sweep_bodies(sweep(3 * DAY)).await.unwrap();
    assert_eq!(removed, 37);
    let marked = "SELECT COUNT(*) FROM event_bodies WHERE unused_since IS NOT NULL";
    assert_eq!(fresh.count(marked).await, 0);
}

/// What was redacted stays redacted, also when its body went and comes back.
#[tokio::test]
async fn a_body_that_comes_back_is_pruned_as_before() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = Feed::of(store, "@alice:x").await;
    in_use(&feed).await;
    feed.rooms(vec![room_with(ROOM, vec![message("$said"), redaction("$redaction", "$said")])])
        .await;
    for number in 0..4 {
        feed.rooms(vec![room_with(ROOM, vec![message(&format!("$later-{number}"))])]).await;
    }
    for now in [DAY, 2 * DAY] {
        round(store, horizon(now, now, 1), PACE).await;
    }
    // The redaction itself is referred to as long as it is known what it redacts.
    sweeps(store, 3 * DAY).await;
    sweeps(store, 4 * DAY).await;
    let said = "SELECT COUNT(*) FROM event_bodies WHERE event_id = '$said'";
    assert_eq!(fresh.count(said).await, 0);
    let mut bob = Feed::of(store, "@bob:x").await;
    in_use(&bob).await;
    bob.rooms(vec![room_with(ROOM, vec![message("$said")])]).await;
    let pruned = format!("{said} AND redacted_by IS NOT NULL");
    assert_eq!(fresh.count(&pruned).await, 1);
    assert_eq!(fresh.count(DANGLING).await, 0);

    // Nobody has it any more, for longer than the horizon: then the redaction goes too.
    bob.rooms(vec![room_with(ROOM, vec![message("$bob"), message("$bob-again")])]).await;
    for now in [30 * DAY, 31 * DAY] {
        round(store, horizon(now, now, 1), PACE).await;
    }
    for now in [32, 33, 34, 40, 45] {
        sweeps(store, now * DAY).await;
    }
    let redactions = "SELECT COUNT(*) FROM redactions";
    let late = fresh.count(redactions).await;
    for now in [46, 47] {
        sweeps(store, now * DAY).await;
    }
    assert_eq!((late, fresh.count(redactions).await), (0, 0));
    let body = "SELECT COUNT(*) FROM event_bodies WHERE event_id = '$redaction'";
    assert_eq!(fresh.count(body).await, 0);
    assert_eq!(fresh.count(DANGLING).await, 0);
}

/// Accounts store the same few events again and again, while bodies are swept as fast as it goes.
#[tokio::test]
async fn nobody_who_stores_an_event_loses_it_to_a_sweep() {
    const FEEDERS: u64 = 3;
    const SWEEPS: i64 = 15;
    /// Polls of each account beside a sweep: so few that not every event is told again between two.
    const POLLS: u64 = 40;
    let fresh = Fresh::database().await;
    let ended = Arc::new(AtomicBool::new(false));
    let allowed = Arc::new(AtomicU64::new(0));
    let mut feeders = Vec::new();
    let mut counters = Vec::new();
    for seed in 0..FEEDERS {
        let mut feed = Feed::of(&fresh.store, &format!("@{seed}:x")).await;
        in_use(&feed).await;
        let (ended, stored) = (Arc::clone(&ended), Arc::new(AtomicU64::new(0)));
        counters.push(Arc::clone(&stored));
        let allowed = Arc::clone(&allowed);
        feeders.push(tokio::spawn(async move {
            let mut random = Random::seeded(seed);
            let mut number = 0;
            while !ended.load(Ordering::Acquire) {
                if number >= allowed.load(Ordering::Acquire) {
                    tokio::task::yield_now().await;
                    continue;
                }
                number += 1;
                let timeline = (0..2).map(|_| some_event(&mut random)).collect();
                let rooms = vec![room_with(ROOM, timeline)];
                let poll = store::Poll { rooms, next_batch: format!("{number}"), ..feed.next() };
                feed.store(&poll).await.unwrap();
                stored.fetch_add(1, Ordering::AcqRel);
            }
        }));
    }
    let pace = Pace { rows: 50, pause: Duration::ZERO };
    let (mut removed, mut now) = (0, 0);
    for _ in 0..SWEEPS {
        now += 7 * HOUR;
        allowed.fetch_add(POLLS, Ordering::AcqRel);
        round(&fresh.store, horizon(now, now, 1), pace).await;
        let sweep = BodySweep { now, oldest: 0, window: 64, pace };
        removed += fresh.store.sweep_bodies(sweep).await.unwrap().removed;
        // A mark stands for longer than any transaction: those that began before it end before the next sweep begins.
        let marks: Vec<u64> =
            counters.iter().map(|stored| stored.load(Ordering::Acquire)).collect();
        allowed.fetch_add(2, Ordering::AcqRel);
        for (stored, mark) in counters.iter().zip(marks) {
            while stored.load(Ordering::Acquire) < mark + 2 {
                tokio::task::yield_now().await;
            }
        }
    }
    ended.store(true, Ordering::Release);
    for feeder in feeders {
        feeder.await.unwrap();
    }
    assert!(removed > 0, "the sweeps had nothing to do");
    assert_eq!(fresh.count(DANGLING).await, 0);
}

/// One of a few hundred, some of them state.
fn some_event(random: &mut Random) -> store::Event {
    let number = random.between(0, 299);
    if random.coin() {
        message(&format!("$message-{number}"))
    } else {
        state(&format!("$state-{number}"), "t", &format!("{}", number % 5))
    }
}
