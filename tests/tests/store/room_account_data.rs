//! The account data of rooms: of all that are joined, and what changed of any.

use bytes::Bytes;
use store::{AccountData, Position, RoomAccountData, RoomUpdate, Section};

use crate::database::fresh_store;
use crate::polls::{Feed, member, room, room_with};

const END: Position = Position(i64::MAX);

fn data(event_type: &str, event: &str) -> AccountData {
    AccountData { event_type: event_type.to_owned(), event: Bytes::from(event.to_owned()) }
}

fn with_data(room_id: &str, of: &[(&str, &str)]) -> RoomUpdate {
    let account_data = of.iter().map(|(event_type, event)| data(event_type, event)).collect();
    RoomUpdate { account_data, ..room(room_id) }
}

fn of(room_id: &str, events: &[&str]) -> RoomAccountData {
    let events = events.iter().map(|event| Bytes::from((*event).to_owned())).collect();
    RoomAccountData { room_id: room_id.to_owned(), events }
}

#[tokio::test]
async fn all_of_joined_rooms_as_of_a_poll() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![
        with_data("!a:x", &[("m.tag", "1"), ("m.fully_read", "2")]),
        with_data("!b:x", &[("m.tag", "3")]),
        room("!c:x"),
    ])
    .await;
    let one = feed.rooms(vec![with_data("!a:x", &[("m.tag", "4")])]).await;
    let left = RoomUpdate { section: Section::Leave, ..with_data("!b:x", &[("m.tag", "5")]) };
    feed.rooms(vec![left]).await;
    feed.rooms(vec![with_data("!a:x", &[("m.test", "6")])]).await;
    let mut other = Feed::of(&store, "@bob:x").await;
    other.rooms(vec![with_data("!a:x", &[("m.tag", "Bob's")])]).await;

    let until = async |pos| store.account_data_of_joined_rooms(feed.account_id, pos).await.unwrap();
    assert_eq!(until(one).await, [of("!a:x", &["2", "4"])]);
    assert_eq!(until(END).await, [of("!a:x", &["2", "4", "6"])]);
    assert!(until(Position(0)).await.is_empty());
}

#[tokio::test]
async fn what_changed_in_a_stretch_and_all_of_a_room_that_was_joined_in_it() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![
        with_data("!a:x", &[("m.tag", "1"), ("m.fully_read", "2")]),
        with_data("!b:x", &[("m.tag", "3")]),
    ])
    .await;
    let left = RoomUpdate { section: Section::Leave, ..room("!b:x") };
    let gone = feed.rooms(vec![left]).await;
    let changed = feed.rooms(vec![with_data("!a:x", &[("m.tag", "4")])]).await;
    let joined = RoomUpdate {
        joins_anew: Some("$j".into()),
        ..room_with("!b:x", vec![member("$j", "@alice:x", "join")])
    };
    let back = feed.rooms(vec![joined]).await;

    let account_id = feed.account_id;
    let between = async |since, until| {
        store.room_account_data_changes(account_id, since, until).await.unwrap()
    };
    assert_eq!(between(gone, changed).await, [of("!a:x", &["4"])]);
    assert_eq!(between(changed, back).await, [of("!b:x", &["3"])], "it changed long ago");
    assert_eq!(between(gone, END).await, [of("!a:x", &["4"]), of("!b:x", &["3"])]);
    assert!(between(back, END).await.is_empty());
    // It is global, and of no room.
    feed.store(&store::Poll { account_data: vec![data("m.direct", "7")], ..feed.next() })
        .await
        .unwrap();
    assert!(between(back, END).await.is_empty());
}
