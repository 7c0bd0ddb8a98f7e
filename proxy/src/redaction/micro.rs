//! What pruning an event costs.

use ::tests::micro::measure;
use divan::{Bencher, black_box, counter::BytesCount};

use super::*;

#[divan::bench]
fn a_message_pruned(bencher: Bencher<'_, '_>) {
    let create = br#"{"type":"m.room.create","content":{"room_version":"11"}}"#;
    let body = format!(
        r#"{{"type":"m.room.message","room_id":"!room:example.org","sender":"@bob:example.org","content":{{"msgtype":"m.text","body":"{}"}},"origin_server_ts":1699999999000,"event_id":"$event"}}"#,
        "some words ".repeat(40)
    );
    let pruned =
        || prune(Some(create), black_box(&body).as_bytes()).map_or(0, |pruned| pruned.len());
    let left = pruned();
    assert!(left > 0 && left < 200, "{left}");
    measure(bencher, BytesCount::of_str(&body), left, pruned);
}
