//! Sync v3 sessions and every set of parameters they have had.

use std::collections::HashSet;

use store::{AccountId, DeviceNid, InboxSeq, Keep, NewSession, SessionId, Store};

use tests::wait::PATIENCE;
use tokio::task::JoinSet;

use crate::database::{Fresh, fresh_store};
use crate::polls::{light, to_device};

/// More than these tests need, and little.
const KEEP: Keep = Keep { turns: 32, bytes: i64::MAX };
const THREE: Keep = Keep { turns: 3, ..KEEP };

async fn phone(store: &Store) -> (AccountId, DeviceNid) {
    let account = store.account("@alice:x").await.unwrap().account_id;
    (account, store.device(account, "PHONE").await.unwrap().device_nid)
}

async fn session(store: &Store) -> (AccountId, DeviceNid, NewSession) {
    let (account, device) = phone(store).await;
    let made = store.create_session(account, device, b"first", &[], 100, 100).await.unwrap();
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
    let again = store.create_session(account, device, b"first", &[], 100, 100).await.unwrap();
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
    let put = async |from: i32, params: &[u8]| {
        store.put_session_params(account, made.session_id, from, params, KEEP).await.unwrap()
    };
    assert_eq!(put(1, b"first").await, Some(1));
    let second = put(1, b"second").await.unwrap();
    let third = put(second, b"third").await.unwrap();
    assert_eq!(HashSet::from([1, second, third]).len(), 3);
    assert_eq!(put(third, b"second").await, Some(second));
    assert_eq!(put(second, b"first").await, Some(1));
    let found = store.session(account, device, made.session_id, second, 0).await.unwrap().unwrap();
    assert_eq!(&found.params[..], b"second");
    let gone = store.put_session_params(account, SessionId(42), 1, b"x", KEEP).await.unwrap();
    assert_eq!(gone, None);
    assert_eq!(put(99, b"x").await, None, "from a set that is not there");
}

#[tokio::test]
async fn parameters_go_when_they_were_not_used_for_long_and_their_number_is_not_given_again() {
    let store = fresh_store().await;
    let (account, device, made) = session(&store).await;
    let put = async |from: i32, params: String| {
        let put =
            store.put_session_params(account, made.session_id, from, params.as_bytes(), THREE);
        put.await.unwrap()
    };
    let has = async |params_id: i32| {
        let found = store.session(account, device, made.session_id, params_id, 0).await.unwrap();
        found.map(|found| String::from_utf8(found.params.to_vec()).unwrap())
    };

    // A client that goes on from one token, whatever becomes of the replies.
    let mut others = Vec::new();
    for n in 0..9 {
        others.push(put(1, format!("other {n}")).await.unwrap());
    }
    assert_eq!(has(1).await.as_deref(), Some("first"), "where every change started stays");
    for (n, other) in others.iter().enumerate() {
        let expected = (n >= 6).then(|| format!("other {n}"));
        assert_eq!(has(*other).await, expected, "the last three that changes led to");
    }

    // A client that goes on from each reply.
    let mut current = 1;
    for n in 0..9 {
        let next = put(current, format!("next {n}")).await.unwrap();
        assert!(!others.contains(&next), "{next} was given before");
        others.push(next);
        current = next;
        assert_eq!(has(current).await.as_deref(), Some(format!("next {n}").as_str()));
    }
    assert_eq!(has(1).await, None);
    assert_eq!(put(1, "late".to_owned()).await, None);
    // Two sets in turns: neither ever goes.
    for _ in 0..4 {
        let one = put(current, "one".to_owned()).await.unwrap();
        current = put(one, "two".to_owned()).await.unwrap();
        assert_eq!(has(one).await.as_deref(), Some("one"));
        assert_eq!(has(current).await.as_deref(), Some("two"));
    }
}

#[tokio::test]
async fn of_large_parameters_fewer_are_kept_but_always_those_of_the_last_change() {
    let fresh = Fresh::database().await;
    let (account, _, made) = session(&fresh.store).await;
    let change = async |from: i32, params: String, bytes: i64| {
        let keep = Keep { turns: 32, bytes };
        let params = params.into_bytes();
        let put = fresh.store.put_session_params(account, made.session_id, from, &params, keep);
        put.await.unwrap()
    };
    let kept =
        async || fresh.count("SELECT SUM(OCTET_LENGTH(params))::BIGINT FROM session_params").await;
    let mut current = 1;
    for n in 0..9 {
        current = change(current, format!("{n:010}"), 55).await.unwrap();
        assert!(kept().await <= 55);
    }
    assert_eq!(kept().await, 50, "as many as fit");
    let before = current;
    current = change(current, format!("{:0100}", 10), 55).await.unwrap();
    assert_eq!(kept().await, 110, "where the change started, and where it led to");
    assert_eq!(change(before, format!("{:0100}", 10), 55).await, Some(current), "asked again");
}

#[tokio::test]
async fn many_at_once_get_one_number_for_one_set_of_parameters() {
    let fresh = Fresh::database().await;
    let (account, _, made) = session(&fresh.store).await;
    let put = |n: usize| {
        let store = fresh.store.clone();
        let params = [b'a', u8::try_from(n % 3).unwrap()];
        async move {
            store.put_session_params(account, made.session_id, 1, &params, KEEP).await.unwrap()
        }
    };
    let numbers = futures_util::future::join_all((0..12).map(put)).await;
    for (n, number) in numbers.iter().enumerate() {
        assert!(number.is_some());
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
    assert!(store.create_session(account, DeviceNid(42), b"{}", &[], 1, 100).await.is_err());
}

#[tokio::test]
async fn expired_sessions_go_and_let_go_what_they_alone_held() {
    let store = fresh_store().await;
    let (account, device, old) = session(&store).await;
    let young = store.create_session(account, device, b"first", &[], 200, 100).await.unwrap();
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

#[tokio::test]
async fn it_is_known_when_a_session_was_used_and_whether_it_was_the_last_of_its_device() {
    let store = fresh_store().await;
    let (account, device, one) = session(&store).await;
    let latest = async |made: &NewSession| {
        let found = store.session(account, device, made.session_id, 1, 0).await.unwrap().unwrap();
        (found.last_used_at, found.is_latest)
    };
    assert_eq!(latest(&one).await, (100, true));
    let tablet = store.device(account, "TABLET").await.unwrap().device_nid;
    store.create_session(account, tablet, b"first", &[], 900, 100).await.unwrap();
    assert_eq!(latest(&one).await, (100, true), "another device's session does not count");

    // In the same millisecond.
    let two = store.create_session(account, device, b"first", &[], 100, 100).await.unwrap();
    assert_eq!(latest(&one).await, (100, false));
    assert_eq!(latest(&two).await, (100, true));
    store.touch_session(account, one.session_id, 101).await.unwrap();
    assert_eq!(latest(&one).await, (101, true));
    assert_eq!(latest(&two).await, (100, false));
}

#[tokio::test]
async fn of_too_many_sessions_the_least_recently_used_go() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let (account, device) = phone(store).await;
    let tablet = store.device(account, "TABLET").await.unwrap().device_nid;
    let elsewhere =
        store.create_session(account, tablet, b"{}", &[], 1, 3).await.unwrap().session_id;
    let make = async |now| {
        store.create_session(account, device, b"{}", &[], now, 3).await.unwrap().session_id
    };
    let is_there = async |session| {
        let found = store.session(account, device, session, 1, 0).await.unwrap();
        found.is_some()
    };
    let (one, two, three) = (make(100).await, make(100).await, make(100).await);
    store.touch_session(account, one, 101).await.unwrap();

    let four = make(102).await;

    assert!(!is_there(two).await, "the oldest of those not used since");
    assert!(is_there(one).await && is_there(three).await && is_there(four).await);
    assert!(store.session(account, tablet, elsewhere, 1, 0).await.unwrap().is_some());
    let orphans = "SELECT COUNT(*) FROM session_params p
                   WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = p.session_id)";
    assert_eq!(fresh.count(orphans).await, 0);
    // Whoever is on the way with a session that has just gone changes nothing, and is told so.
    assert_eq!(store.put_session_params(account, two, 1, b"x", KEEP).await.unwrap(), None);
    store.touch_session(account, two, 103).await.unwrap();
    store.acknowledge_session(account, device, two, InboxSeq(9), 0).await.unwrap();
    assert!(!is_there(two).await);
    // With a limit of one, or of less than that, the new one is the only one.
    for most in [1, 0] {
        let only = store.create_session(account, device, b"{}", &[], 104, most).await.unwrap();
        assert!(is_there(only.session_id).await);
        let of_phone = format!("SELECT COUNT(*) FROM sessions WHERE device_nid = {}", device.0);
        assert_eq!(fresh.count(&of_phone).await, 1);
    }
}

/// What the session that goes held back is held by the one that takes its place, until that has acknowledged it.
#[tokio::test]
async fn a_session_that_makes_way_holds_nothing_any_more() {
    let store = fresh_store().await;
    let (account, device, abandoned) = session(&store).await;
    let messages = to_device(device, &[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    store.ingest_light(account, &light(None, "s1", messages)).await.unwrap();
    let live = store.create_session(account, device, b"{}", &[], 200, 2).await.unwrap();
    let acknowledge = async |made: NewSession, seq| {
        let seq = InboxSeq(seq);
        store.acknowledge_session(account, device, made.session_id, seq, 0).await.unwrap();
        store.inbox(account, device, InboxSeq(0), 9).await.unwrap().messages.len()
    };
    assert_eq!(acknowledge(live, 3).await, 3);

    let new = store.create_session(account, device, b"{}", &[], 300, 2).await.unwrap();

    let gone = store.session(account, device, abandoned.session_id, 1, 0).await.unwrap();
    assert!(gone.is_none());
    assert_eq!(new.inbox_acked, InboxSeq(0), "it begins with the oldest that is held");
    assert_eq!(acknowledge(new, 2).await, 1);
    assert_eq!(acknowledge(new, 3).await, 0);
}

/// Sessions are made, use each other up, acknowledge, change and expire, all at once and of one device.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_and_go_at_once_without_a_deadlock() {
    const MOST: i64 = 3;
    let fresh = Fresh::database().await;
    let (account, device) = phone(&fresh.store).await;
    let messages = vec!["{}"; 40];
    let poll = light(None, "1", to_device(device, &messages));
    fresh.store.ingest_light(account, &poll).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..4_i64 {
        let store = fresh.store.clone();
        tasks.spawn(async move {
            for round in 0..25_i64 {
                let now = 100 * round + task;
                let made =
                    store.create_session(account, device, b"{}", &[], now, MOST).await.unwrap();
                let session = made.session_id;
                let set = store::NewSet { set_id: b"set", purpose: 0, content: b"rooms" };
                store.put_session_sets(account, session, &[set], &[], THREE).await.unwrap();
                store.put_session_params(account, session, 1, b"more", THREE).await.unwrap();
                store.touch_session(account, session, now + 50).await.unwrap();
                let seq = InboxSeq(round);
                store.acknowledge_session(account, device, session, seq, 0).await.unwrap();
            }
        });
    }
    let store = fresh.store.clone();
    tasks.spawn(async move {
        for live_since in 0..100 {
            store.remove_expired_sessions(20 * live_since, 2).await.unwrap();
        }
    });
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();

    // One that is marked as used at the moment at which another takes its place stays until the next comes.
    fresh.store.create_session(account, device, b"{}", &[], 10_000, MOST).await.unwrap();
    assert!(fresh.count("SELECT COUNT(*) FROM sessions").await <= MOST);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(fresh.count(deadlocks).await, 0);
    // What the last sessions have not acknowledged is there.
    let lost = "SELECT COUNT(*) FROM sessions s, generate_series(1, 40) AS n
                WHERE n > s.inbox_acked AND NOT EXISTS (SELECT 1 FROM device_inbox i WHERE i.seq = n)";
    assert_eq!(fresh.count(lost).await, 0);
}
