//! Sync v3 sessions and every set of parameters they have had.

use store::{AccountId, DeviceNid, InboxSeq, NewSession, SessionId, Store};

use crate::database::{Fresh, fresh_store};
use crate::polls::{light, to_device};

async fn phone(store: &Store) -> (AccountId, DeviceNid) {
    let account = store.account("@alice:x").await.unwrap().account_id;
    (account, store.device(account, "PHONE").await.unwrap().device_nid)
}

async fn session(store: &Store) -> (AccountId, DeviceNid, NewSession) {
    let (account, device) = phone(store).await;
    let made = store.create_session(account, device, b"first", 100).await.unwrap();
    (account, device, made)
}

#[tokio::test]
async fn roundtrip_session() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    assert_eq!((made.params_id, made.inbox_acked), (1, InboxSeq(0)));
    let found = store.session(account, device, made.session_id, 1, 100).await.unwrap().unwrap();
    assert_eq!((found.session_id, found.device_nid), (made.session_id, device));
    assert_eq!((found.inbox_acked, &found.params[..]), (InboxSeq(0), &b"first"[..]));
    let again = store.create_session(account, device, b"first", 100).await.unwrap();
    assert_ne!(again.session_id, made.session_id);
}

#[tokio::test]
async fn session_not_found() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    let (other, known) = (DeviceNid(device.0 + 1), made.session_id);
    for (account, device, session, params, live_since, why) in [
        (AccountId(42), device, known, 1, 100, "another account's"),
        (account, other, known, 1, 100, "another device's"),
        (account, device, SessionId(known.0 + 1), 1, 100, "unknown"),
        (account, device, known, 2, 100, "without such parameters"),
        (account, device, known, 1, 101, "expired"),
    ] {
        let found = store.session(account, device, session, params, live_since).await.unwrap();
        assert!(found.is_none(), "{why}");
    }
}

#[tokio::test]
async fn the_same_parameters_keep_their_number() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    let put = async |params: &[u8]| {
        store.put_session_params(account, made.session_id, params).await.unwrap()
    };
    assert_eq!(put(b"first").await, Some(1));
    assert_eq!(put(b"second").await, Some(2));
    assert_eq!(put(b"third").await, Some(3));
    assert_eq!(put(b"second").await, Some(2));
    let found = store.session(account, device, made.session_id, 2, 0).await.unwrap().unwrap();
    assert_eq!(&found.params[..], b"second");
    let gone = store.put_session_params(account, SessionId(42), b"x").await.unwrap();
    assert_eq!(gone, None);
}

#[tokio::test]
async fn many_at_once_get_one_number_for_one_set_of_parameters() {
    let fresh = Fresh::database().await;
    let (account, _, made) = session(&fresh.store).await;
    let put = |n: usize| {
        let store = fresh.store.clone();
        let params = [b'a', u8::try_from(n % 3).unwrap()];
        async move { store.put_session_params(account, made.session_id, &params).await.unwrap() }
    };
    let numbers = futures_util::future::join_all((0..12).map(put)).await;
    for (n, number) in numbers.iter().enumerate() {
        assert_eq!(*number, numbers[n % 3]);
    }
    assert_eq!(fresh.count("SELECT COUNT(*) FROM session_params").await, 4);
}

#[tokio::test]
async fn using_a_session_keeps_it_alive_and_time_never_runs_back() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    for now in [200, 150] {
        store.touch_session(account, made.session_id, now).await.unwrap();
        let found = store.session(account, device, made.session_id, 1, 200).await.unwrap();
        assert!(found.is_some());
    }
    store.touch_session(account, SessionId(42), 300).await.unwrap();
}

#[tokio::test]
async fn acknowledging_never_moves_back() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    for seq in [5, 3, 5] {
        let seq = InboxSeq(seq);
        store.acknowledge_session(account, device, made.session_id, seq, 0).await.unwrap();
        let found = store.session(account, device, made.session_id, 1, 0).await.unwrap().unwrap();
        assert_eq!(found.inbox_acked, InboxSeq(5));
    }
    store.acknowledge_session(account, device, SessionId(42), InboxSeq(9), 0).await.unwrap();
}

#[tokio::test]
async fn a_session_of_a_device_that_is_gone_cannot_be_made() {
    let store = fresh_store().await;
    let (account, _) = phone(&store).await;
    assert!(store.create_session(account, DeviceNid(42), b"{}", 1).await.is_err());
}

#[tokio::test]
async fn expired_sessions_go_and_let_go_what_they_alone_held() {
    let store = fresh_store().await;
    let (account, device, old) = session(&store).await;
    let young = store.create_session(account, device, b"first", 200).await.unwrap();
    store
        .ingest_light(account, &light(None, "s1", to_device(device, &[r#"{"n":1}"#])))
        .await
        .unwrap();
    let (acked, dead) = (InboxSeq(1), 0);
    store.acknowledge_session(account, device, young.session_id, acked, dead).await.unwrap();
    let held = store.inbox(account, device, InboxSeq(0), 10).await.unwrap();
    assert_eq!(held.messages.len(), 1, "the old session holds it");

    assert_eq!(store.remove_expired_sessions(200, 10).await.unwrap(), 1);

    let held = store.inbox(account, device, InboxSeq(0), 10).await.unwrap();
    assert!(held.messages.is_empty());
    assert!(store.session(account, device, old.session_id, 1, 0).await.unwrap().is_none());
    assert!(store.session(account, device, young.session_id, 1, 0).await.unwrap().is_some());
    assert_eq!(store.remove_expired_sessions(200, 10).await.unwrap(), 0);
}
