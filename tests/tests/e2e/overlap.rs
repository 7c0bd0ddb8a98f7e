//! Streams that follow `room_list`: what it lists and what they tell agree in every reply.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{bodies, events, find_state};
use tests::session::Session;
use tests::wait::eventually;

/// Asks for the list, and for all of its rooms.
fn following(limit: u64) -> Value {
    json!({
        "room_list": {"p": {"limit": limit}},
        "room": {"room_id": "room_list", "timeline_limit": 3},
        "receipts": {"room_id": "room_list"},
    })
}

/// The rooms of the list in a reply, sorted.
fn listed(reply: &Value) -> Vec<&str> {
    let rooms = reply["room_list"]["rooms"].as_array().into_iter().flatten();
    let mut rooms: Vec<&str> = rooms.map(|room| room["room_id"].as_str().unwrap()).collect();
    rooms.sort_unstable();
    rooms
}

/// The rooms that `room` tells, sorted.
fn told(reply: &Value) -> Vec<&str> {
    let rooms = reply["room"]["rooms"].as_object().into_iter().flatten();
    let mut rooms: Vec<&str> = rooms.map(|(room_id, _room)| room_id.as_str()).collect();
    rooms.sort_unstable();
    rooms
}

fn room<'a>(reply: &'a Value, room_id: &str) -> &'a Value {
    &reply["room"]["rooms"][room_id]
}

/// Alice's rooms, the one that stirred last at the end; Bob is in all of them.
async fn rooms_of(alice: &Client, bob: &Client, count: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        let room = alice.create_public_room().await;
        bob.join(&room).await.ok();
        rooms.push(room);
    }
    for room in &rooms {
        alice.send(room, "in order").await;
    }
    rooms
}

/// A session that follows the list, with its first reply.
async fn begun(client: &Client, limit: u64, count: usize) -> (Session, Value) {
    eventually("the rooms", async || {
        let mut session = client.v3();
        let reply = session.ask(following(limit)).await;
        (reply["room_list"]["count"] == count).then_some((session, reply))
    })
    .await
}

#[tokio::test]
async fn the_rooms_of_a_page_come_with_it() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = rooms_of(&alice, &bob, 12).await;
    let (mut session, first) = begun(&alice, 10, 12).await;

    assert_eq!(listed(&first).len(), 10);
    assert_eq!(told(&first), listed(&first));
    assert!(told(&first).iter().all(|id| room(&first, id)["initial"] == true));
    assert!(!told(&first).contains(&&*rooms[0]));

    // A further page brings further rooms, and they are followed from then on.
    let next = first["room_list"]["p"]["next"].clone();
    let page = session.ask(json!({"room_list": {"p": {"since": next}}})).await;
    let mut expected: Vec<&str> = rooms[..2].iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(listed(&page), expected);
    let reply = if told(&page).is_empty() { session.ask(json!({})).await } else { page };
    assert_eq!(told(&reply), expected, "{reply:#}");
    let message = bob.send(&rooms[0], "in a room of the second page").await;
    alice.read(&rooms[0], &message).await.ok();
    let mut receipt = false;
    session
        .until("the message", |reply| {
            receipt |= reply["receipts"]["rooms"][&rooms[0]].is_array();
            bodies(&events(&room(reply, &rooms[0])["timeline"]))
                .contains(&"in a room of the second page")
                .then_some(())
        })
        .await;
    if !receipt {
        session
            .until("a receipt", |reply| {
                reply["receipts"]["rooms"][&rooms[0]].is_array().then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn a_room_that_comes_into_the_list_comes_in_the_same_reply() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    rooms_of(&alice, &bob, 2).await;
    let new = bob.create_public_room().await;
    bob.send(&new, "before she came").await;
    let (mut session, _) = begun(&alice, 20, 2).await;

    alice.join(&new).await.ok();
    let reply = session
        .until("the room", |reply| listed(reply).contains(&&*new).then(|| reply.clone()))
        .await;
    assert_eq!(room(&reply, &new)["initial"], true, "{reply:#}");
    assert!(!events(&room(&reply, &new)["state"]).is_empty());
}

#[tokio::test]
async fn a_room_that_is_left_is_told_once_and_the_others_go_on() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = rooms_of(&alice, &bob, 11).await;
    let (mut session, _) = begun(&alice, 20, 11).await;

    bob.kick(&rooms[3], &alice.user_id).await;
    alice.leave(&rooms[3]).await.ok();
    let reply = session
        .until("the leave", |reply| (!room(reply, &rooms[3]).is_null()).then(|| reply.clone()))
        .await;
    let timeline = events(&room(&reply, &rooms[3])["timeline"]);
    let own = find_state(&timeline, "m.room.member", &alice.user_id).cloned();
    assert_eq!(own.unwrap()["content"]["membership"], "leave");
    assert!(reply["room_list"]["removed"].as_array().unwrap().contains(&json!(rooms[3])));
    bob.send(&rooms[3], "behind her back").await;
    bob.send(&rooms[4], "in another room").await;
    session
        .until("the other room", |reply| {
            assert!(room(reply, &rooms[3]).is_null(), "{reply:#}");
            bodies(&events(&room(reply, &rooms[4])["timeline"]))
                .contains(&"in another room")
                .then_some(())
        })
        .await;
}
