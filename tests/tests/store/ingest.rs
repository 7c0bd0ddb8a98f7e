//! Storing polls: fenced, exactly once, and each body once.

use bytes::Bytes;
use store::{
    AccountData, AccountId, DeviceNid, DeviceUpdate, Error, InboxSeq, Ingested, LightPoll, Place,
    Poll, Position, TimelineQuery,
};

use crate::database::{Fresh, fresh_store};
use crate::polls::{Feed, light, message, room_with, to_device};

/// Every table that a poll writes to.
const TABLES: &[&str] = &[
    "polls",
    "room_updates",
    "timeline_events",
    "room_state",
    "state_changes",
    "account_rooms",
    "event_bodies",
    "device_inbox",
    "quarantine",
    "account_data",
];

async fn rows(fresh: &Fresh) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(fresh.count(&format!("SELECT COUNT(*) FROM {table}")).await);
    }
    counts
}

fn fenced(outcome: &Result<Ingested, Error>) -> bool {
    matches!(outcome, Err(Error::Fenced { .. }))
}

#[tokio::test]
async fn the_same_poll_twice_is_stored_once() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let feed = Feed::of(store, "@alice:x").await;
    let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    let poll = Poll {
        rooms: vec![room_with("!r:x", vec![message("$1")])],
        account_data: vec![AccountData { event_type: "m.push_rules".into(), event: "{}".into() }],
        device: Some(to_device(phone, &["1"])),
        quarantined: vec![("no event ID".to_owned(), Bytes::from_static(b"{}"))],
        ..feed.next()
    };
    let stored = store.ingest(feed.account_id, &poll).await.unwrap();
    assert_eq!((stored.pos, stored.inbox_seq), (Position(1), InboxSeq(1)));
    let before = rows(&fresh).await;

    assert!(fenced(&store.ingest(feed.account_id, &poll).await));

    assert_eq!(rows(&fresh).await, before);
    let account = store.account_by_id(feed.account_id).await.unwrap().unwrap();
    assert_eq!((account.pos, account.upstream_since), (Position(1), Some(poll.next_batch)));
}

#[tokio::test]
async fn a_poll_from_elsewhere_is_fenced() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let from_nowhere = Poll { asked_since: Some("nowhere".to_owned()), ..feed.next() };
    assert!(fenced(&store.ingest(feed.account_id, &from_nowhere).await));
    feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    let from_the_start = Poll { asked_since: None, ..feed.next() };
    assert!(fenced(&store.ingest(feed.account_id, &from_the_start).await));
    assert!(fenced(&store.ingest(AccountId(42), &from_the_start).await));
}

#[tokio::test]
async fn a_device_that_no_longer_runs_the_main_poll_is_fenced() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let account = feed.account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    let laptop = store.device(account, "LAPTOP").await.unwrap().device_nid;
    store.claim_main_poll(account, None, phone).await.unwrap();
    let late = Poll { device: Some(to_device(phone, &["1"])), ..feed.next() };

    store.claim_main_poll(account, Some(phone), laptop).await.unwrap();

    assert!(fenced(&store.ingest(account, &late).await));
    assert!(store.inbox(account, phone, InboxSeq(0), 9).await.unwrap().messages.is_empty());
    let own = Poll { device: Some(to_device(laptop, &["2"])), ..feed.next() };
    assert_eq!(feed.store(&own).await.unwrap().inbox_seq, InboxSeq(1));
}

#[tokio::test]
async fn an_idle_poll_moves_upstream_and_mints_no_position() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let first = feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    for _ in 0..3 {
        let idle = feed.next();
        assert_eq!(feed.store(&idle).await.unwrap().pos, first);
    }
    let account = fresh.store.account_by_id(feed.account_id).await.unwrap().unwrap();
    assert_eq!(account.upstream_since, feed.next().asked_since);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM polls").await, 1);
    assert_eq!(feed.rooms(vec![room_with("!r:x", vec![message("$2")])]).await, Position(2));
}

#[tokio::test]
async fn to_device_messages_alone_mint_no_position() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    let poll = Poll {
        device: Some(DeviceUpdate {
            one_time_keys_count: Some(Bytes::from_static(b"{\"k\":1}")),
            unused_fallback_key_types: Some(Bytes::from_static(b"[\"k\"]")),
            ..to_device(phone, &["1", "2"])
        }),
        ..feed.next()
    };
    let stored = feed.store(&poll).await.unwrap();
    assert_eq!((stored.pos, stored.inbox_seq), (Position(0), InboxSeq(2)));
    // What a poll does not say of the keys stays.
    let silent = Poll { device: Some(to_device(phone, &[])), ..feed.next() };
    assert_eq!(feed.store(&silent).await.unwrap().inbox_seq, InboxSeq(2));
    let device = store.device_by_nid(phone).await.unwrap().unwrap();
    assert_eq!(&device.one_time_keys_count[..], b"{\"k\":1}");
    assert_eq!(&device.unused_fallback_key_types[..], b"[\"k\"]");
}

#[tokio::test]
async fn several_rooms_share_a_position() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let rooms = ["!a:x", "!b:x", "!c:x"];
    let update = |room_id: &&str| room_with(room_id, vec![message(&format!("$in-{room_id}"))]);
    let pos = feed.rooms(rooms.iter().map(update).collect()).await;
    let (now, changed) = store.changed_rooms(feed.account_id, Position(0)).await.unwrap();
    assert_eq!((now, changed.len()), (pos, 3));
}

#[tokio::test]
async fn the_same_body_is_stored_once_for_two_accounts() {
    let fresh = Fresh::database().await;
    let mut alice = Feed::of(&fresh.store, "@alice:x").await;
    let mut bob = Feed::of(&fresh.store, "@bob:x").await;
    for feed in [&mut alice, &mut bob] {
        feed.rooms(vec![room_with("!r:x", vec![message("$1"), message("$2")])]).await;
    }
    assert_eq!(fresh.count("SELECT COUNT(*) FROM event_bodies").await, 2);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM timeline_events").await, 4);
}

#[tokio::test]
async fn two_bodies_of_one_event_id_are_both_kept() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut alice = Feed::of(store, "@alice:x").await;
    let mut bob = Feed::of(store, "@bob:x").await;
    let mut redacted = message("$1");
    redacted.body = Bytes::from_static(b"{\"event_id\":\"$1\",\"content\":{}}");
    alice.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    // Even within one poll.
    bob.rooms(vec![room_with("!r:x", vec![redacted.clone(), message("$1")])]).await;
    assert_eq!(fresh.count("SELECT COUNT(*) FROM event_bodies").await, 2);

    let room_nid = bob.room_nid("!r:x").await;
    let query = TimelineQuery { room_nid, after: Position(0), before: Place::after(Position(1)) };
    let told = async |feed: &Feed| {
        let mut timelines =
            store.timelines(feed.account_id, DeviceNid(0), &[query], 9).await.unwrap();
        timelines.remove(&room_nid).unwrap().into_iter().map(|event| event.body).collect::<Vec<_>>()
    };
    assert_eq!(told(&alice).await, [message("$1").body]);
    assert_eq!(told(&bob).await, [message("$1").body, redacted.body]);
}

#[tokio::test]
async fn any_bytes_are_carried() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let mut odd = message("$1");
    odd.body = Bytes::from_static(b"{\"a\":\"\\u0000\\ud800\",\"n\":1e999999}");
    feed.rooms(vec![room_with("!r:x", vec![odd.clone()])]).await;
    let room_nid = feed.room_nid("!r:x").await;
    let query = TimelineQuery { room_nid, after: Position(0), before: Place::after(Position(1)) };
    let timelines = store.timelines(feed.account_id, DeviceNid(0), &[query], 9).await.unwrap();
    assert_eq!(timelines[&room_nid][0].body, odd.body);
}

#[tokio::test]
async fn what_was_quarantined_is_kept_for_a_person() {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let poll = Poll {
        quarantined: vec![("no event ID".to_owned(), Bytes::from_static(b"{\"x\":1}"))],
        ..feed.next()
    };
    assert_eq!(feed.store(&poll).await.unwrap().pos, Position(1));
    let row = fresh.sql().await.query_one("SELECT pos, reason, json FROM quarantine", &[]).await;
    let row = row.unwrap();
    assert_eq!((row.get("pos"), row.get("reason")), (1_i64, "no event ID"));
    assert_eq!(row.get::<_, &[u8]>("json"), b"{\"x\":1}");
}

#[tokio::test]
async fn light_polls_are_fenced_and_move_no_position() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    let first = light(None, "one", to_device(phone, &["1", "2"]));
    assert_eq!(store.ingest_light(account, &first).await.unwrap(), InboxSeq(2));
    let again = store.ingest_light(account, &first).await;
    assert!(matches!(again, Err(Error::Fenced { .. })));
    let second = LightPoll { asked_since: Some("one".to_owned()), ..first };
    assert_eq!(store.ingest_light(account, &second).await.unwrap(), InboxSeq(4));
    assert_eq!(store.account_by_id(account).await.unwrap().unwrap().pos, Position(0));
    let inbox = store.inbox(account, phone, InboxSeq(0), 9).await.unwrap();
    assert_eq!(inbox.messages.len(), 4);
}

/// A poll without a since acknowledges nothing upstream: the next one brings the same messages again.
#[tokio::test]
async fn messages_that_come_again_to_a_poll_without_since_are_stored_once() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    for (messages, expected) in [
        (&["1", "2"][..], "1 2"),
        (&["1", "2", "3"], "1 2 3"),
        (&["3", "3"], "1 2 3 3"),
        (&["4"], "1 2 3 3 4"),
        (&[], "1 2 3 3 4"),
    ] {
        store.forget_light_since(phone).await.unwrap();
        store.ingest_light(account, &light(None, "s", to_device(phone, messages))).await.unwrap();
        let page = store.inbox(account, phone, InboxSeq(0), 99).await.unwrap();
        let held: Vec<_> =
            page.messages.iter().map(|it| String::from_utf8_lossy(&it.message)).collect();
        assert_eq!(held.join(" "), expected);
    }
}

/// Upstream refuses the position that it gave with messages, and so they were never acknowledged to it; but every client has
/// acknowledged them to us, and the inbox is empty.
#[tokio::test]
async fn messages_that_clients_have_and_upstream_tells_again_are_not_stored_again() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    let mut last = InboxSeq(0);
    for (messages, new) in [
        (&["1", "2"][..], ""),
        (&["1", "2", "3"], "3"),
        (&["1", "2", "3"], ""),
        (&[], ""),
        // With that poll the device's memory of them is gone: these are others.
        (&["3"], "3"),
    ] {
        store.forget_light_since(phone).await.unwrap();
        let poll = light(None, "s", to_device(phone, messages));
        let stored = store.ingest_light(account, &poll).await.unwrap();
        let page = store.inbox(account, phone, last, 99).await.unwrap();
        let told: Vec<_> =
            page.messages.iter().map(|it| String::from_utf8_lossy(&it.message)).collect();
        if last > InboxSeq(0) {
            assert_eq!(told.join(" "), new);
        }
        last = stored;
        store.acknowledge_v2(account, phone, last, 1, 0).await.unwrap();
        let held = store.inbox(account, phone, InboxSeq(0), 99).await.unwrap();
        assert!(held.messages.is_empty(), "it is purged");
    }
}

/// The same where clients have acknowledged some of them only, or upstream begins in the middle; whichever poll it is.
#[tokio::test]
async fn messages_of_which_clients_have_some_are_not_stored_again() {
    for is_main in [false, true] {
        let store = fresh_store().await;
        let account = store.account("@alice:x").await.unwrap().account_id;
        let phone = store.device(account, "PHONE").await.unwrap().device_nid;
        if is_main {
            store.claim_main_poll(account, None, phone).await.unwrap();
        }
        for (messages, held, acknowledged) in [
            (&["1", "2", "3"][..], "1 2 3", 1),
            (&["1", "2", "3"], "2 3", 1),
            (&["2", "3", "4"], "2 3 4", 2),
            (&["2", "3", "4", "5"], "3 4 5", 4),
            (&["4", "5"], "5", 5),
            (&["5", "6"], "6", 6),
        ] {
            let device = to_device(phone, messages);
            if is_main {
                store.forget_upstream_since(account).await.unwrap();
                let next_batch = "s".to_owned();
                let poll = Poll { next_batch, device: Some(device), ..Poll::default() };
                store.ingest(account, &poll).await.unwrap();
            } else {
                store.forget_light_since(phone).await.unwrap();
                store.ingest_light(account, &light(None, "s", device)).await.unwrap();
            }
            let page = store.inbox(account, phone, InboxSeq(0), 99).await.unwrap();
            let told: Vec<_> =
                page.messages.iter().map(|it| String::from_utf8_lossy(&it.message)).collect();
            assert_eq!(told.join(" "), held, "main: {is_main}, {messages:?}");
            store.acknowledge_v2(account, phone, InboxSeq(acknowledged), 1, 0).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_light_poll_of_a_device_that_is_gone_stores_nothing() {
    let fresh = Fresh::database().await;
    let account = fresh.store.account("@alice:x").await.unwrap().account_id;
    let gone = light(None, "one", to_device(DeviceNid(42), &["1"]));
    assert_eq!(fresh.store.ingest_light(account, &gone).await.unwrap(), InboxSeq(0));
    assert_eq!(fresh.count("SELECT COUNT(*) FROM device_inbox").await, 0);
}
