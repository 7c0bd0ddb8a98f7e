//! Devices, their key counts, and what goes with them.

use store::{DeviceNid, InboxSeq, Poll};

use crate::database::{Fresh, fresh_store};
use crate::polls::{Feed, light, message, room_with, to_device};

#[tokio::test]
async fn roundtrip_device() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let device = store.device(account, "PHONE").await.unwrap();
    assert_eq!(device.device_id, "PHONE");
    assert_eq!(device.account_id, account);
    assert_eq!(device.upstream_since, None);
    assert_eq!(device.inbox_seq, InboxSeq(0));
    assert_eq!(&device.one_time_keys_count[..], b"{}");
    assert_eq!(&device.unused_fallback_key_types[..], b"[]");
    let found = store.device_by_nid(device.device_nid).await.unwrap().unwrap();
    assert_eq!(found.device_id, "PHONE");
}

#[tokio::test]
async fn device_is_idempotent() {
    let store = fresh_store().await;
    let alice = store.account("@alice:x").await.unwrap().account_id;
    let bob = store.account("@bob:x").await.unwrap().account_id;
    let first = store.device(alice, "PHONE").await.unwrap().device_nid;
    assert_eq!(store.device(alice, "PHONE").await.unwrap().device_nid, first);
    // A device ID means something only together with its user.
    assert_ne!(store.device(bob, "PHONE").await.unwrap().device_nid, first);
    assert_eq!(store.device_nids(alice).await.unwrap(), [first]);
}

#[tokio::test]
async fn device_not_found() {
    let store = fresh_store().await;
    let nobody = store.account("@nobody:x").await.unwrap().account_id;
    assert!(store.device_by_nid(DeviceNid(42)).await.unwrap().is_none());
    assert!(store.device_nids(nobody).await.unwrap().is_empty());
}

#[tokio::test]
async fn forgetting_the_light_position_begins_without_a_since() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    store.ingest_light(account, &light(None, "one", to_device(phone, &[]))).await.unwrap();
    for _ in 0..2 {
        store.forget_light_since(phone).await.unwrap();
        assert_eq!(store.device_by_nid(phone).await.unwrap().unwrap().upstream_since, None);
    }
}

#[tokio::test]
async fn key_counts_are_replaced() {
    let store = fresh_store().await;
    let account = store.account("@alice:x").await.unwrap().account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    for counts in [r#"{"signed_curve25519":50}"#, r#"{"signed_curve25519":49}"#] {
        store.put_key_counts(phone, &counts.into()).await.unwrap();
        let device = store.device_by_nid(phone).await.unwrap().unwrap();
        assert_eq!(&device.one_time_keys_count[..], counts.as_bytes());
    }
    // A device that has just been logged out.
    store.put_key_counts(DeviceNid(42), &"{}".into()).await.unwrap();
}

#[tokio::test]
async fn a_removed_device_leaves_nothing_behind() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let mut feed = Feed::of(store, "@alice:x").await;
    let account = feed.account_id;
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    let laptop = store.device(account, "LAPTOP").await.unwrap().device_nid;
    store.claim_main_poll(account, None, phone).await.unwrap();
    store.put_token(account, phone, b"hash", b"sealed", 1).await.unwrap();
    store.create_session(account, phone, b"{}", &[], 1, 100).await.unwrap();
    let mut sent = message("$sent");
    sent.transaction_id = Some("txn".to_owned());
    let poll = Poll {
        rooms: vec![room_with("!r:x", vec![sent])],
        device: Some(to_device(phone, &["1", "2"])),
        ..feed.next()
    };
    feed.store(&poll).await.unwrap();

    for _ in 0..2 {
        store.remove_devices(account, &[phone]).await.unwrap();
        assert_eq!(store.device_nids(account).await.unwrap(), [laptop]);
    }

    assert_eq!(store.account_by_id(account).await.unwrap().unwrap().main_device, None);
    assert!(store.token(b"hash").await.unwrap().is_none());
    for table in ["device_inbox", "transaction_ids", "sessions", "session_params"] {
        assert_eq!(fresh.count(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    store.remove_devices(account, &[]).await.unwrap();
    assert_eq!(store.device_nids(account).await.unwrap(), [laptop]);
}

#[tokio::test]
async fn devices_are_found_by_their_ids() {
    let store = fresh_store().await;
    let alice = store.account("@alice:x").await.unwrap().account_id;
    let bob = store.account("@bob:x").await.unwrap().account_id;
    let phone = store.device(alice, "PHONE").await.unwrap().device_nid;
    let laptop = store.device(alice, "LAPTOP").await.unwrap().device_nid;
    store.device(bob, "PHONE").await.unwrap();
    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(store.device_nids_of(alice, &ids(&["PHONE", "NONE"])).await.unwrap(), [phone]);
    let both = store.device_nids_of(alice, &ids(&["LAPTOP", "PHONE"])).await.unwrap();
    assert_eq!(both, [phone, laptop]);
    assert!(store.device_nids_of(alice, &[]).await.unwrap().is_empty());
}
