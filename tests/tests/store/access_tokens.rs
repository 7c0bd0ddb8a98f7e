//! Access tokens: kept sealed, found by hash, the latest of each device.

use store::{AccountId, DeviceNid, Store};

use crate::database::fresh_store;

async fn device(store: &Store, user_id: &str, device_id: &str) -> (AccountId, DeviceNid) {
    let account = store.account(user_id).await.unwrap().account_id;
    (account, store.device(account, device_id).await.unwrap().device_nid)
}

#[tokio::test]
async fn roundtrip_token() {
    let store = fresh_store().await;
    let (account, phone) = device(&store, "@alice:x", "PHONE").await;
    store.put_token(account, phone, b"hash", b"sealed", 7).await.unwrap();
    let token = store.token(b"hash").await.unwrap().unwrap();
    assert_eq!(token.token_hash, b"hash");
    assert_eq!(token.sealed, b"sealed");
    assert_eq!(token.user_id, "@alice:x");
    assert_eq!(token.device_id, "PHONE");
    assert_eq!((token.account_id, token.device_nid), (account, phone));
    let sealed = store.any_sealed_token().await.unwrap();
    assert_eq!(sealed, Some((b"hash".to_vec(), b"sealed".to_vec())));
}

#[tokio::test]
async fn token_not_found() {
    let store = fresh_store().await;
    assert!(store.token(b"hash").await.unwrap().is_none());
    assert!(store.any_sealed_token().await.unwrap().is_none());
    assert!(store.latest_tokens(&[store::AccountId(1)]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_put_again_is_replaced() {
    let store = fresh_store().await;
    let (account, phone) = device(&store, "@alice:x", "PHONE").await;
    store.put_token(account, phone, b"hash", b"old", 7).await.unwrap();
    store.put_token(account, phone, b"hash", b"new", 8).await.unwrap();
    assert_eq!(store.token(b"hash").await.unwrap().unwrap().sealed, b"new");
    assert_eq!(store.latest_tokens(&[account]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn remove_token_is_idempotent() {
    let store = fresh_store().await;
    let (account, phone) = device(&store, "@alice:x", "PHONE").await;
    store.put_token(account, phone, b"hash", b"sealed", 7).await.unwrap();
    for _ in 0..2 {
        store.remove_token(b"hash").await.unwrap();
        assert!(store.token(b"hash").await.unwrap().is_none());
    }
    assert!(store.device_by_nid(phone).await.unwrap().is_some());
}

#[tokio::test]
async fn the_latest_token_of_each_device_main_devices_first() {
    let store = fresh_store().await;
    let (alice, phone) = device(&store, "@alice:x", "PHONE").await;
    let (_, laptop) = device(&store, "@alice:x", "LAPTOP").await;
    let (bob, tablet) = device(&store, "@bob:x", "TABLET").await;
    store.put_token(alice, phone, b"phone-old", b"s", 1).await.unwrap();
    store.put_token(alice, phone, b"phone-new", b"s", 2).await.unwrap();
    store.put_token(alice, laptop, b"laptop", b"s", 9).await.unwrap();
    // Used in the same millisecond: still one.
    store.put_token(bob, tablet, b"tablet-a", b"s", 3).await.unwrap();
    store.put_token(bob, tablet, b"tablet-b", b"s", 3).await.unwrap();
    store.claim_main_poll(alice, None, laptop).await.unwrap();

    let (carol, watch) = device(&store, "@carol:x", "WATCH").await;
    store.put_token(carol, watch, b"not asked for", b"s", 3).await.unwrap();

    let latest = store.latest_tokens(&[alice, bob]).await.unwrap();
    let hashes: Vec<&[u8]> = latest.iter().map(|token| &token.token_hash[..]).collect();
    assert_eq!(hashes, [b"laptop", &b"phone-new"[..], b"tablet-b"]);
    for (device, expected) in [(phone, &b"phone-new"[..]), (tablet, b"tablet-b")] {
        let latest = store.latest_token_of(device).await.unwrap().unwrap();
        assert_eq!((latest.device_nid, &latest.token_hash[..]), (device, expected));
    }
    assert!(store.latest_token_of(DeviceNid(4711)).await.unwrap().is_none());
}

#[tokio::test]
async fn all_tokens_of_a_device_go_and_no_other() {
    let store = fresh_store().await;
    let (alice, phone) = device(&store, "@alice:x", "PHONE").await;
    let (_, laptop) = device(&store, "@alice:x", "LAPTOP").await;
    store.put_token(alice, phone, b"one", b"s", 1).await.unwrap();
    store.put_token(alice, phone, b"two", b"s", 2).await.unwrap();
    store.put_token(alice, laptop, b"laptop", b"s", 1).await.unwrap();
    for _ in 0..2 {
        store.remove_tokens_of(phone).await.unwrap();
        assert_eq!(store.latest_tokens(&[alice]).await.unwrap().len(), 1);
    }
    assert!(store.token(b"laptop").await.unwrap().is_some());
    assert!(store.device_by_nid(phone).await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_goes_when_it_is_old_and_its_device_has_a_newer_one() {
    let store = fresh_store().await;
    let (alice, phone) = device(&store, "@alice:x", "PHONE").await;
    let (_, laptop) = device(&store, "@alice:x", "LAPTOP").await;
    store.put_token(alice, phone, b"rotated", b"s", 1).await.unwrap();
    store.put_token(alice, phone, b"recent", b"s", 6).await.unwrap();
    store.put_token(alice, phone, b"newest", b"s", 9).await.unwrap();
    store.put_token(alice, laptop, b"the only one", b"s", 1).await.unwrap();

    assert_eq!(store.remove_superseded_tokens(5).await.unwrap(), 1);

    assert!(store.token(b"rotated").await.unwrap().is_none());
    for kept in [&b"recent"[..], b"newest", b"the only one"] {
        assert!(store.token(kept).await.unwrap().is_some());
    }
    assert_eq!(store.remove_superseded_tokens(5).await.unwrap(), 0);
}
