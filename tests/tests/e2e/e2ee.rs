//! The v3 stream `e2ee`: whose devices changed, and how many keys the session's own device has left.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::numbers;
use tests::session::Session;

use crate::quiet::{says_nothing, settled, waits};

#[tokio::test]
async fn the_first_reply_has_the_counts_and_no_changes() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    encrypted_room(&alice, &bob).await;
    let laptop = lab.second_device(&alice).await;
    alice.upload_keys(&one_time_keys(5)).await.ok();
    laptop.upload_keys(&one_time_keys(3)).await.ok();
    laptop.upload_keys(&fallback_key()).await.ok();

    for (device, count, fallback) in
        [(&alice, 5, json!([])), (&laptop, 3, json!(["signed_curve25519"]))]
    {
        let reply = device.v3().ask(json!({"e2ee": {}})).await;
        let stream = reply["e2ee"].as_object().unwrap();
        assert_eq!(stream.len(), 3, "{reply:#}");
        assert_eq!(stream["device_lists"], json!({"changed": [], "left": []}));
        assert_eq!(stream["device_one_time_keys_count"]["signed_curve25519"], count);
        assert_eq!(stream["device_unused_fallback_key_types"], fallback, "each device its own");
    }
}

#[tokio::test]
async fn a_new_device_of_who_shares_an_encrypted_room_is_told_and_who_leaves() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    bob.upload_keys(&device_keys(&bob)).await.ok();
    let room = encrypted_room(&alice, &bob).await;
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}})).await;
    settled(&mut session).await;

    let waiting = waits(&session);
    alice.send(&room, "a message wakes nobody who asked for keys alone").await;
    alice.set_account_data("com.example", &json!({"n": 1})).await.ok();
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let laptop = lab.past_proxy(&lab.second_device(&bob).await);
    laptop.upload_keys(&device_keys(&laptop)).await.ok();
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    assert_eq!(reply["e2ee"]["device_lists"], json!({"changed": [bob.user_id], "left": []}));
    assert!(reply["e2ee"]["device_one_time_keys_count"].is_object(), "always all three");
    assert!(reply["e2ee"]["device_unused_fallback_key_types"].is_array(), "always all three");
    settled(&mut session).await;

    bob.leave(&room).await.ok();
    let reply = until_listed(&mut session, "left", &bob).await;
    assert_eq!(reply["e2ee"]["device_lists"], json!({"changed": [], "left": [bob.user_id]}));
}

#[tokio::test]
async fn of_a_user_who_left_and_came_back_only_the_last_is_told() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    bob.upload_keys(&device_keys(&bob)).await.ok();
    let room = encrypted_room(&alice, &bob).await;
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}})).await;
    settled(&mut session).await;
    let mut follower = session.clone();
    bob.leave(&room).await.ok();
    until_listed(&mut follower, "left", &bob).await;
    bob.join(&room).await.ok();
    until_listed(&mut follower, "changed", &bob).await;

    let reply = session.ask(json!({})).await;

    assert_eq!(reply["e2ee"]["device_lists"], json!({"changed": [bob.user_id], "left": []}));
}

#[tokio::test]
async fn an_upload_of_keys_is_counted_in_the_very_next_reply() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}})).await;
    settled(&mut session).await;

    alice.upload_keys(&one_time_keys(5)).await.ok();
    let reply = session.ask(json!({})).await;
    assert_eq!(count(&reply), Some(5), "{reply:#}");
    alice.upload_keys(&fallback_key()).await.ok();
    let reply = session.ask(json!({})).await;
    assert_eq!(reply["e2ee"]["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    settled(&mut session).await;

    let waiting = waits(&session);
    alice.upload_keys(&json!({"one_time_keys": {"signed_curve25519:BBBB": a_key()}})).await.ok();
    let reply = waiting.await.unwrap().ok();
    assert_eq!(count(&reply), Some(6), "an upload wakes: {reply:#}");
}

/// Another user's claim is no event: it is seen when the next poll of the homeserver ends.
#[tokio::test]
async fn claimed_keys_are_counted_off_and_wake() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let laptop = lab.second_device(&alice).await;
    for device in [&alice, &laptop] {
        device.upload_keys(&one_time_keys(5)).await.ok();
        let mut session = device.v3();
        assert_eq!(count(&session.ask(json!({"e2ee": {}})).await), Some(5));
        settled(&mut session).await;

        let waiting = waits(&session);
        for _ in 0..3 {
            let wanted = json!({&device.device_id: "signed_curve25519"});
            let claim = json!({"one_time_keys": {&alice.user_id: wanted}});
            bob.post("/_matrix/client/v3/keys/claim").json(&claim).send().await.ok();
        }
        bob.send_to_device(device, "m.test", json!({"n": 1})).await.ok();
        let mut reply = waiting.await.unwrap().ok();
        session.absorb(&reply);
        // A poll may have ended between two claims.
        while count(&reply) != Some(2) {
            assert!(count(&reply).is_some(), "woken by something else: {reply:#}");
            reply = session.poll().await;
            session.absorb(&reply);
        }
        assert_eq!(reply["e2ee"]["device_lists"], json!({"changed": [], "left": []}));
        assert!(says_nothing(&session.ask(json!({})).await), "and told once");
    }
}

#[tokio::test]
async fn to_device_messages_concern_their_own_stream_alone() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}, "to_device": {}})).await;
    settled(&mut session).await;

    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let reply = session
        .until("the message", |reply| reply["to_device"].is_object().then(|| reply.clone()))
        .await;

    assert_eq!(numbers(&reply["to_device"]), [1]);
    assert!(reply["e2ee"].is_null(), "nothing of it has changed: {reply:#}");
}

#[tokio::test]
async fn an_old_since_is_replayed_and_a_dropped_stream_begins_anew() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    encrypted_room(&alice, &bob).await;
    let (mut session, mut other) = (alice.v3(), alice.v3());
    for session in [&mut session, &mut other] {
        session.ask(json!({"e2ee": {}, "typing": null})).await;
        settled(session).await;
    }
    let old = session.clone();
    bob.upload_keys(&device_keys(&bob)).await.ok();
    let reply = until_listed(&mut session, "changed", &bob).await;

    for _ in 0..2 {
        assert_eq!(old.lose(json!({})).await["e2ee"], reply["e2ee"]);
    }
    assert_eq!(other.ask(json!({})).await["e2ee"], reply["e2ee"], "each session on its own");
    session.ask(json!({"e2ee": null})).await;
    alice.upload_keys(&one_time_keys(5)).await.ok();
    assert!(says_nothing(&session.ask(json!({})).await));
    let anew = session.ask(json!({"e2ee": {}})).await;
    assert_eq!(anew["e2ee"]["device_lists"], json!({"changed": [], "left": []}));
    assert_eq!(count(&anew), Some(5), "as in a new session");
}

#[tokio::test]
async fn what_changes_while_the_proxy_is_away_is_told() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    encrypted_room(&alice, &bob).await;
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}})).await;
    settled(&mut session).await;
    let direct = lab.past_proxy(&alice);

    lab.while_the_proxy_is_down(async {
        bob.upload_keys(&device_keys(&bob)).await.ok();
        direct.upload_keys(&one_time_keys(5)).await.ok();
    })
    .await;

    let (mut listed, mut counted) = (false, false);
    session
        .until("both", |reply| {
            listed |= is_listed(reply, "changed", &bob);
            counted |= count(reply) == Some(5);
            (listed && counted).then_some(())
        })
        .await;
}

/// What has happened since is no longer known, and to miss a change of devices would be unsafe.
#[tokio::test]
async fn a_session_from_before_what_is_retained_has_ended_for_what_needs_history() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut sessions = Vec::new();
    for stream in ["e2ee", "invites", "account_data", "presence"] {
        let mut session = alice.v3();
        session.ask(json!({stream: {}})).await;
        sessions.push((stream, session));
    }
    let room = encrypted_room(&alice, &bob).await;
    alice.tag(&room, "u.test").await.ok();
    let mut late = alice.v3();
    late.ask(json!({"e2ee": {}, "invites": {}, "account_data": {}})).await;

    lab.proxy.stop().await;
    let database = lab.proxy.database().connect().await.unwrap();
    database.execute("UPDATE accounts SET retained_from = pos", &[]).await.unwrap();
    lab.proxy.start_again().await;

    for (stream, session) in &sessions {
        let reply = session.request(&json!({})).send().await;
        if *stream == "presence" {
            // The latest of everybody is kept.
            reply.ok();
        } else {
            reply.refused(400, "M_UNKNOWN_SYNC_SESSION");
        }
    }
    late.ask(json!({})).await;
}

#[tokio::test]
async fn what_is_no_object_is_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    for wrong in [json!(true), json!([]), json!("all")] {
        alice.v3_sync(&json!({"e2ee": wrong})).send().await.refused(400, "M_BAD_JSON");
    }
    let reply = alice.v3().ask(json!({"e2ee": {"unknown": 5}})).await;
    assert!(reply["e2ee"].is_object(), "keys that nobody knows are ignored");
}

/// An encrypted room with both in it.
async fn encrypted_room(owner: &Client, other: &Client) -> String {
    let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    let encryption = json!({"type": "m.room.encryption", "state_key": "", "content": content});
    let body = json!({"preset": "public_chat", "initial_state": [encryption]});
    let room = owner.create_room(body).await;
    other.join(&room).await.ok();
    room
}

fn is_listed(reply: &Value, list: &str, user: &Client) -> bool {
    let users = reply["e2ee"]["device_lists"][list].as_array();
    users.is_some_and(|users| users.contains(&json!(user.user_id)))
}

async fn until_listed(session: &mut Session, list: &str, user: &Client) -> Value {
    let listed = |reply: &Value| is_listed(reply, list, user).then(|| reply.clone());
    session.until(list, listed).await
}

/// How many one-time keys are left, if the reply says so.
fn count(reply: &Value) -> Option<u64> {
    let counts = reply["e2ee"]["device_one_time_keys_count"].as_object()?;
    Some(counts.get("signed_curve25519").and_then(Value::as_u64).unwrap_or_default())
}

fn a_key() -> Value {
    json!({"key": "a key", "signatures": {}})
}

fn one_time_keys(count: usize) -> Value {
    let keys = (0..count).map(|n| (format!("signed_curve25519:AAAA{n}"), a_key()));
    json!({"one_time_keys": keys.collect::<serde_json::Map<_, _>>()})
}

fn fallback_key() -> Value {
    let key = json!({"key": "ZmFsbGJhY2sga2V5", "fallback": true, "signatures": {}});
    json!({"fallback_keys": {"signed_curve25519:AAAAFB": key}})
}

fn device_keys(client: &Client) -> Value {
    let keys = json!({
        format!("curve25519:{}", client.device_id): "a key",
        format!("ed25519:{}", client.device_id): "another key",
    });
    json!({"device_keys": {
        "user_id": client.user_id, "device_id": client.device_id,
        "algorithms": ["m.megolm.v1.aes-sha2"], "keys": keys, "signatures": {},
    }})
}
