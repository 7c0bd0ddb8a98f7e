//! Large polls, stored in batches: what is stored is the same as in one piece, or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use store::{
    AccountData, Batch, Batches, Error, Ingested, Poll, Position, PresenceUpdate, RoomUpdate,
    Section, StateBlock, Stopped, Store,
};
use tests::wait::PATIENCE;
use tokio::time::{sleep, timeout};

use crate::database::Fresh;
use crate::polls::{
    Feed, counts, member, message, receipt, redaction, room, room_with, room_with_state, state,
    to_device,
};

/// Every table that a poll writes to.
const TABLES: &[&str] = &[
    "accounts",
    "polls",
    "room_updates",
    "timeline_events",
    "event_copies",
    "redactions",
    "redaction_scans",
    "room_state",
    "state_changes",
    "account_rooms",
    "event_bodies",
    "account_data",
    "receipts",
    "presence",
    "device_list_changes",
    "transaction_ids",
    "devices",
    "device_inbox",
    "quarantine",
];

/// All rows, with what their numbers stand for instead of the numbers.
async fn rows(fresh: &Fresh) -> Vec<String> {
    let sql = fresh.sql().await;
    let mut all = Vec::new();
    for table in TABLES {
        let body = |column: &str| {
            format!(
                "(SELECT b.event_id || encode(b.body_hash, 'hex') FROM event_bodies b
                  WHERE b.body_id = (j.row ->> '{column}')::BIGINT)"
            )
        };
        let query = format!(
            "SELECT (j.row
                - ARRAY['body_id', 'old_body_id', 'redacted_by', 'room_nid', 'quarantine_id']
                || jsonb_build_object(
                    'body', {}, 'old', {}, 'by', {},
                    'room', (SELECT r.room_id FROM rooms r
                             WHERE r.room_nid = (j.row ->> 'room_nid')::BIGINT)
                ))::TEXT
            FROM (SELECT to_jsonb(t) AS row FROM {table} t) j
            ORDER BY 1",
            body("body_id"),
            body("old_body_id"),
            body("redacted_by"),
        );
        let found = sql.query(&query, &[]).await.unwrap();
        all.extend(found.iter().map(|row| format!("{table}: {}", row.get::<_, String>(0))));
    }
    all
}

/// A poll in parts, which may not come to its end.
struct Parts {
    batches: Vec<Batch>,
    next: usize,
    /// How many come before it breaks off.
    whole: usize,
    /// How long each takes to come.
    takes: Duration,
}

#[derive(Debug)]
struct BrokenOff;

impl Batches for Parts {
    type Error = BrokenOff;

    async fn next(&mut self) -> Result<Option<Batch>, BrokenOff> {
        sleep(self.takes).await;
        if self.next >= self.whole {
            return Err(BrokenOff);
        }
        self.next += 1;
        Ok(self.batches.get(self.next - 1).cloned())
    }

    fn rewind(&mut self) {
        self.next = 0;
    }
}

/// A poll without its rooms, and those in batches of so many.
fn parted(mut poll: Poll, rooms: usize) -> (Poll, Parts) {
    let told = std::mem::take(&mut poll.rooms);
    let in_batch = |rooms: &[RoomUpdate]| Batch { rooms: rooms.to_vec(), ..Batch::default() };
    let mut batches: Vec<Batch> = told.chunks(rooms).map(in_batch).collect();
    batches.push(Batch {
        device_lists_changed: std::mem::take(&mut poll.device_lists_changed),
        device_lists_left: std::mem::take(&mut poll.device_lists_left),
        quarantined: poll.quarantined.split_off(poll.quarantined.len() / 2),
        ..Batch::default()
    });
    let parts = Parts { batches, next: 0, whole: usize::MAX, takes: Duration::ZERO };
    (poll, parts)
}

async fn in_batches(
    store: &Store,
    feed: &Feed,
    poll: &Poll,
    rooms: usize,
) -> Result<Ingested, Stopped<BrokenOff>> {
    let (head, mut parts) = parted(poll.clone(), rooms);
    store.ingest_in_batches(feed.account_id, &head, &mut parts).await
}

fn fenced(outcome: &Result<Ingested, Stopped<BrokenOff>>) -> bool {
    matches!(outcome, Err(Stopped::Store(Error::Fenced { .. })))
}

/// Rooms with something of everything; `turn` tells polls apart.
fn rooms(turn: usize) -> Vec<RoomUpdate> {
    let id = |name: &str| format!("${name}-{turn}");
    let mut all = Vec::new();
    for number in 0..7 {
        let room_id = format!("!{number}:x");
        let own = |name: &str| id(&format!("{name}{number}"));
        let mut said = message(&own("said"));
        said.transaction_id = Some(own("t"));
        said.unsigned = Some(Bytes::from_static(b"{\"x\":1}"));
        said.copies = vec![own("first")];
        let timeline = vec![
            message(&own("first")),
            said,
            state(&own("name"), "m.room.name", ""),
            redaction(&own("red"), &own("first")),
        ];
        let before = vec![
            state(&format!("$create{number}"), "m.room.create", ""),
            member(&own("bob"), "@bob:x", "join"),
            // Told again and again.
            state(&format!("$topic{number}"), "m.room.topic", ""),
        ];
        let block = if number % 2 == 0 {
            StateBlock::BeforeTimeline(before)
        } else {
            StateBlock::AfterTimeline(before)
        };
        all.push(RoomUpdate {
            limited: number % 3 == 0,
            prev_batch: Some(own("p")),
            state: block,
            receipts: vec![receipt("@bob:x", &own("said"), "")],
            account_data: vec![AccountData { event_type: "m.tag".into(), event: "{}".into() }],
            counts: Some(counts(number + i64::try_from(turn).unwrap(), 0)),
            recency: Some(number + 1),
            ..room_with(&room_id, timeline)
        });
    }
    all.push(RoomUpdate::empty("!left:x".to_owned(), Section::Leave));
    all.push(RoomUpdate {
        stripped_state: Some(Bytes::from_static(b"{\"events\":[]}")),
        ..RoomUpdate::empty("!invited:x".to_owned(), Section::Invite)
    });
    all.push(RoomUpdate { typing: Some(Bytes::from_static(b"{}")), ..room("!typing:x") });
    all
}

/// Polls as they come: a first one, a later one, and one after the position was forgotten.
async fn play(fresh: &Fresh, batch: Option<usize>) -> Vec<Vec<String>> {
    let store = &fresh.store;
    let mut stages = Vec::new();
    for turn in 0..3 {
        if turn == 2 {
            let account = store.account("@alice:x").await.unwrap().account_id;
            store.forget_upstream_since(account).await.unwrap();
        }
        let mut feed = Feed::of(store, "@alice:x").await;
        let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
        if turn == 0 {
            store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
        }
        let poll = Poll {
            rooms: rooms(turn),
            account_data: vec![AccountData {
                event_type: "m.push_rules".into(),
                event: "{}".into(),
            }],
            presence: vec![PresenceUpdate {
                user_id: "@bob:x".to_owned(),
                event: Bytes::from_static(b"{}"),
                last_active_ts: Some(5),
            }],
            device_lists_changed: vec!["@bob:x".to_owned(), "@carol:x".to_owned()],
            device_lists_left: vec!["@carol:x".to_owned(), "@dave:x".to_owned()],
            device: Some(to_device(phone, &["1", "2"])),
            quarantined: ["one", "two"]
                .map(|why| (why.to_owned(), Bytes::from_static(b"{}")))
                .into(),
            ..feed.next()
        };
        let stored = match batch {
            None => feed.store(&poll).await.unwrap(),
            Some(size) => in_batches(store, &feed, &poll, size).await.unwrap(),
        };
        assert_eq!(stored.pos, Position(i64::try_from(turn).unwrap() + 1));
        stages.push(rows(fresh).await);
    }
    stages
}

#[tokio::test]
async fn batches_store_what_one_piece_stores() {
    let expected = play(&Fresh::database().await, None).await;
    for table in TABLES {
        let has_rows = expected[2].iter().any(|row| row.starts_with(&format!("{table}: ")));
        assert!(has_rows, "the polls write to {table}");
    }
    for size in [1, 3, 100] {
        let found = play(&Fresh::database().await, Some(size)).await;
        for (found, expected) in found.iter().zip(&expected) {
            let (found, expected) = (found.iter().collect(), expected.iter().collect());
            let differing: Vec<_> = BTreeSet::symmetric_difference(&found, &expected).collect();
            assert!(differing.is_empty(), "in batches of {size}: {differing:#?}");
        }
    }
}

#[tokio::test]
async fn with_few_connections_batches_are_stored_all_the_same() {
    for connections in [1, 2, 3] {
        let fresh = Fresh::database().await;
        let store = fresh.store_of(connections);
        let feed = Feed::of(&store, "@alice:x").await;
        let poll = Poll { rooms: rooms(0), ..feed.next() };
        let stored = timeout(PATIENCE, in_batches(&store, &feed, &poll, 2)).await.unwrap().unwrap();
        assert_eq!(stored.pos, Position(1));
        assert_eq!(fresh.count("SELECT COUNT(*) FROM room_updates").await, 10);
    }
}

#[tokio::test]
async fn what_breaks_off_changes_nothing_and_can_come_again() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let feed = Feed::of(store, "@alice:x").await;
    let poll = Poll { rooms: rooms(0), ..feed.next() };
    let visible = async || {
        let rows = rows(&fresh).await;
        rows.into_iter().filter(|row| !row.starts_with("event_bodies")).collect::<Vec<_>>()
    };
    let before = visible().await;
    for whole in [0, 1, 3, 5] {
        let (head, mut parts) = parted(poll.clone(), 3);
        parts.whole = whole;
        let stopped = store.ingest_in_batches(feed.account_id, &head, &mut parts).await;
        assert!(matches!(stopped, Err(Stopped::Batches(BrokenOff))), "{stopped:?}");
        assert_eq!(visible().await, before, "after {whole} batches");
    }
    assert_eq!(in_batches(store, &feed, &poll, 3).await.unwrap().pos, Position(1));
    assert!(fenced(&in_batches(store, &feed, &poll, 3).await), "it is stored once");
}

/// Nobody sees a part of it, and nobody who adds to the account's stream comes in between.
#[tokio::test]
async fn a_poll_that_lost_the_race_stores_nothing() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = Feed::of(store, "@alice:x").await;
    let late = Poll { rooms: rooms(0), ..feed.next() };
    feed.rooms(vec![room_with_state("!0:x", vec![], vec![message("$other")])]).await;
    let updates = "SELECT COUNT(*) FROM room_updates";
    assert!(fenced(&in_batches(store, &feed, &late, 2).await));
    assert_eq!(fresh.count(updates).await, 1);

    let next = Poll { rooms: rooms(1), ..feed.next() };
    let (head, mut parts) = parted(next.clone(), 2);
    parts.takes = Duration::from_millis(20);
    let storing = store.ingest_in_batches(feed.account_id, &head, &mut parts);
    let mut storing = std::pin::pin!(storing);
    let stored = loop {
        tokio::select! {
            stored = &mut storing => break stored.unwrap(),
            seen = fresh.count(updates) => assert!([1, 11].contains(&seen), "{seen} rooms"),
        }
    };
    assert_eq!((stored.pos, fresh.count(updates).await), (Position(2), 11));
}

/// Accounts that meet in their rooms, and in what is redacted there, wait for each other and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_store_the_same_rooms_in_batches_at_once() {
    let fresh = Fresh::database().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4_usize {
        let store = fresh.store_of(8);
        tasks.spawn(async move {
            let feed = Feed::of(&store, &format!("@user{number}:x")).await;
            let mut poll = Poll { rooms: rooms(0), ..feed.next() };
            if number % 2 == 1 {
                poll.rooms.reverse();
            }
            in_batches(&store, &feed, &poll, 1 + number).await.unwrap().pos
        });
    }
    let stored = timeout(PATIENCE, tasks.join_all()).await.unwrap();
    assert_eq!(stored, [Position(1); 4]);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM room_updates").await, 40);
    let unpruned = "SELECT COUNT(*) FROM event_bodies b
                    JOIN redactions r ON r.event_id = b.event_id
                    WHERE b.redacted_by IS NULL";
    assert_eq!(fresh.count(unpruned).await, 0);
}

/// The server ends transactions in which nothing happens for fifteen seconds.
#[tokio::test]
async fn a_batch_that_takes_long_to_come_ends_no_transaction() {
    let fresh = Fresh::database().await;
    let feed = Feed::of(&fresh.store, "@alice:x").await;
    let (head, mut parts) = parted(Poll { rooms: rooms(0), ..feed.next() }, 100);
    parts.takes = Duration::from_secs(17);
    let stored = fresh.store.ingest_in_batches(feed.account_id, &head, &mut parts).await;
    assert_eq!(stored.unwrap().pos, Position(1));
}
