//! Clients that synced with the homeserver itself come with its tokens, and go on where they were.

use std::time::Duration;

use serde_json::json;
use tests::chain::Chain;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, joined, messages, numbers, rooms_in};
use tests::scripted_homeserver::{Canned, Gate, first_sync, messages_in, nothing_new};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// Presence comes and goes on its own; these tests count what else there is.
fn quiet(client: &Client) -> Chain {
    client.v2().filtered(json!({"presence": {"types": []}}))
}

#[tokio::test]
async fn c10_a_client_comes_over_from_the_homeserver_and_misses_nothing() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let direct = lab.past_proxy(&alice);
    let (room, silent) = (direct.create_public_room().await, direct.create_public_room().await);
    bob.join(&room).await.ok();
    bob.send(&room, "known").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    // What came with the last direct answer is acknowledged only by the request that carries its token.
    let mut chain = quiet(&direct);
    let mut known = Vec::new();
    chain
        .until("the message of before", |reply| {
            known.extend(numbers(&reply["to_device"]));
            (!known.is_empty()).then_some(())
        })
        .await;
    bob.send(&room, "missed").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 2})).await.ok();

    let mut chain = chain.moved_to(&alice);
    let reply = chain.next().await;
    assert_eq!(messages(&reply, &room), ["missed"], "{reply:#}");
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
    assert!(events(&joined(&reply, &room)["state"]).is_empty(), "{reply:#}");
    assert_eq!(rooms_in(&reply, "join"), [room.as_str()], "nothing else is new: {reply:#}");
    assert_eq!(numbers(&reply["to_device"]), [2], "what the client has does not come again");
    assert!(chain.since().starts_with("v2_"), "{}", chain.since());

    bob.send(&room, "onwards").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 3})).await.ok();
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    chain
        .until("what came after", |reply| {
            texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
            to_device.extend(numbers(&reply["to_device"]));
            (!texts.is_empty() && !to_device.is_empty()).then_some(())
        })
        .await;
    assert_eq!((texts, to_device), (vec!["onwards".to_owned()], vec![3]));

    let whole = alice.sync().send().await.ok();
    assert!(joined(&whole, &silent).is_object(), "the account is whole: {whole:#}");
    assert_eq!(messages(&whole, &room), ["known", "missed", "onwards"]);
}

#[tokio::test]
async fn c10_a_second_device_comes_over_to_an_account_that_is_known() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.sync().send().await.ok();
    bob.send_to_device(&laptop, "m.test", json!({"n": 1})).await.ok();
    let mut chain = quiet(&lab.past_proxy(&laptop));
    chain
        .until_reply("the message of before", |reply| !numbers(&reply["to_device"]).is_empty())
        .await;
    bob.send(&room, "missed").await;
    bob.send_to_device(&laptop, "m.test", json!({"n": 2})).await.ok();

    let mut chain = chain.moved_to(&laptop);
    let reply = chain.next().await;

    assert_eq!(messages(&reply, &room), ["missed"], "{reply:#}");
    assert_eq!(numbers(&reply["to_device"]), [2]);
    let reply = chain.next().await;
    assert!(reply["rooms"].is_null() && reply["to_device"].is_null(), "{reply:#}");
}

#[tokio::test]
async fn c10_a_client_that_went_past_the_proxy_for_a_while_comes_back() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.sync().send().await.ok();
    let mut chain = quiet(&lab.past_proxy(&alice));
    chain.next().await;
    bob.send(&room, "missed").await;

    let mut chain = chain.moved_to(&alice);
    let reply = chain.next().await;
    assert_eq!(messages(&reply, &room), ["missed"], "{reply:#}");
    bob.send(&room, "onwards").await;
    let reply = chain.until_reply("the message", |reply| !messages(reply, &room).is_empty()).await;
    assert_eq!(messages(&reply, &room), ["onwards"]);
}

#[tokio::test]
async fn a12_a_token_that_the_homeserver_refuses_begins_anew() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;

    for since in ["garbage", "s1", "s_not_numbers_at_all"] {
        let reply = alice.sync().since(since).send().await.ok();
        assert!(joined(&reply, &room).is_object(), "since={since}: {reply:#}");
    }
}

/// The homeserver's answer to the client and a poll overlap: what is in both comes once.
#[tokio::test]
async fn c10_what_arrives_while_a_client_comes_over_comes_once() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["known", "missed"]));
    homeserver.on_sync(Some("theirs"), &nothing_new("ignored"));
    let gate = Gate::closed();
    let answer = messages_in(ROOM, "s2", &["missed", "in both"]).to_string();
    let (begin, end) = answer.split_at(10);
    homeserver.on_path(
        "/_matrix/client/v3/sync?since=theirs",
        Canned::bytes(200, begin.to_owned()).then(end.to_owned()).held_by(&gate),
    );

    let asking = tokio::spawn(alice.sync().since("theirs").send());
    eventually("the client's own question", async || {
        (!homeserver.seen_at("/sync?since=theirs").is_empty()).then_some(())
    })
    .await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));
    homeserver.is_polled_with("s2").await;
    gate.open();

    let reply = asking.await.unwrap().ok();
    assert_eq!(messages(&reply, ROOM), ["missed"]);
    let mut chain = alice.v2();
    chain.absorb(&reply);
    assert_eq!(messages(&chain.next().await, ROOM), ["in both"]);
}

/// While polls lag behind it cannot be said what comes again with them: the client comes again instead.
#[tokio::test]
async fn a_client_that_comes_over_while_no_poll_succeeds_gets_nothing_twice() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["known"]));
    alice.sync().send().await.ok();
    homeserver.is_polled_with("s1").await;
    let polls = homeserver.hold_syncs();
    alice.set_account_data("com.example", &json!({})).await.ok();
    // This one waits for the write in vain, and others do not wait after it.
    alice.sync().send().await.ok();
    let answer = messages_in(ROOM, "s2", &["missed", "in both"]);
    homeserver.on_path("/_matrix/client/v3/sync?since=theirs", Canned::json(&answer));

    let reply = alice.sync().since("theirs").send().await;
    assert_eq!(reply.status, 504, "{}", reply.body_text());
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));
    polls.open();
    homeserver.is_polled_with("s2").await;

    let reply = alice.sync().since("theirs").send().await.ok();
    assert_eq!(messages(&reply, ROOM), ["missed", "in both"]);
    let mut chain = alice.v2();
    chain.absorb(&reply);
    assert!(messages(&chain.next().await, ROOM).is_empty());
}

/// One whose polls take longer than a sync waits for its writes as a rule.
#[tokio::test]
async fn a_client_comes_over_from_a_slow_homeserver() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["known"]));
    alice.sync().send().await.ok();
    homeserver.is_polled_with("s1").await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));
    // The poll that was under way has brought it before the sync can have that one given up.
    homeserver.is_polled_with("s2").await;
    let polls = homeserver.hold_syncs();
    alice.set_account_data("com.example", &json!({})).await.ok();
    let answer = messages_in(ROOM, "s2", &["missed", "in both"]);
    homeserver.on_path("/_matrix/client/v3/sync?since=theirs", Canned::json(&answer));

    let coming = tokio::spawn(alice.sync().since("theirs").send());
    // Two waits of five seconds would be over.
    tokio::time::sleep(Duration::from_secs(12)).await;
    polls.open();

    let reply = coming.await.unwrap().ok();
    assert_eq!(messages(&reply, ROOM), ["missed", "in both"]);
    let mut chain = alice.v2();
    chain.absorb(&reply);
    assert!(messages(&chain.next().await, ROOM).is_empty());
}

/// A homeserver that is away for a moment must not make the client begin anew.
#[tokio::test]
async fn c10_while_the_homeserver_is_away_its_token_is_kept() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["known"]));
    alice.sync().send().await.ok();
    homeserver.on_path(
        "/_matrix/client/v3/sync?since=theirs",
        Canned::bytes(503, r#"{"errcode":"M_UNKNOWN","error":"away"}"#),
    );

    assert_eq!(alice.sync().since("theirs").send().await.status, 502);

    let back = messages_in(ROOM, "s2", &["missed"]);
    homeserver.on_path("/_matrix/client/v3/sync?since=theirs", Canned::json(&back));
    assert_eq!(messages(&alice.sync().since("theirs").send().await.ok(), ROOM), ["missed"]);
}
