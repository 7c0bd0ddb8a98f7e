//! Rooms as lists sort and filter them: all that are listed, and what changed of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{
    AccountData, AccountId, Counts, ListedRoom, Poll, Position, RoomList, RoomUpdate, Section,
};

use crate::database::fresh_store;
use crate::polls::{Feed, counts, room};

fn in_section(room_id: &str, section: Section) -> RoomUpdate {
    RoomUpdate { section, ..room(room_id) }
}

fn direct(event: &'static str) -> Vec<AccountData> {
    vec![AccountData { event_type: "m.direct".into(), event: event.into() }]
}

fn sections(list: &RoomList) -> BTreeMap<&str, Section> {
    list.rooms.iter().map(|room| (room.room_id.as_str(), room.section)).collect()
}

#[tokio::test]
async fn roundtrip_room_list() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let told = RoomUpdate {
        recency: Some(1234),
        counts: Some(Counts { threads: Some(Bytes::from_static(b"{\"$t\":{}}")), ..counts(3, 1) }),
        ..room("!a:x")
    };
    let poll = Poll { rooms: vec![told], account_data: direct("{\"d\":1}"), ..feed.next() };
    let pos = feed.store(&poll).await.unwrap().pos;

    let list = store.room_list(feed.account_id).await.unwrap();
    assert_eq!(list.as_of, pos);
    assert_eq!(list.direct, Some((Bytes::from_static(b"{\"d\":1}"), pos)));
    let expected = ListedRoom {
        room_nid: feed.room_nid("!a:x").await,
        room_id: "!a:x".into(),
        section: Section::Join,
        recency: 1234,
        notification_count: 3,
        highlight_count: 1,
        thread_counts: Some(Bytes::from_static(b"{\"$t\":{}}")),
    };
    let changes = store.room_list_changes(feed.account_id, Position(0)).await.unwrap();
    assert_eq!((changes.as_of, &changes.rooms), (pos, &list.rooms));
    assert_eq!(list.rooms, [expected]);
}

#[tokio::test]
async fn room_list_of_nobody() {
    let store = fresh_store().await;
    let feed = Feed::of(&store, "@alice:x").await;
    let list = store.room_list(feed.account_id).await.unwrap();
    assert!(list.rooms.is_empty() && list.direct.is_none() && list.as_of == Position(0));
    assert!(store.room_list(AccountId(42)).await.is_err());
    assert!(store.room_list_changes(AccountId(42), Position(0)).await.is_err());
}

#[tokio::test]
async fn left_rooms_are_not_listed_but_among_the_changes() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![
        room("!joined:x"),
        room("!leaves:x"),
        in_section("!invite:x", Section::Invite),
        in_section("!knock:x", Section::Knock),
        in_section("!left:x", Section::Leave),
        in_section("!forgotten:x", Section::Invite),
    ])
    .await;
    store.forget_room(feed.account_id, feed.room_nid("!forgotten:x").await).await.unwrap();
    let before = feed.rooms(vec![room("!joined:x")]).await;
    let gone = in_section("!leaves:x", Section::Leave);
    let now = feed.rooms(vec![gone, room("!invite:x")]).await;

    let list = store.room_list(feed.account_id).await.unwrap();
    assert_eq!(list.as_of, now);
    let expected =
        [("!joined:x", Section::Join), ("!invite:x", Section::Join), ("!knock:x", Section::Knock)];
    assert_eq!(sections(&list), expected.into());
    let changes = store.room_list_changes(feed.account_id, before).await.unwrap();
    assert_eq!(changes.as_of, now);
    assert_eq!(
        sections(&changes),
        [("!leaves:x", Section::Leave), ("!invite:x", Section::Join)].into()
    );
    let all = store.room_list_changes(feed.account_id, Position(0)).await.unwrap();
    assert_eq!(sections(&all)["!forgotten:x"], Section::Leave);
    assert!(store.room_list_changes(feed.account_id, now).await.unwrap().rooms.is_empty());
}

#[tokio::test]
async fn what_is_direct_is_told_when_it_has_changed() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let told = Poll { account_data: direct("1"), ..feed.next() };
    let first = feed.store(&told).await.unwrap().pos;
    let second = feed.rooms(vec![room("!a:x")]).await;
    let changed = async |since| {
        let changes = store.room_list_changes(feed.account_id, since).await.unwrap();
        changes.direct.map(|(_, pos)| pos)
    };
    assert_eq!(changed(Position(0)).await, Some(first));
    assert_eq!((changed(first).await, changed(second).await), (None, None));
    assert_eq!(store.room_list(feed.account_id).await.unwrap().direct.unwrap().1, first);
    // Another account's, or a room's, is not it.
    let mut bob = Feed::of(&store, "@bob:x").await;
    bob.rooms(vec![RoomUpdate { account_data: direct("2"), ..room("!a:x") }]).await;
    assert!(store.room_list(bob.account_id).await.unwrap().direct.is_none());
}

#[tokio::test]
async fn room_ids_are_found_however_far_apart_their_numbers_are() {
    let store = fresh_store().await;
    let mut alice = Feed::of(&store, "@alice:x").await;
    let mut bob = Feed::of(&store, "@bob:x").await;
    let mut expected = Vec::new();
    // Alice's rooms stand next to each other, a few numbers apart, and many.
    for (round, between) in [0, 0, 3, 15, 16, 17, 40].into_iter().enumerate() {
        bob.rooms((0..between).map(|n| room(&format!("!bob-{round}-{n}:x"))).collect()).await;
        let room_id = format!("!alice-{round}:x");
        alice.rooms(vec![room(&room_id)]).await;
        expected.push((alice.room_nid(&room_id).await, room_id));
    }
    let listed = store.room_list(alice.account_id).await.unwrap().rooms;
    let mut listed: Vec<_> = listed.into_iter().map(|room| (room.room_nid, room.room_id)).collect();
    listed.sort();
    assert_eq!(listed, expected);
    assert_eq!(store.joined_rooms(alice.account_id).await.unwrap(), expected);
}
