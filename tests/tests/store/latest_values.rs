//! The latest-value tables: what is current, and since when.

use bytes::Bytes;
use store::{AccountData, Event, Poll, Position, PresenceUpdate, RoomNid, RoomUpdate, StateBlock};

use crate::database::fresh_store;
use crate::polls::{Feed, member, message, receipt, room};

fn data(event_type: &str, event: &str) -> AccountData {
    AccountData { event_type: event_type.to_owned(), event: Bytes::from(event.to_owned()) }
}

fn pair(event_type: &str, event: &str) -> (String, Bytes) {
    (event_type.to_owned(), Bytes::from(event.to_owned()))
}

#[tokio::test]
async fn global_account_data() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    // The last of a type wins, also within a poll.
    let told = vec![data("a", "0"), data("b", "1"), data("a", "2")];
    feed.store(&Poll { account_data: told, ..feed.next() }).await.unwrap();
    feed.store(&Poll { account_data: vec![data("a", "3")], ..feed.next() }).await.unwrap();
    let since = async |pos| {
        store.global_account_data(feed.account_id, Position(pos), Position(i64::MAX)).await.unwrap()
    };
    assert_eq!(since(0).await, [pair("b", "1"), pair("a", "3")]);
    assert_eq!(since(1).await, [pair("a", "3")]);
    assert!(since(2).await.is_empty());
}

#[tokio::test]
async fn room_account_data() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let tagged =
        |room_id, event| RoomUpdate { account_data: vec![data("m.tag", event)], ..room(room_id) };
    feed.rooms(vec![tagged("!a:x", "1"), tagged("!b:x", "2")]).await;
    feed.rooms(vec![tagged("!a:x", "3")]).await;
    let (a, b) = (feed.room_nid("!a:x").await, feed.room_nid("!b:x").await);
    let rooms = [(a, Position(1)), (b, Position(0)), (RoomNid(42), Position(0))];
    let found = store.room_account_data(feed.account_id, &rooms, Position(i64::MAX)).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&a], [pair("m.tag", "3")]);
    assert_eq!(found[&b], [pair("m.tag", "2")]);
    let found = store
        .room_account_data(feed.account_id, &[(b, Position(1))], Position(i64::MAX))
        .await
        .unwrap();
    assert!(found.is_empty());
    // It is nobody's global account data.
    let global =
        store.global_account_data(feed.account_id, Position(0), Position(i64::MAX)).await.unwrap();
    assert!(global.is_empty());
}

#[tokio::test]
async fn one_piece_of_account_data_of_many_rooms() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let told = |room_id, event_type, event| RoomUpdate {
        account_data: vec![data(event_type, event)],
        ..room(room_id)
    };
    feed.rooms(vec![told("!a:x", "m.tag", "1"), told("!b:x", "m.fully_read", "2")]).await;
    feed.rooms(vec![told("!a:x", "m.fully_read", "3")]).await;
    let (a, b) = (feed.room_nid("!a:x").await, feed.room_nid("!b:x").await);
    let rooms = [a, b, RoomNid(42)];
    let of = async |account_id, event_type| {
        store.room_account_data_of(account_id, &rooms, event_type).await.unwrap()
    };
    assert_eq!(of(feed.account_id, "m.tag").await, [(a, "1".into())].into());
    let read = of(feed.account_id, "m.fully_read").await;
    assert_eq!(read, [(a, "3".into()), (b, "2".into())].into());
    assert!(of(store::AccountId(42), "m.tag").await.is_empty());
}

#[tokio::test]
async fn receipts() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let read = |receipts| RoomUpdate { receipts, ..room("!r:x") };
    feed.rooms(vec![read(vec![
        receipt("@bob:x", "$1", ""),
        receipt("@bob:x", "$1", "main"),
        receipt("@carol:x", "$1", ""),
    ])])
    .await;
    feed.rooms(vec![read(vec![receipt("@bob:x", "$0", ""), receipt("@bob:x", "$2", "")])]).await;
    let room_nid = feed.room_nid("!r:x").await;
    let since = async |pos| {
        let rooms = [(room_nid, Position(pos))];
        let mut found = store.receipts(feed.account_id, &rooms, Position(i64::MAX)).await.unwrap();
        let receipts = found.remove(&room_nid).unwrap_or_default().into_iter();
        receipts.map(|it| (it.event_id, it.thread_id, it.user_id)).collect::<Vec<_>>()
    };
    let line = |event: &str, thread: &str, user: &str| {
        (event.to_owned(), thread.to_owned(), user.to_owned())
    };
    let expected =
        [line("$1", "main", "@bob:x"), line("$1", "", "@carol:x"), line("$2", "", "@bob:x")];
    assert_eq!(since(0).await, expected);
    assert_eq!(since(1).await, [line("$2", "", "@bob:x")]);
    assert!(since(2).await.is_empty());
    let found = store
        .receipts(feed.account_id, &[(room_nid, Position(1))], Position(i64::MAX))
        .await
        .unwrap();
    let stored = &found[&room_nid][0];
    assert_eq!(
        (stored.receipt_type.as_str(), &stored.data),
        ("m.read", &receipt("", "$2", "").data)
    );
}

#[tokio::test]
async fn presence() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let online = |user: &str, event: &str, last_active_ts| PresenceUpdate {
        user_id: user.to_owned(),
        event: Bytes::from(event.to_owned()),
        last_active_ts,
    };
    let told = vec![online("@bob:x", "1", Some(7)), online("@carol:x", "2", None)];
    feed.store(&Poll { presence: told, ..feed.next() }).await.unwrap();
    let told = vec![online("@bob:x", "3", None), online("@bob:x", "4", Some(9))];
    feed.store(&Poll { presence: told, ..feed.next() }).await.unwrap();
    let since = async |pos| {
        let found = store
            .presence(feed.account_id, Position(pos), Position(i64::MAX))
            .await
            .unwrap()
            .into_iter();
        found.map(|it| (it.user_id, it.event, it.last_active_ts)).collect::<Vec<_>>()
    };
    let line =
        |user: &str, event: &str, active| (user.to_owned(), Bytes::from(event.to_owned()), active);
    let bob = line("@bob:x", "4", Some(9));
    assert_eq!(since(0).await, [line("@carol:x", "2", None), bob.clone()]);
    assert_eq!(since(1).await, [bob]);
    assert!(since(2).await.is_empty());
}

#[tokio::test]
async fn the_last_verdict_on_a_users_devices_wins() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    for (changed, left) in [
        (&["@bob:x", "@carol:x"][..], &["@dave:x"][..]),
        // Named in both lists: to over-report is safe.
        (&["@erin:x", "@dave:x"], &["@bob:x", "@erin:x"]),
    ] {
        let poll = Poll {
            device_lists_changed: changed.iter().map(|user| (*user).to_owned()).collect(),
            device_lists_left: left.iter().map(|user| (*user).to_owned()).collect(),
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    let since = async |pos| {
        store.device_list_changes(feed.account_id, Position(pos), Position(i64::MAX)).await.unwrap()
    };
    let all = since(0).await;
    assert_eq!(
        (all.changed, all.left),
        (vec!["@carol:x".into(), "@dave:x".into(), "@erin:x".into()], vec!["@bob:x".to_owned()])
    );
    let later = since(1).await;
    assert_eq!(later.changed, ["@dave:x", "@erin:x"]);
    let none = since(2).await;
    assert!(none.changed.is_empty() && none.left.is_empty());
}

#[tokio::test]
async fn rooms_in_which_somebody_types_are_known() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let typing = |room_id: &str, users: &'static str| RoomUpdate {
        typing: Some(Bytes::from_static(users.as_bytes())),
        ..room(room_id)
    };
    let (bob, nobody) = (r#"{"user_ids":["@bob:x"]}"#, r#"{"user_ids":[]}"#);
    feed.rooms(vec![typing("!a:x", bob), typing("!b:x", nobody)]).await;
    assert_eq!(store.rooms_with_typing(feed.account_id).await.unwrap(), ["!a:x"]);
    feed.rooms(vec![typing("!a:x", nobody)]).await;
    assert!(store.rooms_with_typing(feed.account_id).await.unwrap().is_empty());
}

#[tokio::test]
async fn those_who_share_an_encrypted_room() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let encryption = Event {
        event_type: "m.room.encryption".into(),
        state_key: Some(String::new()),
        ..message("$encryption")
    };
    let state = |members: Vec<Event>| StateBlock::BeforeTimeline(members);
    feed.rooms(vec![
        RoomUpdate {
            state: state(vec![
                encryption,
                member("$b", "@bob:x", "join"),
                member("$c", "@carol:x", "invite"),
                member("$d", "@dave:x", "leave"),
            ]),
            ..room("!encrypted:x")
        },
        RoomUpdate { state: state(vec![member("$e", "@erin:x", "join")]), ..room("!open:x") },
    ])
    .await;
    let mut sharers = store.sharers(feed.account_id).await.unwrap();
    sharers.sort_unstable();
    assert_eq!(sharers, ["@bob:x", "@carol:x"]);
}
