//! The v3 stream `room`: state and timeline of the rooms that a client names.

mod changes;
mod first;
mod held;
mod leaving;
mod parameters;
mod replica;

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{bodies, events};
use tests::session::Session;

/// A room of a reply; `null` if the reply says nothing of it.
fn told<'a>(reply: &'a Value, room_id: &str) -> &'a Value {
    &reply["room"]["rooms"][room_id]
}

/// The timeline of a room in a reply.
fn timeline<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a Value> {
    events(&told(reply, room_id)["timeline"])
}

/// The state of a room in a reply.
fn state<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a Value> {
    events(&told(reply, room_id)["state"])
}

/// The texts in the timeline of a room.
fn messages<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a str> {
    bodies(&timeline(reply, room_id))
}

/// The IDs of events.
fn ids<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().map(|event| event["event_id"].as_str().expect("events have IDs")).collect()
}

/// The IDs of events, sorted.
fn sorted<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    let mut ids = ids(events);
    ids.sort_unstable();
    ids
}

/// The rooms that a reply tells.
fn rooms(reply: &Value) -> Vec<&str> {
    let rooms = reply["room"]["rooms"].as_object();
    rooms.into_iter().flatten().map(|(room_id, _room)| room_id.as_str()).collect()
}

/// Polls until a room's timeline holds a text, and gives the reply.
async fn until_message(session: &mut Session, room_id: &str, text: &str) -> Value {
    session
        .until(text, |reply| messages(reply, room_id).contains(&text).then(|| reply.clone()))
        .await
}

/// Alice, whose client talks to the proxy; Bob, whose does not; and a room with both.
async fn two_in_a_room(lab: &Lab) -> (Client, Client, String) {
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    (alice, bob, room)
}

/// Waits until the proxy has heard of everything up to an event.
async fn has_heard(client: &Client, room_id: &str, event_id: &str) {
    let request = json!({"room": {"room_id": room_id, "timeline_limit": 100}});
    tests::wait::eventually("the proxy to have heard of an event", async || {
        let reply = client.v3().ask(request.clone()).await;
        ids(&timeline(&reply, room_id)).contains(&event_id).then_some(())
    })
    .await;
}
