//! Where devices stand, as those hear of it who do not poll for them.

use store::{DeviceNid, InboxSeq, Position};

use crate::database::fresh_store;
use crate::polls::{Feed, light, message, room_with, to_device};

#[tokio::test]
async fn roundtrip_standings() {
    let store = fresh_store().await;
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room_with("!a:x", vec![message("$1")])]).await;
    let account = store.account("@alice:x").await.unwrap();
    let laptop = store.device(account.account_id, "LAPTOP").await.unwrap().device_nid;
    let messages = to_device(laptop, &["{}", "{}"]);
    store.ingest_light(account.account_id, &light(None, "one", messages)).await.unwrap();
    let quiet = store.device(account.account_id, "QUIET").await.unwrap().device_nid;
    store.acknowledge_v2(account.account_id, laptop, InboxSeq(1), 7, 0).await.unwrap();

    let mut standings = store.standings(&[laptop, quiet, DeviceNid(4711)]).await.unwrap();
    standings.sort_by_key(|standing| standing.device_nid);
    let [of_laptop, of_quiet] = &standings[..] else { panic!("{standings:?}") };
    assert_eq!((of_laptop.device_nid, of_quiet.device_nid), (laptop, quiet));
    for standing in [of_laptop, of_quiet] {
        assert_eq!(standing.account_id, account.account_id);
        assert_eq!(standing.pos, account.pos);
        assert_eq!(standing.main_device, account.main_device);
        assert_eq!(standing.retained_from, account.retained_from);
        assert_eq!(standing.replica, None);
    }
    assert!(account.pos > Position(0));
    assert_eq!((of_laptop.inbox_seq, of_quiet.inbox_seq), (InboxSeq(2), InboxSeq(0)));
    assert_eq!((of_laptop.v2_acked, of_quiet.v2_acked), (Some(InboxSeq(1)), None));
    assert_eq!(&of_quiet.one_time_keys_count[..], b"{}");
    assert_eq!(&of_quiet.unused_fallback_key_types[..], b"[]");
}

#[tokio::test]
async fn standings_not_found() {
    let store = fresh_store().await;
    assert!(store.standings(&[DeviceNid(1)]).await.unwrap().is_empty());
    assert!(store.standings(&[]).await.unwrap().is_empty());
}
