//! What is kept for devices and accounts that nobody comes back to.

use store::{DeviceNid, InboxSeq, Poll};

use super::{DAY, PACE, horizon, round};
use crate::database::Fresh;
use crate::polls::{Feed, light, message, room_with, to_device};

struct Alice {
    fresh: Fresh,
    feed: Feed,
    phone: DeviceNid,
}

/// Alice, her phone with a token, and a to-device message of each of ten days in its inbox.
async fn alice() -> Alice {
    let fresh = Fresh::database().await;
    let mut feed = Feed::of(&fresh.store, "@alice:x").await;
    let phone = fresh.store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
    fresh.store.put_token(feed.account_id, phone, b"hash", b"sealed", 1).await.unwrap();
    fresh.store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
    for day in 1..=10 {
        feed.now = day * DAY;
        let mut sent = message(&format!("$sent-{day}"));
        sent.transaction_id = Some(format!("txn-{day}"));
        let poll = Poll {
            rooms: vec![room_with("!r:x", vec![sent])],
            device: Some(to_device(phone, &[&format!("{{\"day\":{day}}}")])),
            quarantined: vec![("why".to_owned(), "{}".into())],
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    Alice { fresh, feed, phone }
}

impl Alice {
    async fn waiting(&self) -> usize {
        let store = &self.fresh.store;
        let page = store.inbox(self.feed.account_id, self.phone, InboxSeq(0), 100).await.unwrap();
        page.messages.len()
    }
}

/// Messages that no live session holds back go at the horizon, and not before.
#[tokio::test]
async fn messages_that_nobody_comes_for_go_at_the_horizon() {
    let alice = alice().await;
    let store = &alice.fresh.store;
    for (oldest, left) in [(0, 10), (3 * DAY, 7), (3 * DAY, 7), (10 * DAY, 0)] {
        round(store, horizon(20 * DAY + oldest, oldest, 3), PACE).await;
        assert_eq!(alice.waiting().await, left, "by {oldest}");
    }
    // Numbers go on: a token from before still says what it said.
    let device = store.device_by_nid(alice.phone).await.unwrap().unwrap();
    assert_eq!(device.inbox_seq, InboxSeq(10));
}

#[tokio::test]
async fn a_live_session_holds_its_messages_however_old_they_are() {
    let alice = alice().await;
    let store = &alice.fresh.store;
    let account = alice.feed.account_id;
    store.create_session(account, alice.phone, b"{}", &[], 15 * DAY, 9).await.unwrap();
    round(store, horizon(20 * DAY, 12 * DAY, 3), PACE).await;
    assert_eq!(alice.waiting().await, 10);
    // It expires, and now v2 is the one that holds them.
    store.acknowledge_v2(account, alice.phone, InboxSeq(2), 25 * DAY, 16 * DAY).await.unwrap();
    round(store, horizon(30 * DAY, 16 * DAY, 3), PACE).await;
    assert_eq!(alice.waiting().await, 8);
    round(store, horizon(50 * DAY, 40 * DAY, 3), PACE).await;
    assert_eq!(alice.waiting().await, 0);
}

#[tokio::test]
async fn transaction_ids_and_the_quarantine_go_at_the_horizon() {
    let alice = alice().await;
    let store = &alice.fresh.store;
    round(store, horizon(20 * DAY, 4 * DAY, 3), PACE).await;
    assert_eq!(alice.fresh.count("SELECT MIN(stored_at) FROM transaction_ids").await, 5 * DAY);
    assert_eq!(store.empty_quarantine(4 * DAY, PACE).await.unwrap(), 4);
    assert_eq!(store.empty_quarantine(4 * DAY, PACE).await.unwrap(), 0);
    assert_eq!(alice.fresh.count("SELECT MIN(stored_at) FROM quarantine").await, 5 * DAY);
}

/// A device without a token is given the whole horizon to come back.
#[tokio::test]
async fn a_device_goes_when_it_has_been_without_a_token_for_long() {
    let alice = alice().await;
    let store = &alice.fresh.store;
    let account = alice.feed.account_id;
    let tablet = store.device(account, "TABLET").await.unwrap().device_nid;
    let news = light(None, "s1", to_device(tablet, &["{}"]));
    store.ingest_light(account, &news).await.unwrap();
    store.remove_tokens_of(alice.phone).await.unwrap();

    store.touch_account(account, 100 * DAY).await.unwrap();
    let at = |now: i64| horizon(now, now - 10 * DAY, 3);
    assert!(round(store, at(20 * DAY), PACE).await.devices.is_empty(), "found without a token");
    store.put_token(account, alice.phone, b"new", b"sealed", 25 * DAY).await.unwrap();
    assert!(round(store, at(25 * DAY), PACE).await.devices.is_empty());
    // The tablet has never had one; the phone has one again, and may lose it once more.
    assert_eq!(round(store, at(30 * DAY), PACE).await.devices, [tablet]);
    store.remove_tokens_of(alice.phone).await.unwrap();
    assert!(round(store, at(31 * DAY), PACE).await.devices.is_empty());
    let session =
        store.create_session(account, alice.phone, b"{}", &[], 40 * DAY, 9).await.unwrap();
    assert!(round(store, at(41 * DAY), PACE).await.devices.is_empty(), "{session:?} is live");
    let known = store.known_devices(&[alice.phone, tablet]).await.unwrap();
    assert!(known.contains(&alice.phone) && known.len() == 1);
    assert_eq!(round(store, at(60 * DAY), PACE).await.devices, [alice.phone]);
    let account = store.account_by_id(account).await.unwrap().unwrap();
    assert_eq!(account.main_device, None, "another device may take the main poll over");
    assert_eq!(alice.fresh.count("SELECT COUNT(*) FROM device_inbox").await, 0);
}

/// Nothing of it is left, and nothing of anybody else's goes.
#[tokio::test]
async fn an_account_that_nobody_comes_back_to_goes_whole() {
    let alice = alice().await;
    let store = &alice.fresh.store;
    let account = alice.feed.account_id;
    let mut bob = Feed::of(store, "@bob:x").await;
    bob.now = 100 * DAY;
    bob.rooms(vec![room_with("!r:x", vec![message("$bob")])]).await;
    store.touch_account(bob.account_id, 100 * DAY).await.unwrap();
    store.touch_account(account, 10 * DAY).await.unwrap();
    store.remove_devices(account, &[alice.phone]).await.unwrap();

    assert!(!round(store, horizon(15 * DAY, 9 * DAY, 3), PACE).await.account, "it may come back");
    assert!(round(store, horizon(30 * DAY, 20 * DAY, 3), PACE).await.account);
    assert!(store.account_by_id(account).await.unwrap().is_none());
    let retained = store.retained_from(&[account, bob.account_id]).await.unwrap();
    assert!(retained.contains_key(&bob.account_id) && retained.len() == 1);
    assert!(store.remove_remains(PACE).await.unwrap() > 10);
    for table in ["polls", "room_updates", "timeline_events", "account_rooms", "account_remains"] {
        let query = format!("SELECT COUNT(*) FROM {table} WHERE account_id = {account}");
        assert_eq!(alice.fresh.count(&query).await, 0, "{table}");
    }
    assert_eq!(alice.fresh.count("SELECT COUNT(*) FROM timeline_events").await, 1);
    assert_ne!(
        store.account("@alice:x").await.unwrap().account_id,
        account,
        "who comes begins anew"
    );
}
