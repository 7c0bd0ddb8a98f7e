//! The v3 stream `typing`: who types in one room, now and at every change.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::scripted_homeserver::{first_sync, messages_in};
use tests::session::Session;
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn the_first_reply_says_who_types_now() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let nobody = alice.v3().ask(json!({"typing": {"room_id": room}})).await;
    assert_eq!(typing(&nobody), Some(vec![]), "an empty list is a list too");

    bob.starts_typing(&room).await;
    let mut early = alice.v3();
    early.ask(json!({"typing": {"room_id": room}})).await;
    until_typing(&mut early, &[&bob]).await;

    let late = alice.v3().ask(json!({"typing": {"room_id": room}})).await;
    assert_eq!(typing(&late), Some(vec![bob.user_id.as_str()]));
    let event = events(&late["typing"])[0];
    assert_eq!((&event["type"], &event["room_id"]), (&json!("m.typing"), &json!(room)));
}

#[tokio::test]
async fn a_waiting_session_hears_of_every_change() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;

    let started = Instant::now();
    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.starts_typing(&room).await;
    let reply = waiting.await.unwrap().ok();
    assert_eq!(typing(&reply), Some(vec![bob.user_id.as_str()]));
    session.absorb(&reply);

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.stops_typing(&room).await;
    let reply = waiting.await.unwrap().ok();
    assert_eq!(typing(&reply), Some(vec![]), "an empty list says that nobody types any more");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn with_nothing_new_the_reply_is_the_next_token_alone() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;

    let started = Instant::now();
    let reply = session.request(&json!({})).timeout(1_500).send().await.ok();

    assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["next"], "{reply:#}");
    assert!(
        started.elapsed() >= Duration::from_millis(1_400),
        "it did not wait, only {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_change_elsewhere_does_not_end_the_wait() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let elsewhere = alice.create_public_room().await;
    bob.join(&elsewhere).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.starts_typing(&elsewhere).await;
    bob.send(&elsewhere, "a message wakes nobody who asked for typing alone").await;
    bob.starts_typing(&room).await;
    let reply = waiting.await.unwrap().ok();

    assert_eq!(
        typing(&reply),
        Some(vec![bob.user_id.as_str()]),
        "the first thing to say is about the room asked for"
    );
    assert_eq!(events(&reply["typing"])[0]["room_id"], room.as_str());
}

#[tokio::test]
async fn null_drops_the_stream_and_asking_again_starts_it_afresh() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}, "to_device": {}})).await;
    session.ask(json!({"typing": null})).await;

    // The typing comes first and must not be told; the to-device message after it shows that it has had its time.
    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.starts_typing(&room).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let reply = waiting.await.unwrap().ok();
    assert_eq!(numbers(&reply["to_device"]), [1]);
    assert!(reply["typing"].is_null(), "{reply:#}");
    session.absorb(&reply);

    let reply = session.ask(json!({"typing": {"room_id": room}})).await;
    assert_eq!(typing(&reply), Some(vec![bob.user_id.as_str()]), "as in a new session");
}

#[tokio::test]
async fn a_stream_first_asked_for_in_mid_session_answers_at_once() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let started = Instant::now();
    let reply =
        session.request(&json!({"typing": {"room_id": room}})).timeout(30_000).send().await.ok();

    assert_eq!(typing(&reply), Some(vec![]));
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "changed parameters never wait: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn the_room_can_be_changed_in_mid_session() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let other = alice.create_public_room().await;
    bob.join(&other).await.ok();
    bob.starts_typing(&other).await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;

    let reply = session.ask(json!({"typing": {"room_id": other}})).await;

    assert_eq!(
        events(&reply["typing"])[0]["room_id"],
        other.as_str(),
        "the new room's list comes: {reply:#}"
    );
    until_typing_or(&mut session, &reply, &[&bob]).await;
}

/// The homeserver forgets who types when it ends, and says nothing of it afterwards.
#[tokio::test]
async fn nobody_types_any_more_after_a_restart_of_the_homeserver() {
    let lab = Lab::with_own_synapse().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;
    bob.starts_typing(&room).await;
    until_typing(&mut session, &[&bob]).await;

    lab.synapse.stop().await;
    lab.synapse.start_again().await;
    bob.send(&room, "a sign of life").await;

    until_typing(&mut session, &[]).await;
    let late = alice.v3().ask(json!({"typing": {"room_id": room}})).await;
    assert_eq!(typing(&late), Some(vec![]));
}

/// Who typed when the user left may have stopped meanwhile, of which nobody is told who is not in the room.
#[tokio::test]
async fn who_leaves_a_room_has_heard_the_last_of_who_types_there() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    first["rooms"]["join"][ROOM]["ephemeral"]["events"] =
        json!([{"type": "m.typing", "content": {"user_ids": ["@bob:scripted"]}}]);
    homeserver.on_sync(None, &first);
    let mut session = alice.v3();
    let reply = session.ask(json!({"typing": {"room_id": ROOM}})).await;
    assert_eq!(typing(&reply), Some(vec!["@bob:scripted"]));

    let moves = |next_batch: &str, section: &str, membership: &str| {
        let mut reply = messages_in(ROOM, next_batch, &[]);
        let mut room = reply["rooms"]["join"][ROOM].take();
        room["timeline"]["events"] = json!([{
            "type": "m.room.member", "state_key": alice.user_id, "sender": alice.user_id,
            "event_id": format!("${next_batch}"), "origin_server_ts": 1_700_000_000_000_u64,
            "content": {"membership": membership}, "unsigned": {},
        }]);
        reply["rooms"] = json!({section: {ROOM: room}});
        reply
    };
    homeserver.on_sync(Some("s1"), &moves("s2", "leave", "leave"));
    eventually("the leave", async || {
        (session.request(&json!({})).send().await.status == 403).then_some(())
    })
    .await;
    homeserver.on_sync(Some("s2"), &moves("s3", "join", "join"));
    let reply = eventually("the return", async || {
        let reply = session.request(&json!({})).send().await;
        (reply.status == 200).then_some(reply.json)
    })
    .await;

    assert_eq!(typing(&reply), Some(vec![]));
    let anew = alice.v3().ask(json!({"typing": {"room_id": ROOM}})).await;
    assert_eq!(typing(&anew), Some(vec![]));
}

/// Who types, if the reply says anything about it.
fn typing(reply: &Value) -> Option<Vec<&str>> {
    let event = events(&reply["typing"]).last().copied()?;
    Some(event["content"]["user_ids"].as_array()?.iter().filter_map(Value::as_str).collect())
}

async fn until_typing(session: &mut Session, who: &[&Client]) {
    let expected: Vec<&str> = who.iter().map(|client| client.user_id.as_str()).collect();
    session.until("the typing", |reply| (typing(reply)? == expected).then_some(())).await;
}

async fn until_typing_or(session: &mut Session, reply: &Value, who: &[&Client]) {
    let expected: Vec<&str> = who.iter().map(|client| client.user_id.as_str()).collect();
    if typing(reply) != Some(expected) {
        until_typing(session, who).await;
    }
}

async fn two_in_a_room(lab: &Lab) -> (Client, Client, String) {
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    (alice, bob, room)
}
