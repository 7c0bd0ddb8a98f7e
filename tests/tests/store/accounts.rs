//! Accounts: one a user, and the hand-over of the main poll.

use bytes::Bytes;
use store::{AccountId, DeviceNid, Poll, Position};

use crate::database::{Fresh, fresh_store};
use crate::polls::{Feed, message, room_with, to_device};

#[tokio::test]
async fn roundtrip_account() {
    let store = fresh_store().await;
    let account = store.account("@alice:example.org").await.unwrap();
    assert_eq!(account.user_id, "@alice:example.org");
    assert_eq!(account.pos, Position(0));
    assert_eq!(account.retained_from, Position(0));
    assert_eq!(account.upstream_since, None);
    assert_eq!(account.main_device, None);
    let found = store.account_by_id(account.account_id).await.unwrap().unwrap();
    assert_eq!(found.user_id, account.user_id);
}

#[tokio::test]
async fn account_is_idempotent() {
    let store = fresh_store().await;
    let first = store.account("@alice:example.org").await.unwrap();
    let again = store.account("@alice:example.org").await.unwrap();
    let other = store.account("@bob:example.org").await.unwrap();
    assert_eq!(first.account_id, again.account_id);
    assert_ne!(first.account_id, other.account_id);
}

#[tokio::test]
async fn account_not_found() {
    assert!(fresh_store().await.account_by_id(AccountId(42)).await.unwrap().is_none());
}

#[tokio::test]
async fn many_at_once_make_one_account() {
    let fresh = Fresh::database().await;
    let made =
        futures_util::future::join_all((0..8).map(|_| fresh.store.account("@alice:x"))).await;
    let first = made[0].as_ref().unwrap().account_id;
    assert!(made.iter().all(|account| account.as_ref().unwrap().account_id == first));
    assert_eq!(fresh.count("SELECT COUNT(*) FROM accounts").await, 1);
}

#[tokio::test]
async fn the_main_poll_is_claimed_by_one() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    let laptop = store.device(account, "LAPTOP").await.unwrap().device_nid;

    assert!(store.claim_main_poll(account, None, phone).await.unwrap());
    assert!(!store.claim_main_poll(account, None, laptop).await.unwrap());
    let account_now = store.account_by_id(account).await.unwrap().unwrap();
    assert_eq!(account_now.main_device, Some(phone));
}

#[tokio::test]
async fn an_unknown_account_has_no_main_poll_to_claim() {
    let store = fresh_store().await;
    assert!(!store.claim_main_poll(AccountId(42), None, DeviceNid(1)).await.unwrap());
}

#[tokio::test]
async fn a_device_that_loses_the_main_poll_goes_on_lightly_from_there() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    let laptop = store.device(feed.account_id, "LAPTOP").await.unwrap().device_nid;
    assert!(store.claim_main_poll(feed.account_id, None, phone).await.unwrap());
    let poll = feed.next();
    feed.store(&poll).await.unwrap();

    assert!(store.claim_main_poll(feed.account_id, Some(phone), laptop).await.unwrap());

    let phone = store.device_by_nid(phone).await.unwrap().unwrap();
    assert_eq!(phone.upstream_since, Some(poll.next_batch));
    let laptop = store.device_by_nid(laptop).await.unwrap().unwrap();
    assert_eq!(laptop.upstream_since, None);
}

#[tokio::test]
async fn forgetting_the_position_upstream_begins_without_a_since() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.store(&feed.next()).await.unwrap();
    for _ in 0..2 {
        store.forget_upstream_since(feed.account_id).await.unwrap();
        let account = store.account_by_id(feed.account_id).await.unwrap().unwrap();
        assert_eq!(account.upstream_since, None);
    }
}

#[tokio::test]
async fn an_account_is_found_without_being_made() {
    let store = fresh_store().await;
    assert!(store.find_account("@alice:x").await.unwrap().is_none());
    let made = store.account("@alice:x").await.unwrap();
    let found = store.find_account("@alice:x").await.unwrap().unwrap();
    assert_eq!(found.account_id, made.account_id);
}

#[tokio::test]
async fn the_last_use_never_moves_backwards() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    for (now, expected) in [(7, 7), (9, 9), (8, 9)] {
        store.touch_account(account, now).await.unwrap();
        assert_eq!(store.account_by_id(account).await.unwrap().unwrap().used_at, expected);
    }
    store.touch_account(AccountId(42), 1).await.unwrap();
}

#[tokio::test]
async fn a_removed_account_leaves_nothing_behind_and_others_alone() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    for user in ["@alice:x", "@bob:x"] {
        let mut feed = Feed::of(store, user).await;
        let phone = store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
        store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
        store.put_token(feed.account_id, phone, user.as_bytes(), b"sealed", 1).await.unwrap();
        store.create_session(feed.account_id, phone, b"{}", &[], 1, 100).await.unwrap();
        store.put_transaction_id(feed.account_id, phone, "$1", "txn", 1).await.unwrap();
        let poll = Poll {
            rooms: vec![room_with("!r:x", vec![message("$1")])],
            device: Some(to_device(phone, &["1"])),
            quarantined: vec![("odd".to_owned(), Bytes::from_static(b"{}"))],
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    let alice = store.account("@alice:x").await.unwrap().account_id;
    let tables = fresh
        .sql()
        .await
        .query("SELECT table_name::TEXT FROM information_schema.columns WHERE column_name = 'account_id'", &[])
        .await
        .unwrap();
    let rows_of = async |account: AccountId| {
        let mut filled = 0;
        for table in &tables {
            let table: &str = table.get(0);
            let of = format!("SELECT COUNT(*) FROM {table} WHERE account_id = {}", account.0);
            filled += i64::from(fresh.count(&of).await > 0);
        }
        filled
    };
    let before = rows_of(alice).await;
    assert!(before >= 10, "the test fills tables: {before}");

    for _ in 0..2 {
        store.remove_account(alice).await.unwrap();
    }

    assert_eq!(rows_of(alice).await, 0);
    let bob = store.find_account("@bob:x").await.unwrap().unwrap().account_id;
    assert_eq!(rows_of(bob).await, before);
}
