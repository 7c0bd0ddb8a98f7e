//! One process polls for a device, whoever waits where.

use std::time::Duration;

use serde_json::json;
use tests::matchers::{messages, numbers};
use tests::scripted_homeserver::{Fault, first_sync, messages_in, with_to_device};
use tests::wait::eventually;

use super::{COUNT, in_a_long_poll, scripted};

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a_request_that_waits_at_each_replica_gets_what_one_of_them_polled() {
    let (homeserver, replicas, alice) = scripted().await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chains = Vec::new();
    for number in 0..COUNT {
        let mut chain = replicas.at(number, &alice).on_new_connections().v2();
        assert_eq!(messages(&chain.next().await, ROOM), ["one"], "at {number}");
        chains.push(chain);
    }
    homeserver.is_polled_with("s1").await;
    let waiting: Vec<_> =
        chains.iter().map(|chain| tokio::spawn(chain.request().timeout(60_000).send())).collect();

    homeserver.on_sync(Some("s1"), &with_to_device(messages_in(ROOM, "s2", &["two"]), &[7]));

    let mut lacking = Vec::new();
    for (number, request) in waiting.into_iter().enumerate() {
        let reply = request.await.unwrap().ok();
        let (texts, to_device) = (messages(&reply, ROOM), numbers(&reply["to_device"]));
        assert!(texts == ["two"] || to_device == [7], "at {number}: {reply:#}");
        chains[number].absorb(&reply);
        lacking.push((texts.is_empty(), to_device.is_empty(), number));
    }
    // What came with the same poll, a moment later. All are one device: whoever has the to-device message and asks again has
    // acknowledged it for all, so those that lack it ask first.
    lacking.sort_unstable();
    for (text, to_device, number) in lacking.into_iter().filter(|lacks| lacks.0 || lacks.1) {
        let rest = chains[number].request().timeout(60_000).send().await.ok();
        let all = (messages(&rest, ROOM).len(), numbers(&rest["to_device"]).len());
        assert_eq!(all, (usize::from(text), usize::from(to_device)), "at {number}: {rest:#}");
    }
    assert_eq!(homeserver.most_syncs_at_once(), 1, "of one device");
}

#[tokio::test]
async fn waiting_at_a_replica_that_does_not_poll_costs_the_homeserver_nothing() {
    let (homeserver, replicas, alice) = scripted().await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    replicas.at(0, &alice).sync().send().await.ok();
    let holder = replicas.holder_of(&alice.user_id).await;
    let mut chains = Vec::new();
    for number in 1..COUNT {
        let mut chain = replicas.at(holder + number, &alice).on_new_connections().v2();
        chain.next().await;
        chains.push(chain);
    }
    homeserver.is_polled_with("s1").await;
    in_a_long_poll(&homeserver).await;

    let (polls, asked) = (homeserver.polled().len(), homeserver.seen_at("/whoami").len());
    for chain in &mut chains {
        for _ in 0..3 {
            let reply = chain.request().timeout(2_000).send().await.ok();
            chain.absorb(&reply);
        }
    }

    assert_eq!(homeserver.polled().len(), polls, "{:?}", homeserver.polled());
    assert_eq!(homeserver.seen_at("/whoami").len(), asked, "the token is known to be good");
    assert_eq!(homeserver.most_syncs_at_once(), 1, "of one device");
}

#[tokio::test]
async fn a_first_poll_that_fails_is_told_at_every_replica() {
    let (homeserver, replicas, alice) = scripted().await;
    let words = json!({"errcode": "M_CONSENT_NOT_GIVEN", "error": "read this first"});
    homeserver.next_syncs_fail(1_000, &Fault::Status(403, words.clone()));
    for number in 0..COUNT {
        let client = replicas.at(number, &alice).on_new_connections();
        let request = client.sync().of_any_shape("it is the homeserver's").timeout(1_000).send();
        let reply = tokio::time::timeout(Duration::from_secs(20), request).await;
        let reply = reply.expect("it is told soon");
        assert_eq!(reply.expect_status(403).json, words, "at {number}");
    }
}

/// What the homeserver says no longer is forgotten by all.
#[tokio::test]
async fn a_refusal_ends_at_every_replica() {
    let (homeserver, replicas, alice) = scripted().await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    for number in 0..COUNT {
        replicas.at(number, &alice).sync().send().await.ok();
    }
    let words = json!({"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "too many"});
    homeserver.is_polled_with("s1").await;
    homeserver.next_syncs_fail(1, &Fault::Status(403, words));
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    homeserver.is_polled_with("s2").await;
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
    for number in 0..COUNT {
        eventually("the account to be let in again", async || {
            let reply = replicas.at(number, &alice).sync().of_any_shape("it may be refused").send();
            let reply = reply.await;
            (reply.status == 200 && messages(&reply.json, ROOM).contains(&"three")).then_some(())
        })
        .await;
    }
}
