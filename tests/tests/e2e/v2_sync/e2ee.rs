//! What end-to-end encryption needs from a sync: to-device messages, key counts, device lists.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::{Lab, shared_postgres};
use tests::matchers::{joined, messages, numbers};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{
    Canned, Gate, ScriptedHomeserver, first_sync, messages_in, nothing_new, with_to_device,
};
use tests::wait::eventually;

#[tokio::test]
async fn a103_to_device_messages_come_until_they_are_acknowledged() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut chain = alice.v2();
    chain.next().await;
    chain.next().await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }

    // Asking with the same since again and again until all have arrived acknowledges none of them.
    let reply = eventually("all three messages at one since", async || {
        let reply = chain.request().send().await.ok();
        (numbers(&reply["to_device"]) == [0, 1, 2]).then_some(reply)
    })
    .await;
    let again = chain.request().send().await.ok();
    assert_eq!(reply["to_device"], again["to_device"], "a lost reply can be asked for again");

    chain.absorb(&reply);
    let after = chain.next().await;
    assert_eq!(numbers(&after["to_device"]), [0; 0], "what was acknowledged does not come again");
}

#[tokio::test]
async fn a102_each_device_has_its_own_to_device_messages() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let (mut on_phone, mut on_laptop) = (alice.v2(), laptop.v2());
    on_phone.next().await;
    on_laptop.next().await;

    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    bob.send_to_device(&laptop, "m.test", json!({"n": 2})).await.ok();

    for (chain, expected) in [(&mut on_phone, 1), (&mut on_laptop, 2)] {
        let got = chain
            .until("a message", |reply| {
                reply["to_device"].is_object().then(|| numbers(&reply["to_device"]))
            })
            .await;
        assert_eq!(got, [expected]);
    }
}

/// Also without a since, and to a client that asks again: what was not acknowledged comes again, and nothing else does.
#[tokio::test]
async fn a102_many_to_device_messages_come_in_hundreds_without_waiting() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut chain = alice.v2();
    chain.next().await;
    for n in 0..250 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    let all_are_here = async || {
        let held = lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
        (held == 250).then_some(())
    };
    eventually("all messages to be here", all_are_here).await;

    for expected in [0..100, 100..200, 200..250] {
        let asked = Instant::now();
        let reply = chain.request().timeout(30_000).send().await.ok();
        assert!(asked.elapsed() < Duration::from_secs(10), "it waited {:?}", asked.elapsed());
        assert_eq!(numbers(&reply["to_device"]), expected.collect::<Vec<_>>());
        let again = chain.request().timeout(30_000).send().await.ok();
        assert_eq!(again["to_device"], reply["to_device"], "the same since, the same messages");
        chain.absorb(&reply);
    }
    let without_since = alice.fresh_sync().send().await.ok();
    assert_eq!(
        numbers(&without_since["to_device"]),
        (200..250).collect::<Vec<_>>(),
        "without a since all that is pending comes, and nothing is acknowledged by it"
    );
    // What was received but not acknowledged outlives the proxy.
    lab.proxy.crash_and_restart().await;
    let again = alice.fresh_sync().send().await.ok();
    assert_eq!(again["to_device"], without_since["to_device"]);

    let last = chain.next().await;
    assert_eq!(numbers(&last["to_device"]), [0; 0]);
    let nothing = alice.fresh_sync().send().await.ok();
    assert_eq!(numbers(&nothing["to_device"]), [0; 0], "now they are acknowledged");
}

#[tokio::test]
async fn a106_keys_that_others_claimed_are_counted_off_in_the_next_answer() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    for device in [&alice, &laptop] {
        let mut chain = device.v2();
        chain.next().await;
        device.upload_keys(&one_time_keys(50)).await.ok();
        assert_eq!(chain.next().await["device_one_time_keys_count"]["signed_curve25519"], 50);

        for _ in 0..3 {
            let wanted = json!({&device.device_id: "signed_curve25519"});
            let claim = json!({"one_time_keys": {&alice.user_id: wanted}});
            bob.post("/_matrix/client/v3/keys/claim").json(&claim).send().await.ok();
        }
        // A claim wakes nobody; idle answers tell of it as well.
        let idle = chain.request().timeout(300).send().await.ok();
        assert_eq!(idle["device_one_time_keys_count"]["signed_curve25519"], 47, "{idle:#}");
        assert_eq!(idle["device_unused_fallback_key_types"], json!([]));
    }
}

#[tokio::test]
async fn a105_a_user_is_told_of_its_own_new_devices_without_any_room() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2();
    chain.next().await;

    let laptop = lab.second_device(&alice).await;
    laptop.upload_keys(&device_keys(&laptop)).await.ok();
    chain
        .until("the own new device", |reply| names(&reply["device_lists"]["changed"], &alice))
        .await;
}

/// Of one user the last word counts: who leaves and comes back between two syncs has changed, and has not left.
#[tokio::test]
async fn a104_of_a_user_who_left_and_came_back_only_the_last_is_told() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    bob.upload_keys(&device_keys(&bob)).await.ok();
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    chain.next().await;
    let mut follower = chain.clone();

    bob.leave(&room).await.ok();
    follower.until("him to leave", |reply| names(&reply["device_lists"]["left"], &bob)).await;
    bob.join(&room).await.ok();
    follower.until("him to be back", |reply| names(&reply["device_lists"]["changed"], &bob)).await;

    let reply = chain.next().await;
    assert!(names(&reply["device_lists"]["changed"], &bob).is_some(), "{reply:#}");
    assert!(names(&reply["device_lists"]["left"], &bob).is_none(), "{reply:#}");
}

#[tokio::test]
async fn a106_a107_every_answer_has_the_key_counts() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut chain = alice.v2();
    let initial = chain.next().await;
    assert!(initial["device_one_time_keys_count"].is_object(), "{initial:#}");
    assert_eq!(initial["device_unused_fallback_key_types"], json!([]));

    alice.upload_keys(&one_time_keys(5)).await.ok();
    alice.upload_keys(&fallback_key()).await.ok();
    // New counts end nobody's wait, here as in Synapse; the message does, and they come with it.
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let reply =
        chain.until_reply("the message", |reply| !numbers(&reply["to_device"]).is_empty()).await;
    assert_eq!(reply["device_one_time_keys_count"]["signed_curve25519"], 5);
    assert_eq!(reply["device_unused_fallback_key_types"], json!(["signed_curve25519"]));

    let idle = chain.request().timeout(300).send().await.ok();
    assert_eq!(
        idle["device_one_time_keys_count"]["signed_curve25519"], 5,
        "an idle answer has them too"
    );
    assert_eq!(idle["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
}

#[tokio::test]
async fn b3_an_upload_of_keys_is_counted_in_the_very_next_sync() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2();
    chain.next().await;

    alice.upload_keys(&one_time_keys(5)).await.ok();
    alice.upload_keys(&fallback_key()).await.ok();

    let next = chain.next().await;
    assert_eq!(next["device_one_time_keys_count"]["signed_curve25519"], 5);
    assert_eq!(next["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
}

#[tokio::test]
async fn a104_device_lists_name_those_whose_keys_changed_and_those_who_left() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    let initial = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert!(initial["device_lists"].is_null(), "an initial sync has no changes: {initial:#}");

    bob.upload_keys(&device_keys(&bob)).await.ok();
    chain.until("Bob's new keys", |reply| names(&reply["device_lists"]["changed"], &bob)).await;

    bob.leave(&room).await.ok();
    chain.until("Bob to have left", |reply| names(&reply["device_lists"]["left"], &bob)).await;
}

/// What a client asks that was away: whose keys have changed since its last token?
#[tokio::test]
async fn b1_keys_that_changed_between_two_tokens_are_told() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let before = chain.since().to_owned();
    bob.upload_keys(&device_keys(&bob)).await.ok();
    chain.until("Bob's new keys", |reply| names(&reply["device_lists"]["changed"], &bob)).await;

    let changes = |from: &str, to: &str| {
        alice.get("/_matrix/client/v3/keys/changes").query("from", from).query("to", to).send()
    };
    let told = changes(&before, chain.since()).await.ok();
    assert!(names(&told["changed"], &bob).is_some(), "{told:#}");
    let nothing = changes(chain.since(), chain.since()).await.ok();
    assert!(names(&nothing["changed"], &bob).is_none(), "{nothing:#}");
    let foreign = bob.get("/_matrix/client/v3/keys/changes").query("from", &before).send().await;
    foreign.refused(400, "M_UNKNOWN");
}

/// Another user's claim is no event. It is seen at the latest when a poll of the homeserver has ended, and at once when anything
/// else comes.
#[tokio::test]
async fn d2_9_claimed_keys_are_counted_off() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut chain = alice.v2();
    chain.next().await;
    alice.upload_keys(&one_time_keys(5)).await.ok();
    assert_eq!(count(&chain.next().await), 5, "an upload is in the very next answer");

    for _ in 0..3 {
        let one =
            json!({"one_time_keys": {&alice.user_id: {&alice.device_id: "signed_curve25519"}}});
        bob.post("/_matrix/client/v3/keys/claim").json(&one).send().await.ok();
    }
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let reply = chain.until_reply("the message", |reply| reply["to_device"].is_object()).await;
    assert_eq!(count(&reply), 2);

    let idle = chain.request().timeout(300).send().await.ok();
    assert_eq!(count(&idle), 2, "an idle answer has it too");
}

fn names(list: &Value, user: &Client) -> Option<()> {
    list.as_array()?.contains(&json!(user.user_id)).then_some(())
}

fn one_time_keys(count: usize) -> Value {
    let keys = (0..count).map(|n| {
        (
            format!("signed_curve25519:AAAA{n}"),
            json!({"key": format!("a key {n}"), "signatures": {}}),
        )
    });
    json!({"one_time_keys": keys.collect::<serde_json::Map<_, _>>()})
}

fn fallback_key() -> Value {
    let key = json!({"key": "ZmFsbGJhY2sga2V5", "fallback": true, "signatures": {}});
    json!({"fallback_keys": {"signed_curve25519:AAAAFB": key}})
}

fn device_keys(client: &Client) -> Value {
    json!({"device_keys": {
        "user_id": client.user_id,
        "device_id": client.device_id,
        "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": {format!("curve25519:{}", client.device_id): "a key", format!("ed25519:{}", client.device_id): "another key"},
        "signatures": {},
    }})
}

fn count(reply: &Value) -> u64 {
    reply["device_one_time_keys_count"]["signed_curve25519"].as_u64().unwrap_or_default()
}

/// Upstream sends a key with or before the event that needs it. With a second device they come by different polls, and
/// after a restart the one with the key may be the later.
#[tokio::test]
async fn after_a_restart_a_second_device_has_the_key_with_the_event() {
    const ALICE: &str = "@alice:scripted";
    const ROOM: &str = "!room:scripted";
    // Only the light poll of a second device asks for no rooms.
    const LIGHT: &str = "/_matrix/client/v3/sync?filter=%7B%22room%22%3A%7B%22rooms%22%3A%5B%5D";
    let server = ScriptedHomeserver::start().await;
    server.on_sync(None, &first_sync(ALICE, ROOM, "s1", &[]));
    let proxy = Proxy::start(&server.url(), &shared_postgres().await.database().await).await;
    let mut phone = server.device(&proxy.url(), ALICE, "PHONE").v2();
    phone.next().await;
    server.on_path(LIGHT, Canned::json(&nothing_new("l1")));
    let mut laptop = server.device(&proxy.url(), ALICE, "LAPTOP").v2();
    laptop.next().await;

    proxy.kill9();
    let gate = Gate::closed();
    let key = with_to_device(nothing_new("l2"), &[1]).to_string();
    server.on_path(LIGHT, Canned::bytes(200, " ").then(key).held_by(&gate));
    server.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["locked"]));
    proxy.start_again().await;
    let waiting = tokio::spawn(laptop.request().timeout(30_000).send());
    phone
        .until("the event, which is the laptop's to have by now", |reply| {
            (messages(reply, ROOM) == ["locked"]).then_some(())
        })
        .await;
    gate.open();

    let reply = waiting.await.unwrap().ok();
    assert_eq!(messages(&reply, ROOM), ["locked"], "{reply:#}");
    assert_eq!(numbers(&reply["to_device"]).first(), Some(&1), "{reply:#}");
}
