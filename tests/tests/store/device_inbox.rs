//! The inbox of a device: in order, and kept until everybody who lives has acknowledged.

mod story;

use store::{AccountId, DeviceNid, InboxSeq, SessionId, Store};

use crate::database::fresh_store;
use crate::polls::{light, to_device};

/// What the times of these tests are compared with.
const LIVE_SINCE: i64 = 1000;

/// A device with ten messages waiting.
struct Phone {
    store: Store,
    account: AccountId,
    device: DeviceNid,
}

impl Phone {
    async fn with_ten_messages() -> Self {
        let store = fresh_store().await;
        let account = store.account("@alice:x").await.unwrap().account_id;
        let device = store.device(account, "PHONE").await.unwrap().device_nid;
        let messages: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let poll = light(None, "one", to_device(device, &messages));
        assert_eq!(store.ingest_light(account, &poll).await.unwrap(), InboxSeq(10));
        Self { store, account, device }
    }

    async fn session(&self, now: i64) -> SessionId {
        let made = self
            .store
            .create_session(self.account, self.device, b"{}", &[], now, 100)
            .await
            .unwrap();
        made.session_id
    }

    async fn session_acknowledges(&self, session: SessionId, seq: i64) {
        let seq = InboxSeq(seq);
        self.store
            .acknowledge_session(self.account, self.device, session, seq, LIVE_SINCE)
            .await
            .unwrap();
    }

    /// Gives what v2 has acknowledged in all.
    async fn v2_acknowledges(&self, seq: i64) -> i64 {
        self.v2_acknowledges_at(seq, LIVE_SINCE).await
    }

    async fn v2_acknowledges_at(&self, seq: i64, now: i64) -> i64 {
        let seq = InboxSeq(seq);
        let acked =
            self.store.acknowledge_v2(self.account, self.device, seq, now, LIVE_SINCE).await;
        acked.unwrap().0
    }

    /// The number of the oldest message still held; all after it are there as well.
    async fn oldest_held(&self) -> Option<i64> {
        let page = self.store.inbox(self.account, self.device, InboxSeq(0), 99).await.unwrap();
        let seqs: Vec<i64> = page.messages.iter().map(|message| message.seq.0).collect();
        let oldest = seqs.first().copied();
        assert_eq!(seqs, (oldest.unwrap_or(11)..=10).collect::<Vec<_>>(), "a hole in the inbox");
        oldest
    }
}

#[tokio::test]
async fn pages_in_order() {
    let phone = Phone::with_ten_messages().await;
    let page = async |after, limit| {
        let page =
            phone.store.inbox(phone.account, phone.device, InboxSeq(after), limit).await.unwrap();
        let text = |message: &store::InboxMessage| String::from_utf8_lossy(&message.message).into();
        (page.messages.iter().map(text).collect::<Vec<String>>(), page.more)
    };
    assert_eq!(page(0, 3).await, (vec!["1".into(), "2".into(), "3".into()], true));
    assert_eq!(page(8, 2).await, (vec!["9".into(), "10".into()], false));
    assert_eq!(page(10, 2).await, (vec![], false));
    let nobody = phone.store.inbox(phone.account, DeviceNid(42), InboxSeq(0), 9).await.unwrap();
    assert!(nobody.messages.is_empty() && !nobody.more);
}

#[tokio::test]
async fn with_nobody_listening_nothing_goes() {
    let phone = Phone::with_ten_messages().await;
    // A session that died long ago acknowledges: it lives for nobody.
    let dead = phone.session(LIVE_SINCE - 1).await;
    phone.session_acknowledges(dead, 10).await;
    assert_eq!(phone.oldest_held().await, Some(1));
}

#[tokio::test]
async fn v2_alone_purges_what_it_acknowledged() {
    let phone = Phone::with_ten_messages().await;
    assert_eq!(phone.store.v2_acked(phone.device).await.unwrap(), None);
    phone.v2_acknowledges(4).await;
    assert_eq!(phone.oldest_held().await, Some(5));
    assert_eq!(phone.store.v2_acked(phone.device).await.unwrap(), Some(InboxSeq(4)));
    // An old since, replayed, takes nothing back.
    assert_eq!(phone.v2_acknowledges(2).await, 4);
    assert_eq!(phone.store.v2_acked(phone.device).await.unwrap(), Some(InboxSeq(4)));
    phone.v2_acknowledges(10).await;
    assert_eq!(phone.oldest_held().await, None);
    assert_eq!(phone.store.v2_acked(DeviceNid(42)).await.unwrap(), None);
}

#[tokio::test]
async fn the_slowest_live_session_holds() {
    let phone = Phone::with_ten_messages().await;
    let (first, second) = (phone.session(LIVE_SINCE).await, phone.session(LIVE_SINCE + 9).await);
    phone.session_acknowledges(first, 7).await;
    assert_eq!(phone.oldest_held().await, Some(1));
    phone.session_acknowledges(second, 3).await;
    assert_eq!(phone.oldest_held().await, Some(4));
    phone.session_acknowledges(second, 1).await;
    phone.session_acknowledges(second, 9).await;
    assert_eq!(phone.oldest_held().await, Some(8));
}

#[tokio::test]
async fn v2_is_a_session_like_the_others_once_it_has_sent_a_since() {
    let phone = Phone::with_ten_messages().await;
    let session = phone.session(LIVE_SINCE).await;
    phone.session_acknowledges(session, 5).await;
    assert_eq!(phone.oldest_held().await, Some(6));
    phone.v2_acknowledges(6).await;
    phone.session_acknowledges(session, 9).await;
    assert_eq!(phone.oldest_held().await, Some(7));
    phone.v2_acknowledges(10).await;
    assert_eq!(phone.oldest_held().await, Some(10));
}

#[tokio::test]
async fn a_dead_session_does_not_hold() {
    let phone = Phone::with_ten_messages().await;
    let dead = phone.session(LIVE_SINCE - 1).await;
    let live = phone.session(LIVE_SINCE).await;
    phone.session_acknowledges(live, 8).await;
    assert_eq!(phone.oldest_held().await, Some(9));
    // Used again, it is back; it has lost what went meanwhile.
    phone.store.touch_session(phone.account, dead, LIVE_SINCE).await.unwrap();
    phone.session_acknowledges(live, 10).await;
    assert_eq!(phone.oldest_held().await, Some(9));
}

#[tokio::test]
async fn v2_dies_like_a_session_and_comes_back() {
    let phone = Phone::with_ten_messages().await;
    phone.v2_acknowledges_at(2, LIVE_SINCE - 1).await;
    assert_eq!(phone.oldest_held().await, Some(1));
    let session = phone.session(LIVE_SINCE).await;
    phone.session_acknowledges(session, 6).await;
    assert_eq!(phone.oldest_held().await, Some(7));
    phone.v2_acknowledges_at(7, LIVE_SINCE).await;
    phone.session_acknowledges(session, 9).await;
    assert_eq!(phone.oldest_held().await, Some(8));
}

#[tokio::test]
async fn a_device_that_is_gone_has_acknowledged_what_it_says() {
    let phone = Phone::with_ten_messages().await;
    let gone = DeviceNid(42);
    let acked = phone.store.acknowledge_v2(phone.account, gone, InboxSeq(3), 1, 0).await.unwrap();
    assert_eq!(acked, InboxSeq(3));
}

#[tokio::test]
async fn another_devices_sessions_do_not_hold() {
    let phone = Phone::with_ten_messages().await;
    let laptop = phone.store.device(phone.account, "LAPTOP").await.unwrap().device_nid;
    phone.store.create_session(phone.account, laptop, b"{}", &[], LIVE_SINCE, 100).await.unwrap();
    phone.v2_acknowledges(10).await;
    assert_eq!(phone.oldest_held().await, None);
}

#[tokio::test]
async fn a_new_session_begins_with_the_oldest_still_held() {
    let phone = Phone::with_ten_messages().await;
    let made = async || {
        phone.store.create_session(phone.account, phone.device, b"{}", &[], 1, 100).await.unwrap()
    };
    assert_eq!(made().await.inbox_acked, InboxSeq(0));
    phone.v2_acknowledges(6).await;
    assert_eq!(made().await.inbox_acked, InboxSeq(6));
    phone.v2_acknowledges(10).await;
    assert_eq!(made().await.inbox_acked, InboxSeq(10));
}
