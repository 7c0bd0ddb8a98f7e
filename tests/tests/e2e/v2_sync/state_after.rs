//! `use_state_after`: the state at the end of the timeline instead of at its start.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync>. Not for Synapse itself, which knows the parameter
//! by its unstable name alone, and only where an experimental feature is on.

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::SyncRequest;
use tests::lab::Lab;
use tests::matchers::{events, find_state, joined, section, timeline, types};

const STABLE: (&str, &str) = ("use_state_after", "state_after");
const UNSTABLE: (&str, &str) =
    ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after");

#[tokio::test]
async fn a16_the_field_goes_by_the_name_that_was_asked_for() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_room(json!({"name": "Before"})).await;

    for (parameter, field) in [STABLE, UNSTABLE] {
        let reply = alice.sync().query(parameter, "true").send().await.ok();
        let entry = joined(&reply, &room);
        assert!(entry["state"].is_null(), "{parameter}: {entry}");
        let state = events(&entry[field]);
        assert!(find_state(&state, "m.room.create", "").is_some(), "{parameter}: {entry}");
        assert!(find_state(&state, "m.room.name", "").is_some(), "{parameter}: {entry}");
    }
    let both = alice.sync().query(STABLE.0, "true").query(UNSTABLE.0, "true").send().await.ok();
    assert!(joined(&both, &room)[UNSTABLE.1].is_object());
    assert!(joined(&both, &room)["state"].is_null());

    let without = alice.sync().query(STABLE.0, "false").send().await.ok();
    assert!(joined(&without, &room)["state"].is_object());
    assert!(joined(&without, &room)[STABLE.1].is_null());

    alice.sync().query(STABLE.0, "maybe").send().await.refused(400, "M_INVALID_PARAM");
    alice.sync().query(UNSTABLE.0, "maybe").send().await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a16_a_state_event_is_in_the_timeline_and_in_the_state_after() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_room(json!({"name": "Before"})).await;
    let mut chain = alice.v2();
    next(&mut chain).await;

    alice.set_state(&room, "m.room.name", "", json!({"name": "After"})).await.ok();
    let reply = next(&mut chain).await;
    assert_eq!(types(&timeline(&reply, &room)), ["m.room.name"]);
    assert_eq!(state_after(&reply, &room), [("m.room.name", json!({"name": "After"}))]);
    assert!(joined(&reply, &room)["state"].is_null());

    // A room that is there for another reason has the field as well, and nothing in it.
    alice.set_room_account_data(&room, "org.example.note", &json!({"a": 1})).await.ok();
    let reply = next(&mut chain).await;
    assert_eq!(joined(&reply, &room)[STABLE.1], json!({"events": []}));
}

#[tokio::test]
async fn a16_after_a_gap_the_state_is_that_of_the_end() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut chain = alice.v2();
    next(&mut chain).await;
    let filter = json!({"room": {"timeline": {"limit": 2}}});

    for step in 0..3 {
        alice.set_topic(&room, &step.to_string()).await;
    }
    alice.set_state(&room, "m.room.name", "", json!({"name": "last"})).await.ok();
    let since = chain.since().to_owned();
    let reply = after(alice.sync().since(&since).filter(&filter)).await;
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
    assert_eq!(types(&timeline(&reply, &room)), ["m.room.topic", "m.room.name"]);
    assert_eq!(
        state_after(&reply, &room),
        [("m.room.name", json!({"name": "last"})), ("m.room.topic", json!({"topic": "2"}))]
    );

    // In the older form the same stretch starts with the topic before the one in the timeline.
    let older = alice.sync().since(&since).filter(&filter).send().await.ok();
    let state = events(&joined(&older, &room)["state"]);
    assert_eq!(state.len(), 1, "{older}");
    assert_eq!(state[0]["content"]["topic"], "1");
}

#[tokio::test]
async fn a16_a92_a_room_that_was_left_has_it_too() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut chain = alice.v2();
    next(&mut chain).await;

    alice.set_state(&room, "m.room.name", "", json!({"name": "before the end"})).await.ok();
    alice.leave(&room).await.ok();
    let reply = next(&mut chain).await;
    let left = section(&reply, "leave", &room);
    assert!(left["state"].is_null(), "{left}");
    let state = events(&left[STABLE.1]);
    assert!(find_state(&state, "m.room.name", "").is_some(), "{left}");
    let own = find_state(&state, "m.room.member", &alice.user_id).expect("the own leave");
    assert_eq!(own["content"]["membership"], "leave");
}

#[tokio::test]
async fn a16_a66_with_lazy_loading_the_speakers_come_as_they_are_at_the_end() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Party"})).await;
    bob.join(&room).await.ok();
    let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 1}}});
    let mut chain = alice.v2().filtered(filter);
    next(&mut chain).await;

    bob.set_displayname("Robert").await.ok();
    bob.send(&room, "hello").await;
    let deadline = "Bob's message";
    let mut members: Vec<Value> = Vec::new();
    for _ in 0..50 {
        let reply = after(chain.request().timeout(2_000)).await;
        chain.absorb(&reply);
        members.extend(events(&joined(&reply, &room)[STABLE.1]).into_iter().cloned());
        if tests::matchers::messages(&reply, &room) == ["hello"] {
            break;
        }
    }
    let last = members.iter().rev().find(|event| event["state_key"] == bob.user_id.as_str());
    assert_eq!(last.expect(deadline)["content"]["displayname"], "Robert");
}

/// The next reply of a chain, asked for with `use_state_after`.
async fn next(chain: &mut Chain) -> Value {
    let reply = after(chain.request()).await;
    chain.absorb(&reply);
    reply
}

async fn after(request: SyncRequest) -> Value {
    request.query(STABLE.0, "true").send().await.ok()
}

/// Types and contents of the state after a joined room's timeline, sorted by type.
fn state_after<'a>(reply: &'a Value, room: &str) -> Vec<(&'a str, Value)> {
    let mut found: Vec<(&str, Value)> = events(&joined(reply, room)[STABLE.1])
        .into_iter()
        .map(|event| (event["type"].as_str().unwrap_or_default(), event["content"].clone()))
        .collect();
    found.sort_by_key(|(event_type, _)| *event_type);
    found
}
