//! How large tables are, and what happens in the store, as those who watch are told.

use std::sync::{Arc, Mutex};

use store::Observation;
use tests::wait::eventually;

use crate::database::fresh_store;
use crate::polls::{light, to_device};

#[tokio::test]
async fn every_table_has_a_size() {
    let store = fresh_store().await;
    let sizes = store.table_sizes().await.unwrap();
    for table in ["accounts", "device_inbox", "event_bodies", "sessions", "timeline_events"] {
        let size = sizes.iter().find(|size| size.table == table);
        assert!(size.is_some_and(|size| size.bytes > 0 && size.rows >= 0), "{table}: {size:?}");
    }
    assert!(sizes.is_sorted_by_key(|size| &size.table), "by name");
}

#[tokio::test]
async fn the_backlog_is_what_no_client_has_acknowledged() {
    let store = fresh_store().await;
    assert_eq!(store.inbox_backlog().await.unwrap(), 0);
    let account = store.account("@alice:x").await.unwrap().account_id;
    let device = store.device(account, "PHONE").await.unwrap().device_nid;
    let poll = light(None, "one", to_device(device, &["1", "2", "3"]));
    store.ingest_light(account, &poll).await.unwrap();
    // The server counts behind.
    let counted = async || (store.inbox_backlog().await.unwrap() == 3).then_some(());
    eventually("the backlog to be counted", counted).await;
}

#[tokio::test]
async fn what_happens_is_told() {
    let store = fresh_store().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    store.observe(move |observation| listener.lock().unwrap().push(observation));
    store.room_nids(&["!nowhere:x"]).await.unwrap();
    let told = told.lock().unwrap();
    assert!(
        matches!(
            told[..],
            [
                Observation::RoomIds { found: 0, missing: 1 },
                Observation::Connection { got: true, .. },
                Observation::RoundTrip,
                Observation::Statement { failed: false, .. },
            ]
        ),
        "{told:?}"
    );
    let pool = store.pool_use();
    assert!(pool.most >= 1 && pool.open >= 1 && pool.waiting == 0, "{pool:?}");
}
