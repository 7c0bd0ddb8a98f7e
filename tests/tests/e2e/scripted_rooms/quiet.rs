//! What ends nobody's wait, and errors in their form.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::matchers::{joined, messages};
use tests::scripted_homeserver::{Canned, first_sync, messages_in, nothing_new};

use super::ROOM;
use crate::stage::Stage;

#[tokio::test]
async fn a43_counts_alone_end_no_wait_and_come_with_the_next_answer() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;

    let started = Instant::now();
    let waiting = tokio::spawn(chain.request().timeout(3_000).send());
    homeserver.on_sync(Some("s1"), &with_keys(nothing_new("s2")));
    homeserver.is_polled_with("s2").await;
    let mut unread = messages_in(ROOM, "s3", &[]);
    unread["rooms"]["join"][ROOM]["unread_notifications"] =
        json!({"notification_count": 3, "highlight_count": 1});
    homeserver.on_sync(Some("s2"), &with_keys(unread));
    homeserver.is_polled_with("s3").await;

    let reply = waiting.await.unwrap().ok();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(2_900), "it waited {waited:?} only: {reply:#}");
    assert_eq!(reply["device_one_time_keys_count"], json!({"signed_curve25519": 7}));
    assert_eq!(reply["device_unused_fallback_key_types"], json!(["signed_curve25519"]));

    chain.absorb(&reply);
    let mut more = messages_in(ROOM, "s4", &["two"]);
    more["rooms"]["join"][ROOM].as_object_mut().unwrap().remove("unread_notifications");
    homeserver.on_sync(Some("s3"), &with_keys(more));
    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    let unread = &joined(&reply, ROOM)["unread_notifications"];
    assert_eq!(unread, &json!({"notification_count": 3, "highlight_count": 1}));
}

#[tokio::test]
async fn a8_a_rate_limit_of_the_homeserver_says_how_long_to_wait() {
    let stage = Stage::set().await;
    let limit = json!({"errcode": "M_LIMIT_EXCEEDED", "error": "slowly", "retry_after_ms": 2_500});
    let answer = Canned::bytes(429, limit.to_string()).header("content-type", "application/json");
    stage.homeserver.on_path("/_matrix/client/v3/account/whoami", answer);

    let reply = stage.alice.sync().send().await;

    assert_eq!(reply.header_values("retry-after"), ["3"]);
    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
    let error = reply.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(error["retry_after_ms"], 2_500);
}

/// Every reply has the counts: here those of a device that has just uploaded keys.
fn with_keys(mut reply: Value) -> Value {
    reply["device_one_time_keys_count"] = json!({"signed_curve25519": 7});
    reply["device_unused_fallback_key_types"] = json!(["signed_curve25519"]);
    reply
}
