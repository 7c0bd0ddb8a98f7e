//! Sessions that end at one replica are over at all of them, at once; and tokens that change change for all.

use std::time::Duration;

use serde_json::json;
use tests::client::{Client, Reply};
use tests::lab::Lab;
use tests::matchers::{messages, numbers};
use tests::replicas::Replicas;
use tests::scripted_homeserver::{first_sync, messages_in};
use tokio::task::JoinHandle;

use super::{COUNT, replicas, scripted};

/// How soon a request has to end that need not wait for any poll, nor for upstream's word to get old.
const AT_ONCE: Duration = Duration::from_secs(15);
const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a_logout_at_one_replica_is_heeded_by_all_at_once() {
    let lab = Lab::shared().await;
    let replicas = replicas(&lab).await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    for ends_at in 0..COUNT {
        let phone = lab.log_in_again(&alice).await;
        let waiting = waiting_everywhere(&replicas, &phone).await;

        replicas.at(ends_at, &phone).logout().await.ok();

        for number in 0..COUNT {
            let reply = replicas.at(number, &phone).sync().send().await;
            reply.refused(401, "M_UNKNOWN_TOKEN");
            replicas.at(number, &laptop).sync().send().await.ok();
        }
        for request in waiting {
            ends_with_401(request).await;
        }
    }
}

#[tokio::test]
async fn a_logout_of_all_sessions_is_heeded_by_all() {
    let lab = Lab::shared().await;
    let replicas = replicas(&lab).await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let mut waiting = waiting_everywhere(&replicas, &alice).await;
    waiting.extend(waiting_everywhere(&replicas, &laptop).await);

    replicas
        .at(1, &laptop)
        .post("/_matrix/client/v3/logout/all")
        .json(&json!({}))
        .send()
        .await
        .ok();

    for request in waiting {
        ends_with_401(request).await;
    }
    for number in 0..COUNT {
        for device in [&alice, &laptop] {
            let reply = replicas.at(number, device).sync().send().await;
            reply.refused(401, "M_UNKNOWN_TOKEN");
        }
    }
}

/// The old token dies with the login. The new one is used at another replica than the one that polls.
#[tokio::test]
async fn a_new_token_is_polled_with_wherever_its_client_brings_it() {
    let lab = Lab::shared().await;
    let replicas = replicas(&lab).await;
    let (mut alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut chain = replicas.at(0, &alice).v2();
    chain.next().await;
    let holder = replicas.holder_of(&alice.user_id).await;

    let mut to_device = Vec::new();
    for round in 0..4 {
        alice = lab.log_in_again(&alice).await;
        bob.send_to_device(&alice, "m.test", json!({"n": round})).await.ok();
        chain = chain.moved_to(&replicas.at(holder + 1 + round % 2, &alice));
        chain
            .until("the message", |reply| {
                to_device.extend(numbers(&reply["to_device"]));
                (to_device.len() > round).then_some(())
            })
            .await;
    }
    assert_eq!(to_device, [0, 1, 2, 3]);
}

/// As by retention, or by a logout that the process which polls did not hear of: it knows the device by its old number.
#[tokio::test]
async fn a_device_that_is_gone_from_the_store_is_polled_for_when_it_signs_in_again_elsewhere() {
    let (homeserver, replicas, alice) = scripted().await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.v2().next().await;
    homeserver.is_polled_with("s1").await;
    let holder = replicas.holder_of(&alice.user_id).await;
    let database = replicas.database().connect().await.unwrap();
    let gone = "UPDATE accounts SET main_device_nid = NULL; DELETE FROM devices";
    database.batch_execute(gone).await.unwrap();
    homeserver.revoke(&alice, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "logged out"}));

    let again = Client::with_token(alice.base(), &alice.user_id, &alice.device_id, "another");
    homeserver.allow(&again);
    let mut chain = replicas.at(holder + 1, &again).v2();
    chain.next().await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));

    chain.until_reply("the message", |reply| messages(reply, ROOM) == ["two"]).await;
    homeserver.is_polled_with("s2").await;
    let kept = replicas.database().count("SELECT count(*) FROM access_tokens").await;
    assert_eq!(kept, 1, "the new token is good");
}

/// A request of the device waits at each replica.
async fn waiting_everywhere(replicas: &Replicas, device: &Client) -> Vec<JoinHandle<Reply>> {
    let mut waiting = Vec::new();
    for number in 0..COUNT {
        let client = replicas.at(number, device).on_new_connections();
        let reply = client.sync().send().await.ok();
        let since = reply["next_batch"].as_str().unwrap();
        waiting.push(tokio::spawn(client.sync().since(since).timeout(90_000).send()));
    }
    waiting
}

/// The homeserver may tell that device lists have changed before the ending itself is told.
async fn ends_with_401(request: JoinHandle<Reply>) {
    let reply = tokio::time::timeout(AT_ONCE, request).await.expect("it ends at once").unwrap();
    if reply.status != 200 {
        reply.refused(401, "M_UNKNOWN_TOKEN");
    }
}
