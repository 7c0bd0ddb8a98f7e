//! The v3 stream `receipts`: who has read what.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::session::Session;
use tests::wait::PATIENCE;
use tokio::time::timeout;

use crate::quiet::{says_nothing, settled};

/// Alice, whose client talks to the proxy; Bob and Carol, whose do not; a room of all, and a message in it.
async fn readers(lab: &Lab) -> (Client, Client, Client, String, String) {
    let alice = lab.user("alice").await;
    let (bob, carol) = (lab.user_on_synapse("bob").await, lab.user_on_synapse("carol").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    let message = alice.send(&room, "read this").await;
    (alice, bob, carol, room, message)
}

/// Who has read a message, as a reply says; nobody where it says nothing of the room.
fn who_read<'a>(reply: &'a Value, room: &str, message: &str) -> Vec<&'a str> {
    let Some(list) = reply["receipts"]["rooms"][room].as_array() else { return Vec::new() };
    assert_eq!(list.len(), 1, "one event a room: {reply:#}");
    assert_eq!(list[0]["type"], "m.receipt");
    assert!(list[0]["room_id"].is_null(), "the room is named around");
    let readers = list[0]["content"][message]["m.read"].as_object().into_iter().flatten();
    readers.map(|(user_id, _data)| user_id.as_str()).collect()
}

async fn until_read(session: &mut Session, room: &str, message: &str, who: &Client) -> Value {
    session
        .until("the receipt", |reply| {
            who_read(reply, room, message).contains(&&*who.user_id).then(|| reply.clone())
        })
        .await
}

#[tokio::test]
async fn first_all_receipts_then_those_that_changed() {
    let lab = Lab::shared().await;
    let (alice, bob, carol, room, message) = readers(&lab).await;
    let mut session = alice.v3();
    let request = json!({"receipts": {"room_id": room}});
    let first = session.ask(request.clone()).await;
    assert!(who_read(&first, &room, &message).is_empty());
    bob.read(&room, &message).await.ok();
    until_read(&mut session, &room, &message, &bob).await;
    let old = session.clone();

    carol.read(&room, &message).await.ok();
    let reply = until_read(&mut session, &room, &message, &carol).await;
    assert_eq!(who_read(&reply, &room, &message), [&carol.user_id], "Bob's is known");
    let again = old.lose(json!({})).await;
    assert_eq!(who_read(&again, &room, &message), [&carol.user_id], "a reply that was lost");
    let late = alice.v3().ask(request).await;
    let mut both = vec![bob.user_id.as_str(), carol.user_id.as_str()];
    both.sort_unstable();
    assert_eq!(who_read(&late, &room, &message), both);
    assert!(session.ask(json!({})).await["receipts"].is_null());
}

#[tokio::test]
async fn messages_and_other_rooms_do_not_wake() {
    let lab = Lab::shared().await;
    let (alice, bob, carol, room, message) = readers(&lab).await;
    let elsewhere = alice.create_public_room().await;
    bob.join(&elsewhere).await.ok();
    let there = alice.send(&elsewhere, "read this as well").await;
    let mut session = alice.v3();
    session.ask(json!({"receipts": {"room_id": room}})).await;
    let mut other = alice.v3();
    other.ask(json!({"receipts": {"room_id": elsewhere}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.read(&elsewhere, &there).await.ok();
    until_read(&mut other, &elsewhere, &there, &bob).await;
    // The homeserver reads what one sends oneself.
    let sent = bob.send_event(&room, "m.test", json!({})).await.event_id();
    carol.read(&room, &message).await.ok();
    let reply = waiting.await.unwrap().ok();
    let rooms = reply["receipts"]["rooms"].as_object().unwrap();
    assert_eq!(rooms.keys().collect::<Vec<_>>(), [&room], "{reply:#}");
    let readers = [who_read(&reply, &room, &message), who_read(&reply, &room, &sent)].concat();
    assert!(readers.contains(&&*carol.user_id) || readers.contains(&&*bob.user_id), "{reply:#}");
}

#[tokio::test]
async fn rooms_come_and_go() {
    let lab = Lab::shared().await;
    let (alice, bob, _carol, room, message) = readers(&lab).await;
    bob.read(&room, &message).await.ok();
    let mut early = alice.v3();
    early.ask(json!({"receipts": {"room_id": room}})).await;
    tests::wait::eventually("the receipt", async || {
        let reply = alice.v3().ask(json!({"receipts": {"room_id": room}})).await;
        (!who_read(&reply, &room, &message).is_empty()).then_some(())
    })
    .await;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(alice.create_public_room().await);
    }
    let mut session = alice.v3();
    let reply = session.ask(json!({"receipts": {"room_id": all}})).await;
    assert!(who_read(&reply, &room, &message).is_empty());
    all.push(room.clone());
    let reply = session.ask(json!({"receipts": {"room_id": all}})).await;
    assert_eq!(who_read(&reply, &room, &message), [&bob.user_id], "a room that is new comes whole");
    let reply = session.ask(json!({"receipts": {"room_id": [room, room]}})).await;
    assert!(reply["receipts"].is_null(), "it is known already: {reply:#}");

    // The user's own leave is the last that the account hears of the room.
    let request = json!({"room": {"room_id": room}});
    session.ask(request).await;
    alice.leave(&room).await.ok();
    session
        .until("the leave", |reply| reply["room"]["rooms"][&room].is_object().then_some(()))
        .await;
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
    session.ask(json!({"room": null, "receipts": null})).await;
    alice.join(&room).await.ok();
    let mut late = session;
    late.ask(json!({"receipts": {"room_id": room}})).await;
    let next = bob.send(&room, "and this").await;
    bob.read(&room, &next).await.ok();
    until_read(&mut late, &room, &next, &bob).await;
}

#[tokio::test]
async fn a_leave_ends_the_waiting_and_the_next_request_is_refused() {
    let lab = Lab::shared().await;
    let (alice, _bob, _carol, room, _message) = readers(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"receipts": {"room_id": [room]}})).await;
    settled(&mut session).await;

    // Longer than we wait for anything.
    let waiting = tokio::spawn(session.request(&json!({})).timeout(200_000).send());
    alice.leave(&room).await.ok();
    let reply = timeout(PATIENCE, waiting).await.expect("it ends at once").unwrap().ok();

    assert!(says_nothing(&reply), "there are no receipts to tell: {reply:#}");
    session.absorb(&reply);
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
}
