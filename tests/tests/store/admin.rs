//! What an operator sees of accounts, devices and sessions, and how sessions and streams are ended by hand.

use store::{AccountId, DeviceNid, Error, InboxSeq, Keep, NewSet, Position, SessionId, Store};

use crate::database::{Fresh, fresh_store};
use crate::polls::{Feed, light, room, to_device};

/// What the times of these tests are compared with.
const LIVE_SINCE: i64 = 1000;

/// Alice's phone: it runs the main poll, has a token, and ten messages waiting.
struct Phone {
    store: Store,
    account: AccountId,
    device: DeviceNid,
}

impl Phone {
    async fn on(store: Store) -> Self {
        let mut feed = Feed::of(&store, "@alice:x").await;
        feed.now = 9;
        let account = feed.account_id;
        let device = store.device(account, "PHONE").await.unwrap().device_nid;
        store.claim_main_poll(account, None, device).await.unwrap();
        store.put_token(account, device, b"hash", b"sealed", 7).await.unwrap();
        let messages: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let poll = store::Poll {
            rooms: vec![room("!a:x"), room("!b:x")],
            device: Some(to_device(device, &messages)),
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
        Self { store, account, device }
    }

    async fn session(&self, params: &[u8]) -> SessionId {
        let made =
            self.store.create_session(self.account, self.device, params, &[], LIVE_SINCE, 100);
        made.await.unwrap().session_id
    }

    async fn kept(&self) -> usize {
        let page = self.store.inbox(self.account, self.device, InboxSeq(0), 99).await.unwrap();
        page.messages.len()
    }
}

#[tokio::test]
async fn accounts_come_in_pages_and_by_name() {
    let store = fresh_store().await;
    let phone = Phone::on(store.clone()).await;
    store.touch_account(phone.account, 5).await.unwrap();
    for user in ["@carol:x", "@bob:x"] {
        store.account(user).await.unwrap();
    }

    let users = async |after: &str, limit| -> Vec<String> {
        let page = store.account_statuses(after, limit).await.unwrap();
        page.into_iter().map(|account| account.user_id).collect()
    };
    assert_eq!(users("", 2).await, ["@alice:x", "@bob:x"]);
    assert_eq!(users("@bob:x", 2).await, ["@carol:x"]);
    assert!(users("@carol:x", 2).await.is_empty());

    let alice = store.account_status("@alice:x").await.unwrap().unwrap();
    assert_eq!(store.account_statuses("", 1).await.unwrap(), std::slice::from_ref(&alice));
    assert_eq!((alice.pos, alice.joined_rooms, alice.devices), (Position(1), 2, 1));
    assert_eq!((alice.main_device.as_deref(), alice.used_at), (Some("PHONE"), Some(5)));
    assert!(alice.has_upstream_since);
    assert_eq!(alice.stored_at, Some(9));
    let bob = store.account_status("@bob:x").await.unwrap().unwrap();
    assert_eq!((bob.pos, bob.joined_rooms, bob.used_at), (Position(0), 0, None));
    assert_eq!(bob.stored_at, None, "nothing was");
    assert!(!bob.has_upstream_since && bob.main_device.is_none());
    assert!(store.account_status("@dora:x").await.unwrap().is_none());
}

#[tokio::test]
async fn devices_and_sessions_show_their_lag() {
    let phone = Phone::on(fresh_store().await).await;
    let (store, account) = (&phone.store, phone.account);
    store.device(account, "DESK").await.unwrap();
    let ahead = phone.session(b"{}").await;
    let behind = phone.session(b"{\"a\":{}}").await;
    let keep = Keep { turns: 32, bytes: 1 << 20 };
    let set = NewSet { set_id: b"set", purpose: 0, content: b"rooms" };
    store.put_session_sets(account, behind, &[set], &[], keep).await.unwrap();
    let acknowledge = store.acknowledge_session(account, phone.device, ahead, InboxSeq(10), 0);
    acknowledge.await.unwrap();
    store.acknowledge_v2(account, phone.device, InboxSeq(4), LIVE_SINCE, 0).await.unwrap();

    let devices = store.device_statuses(account).await.unwrap();
    let seen: Vec<_> = devices
        .iter()
        .map(|it| (&*it.device_id, it.is_main, it.token_used_at, it.sessions, it.v2, it.inbox))
        .collect();
    let desk = ("DESK", false, None, 0, false, 0);
    assert_eq!(seen, [desk, ("PHONE", true, Some(7), 2, true, 10)]);
    assert_eq!(devices[1].inbox_seq, InboxSeq(10));

    let sessions = store.session_statuses(account, None).await.unwrap();
    let seen: Vec<_> = sessions
        .iter()
        .map(|it| (it.session_id, it.inbox_acked.0, it.lag, it.bytes, it.last_used_at))
        .collect();
    let v2 = (None, 4, 6, 0, LIVE_SINCE);
    let (ahead, behind) = ((Some(ahead), 10, 0, 2), (Some(behind), 0, 10, 13));
    let used = |it: (Option<SessionId>, i64, i64, i64)| (it.0, it.1, it.2, it.3, LIVE_SINCE);
    assert_eq!(seen, [v2, used(ahead), used(behind)]);
    assert_eq!(store.session_statuses(account, Some("PHONE")).await.unwrap(), sessions);
    assert!(store.session_statuses(account, Some("DESK")).await.unwrap().is_empty());
    assert!(store.session_statuses(AccountId(42), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dropped_session_holds_nothing_back() {
    let phone = Phone::on(fresh_store().await).await;
    let (store, account) = (&phone.store, phone.account);
    let (ahead, behind) = (phone.session(b"{}").await, phone.session(b"{}").await);
    store.acknowledge_session(account, phone.device, ahead, InboxSeq(8), 0).await.unwrap();
    assert_eq!(phone.kept().await, 10);

    let bob = store.account("@bob:x").await.unwrap().account_id;
    assert!(!store.drop_session(bob, behind, LIVE_SINCE).await.unwrap(), "another user's");
    assert!(store.drop_session(account, behind, LIVE_SINCE).await.unwrap());
    assert!(!store.drop_session(account, behind, LIVE_SINCE).await.unwrap());

    assert_eq!(phone.kept().await, 2);
    let gone = store.session(account, phone.device, behind, 1, 0).await.unwrap();
    assert!(gone.is_none());
    // The last one: there is nobody who has acknowledged the rest.
    assert!(store.drop_session(account, ahead, LIVE_SINCE).await.unwrap());
    assert_eq!(phone.kept().await, 2);
}

#[tokio::test]
async fn v2_holds_nothing_back_until_its_next_since() {
    let phone = Phone::on(fresh_store().await).await;
    let (store, account) = (&phone.store, phone.account);
    let session = phone.session(b"{}").await;
    store.acknowledge_v2(account, phone.device, InboxSeq(2), LIVE_SINCE, 0).await.unwrap();
    store.acknowledge_session(account, phone.device, session, InboxSeq(7), 0).await.unwrap();
    assert_eq!(phone.kept().await, 8);

    assert!(!store.drop_v2(account, "DESK", LIVE_SINCE).await.unwrap());
    assert!(store.drop_v2(account, "PHONE", LIVE_SINCE).await.unwrap());
    assert!(!store.drop_v2(account, "PHONE", LIVE_SINCE).await.unwrap());

    assert_eq!(phone.kept().await, 3);
    store.acknowledge_v2(account, phone.device, InboxSeq(9), LIVE_SINCE, 0).await.unwrap();
    store.acknowledge_session(account, phone.device, session, InboxSeq(10), 0).await.unwrap();
    assert_eq!(phone.kept().await, 1, "it is a session again");
}

#[tokio::test]
async fn a_resync_fences_the_poll_under_way_and_leaves_the_main_poll_to_be_claimed() {
    let phone = Phone::on(fresh_store().await).await;
    let (store, account) = (&phone.store, phone.account);
    let mut feed = Feed::of(store, "@alice:x").await;
    let stood = store.account_by_id(account).await.unwrap().unwrap();
    let under_way = store::Poll { rooms: vec![room("!a:x")], ..feed.next() };

    for _ in 0..2 {
        store.resync(account).await.unwrap();
        let now = store.account_by_id(account).await.unwrap().unwrap();
        assert_eq!((now.upstream_since, now.main_device, now.pos), (None, None, stood.pos));
        let device = store.device_by_nid(phone.device).await.unwrap().unwrap();
        assert_eq!(device.upstream_since, stood.upstream_since, "its inbox goes on from there");
    }

    assert!(matches!(feed.store(&under_way).await, Err(Error::Fenced { .. })));
    let since = stood.upstream_since.as_deref();
    let drained = light(since, "drained", to_device(phone.device, &["11"]));
    assert_eq!(store.ingest_light(account, &drained).await.unwrap(), InboxSeq(11));
    assert!(store.claim_main_poll(account, None, phone.device).await.unwrap());
    let mut feed = Feed::of(store, "@alice:x").await;
    assert_eq!(feed.rooms(vec![room("!a:x")]).await, Position(stood.pos.0 + 1));
    store.resync(AccountId(42)).await.unwrap();
}

#[tokio::test]
async fn another_schema_is_refused() {
    let empty = Fresh::unmigrated().await;
    let refused = empty.store.require_schema().await;
    assert!(matches!(refused, Err(Error::OutdatedSchema { found: 0, .. })), "{refused:?}");

    let fresh = Fresh::database().await;
    fresh.store.require_schema().await.unwrap();
    let future = "UPDATE refinery_schema_history SET version = 9999 WHERE version = 1";
    fresh.sql().await.batch_execute(future).await.unwrap();
    let refused = fresh.store.require_schema().await;
    assert!(matches!(refused, Err(Error::UnsupportedSchema { found: 9999, .. })), "{refused:?}");
}
