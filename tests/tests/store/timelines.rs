//! Timelines as they were told, and the way back to upstream's tokens.

use bytes::Bytes;
use store::{
    AccountId, DeviceNid, Place, Poll, Position, RoomNid, RoomUpdate, TimelineEvent, TimelineQuery,
};

use crate::database::fresh_store;
use crate::polls::{Feed, message, room, room_with, to_device};

fn ids(events: &[TimelineEvent]) -> Vec<String> {
    let id = |event: &TimelineEvent| String::from_utf8(event.body.to_vec()).unwrap();
    events.iter().map(|event| id(event).split('"').nth(3).unwrap().to_owned()).collect()
}

fn messages(ids: &[&str]) -> Vec<store::Event> {
    ids.iter().map(|id| message(id)).collect()
}

#[tokio::test]
async fn the_newest_events_of_each_stretch_newest_first() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![
        room_with("!a:x", messages(&["$a1", "$a2"])),
        room_with("!b:x", messages(&["$b1"])),
    ])
    .await;
    let pos = feed.rooms(vec![room_with("!a:x", messages(&["$a3", "$a4", "$a5"]))]).await;
    let (a, b) = (feed.room_nid("!a:x").await, feed.room_nid("!b:x").await);
    let find = async |queries: &[TimelineQuery], limit| {
        store.timelines(feed.account_id, DeviceNid(0), queries, limit).await.unwrap()
    };
    let all = |room_nid| TimelineQuery { room_nid, after: Position(0), before: Place::after(pos) };

    let found = find(&[all(a), all(b)], 4).await;
    assert_eq!(ids(&found[&a]), ["$a5", "$a4", "$a3", "$a2"]);
    assert_eq!(ids(&found[&b]), ["$b1"]);
    assert_eq!(found[&a][0].place, Place { pos, ord: 2 });

    let before = Place { pos, ord: 1 };
    let found = find(&[TimelineQuery { before, ..all(a) }], 9).await;
    assert_eq!(ids(&found[&a]), ["$a3", "$a2", "$a1"]);
    let found = find(&[TimelineQuery { after: Position(1), ..all(a) }], 9).await;
    assert_eq!(ids(&found[&a]), ["$a5", "$a4", "$a3"]);

    let nothing = TimelineQuery { after: pos, ..all(a) };
    assert!(find(&[nothing, all(RoomNid(42))], 9).await.is_empty());
    assert!(find(&[], 9).await.is_empty());
    assert!(find(&[all(a)], 0).await.is_empty());
}

#[tokio::test]
async fn events_are_found_in_the_timelines_of_their_rooms() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let mut other = Feed::of(&store, "@bob:x").await;
    let first =
        vec![room_with("!a:x", messages(&["$1", "$2"])), room_with("!b:x", messages(&["$3"]))];
    let first = feed.rooms(first).await;
    let then = feed.rooms(vec![room_with("!a:x", messages(&["$4", "$2"]))]).await;
    other.rooms(vec![room_with("!a:x", messages(&["$5"]))]).await;
    let (a, b) = (feed.room_nid("!a:x").await, feed.room_nid("!b:x").await);
    let find = async |rooms: &[(RoomNid, Position)], until, ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        let found = store.places_of(feed.account_id, rooms, until, &ids).await.unwrap();
        found
            .into_iter()
            .map(|found| (found.room_nid, found.event_id, found.place.pos, found.place.ord))
            .collect::<Vec<_>>()
    };
    let both = [(a, Position(0)), (b, Position(0))];

    let two = |pos, ord| (a, "$2".to_owned(), pos, ord);
    let all = find(&both, then, &["$3", "$2", "$5", "$unknown"]).await;
    assert_eq!(all, [two(first, 1), two(then, 1), (b, "$3".to_owned(), first, 0)]);
    assert_eq!(find(&both, first, &["$2", "$4"]).await, [two(first, 1)], "not what came later");
    assert_eq!(find(&[(a, first)], then, &["$1", "$2"]).await, [two(then, 1)]);
    assert_eq!(find(&[(b, Position(0))], then, &["$2"]).await, [], "another room's");
    assert_eq!(find(&both, then, &[]).await, []);
    assert_eq!(find(&[], then, &["$2"]).await, []);
}

#[tokio::test]
async fn a_transaction_id_is_shown_to_its_device_alone() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    let mut sent = message("$1");
    sent.transaction_id = Some("txn".to_owned());
    sent.age_ts = Some(12);
    sent.unsigned = Some(Bytes::from_static(b"{\"u\":1}"));
    let rooms = vec![room_with("!r:x", vec![sent])];
    // Upstream tells it again after a gap.
    for _ in 0..2 {
        let device = Some(to_device(phone, &[]));
        let poll = Poll { rooms: rooms.clone(), device, ..feed.next() };
        feed.store(&poll).await.unwrap();
    }
    let room_nid = feed.room_nid("!r:x").await;
    let query = TimelineQuery { room_nid, after: Position(1), before: Place::after(Position(2)) };
    for (device, expected) in [(phone, Some("txn")), (DeviceNid(phone.0 + 1), None)] {
        let found = store.timelines(feed.account_id, device, &[query], 9).await.unwrap();
        let event = &found[&room_nid][0];
        assert_eq!(event.transaction_id.as_deref(), expected);
        assert_eq!((event.age_ts, event.unsigned.as_deref()), (Some(12), Some(&b"{\"u\":1}"[..])));
    }
}

#[tokio::test]
async fn a_transaction_id_that_a_device_told_itself_is_kept_once() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let laptop = store.device(feed.account_id, "LAPTOP").await.unwrap().device_nid;
    // The answer to a request that was sent again says the same event.
    for transaction_id in ["txn", "another"] {
        store.put_transaction_id(feed.account_id, laptop, "$1", transaction_id, 1).await.unwrap();
    }
    let pos = feed.rooms(vec![room_with("!r:x", messages(&["$1"]))]).await;
    let room_nid = feed.room_nid("!r:x").await;
    let query = TimelineQuery { room_nid, after: Position(0), before: Place::after(pos) };
    for (device, expected) in [(laptop, Some("txn")), (DeviceNid(laptop.0 + 1), None)] {
        let found = store.timelines(feed.account_id, device, &[query], 9).await.unwrap();
        assert_eq!(found[&room_nid][0].transaction_id.as_deref(), expected);
    }
}

#[tokio::test]
async fn upstream_tokens_stand_on_both_sides_of_a_place() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let first = feed.next().next_batch;
    feed.rooms(vec![room_with("!r:x", messages(&["$1"]))]).await;
    let second = feed.next().next_batch;
    let pos = feed.rooms(vec![room_with("!r:x", messages(&["$2", "$3", "$4"]))]).await;
    let room_nid = feed.room_nid("!r:x").await;

    let place = Place { pos, ord: 1 };
    let tokens = store.upstream_tokens(feed.account_id, room_nid, place).await.unwrap();
    // Without a prev_batch of its own the timeline began where the poll before it ended.
    assert_eq!((tokens.older, tokens.newer), (Some(first), Some(second)));
    assert_eq!((tokens.between_older, tokens.between_newer.len()), (vec!["$2".to_owned()], 2));
    assert!(!tokens.limited);

    let gap = RoomUpdate {
        limited: true,
        prev_batch: Some("p".to_owned()),
        ..room_with("!r:x", messages(&["$9"]))
    };
    let pos = feed.rooms(vec![gap]).await;
    let place = Place { pos, ord: 0 };
    let tokens = store.upstream_tokens(feed.account_id, room_nid, place).await.unwrap();
    assert!(tokens.limited && tokens.older.as_deref() == Some("p"));
}

#[tokio::test]
async fn upstream_tokens_not_found() {
    let store = fresh_store().await;
    let feed = Feed::of(&store, "@alice:x").await;
    let place = Place { pos: Position(7), ord: 0 };
    let tokens = store.upstream_tokens(feed.account_id, RoomNid(1), place).await.unwrap();
    assert!(tokens.older.is_none() && tokens.newer.is_none() && tokens.between_older.is_empty());
}

#[tokio::test]
async fn next_batch_is_that_of_the_poll_at_or_before() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let at = async |account_id, pos| store.next_batch_at(account_id, Position(pos)).await.unwrap();
    assert_eq!(at(feed.account_id, 9).await, None);
    let account_id = feed.account_id;
    let first = feed.next().next_batch;
    feed.rooms(vec![room_with("!r:x", vec![])]).await;
    let second = feed.next().next_batch;
    feed.rooms(vec![room_with("!r:x", vec![])]).await;
    assert_eq!(at(account_id, 0).await, None);
    assert_eq!(at(account_id, 1).await, Some(first));
    assert_eq!(at(account_id, 9).await, Some(second));
    assert_eq!(at(AccountId(42), 9).await, None);
}

#[tokio::test]
async fn the_ids_of_what_came_after_a_position() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room_with("!a:x", messages(&["$1"]))]).await;
    let pos = feed.rooms(vec![room_with("!a:x", messages(&["$2"])), room("!b:x")]).await;
    feed.rooms(vec![room_with("!b:x", messages(&["$3", "$4"]))]).await;
    let ids = async |since| {
        let mut ids = store.event_ids_after(feed.account_id, since).await.unwrap();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(Position(pos.0 - 1)).await, ["$2", "$3", "$4"]);
    assert_eq!(ids(pos).await, ["$3", "$4"]);
    assert!(ids(Position(pos.0 + 1)).await.is_empty());
}
