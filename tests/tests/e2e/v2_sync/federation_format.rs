//! `event_format: federation`: room events as homeservers tell them each other.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, joined, timeline};

fn federation() -> Value {
    json!({"event_format": "federation"})
}

/// The events of a room in a reply, the state first.
fn all_events<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a Value> {
    let mut all = events(&joined(reply, room_id)["state"]);
    all.extend(timeline(reply, room_id));
    all
}

#[track_caller]
fn assert_pdus(events: &[&Value]) {
    for event in events {
        for field in ["event_id", "prev_events", "auth_events", "depth", "hashes", "signatures"] {
            assert!(!event[field].is_null(), "no `{field}` in {event:#}");
        }
    }
}

/// An event without what depends on the moment that it is told at.
fn timeless(event: &Value) -> Value {
    let mut event = event.clone();
    event.as_object_mut().unwrap().remove("unsigned");
    event
}

async fn a_room(alice: &Client, bob: &Client) -> String {
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.set_topic(&room, "PDUs").await;
    room
}

#[tokio::test]
async fn a27_events_come_in_the_federation_format_on_request() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room(&alice, &bob).await;
    let mut chain = alice.v2().filtered(federation()).of_any_shape("events of federation");

    let first = chain.next().await;
    assert_pdus(&all_events(&first, &room));
    assert!(all_events(&first, &room).iter().any(|event| event["type"] == "m.room.create"));
    bob.send(&room, "hello").await;
    let reply = chain.until_reply("the message", |reply| !timeline(reply, &room).is_empty()).await;
    assert_pdus(&all_events(&reply, &room));

    // What Synapse itself says, event by event.
    let direct = lab
        .past_proxy(&alice)
        .fresh_sync()
        .filter(&federation())
        .of_any_shape("events of federation")
        .send()
        .await
        .ok();
    let direct = all_events(&direct, &room);
    let told = all_events(&first, &room);
    for event in told.iter().chain(&all_events(&reply, &room)) {
        let same = direct.iter().find(|other| other["event_id"] == event["event_id"]);
        assert_eq!(Some(timeless(event)), same.map(|other| timeless(other)));
    }
    // Others go on as they were.
    let plain = alice.fresh_sync().send().await.ok();
    assert!(timeline(&plain, &room).iter().all(|event| event["prev_events"].is_null()));
}

#[tokio::test]
async fn a27_events_from_far_back_come_in_the_federation_format() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room(&alice, &bob).await;
    let mut chain = alice.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    let content = json!({"n": 1});
    let rare = bob.send_event(&room, "m.rare", content).await.event_id();
    for number in 0..105 {
        bob.send(&room, &format!("{number}")).await;
    }
    chain
        .until("the last message", |reply| {
            timeline(reply, &room)
                .last()
                .is_some_and(|event| event["content"]["body"] == "104")
                .then_some(())
        })
        .await;

    let filter = json!({"event_format": "federation", "room": {"timeline": {"limit": 40, "types": ["m.rare"]}}});
    let reply = alice
        .sync()
        .of_any_shape("events of federation")
        .since(&before)
        .filter(&filter)
        .send()
        .await
        .ok();

    let told = timeline(&reply, &room);
    assert_eq!(told.len(), 1, "{reply:#}");
    assert_eq!(told[0]["event_id"], rare);
    assert_pdus(&told);
}

#[tokio::test]
async fn a27_another_event_format_is_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    for format in [json!("raw"), json!(1), json!(null)] {
        let reply = alice.fresh_sync().filter(&json!({"event_format": format})).send().await;
        assert_eq!(reply.status, 400, "{}", reply.body_text());
    }
}

#[tokio::test]
async fn a27_event_fields_hold_in_the_federation_format_too() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room(&alice, &bob).await;
    let filter = json!({"event_format": "federation", "event_fields": ["type", "depth"]});

    let request = alice.fresh_sync().filter(&filter);
    let reply = request.of_any_shape("some fields of events of federation").send().await.ok();

    let events = all_events(&reply, &room);
    assert!(!timeline(&reply, &room).is_empty());
    for event in events {
        let fields: Vec<&String> = event.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["depth", "type"], "{event:#}");
    }
}
