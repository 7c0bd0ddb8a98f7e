//! Everything that goes wrong between the proxy and the homeserver: nothing is lost, nothing comes twice.

use std::time::Duration;

use serde_json::json;
use tests::matchers::{messages, numbers};
use tests::scripted_homeserver::{Fault, first_sync, messages_in, nothing_new, with_to_device};
use tests::wait::eventually;

use super::ROOM;
use crate::stage::Stage;

#[tokio::test]
async fn whatever_goes_wrong_the_same_position_is_asked_for_again() {
    for fault in [
        Fault::Status(502, json!({"errcode": "M_UNKNOWN", "error": "bad gateway"})),
        Fault::Status(500, json!({"errcode": "M_UNKNOWN", "error": "internal server error"})),
        Fault::Status(404, json!("not even an error object")),
        Fault::Html,
        Fault::TruncatedJson,
        Fault::BreakOff,
    ] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
        let mut chain = alice.v2();
        chain.next().await;
        homeserver.is_polled_with("s1").await;

        homeserver.next_syncs_fail(2, &fault);
        homeserver.on_sync(Some("s1"), &with_to_device(messages_in(ROOM, "s2", &["two"]), &[1, 2]));
        homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
        // The poll that was waiting is answered now; faults are for those after it, which ask for `s2`.
        let mut texts: Vec<String> = Vec::new();
        let mut to_device = Vec::new();
        chain
            .until("the last message", |reply| {
                texts.extend(messages(reply, ROOM).iter().map(|&text| text.to_owned()));
                to_device.extend(numbers(&reply["to_device"]));
                texts.contains(&"three".to_owned()).then_some(())
            })
            .await;

        assert_eq!(homeserver.faults_left(), 0, "the faults have not happened");
        assert_eq!(texts, ["two", "three"], "after {fault:?}");
        assert_eq!(to_device, [1, 2], "after {fault:?}");
        let polled: Vec<String> = homeserver.polled().into_iter().flatten().collect();
        let again = polled.iter().filter(|since| *since == "s1" || *since == "s2").count();
        assert!(again >= 4, "two failures and two successes are four polls at least: {polled:?}");
    }
}

#[tokio::test]
async fn an_answer_in_small_pieces_is_an_answer() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.next_syncs_fail(1, &Fault::Drip);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["slowly"]));

    let reply = alice.sync().send().await.ok();

    assert_eq!(messages(&reply, ROOM), ["slowly"]);
    assert_eq!(homeserver.faults_left(), 0);
}

#[tokio::test]
async fn while_the_homeserver_is_down_waiting_clients_go_on_waiting() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    homeserver
        .next_syncs_fail(3, &Fault::Status(503, json!({"errcode": "M_UNKNOWN", "error": "down"})));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));

    let reply = chain.request().timeout(1_500).send().await.ok();
    assert!(reply["rooms"].is_null(), "{reply:#}");

    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["up again"]));
    chain.absorb(&reply);
    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["up again"]);
}

#[tokio::test]
async fn a_rate_limit_is_obeyed() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    let limit =
        json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast", "retry_after_ms": 2_000});
    homeserver.next_syncs_fail(1, &Fault::Status(429, limit));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    homeserver.is_polled_with("s2").await;
    let refused_at = std::time::Instant::now();
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["patience"]));

    chain.until("the message", |reply| (!messages(reply, ROOM).is_empty()).then_some(())).await;

    assert!(
        refused_at.elapsed() >= Duration::from_millis(1_700),
        "it asked again after {:?}",
        refused_at.elapsed()
    );
}

#[tokio::test]
async fn a5_a_token_that_ends_is_answered_in_the_homeservers_words() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    let mut session = alice.v3();
    session.ask(json!({})).await;
    let words =
        json!({"errcode": "M_UNKNOWN_TOKEN", "error": "time for a refresh", "soft_logout": true});

    let waiting = tokio::spawn(chain.request().timeout(30_000).send());
    homeserver.is_polled_with("s1").await;
    homeserver.revoke(alice, words.clone());
    // The request that waits is the first to hear of it.
    assert_eq!(waiting.await.unwrap().expect_status(401).json, words);

    assert_eq!(chain.request().send().await.expect_status(401).json, words);
    assert_eq!(session.request(&json!({})).send().await.expect_status(401).json, words);
}

#[tokio::test]
async fn b2_after_a_refresh_the_device_goes_on_where_it_was() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    homeserver.revoke(
        alice,
        json!({"errcode": "M_UNKNOWN_TOKEN", "error": "expired", "soft_logout": true}),
    );
    eventually("the token to be refused", async || {
        (chain.request().send().await.status == 401).then_some(())
    })
    .await;

    // The same device has a new token; the script makes the old name of it valid again, which is the same to the proxy.
    homeserver.device("", &alice.user_id, &alice.device_id);
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["while you were away"]));

    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["while you were away"]);
    assert_eq!(
        homeserver.polled().iter().filter(|since| since.is_none()).count(),
        1,
        "nothing was fetched twice"
    );
}
