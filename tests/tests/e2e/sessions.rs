//! v3 sessions: what sticks to them, how old tokens are replayed, and how they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::wait::eventually;

const UNKNOWN_SESSION: &str = "Session unknown or expired";

#[tokio::test]
async fn parameters_stick_key_by_key() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    let first = session.ask(json!({"to_device": {"limit": 2}, "room_members": {"room_id": room, "p": {"limit": 7}}})).await;
    assert_eq!(first["room_members"]["p"]["limit"], 7);
    for n in 0..5 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 5).await;

    let reply = session.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0, 1], "the limit stuck");
    let reply =
        session.ask(json!({"room_members": {"p": {"sort": "by_name", "since": "1"}}})).await;
    assert_eq!(reply["room_members"]["p"]["sort"], "by_name");
    assert_eq!(reply["room_members"]["p"]["limit"], 7, "a key that is left out keeps its value");
    assert_eq!(
        numbers(&reply["to_device"]),
        [2, 3],
        "a stream that is left out keeps all its values"
    );
    let reply = session.ask(json!({"to_device": {"limit": 10}})).await;
    assert_eq!(numbers(&reply["to_device"]), [4]);
    assert_eq!(reply["to_device"]["limit"], 10);
}

#[tokio::test]
async fn changed_parameters_are_answered_at_once_with_nothing_to_say() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}, "typing": {"room_id": room}})).await;

    for change in [json!({"typing": null}), json!({"to_device": {"limit": 5}})] {
        let started = Instant::now();
        let reply = session.request(&change).timeout(30_000).send().await.ok();
        session.absorb(&reply);

        assert_eq!(reply, json!({"next": session.next()}), "after {change}");
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{change} waited: {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn an_older_since_is_replayed_with_the_parameters_of_its_time() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut holder = alice.v3();
    holder.ask(json!({})).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 1}})).await;
    for n in 0..4 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 4).await;
    let old = session.clone();

    let lost = session.ask(json!({"to_device": {"limit": 3}})).await;
    assert_eq!(numbers(&lost["to_device"]), [0, 1, 2]);

    let replayed = old.lose(json!({})).await;
    assert_eq!(numbers(&replayed["to_device"]), [0], "the older token has the older limit");
    let asked_again = old.lose(json!({"to_device": {"limit": 3}})).await;
    assert_eq!(
        asked_again["to_device"], lost["to_device"],
        "a reply that was lost can be asked for again"
    );
    let onwards = session.ask(json!({})).await;
    assert_eq!(
        numbers(&onwards["to_device"]),
        [3],
        "and the newer token goes on as if nothing had happened"
    );
}

#[tokio::test]
async fn a_session_survives_a_restart_of_the_proxy() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 2}, "typing": {"room_id": room}})).await;

    lab.proxy.stop().await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    lab.proxy.start_again().await;
    has_waiting(&alice, 3).await;

    let reply = session.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0, 1], "position and limit are still known");
    bob.starts_typing(&room).await;
    session.until("Bob to type", |reply| reply["typing"].is_object().then_some(())).await;
}

#[tokio::test]
async fn a_session_that_was_not_used_for_long_is_unknown() {
    let lab = Lab::with_own_proxy_and_flags(&["-session-expiry", "1"]).await;
    let alice = lab.user("alice").await;
    let (mut old, mut fresh) = (alice.v3(), alice.v3());
    old.ask(json!({"to_device": {}})).await;
    fresh.ask(json!({"to_device": {}})).await;

    let database = lab.proxy.database().connect().await.unwrap();
    let two_days = 2_i64 * 24 * 60 * 60 * 1_000;
    let aged = database
        .execute("UPDATE sessions SET last_used_at = last_used_at - $1 WHERE session_id = (SELECT MIN(session_id) FROM sessions)", &[&two_days])
        .await
        .unwrap();
    assert_eq!(aged, 1);
    // A running proxy may know the session by heart; what is promised about sleeping sessions is what a new process does.
    lab.proxy.crash_and_restart().await;

    let error = old.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    assert_eq!(error["error"], UNKNOWN_SESSION);
    fresh.ask(json!({})).await;
}

#[tokio::test]
async fn an_expired_session_holds_no_messages_back() {
    let lab = Lab::with_own_proxy_and_flags(&["-session-expiry", "1"]).await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut gone, mut live) = (alice.v3(), alice.v3());
    gone.ask(json!({"to_device": {}})).await;
    live.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    has_waiting_in(&live, 1).await;
    let database = lab.proxy.database().connect().await.unwrap();
    let two_days = 2_i64 * 24 * 60 * 60 * 1_000;
    database
        .execute("UPDATE sessions SET last_used_at = last_used_at - $1 WHERE session_id = (SELECT MIN(session_id) FROM sessions)", &[&two_days])
        .await
        .unwrap();
    lab.proxy.crash_and_restart().await;

    live.ask(json!({})).await;
    live.ask(json!({})).await;

    eventually("the message to be purged", async || {
        (lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_since_is_good_for_its_own_device_only() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    for stranger in [&bob, &laptop] {
        let reply = stranger.v3_sync(&json!({})).since(session.next()).send().await;
        assert_eq!(reply.refused(400, "M_UNKNOWN_SYNC_SESSION")["error"], UNKNOWN_SESSION);
    }
    session.ask(json!({})).await;
}

#[tokio::test]
async fn b2_a_new_login_of_the_same_device_keeps_its_sessions() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 3}})).await;

    let localpart = alice.user_id.trim_start_matches('@').split(':').next().unwrap();
    let again =
        Client::login(&lab.url(), localpart, tests::synapse::PASSWORD, &alice.device_id).await;
    assert_ne!(again.access_token, alice.access_token);

    let reply = again.v3_sync(&json!({})).since(session.next()).send().await.ok();
    assert!(reply["next"].is_string(), "{reply:#}");
}

#[tokio::test]
async fn sessions_of_one_device_do_not_disturb_each_other() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let (mut one, mut two) = (alice.v3(), alice.v3());
    one.ask(json!({"to_device": {"limit": 1}})).await;
    two.ask(json!({"typing": {"room_id": room}})).await;
    for n in 0..2 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 2).await;

    let reply = two.ask(json!({})).await;
    assert!(reply["to_device"].is_null(), "the second session never asked for it: {reply:#}");
    let reply = one.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0]);
    assert!(reply["typing"].is_null(), "{reply:#}");
}

/// Waits until so many to-device messages are there for a device, as a session made for that alone sees them.
async fn has_waiting(client: &Client, count: usize) {
    eventually(&format!("{count} messages for the device"), async || {
        let reply: Value = client.v3().ask(json!({"to_device": {"limit": 100}})).await;
        (events(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}

/// Waits until a session could be told of so many messages, without telling it.
async fn has_waiting_in(session: &tests::session::Session, count: usize) {
    eventually(&format!("{count} messages for the session"), async || {
        let reply = session.lose(json!({})).await;
        (events(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}
