//! Upkeep: what is merged beside polls, and how far that has come.

use bytes::Bytes;
use store::{AccountData, Position, RoomUpdate, Section, Upkeep};

use crate::database::fresh_store;
use crate::polls::{Feed, message, receipt, room, room_with};

fn data(event_type: &str, event: &str) -> AccountData {
    AccountData { event_type: event_type.to_owned(), event: Bytes::from(event.to_owned()) }
}

#[tokio::test]
async fn how_far_upkeep_has_come_is_kept() {
    let store = fresh_store().await;
    let account = Feed::of(&store, "@alice:x").await.account_id;
    let begun = Upkeep { joins_settled: Position(1), once_ignored: Vec::new() };
    assert_eq!(store.upkeep(account).await.unwrap(), begun);
    let users = ["@a:x".to_owned(), "@b:x".to_owned()];
    store.put_once_ignored(account, &users).await.unwrap();
    store.joins_are_settled(account, Position(7)).await.unwrap();
    store.joins_are_settled(account, Position(3)).await.unwrap();
    let come = Upkeep { joins_settled: Position(7), once_ignored: users.into() };
    assert_eq!(store.upkeep(account).await.unwrap(), come);
    store.put_once_ignored(account, &[]).await.unwrap();
    assert!(store.upkeep(account).await.unwrap().once_ignored.is_empty());
}

#[tokio::test]
async fn joins_between_positions() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room("!first:x")]).await;
    let before = feed.rooms(vec![room("!first:x"), room("!joined:x"), room("!left:x")]).await;
    feed.rooms(vec![RoomUpdate::empty("!left:x".to_owned(), Section::Leave)]).await;
    let after = feed.rooms(vec![room("!later:x")]).await;
    let joins =
        async |since, until| store.joins_between(feed.account_id, since, until).await.unwrap();
    assert_eq!(joins(Position(1), before).await, ["!joined:x"]);
    assert_eq!(joins(before, after).await, ["!later:x"]);
    assert_eq!(joins(Position(0), after).await, ["!first:x", "!joined:x", "!later:x"]);
    assert!(joins(after, after).await.is_empty());
}

#[tokio::test]
async fn global_account_data_of_one_type() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let told = vec![data("a", "1"), data("b", "2")];
    feed.store(&store::Poll { account_data: told, ..feed.next() }).await.unwrap();
    let of = async |name| store.global_account_data_of(feed.account_id, name).await.unwrap();
    assert_eq!(of("b").await, Some(Bytes::from_static(b"2")));
    assert_eq!(of("c").await, None);
}

#[tokio::test]
async fn a_supplement_gets_a_position_and_leaves_the_poll_under_way_alone() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let asked_at = feed.rooms(vec![room_with("!r:x", vec![message("$1")])]).await;
    let told = RoomUpdate {
        receipts: vec![receipt("@bob:x", "$1", "")],
        account_data: vec![data("m.test", "1")],
        ..room("!r:x")
    };

    let pos =
        store.supplement(feed.account_id, asked_at, std::slice::from_ref(&told)).await.unwrap();
    assert_eq!(pos, Some(Position(asked_at.0 + 1)));
    // The same again is no news.
    let again = store.supplement(feed.account_id, pos.unwrap(), &[told]).await.unwrap();
    assert_eq!(again, None);

    let nid = feed.room_nid("!r:x").await;
    let since = [(nid, asked_at)];
    let receipts = store.receipts(feed.account_id, &since, Position(i64::MAX)).await.unwrap();
    assert_eq!(receipts[&nid][0].event_id, "$1");
    assert_eq!(
        store.room_account_data(feed.account_id, &since, Position(i64::MAX)).await.unwrap()[&nid]
            .len(),
        1
    );
    let (now, changed) = store.changed_rooms(feed.account_id, asked_at).await.unwrap();
    assert_eq!((Some(now), changed.len()), (pos, 1));
    assert_eq!((changed[0].cut, changed[0].newly_joined), (None, false));
    // The token upstream is that of the poll before, so the next poll is not fenced.
    let token = store.next_batch_at(feed.account_id, now).await.unwrap();
    assert_eq!(token, store.next_batch_at(feed.account_id, asked_at).await.unwrap());
    assert_eq!(feed.rooms(vec![room("!r:x")]).await, Position(now.0 + 1));
}

#[tokio::test]
async fn what_polls_brought_meanwhile_stands() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let read = |event_id: &str, tag: &str| RoomUpdate {
        receipts: vec![receipt("@bob:x", event_id, "")],
        account_data: vec![data("m.tag", tag)],
        ..room("!r:x")
    };
    let asked_at = feed.rooms(vec![read("$old", "old")]).await;
    feed.rooms(vec![read("$new", "new")]).await;
    let stale = [read("$stale", "stale")];

    assert_eq!(store.supplement(feed.account_id, asked_at, &stale).await.unwrap(), None);
    let nid = feed.room_nid("!r:x").await;
    let stored =
        store.receipts(feed.account_id, &[(nid, Position(0))], Position(i64::MAX)).await.unwrap();
    assert_eq!(stored[&nid][0].event_id, "$new");

    // What is older than the question is replaced.
    let asked_at = Position(2);
    assert!(store.supplement(feed.account_id, asked_at, &stale).await.unwrap().is_some());
    let stored =
        store.receipts(feed.account_id, &[(nid, Position(0))], Position(i64::MAX)).await.unwrap();
    assert_eq!(stored[&nid][0].event_id, "$stale");
}

#[tokio::test]
async fn only_joined_rooms_are_supplemented_and_no_stream_that_begins_anew() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room("!left:x"), room("!r:x")]).await;
    let pos = feed.rooms(vec![RoomUpdate::empty("!left:x".to_owned(), Section::Leave)]).await;
    let told = |room_id| RoomUpdate { account_data: vec![data("t", "1")], ..room(room_id) };
    let supplement = async |room_id| {
        store.supplement(feed.account_id, pos, &[told(room_id)]).await.unwrap().is_some()
    };
    assert!(!supplement("!left:x").await);
    assert!(!supplement("!unknown:x").await);
    store.forget_upstream_since(feed.account_id).await.unwrap();
    assert!(!supplement("!r:x").await);
}
