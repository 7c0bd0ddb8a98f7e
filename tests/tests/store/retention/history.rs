//! What is left of an account's history, and in how many turns it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use store::{Observation, Pace, Place, Poll, Position, RoomUpdate};
use tests::wait::eventually;

use super::{DAY, HOUR, PACE, due, horizon, in_use};
use crate::database::Fresh;
use crate::polls::{Feed, message, room_with, state, to_device};

const ROOM: &str = "!r:x";

/// How many polls come in the course of a turn.
const POLLS_MEANWHILE: usize = 20;

/// An account with a poll a day, each with a message and a new topic.
async fn days(fresh: &Fresh, user_id: &str, days: i64) -> Feed {
    let mut feed = Feed::of(&fresh.store, user_id).await;
    in_use(&feed).await;
    for day in 1..=days {
        feed.now = day * DAY;
        let timeline = vec![
            message(&format!("$message-{day}")),
            state(&format!("$topic-{day}"), "m.room.topic", ""),
        ];
        let poll = Poll {
            rooms: vec![room_with(ROOM, timeline)],
            device_lists_changed: vec![format!("@{day}:x")],
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    feed
}

async fn turn(fresh: &Fresh, feed: &Feed, now: i64, events: i64) -> (Position, u64) {
    let due = due(&fresh.store, feed.account_id, now).await;
    let gone = fresh.store.retain(&due, horizon(now, now - 10 * DAY, events), PACE).await.unwrap();
    let account = fresh.store.account_by_id(feed.account_id).await.unwrap().unwrap();
    (account.retained_from, gone.rows)
}

/// Nobody reads what is promised no more when it goes: it goes a turn later.
#[tokio::test]
async fn history_is_promised_no_longer_first_and_goes_then() {
    let fresh = Fresh::database().await;
    let feed = days(&fresh, "@alice:x", 30).await;
    let now = 30 * DAY + HOUR;
    // The poll of day 20 is older than ten days, that of day 21 is not: who was here at the horizon stands at 20.
    assert_eq!(turn(&fresh, &feed, now, 3).await, (Position(20), 0));
    assert_eq!(fresh.count("SELECT COUNT(*) FROM polls").await, 30);
    let (retained_from, gone) = turn(&fresh, &feed, now + HOUR, 3).await;
    assert_eq!(retained_from, Position(20));
    assert!(gone > 50, "{gone}");
    assert_eq!(turn(&fresh, &feed, now + 2 * HOUR, 3).await, (Position(20), 0), "that was all");

    for (table, left) in [
        ("polls", "pos >= 20"),
        // Three of the newest four events up to there, with the whole of their polls.
        ("timeline_events", "pos >= 19"),
        ("state_changes", "pos >= 19"),
        ("room_updates", "pos >= 19"),
        ("device_list_changes", "pos > 20"),
    ] {
        let other = fresh.count(&format!("SELECT COUNT(*) FROM {table} WHERE NOT ({left})")).await;
        let kept = fresh.count(&format!("SELECT COUNT(DISTINCT pos) FROM {table}")).await;
        let first = 30 - kept + 1;
        assert_eq!(other, 0, "{table}");
        assert!(
            left.ends_with(&(first - i64::from(left.contains("> "))).to_string()),
            "{table}: {kept}"
        );
    }
}

/// However far the clock of the newest poll is, an account that stands still is never cut off from where it stands.
#[tokio::test]
async fn an_account_at_rest_is_promised_from_where_it_stands() {
    let fresh = Fresh::database().await;
    let feed = days(&fresh, "@alice:x", 4).await;
    for now in [400 * DAY, 401 * DAY, 402 * DAY] {
        assert_eq!(turn(&fresh, &feed, now, 100).await.0, Position(4));
    }
    // Of a room with few events everything stays that a client which knows nothing is shown.
    assert_eq!(fresh.count("SELECT COUNT(*) FROM timeline_events").await, 8);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM state_changes").await, 4);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM polls").await, 1);
}

/// Has each deletion from a table of an account's history note how many rows it took, in a table of its own.
const DELETIONS_ARE_NOTED: &str = "
CREATE TABLE deletions (name TEXT NOT NULL, taken BIGINT NOT NULL);

CREATE FUNCTION note_deletion() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deletions SELECT TG_TABLE_NAME, COUNT(*) FROM gone;
    RETURN NULL;
END
$$;
";

/// The tables that retention takes rows of an account from.
const LETS_GO: &[&str] = &[
    "polls",
    "timeline_events",
    "event_copies",
    "state_changes",
    "room_updates",
    "device_list_changes",
    "redaction_scans",
    "device_inbox",
    "transaction_ids",
];

/// Whatever there is to go, nobody waits for a deletion of more than a few rows.
#[tokio::test]
async fn what_goes_goes_in_small_batches() {
    let fresh = Fresh::database().await;
    let feed = much(&fresh).await;
    let sql = fresh.sql().await;
    sql.batch_execute(DELETIONS_ARE_NOTED).await.unwrap();
    for table in LETS_GO {
        let trigger = format!(
            "CREATE TRIGGER noted AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
             FOR EACH STATEMENT EXECUTE FUNCTION note_deletion()"
        );
        sql.batch_execute(&trigger).await.unwrap();
    }
    for hour in 0..2 {
        turn(&fresh, &feed, 40 * DAY + hour * HOUR, 3).await;
    }
    for table in LETS_GO {
        let taken = async |what: &str| {
            fresh
                .count(&format!("SELECT {what}::BIGINT FROM deletions WHERE name = '{table}'"))
                .await
        };
        assert_eq!(
            taken("COALESCE(MAX(taken), 0)").await,
            PACE.rows,
            "the most at once of {table}"
        );
        assert!(taken("COUNT(*)").await >= 3, "{table} went in one");
    }
}

/// An account with much that is old, in each table of its history: more than a few batches.
async fn much(fresh: &Fresh) -> Feed {
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    in_use(&feed).await;
    let phone = fresh.store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    fresh.store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    for day in 1..=30 {
        feed.now = day * DAY;
        let rooms = (0..3).map(|room| {
            let mut sent = message(&format!("$message-{room}-{day}"));
            sent.transaction_id = Some(day.to_string());
            sent.copies = vec!["$copied".to_owned()];
            RoomUpdate {
                // The gap is yet to be looked through.
                limited: true,
                prev_batch: Some("p".to_owned()),
                ..room_with(
                    &format!("!{room}:x"),
                    vec![sent, state(&format!("$topic-{room}-{day}"), "m.room.topic", "")],
                )
            }
        });
        let poll = Poll {
            rooms: rooms.collect(),
            // More of one poll than fit into a batch evenly.
            device_lists_changed: vec![format!("@{day}:x"), "@bob:x".to_owned()],
            device: Some(to_device(phone, &["1", "2"])),
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    // Scans of an account at rest stay until somebody returns.
    feed.now = 45 * DAY;
    feed.rooms(vec![room_with(ROOM, Vec::new())]).await;
    feed
}

/// Polls are stored while a turn goes on: none of them waits for its end.
#[tokio::test]
async fn polls_are_stored_while_a_turn_goes_on() {
    let fresh = Fresh::database().await;
    let mut feed = much(&fresh).await;
    let now = 40 * DAY;
    turn(&fresh, &feed, now, 3).await;
    let due = due(&fresh.store, feed.account_id, now + HOUR).await;
    // A store of its own, so that what it observes is the turn alone.
    let retaining = fresh.store_of(2);
    let steps = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&steps);
    retaining.observe(move |observation| {
        if matches!(observation, Observation::Statement { .. }) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let turn = tokio::spawn(async move {
        // In the pauses the polls are stored; with rows one by one there are some hundreds of them.
        let pace = Pace { rows: 1, pause: Duration::from_millis(5) };
        retaining.retain(&due, horizon(now + HOUR, now + HOUR - 10 * DAY, 3), pace).await.unwrap()
    });
    let mut stored_after = Vec::new();
    for number in 0..POLLS_MEANWHILE {
        let begun = steps.load(Ordering::SeqCst);
        let has_gone_on = async || (steps.load(Ordering::SeqCst) > begun).then_some(());
        eventually("the turn to go on", has_gone_on).await;
        feed.rooms(vec![room_with("!0:x", vec![message(&format!("$meanwhile-{number}"))])]).await;
        assert!(!turn.is_finished(), "the turn was over before poll {number}");
        stored_after.push(steps.load(Ordering::SeqCst));
    }
    let gone = turn.await.unwrap();
    let steps = steps.load(Ordering::SeqCst);
    assert!(stored_after.iter().all(|stored| *stored < steps), "{stored_after:?} of {steps}");
    assert!(gone.rows > 200, "{gone:?}");
}

/// Two processes share the accounts, and a turn that took too long promises nothing.
#[tokio::test]
async fn an_account_has_its_turn_with_one_process_at_a_time() {
    let fresh = Fresh::database().await;
    let feed = days(&fresh, "@alice:x", 30).await;
    let now = 31 * DAY;
    let slow = fresh.store.due_accounts(now, now - HOUR, 9).await.unwrap();
    assert_eq!(slow.len(), 1);
    assert!(fresh.store.due_accounts(now, now - HOUR, 9).await.unwrap().is_empty());
    let later = now + 2 * HOUR;
    assert_eq!(fresh.store.due_accounts(later, later - HOUR, 9).await.unwrap().len(), 1);
    fresh.store.retain(&slow[0], horizon(now, now - DAY, 3), PACE).await.unwrap();
    let account = fresh.store.account_by_id(feed.account_id).await.unwrap().unwrap();
    assert_eq!(account.retained_from, Position(0));
}

/// A place whose poll went is found between what is known around it.
#[tokio::test]
async fn a_place_without_its_poll_lies_before_the_oldest_that_is_known() {
    let fresh = Fresh::database().await;
    let feed = days(&fresh, "@alice:x", 30).await;
    for hour in 0..2 {
        turn(&fresh, &feed, 31 * DAY + hour * HOUR, 4).await;
    }
    let store = &fresh.store;
    let account = store.account_by_id(feed.account_id).await.unwrap().unwrap();
    let oldest = account.retained_from;
    let known = store.next_batch_at(feed.account_id, oldest).await.unwrap();
    assert!(known.is_some());
    let room_nid = feed.room_nid(ROOM).await;
    // Its events are kept, its poll is not: what lies between is known.
    let kept = Place { pos: Position(oldest.0 - 1), ord: 1 };
    let tokens = store.upstream_tokens(feed.account_id, room_nid, kept).await.unwrap();
    assert_eq!(tokens.newer, known);
    let (message, topic) = (format!("$message-{}", oldest.0), format!("$topic-{}", oldest.0));
    assert_eq!(tokens.between_newer, [format!("$topic-{}", oldest.0 - 1), message, topic]);
    assert_eq!(tokens.between_older, [format!("$message-{}", oldest.0 - 1)]);
    // Nothing is known of this one.
    let old = Place { pos: Position(2), ord: 0 };
    let tokens = store.upstream_tokens(feed.account_id, room_nid, old).await.unwrap();
    assert_eq!((tokens.newer, tokens.older), (known.clone(), None));
    assert_eq!(store.next_batch_at(feed.account_id, Position(2)).await.unwrap(), None);
    assert_eq!(store.next_batch_after(feed.account_id, Position(2)).await.unwrap(), known);
}

/// A clock that is off by hours is noticed.
#[tokio::test]
async fn the_clock_is_compared_with_the_servers() {
    let fresh = Fresh::database().await;
    let now = fresh.count("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT").await;
    assert!(fresh.store.clock_skew(now).await.unwrap() < HOUR);
    assert!(fresh.store.clock_skew(now + 2 * HOUR).await.unwrap() > HOUR);
    assert!(fresh.store.clock_skew(now - 2 * HOUR).await.unwrap() > HOUR);
}

/// So is one that has jumped together with the server's, and a long time in which nothing ran.
#[tokio::test]
async fn a_leap_of_time_is_noticed() {
    let fresh = Fresh::database().await;
    let goes_on = async |now: i64| fresh.store.time_goes_on(now, DAY, DAY).await.unwrap();
    assert!(goes_on(100 * DAY).await && goes_on(101 * DAY).await);
    assert!(!goes_on(140 * DAY).await && !goes_on(140 * DAY + HOUR).await, "forward");
    assert!(!goes_on(102 * DAY).await && !goes_on(102 * DAY + HOUR).await, "and back");
    assert!(goes_on(103 * DAY).await, "a day later");
}

#[tokio::test]
async fn a_chore_is_one_processs_at_a_time() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    assert!(store.claim_chore("sweep", 100, 50).await.unwrap());
    assert!(!store.claim_chore("sweep", 101, 51).await.unwrap());
    assert!(store.claim_chore("other", 101, 51).await.unwrap());
    assert!(store.claim_chore("sweep", 200, 100).await.unwrap());
    assert!(store.claim_chore("sweep", 150, 50).await.unwrap(), "begun by a clock that was ahead");
}

/// So an account has its turn again, whose last one was by a clock that was ahead.
#[tokio::test]
async fn a_turn_in_the_future_is_over() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    for user in 0..20 {
        store.account(&format!("@{user}:x")).await.unwrap();
    }
    assert_eq!(store.due_accounts(400 * DAY, 1, 15).await.unwrap().len(), 15);
    assert_eq!(store.due_accounts(5 * DAY, 1, 99).await.unwrap().len(), 5);
    assert_eq!(store.end_future_turns(10 * DAY, PACE).await.unwrap(), 15);
    assert_eq!(store.end_future_turns(10 * DAY, PACE).await.unwrap(), 0);
    assert_eq!(store.due_accounts(11 * DAY, 9 * DAY, 99).await.unwrap().len(), 5);
    assert_eq!(store.due_accounts(12 * DAY, 10 * DAY, 99).await.unwrap().len(), 15);
}

#[tokio::test]
async fn sizes_are_told_of_every_table() {
    let fresh = Fresh::database().await;
    days(&fresh, "@alice:x", 30).await;
    fresh.sql().await.batch_execute("ANALYZE").await.unwrap();
    let sizes = fresh.store.table_sizes().await.unwrap();
    let polls = sizes.iter().find(|size| size.table == "polls").unwrap();
    assert!(polls.rows == 30 && polls.bytes >= 8192, "{polls:?}");
    assert!(sizes.iter().any(|size| size.table == "device_inbox" && size.rows == 0));
    assert!(sizes.is_sorted_by_key(|size| size.table.clone()));
    assert_eq!(fresh.store.inbox_backlog().await.unwrap(), 0);
}
