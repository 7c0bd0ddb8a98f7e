//! Who sees which part of a room's history. Everybody is on the proxy, so that what one may see lies beside what another may
//! not.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::client::Client;
use tests::history::RoomHistory;
use tests::lab::Lab;
use tests::matchers::{joined, messages, timeline};
use tests::random::Random;

#[tokio::test]
async fn a59_d1_1_a_newcomer_sees_what_the_visibility_of_the_history_says() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut hers = alice.v2();
    let mut his = bob.v2();
    his.next().await;

    for (visibility, expected) in [
        ("joined", vec!["three"]),
        ("invited", vec!["two", "three"]),
        ("shared", vec!["one", "two", "three"]),
        ("world_readable", vec!["one", "two", "three"]),
    ] {
        let room = alice
            .create_room(json!({"preset": "private_chat", "initial_state": [history_visibility(visibility)]}))
            .await;
        alice.send(&room, "one").await;
        alice.invite(&room, &bob.user_id).await.ok();
        alice.send(&room, "two").await;
        hers.until_reply("two", |reply| messages(reply, &room).contains(&"two")).await;
        bob.join(&room).await.ok();
        alice.send(&room, "three").await;

        let reply =
            his.until_reply("three", |reply| messages(reply, &room).contains(&"three")).await;
        let told: Vec<&str> = messages(&reply, &room);
        assert!(expected.ends_with(&told), "with {visibility} the sync told {told:?}");
        sees(&lab, &bob, &room, &expected, visibility).await;
        sees(&lab, &lab.second_device(&bob).await, &room, &expected, visibility).await;
        sees(&lab, &alice, &room, &["one", "two", "three"], visibility).await;
    }
}

#[tokio::test]
async fn a59_d1_1_what_was_said_while_the_history_was_closed_stays_closed() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    alice.send(&room, "open").await;
    for (visibility, said) in [("joined", "closed"), ("shared", "open again")] {
        let event = history_visibility(visibility);
        let content = event["content"].clone();
        alice.set_state(&room, "m.room.history_visibility", "", content).await.ok();
        alice.send(&room, said).await;
    }
    let mut hers = alice.v2();
    hers.until_reply("all", |reply| messages(reply, &room).contains(&"open again")).await;
    bob.join(&room).await.ok();

    let mut his = bob.v2();
    his.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    sees(&lab, &bob, &room, &["open", "open again"], "a visibility that changes").await;
    sees(&lab, &alice, &room, &["open", "closed", "open again"], "one's own messages").await;
}

/// The events in `GET /sync` are those that the homeserver has, field by field, in every version of rooms.
#[tokio::test]
async fn a49_events_are_as_the_homeserver_tells_them() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut rooms = Vec::new();
    for version in ["1", "10", "11", "12"] {
        let room = alice.create_room(json!({"room_version": version, "name": version})).await;
        alice.send(&room, "hello").await;
        alice.set_topic(&room, "one").await;
        alice.set_topic(&room, "two").await;
        rooms.push((version, room));
    }
    let filter = json!({"room": {"timeline": {"limit": 50}}});

    let ours = alice.sync().filter(&filter).send().await.ok();
    let theirs = lab.past_proxy(&alice).fresh_sync().filter(&filter).send().await.ok();

    for (version, room) in &rooms {
        let (ours, theirs) = (without_age(&ours, room), without_age(&theirs, room));
        assert!(ours.len() > 8, "a whole room is more than {ours:#?}");
        assert_eq!(ours, theirs, "in a room of version {version}");
        let create = &ours[0];
        assert_eq!(create["type"], "m.room.create");
        let rest_names_it = ours[1..].iter().any(|event| !event["room_id"].is_null());
        assert!(!rest_names_it, "{ours:#?}");
        // The ID of a version 12 room is made from this event, which keeps naming it.
        assert_eq!(
            create["room_id"].is_string(),
            *version == "12",
            "version {version}: {create:#}"
        );
    }
}

/// Checks what a user can read of a room, in a first sync and by paging back from it: by what is expected, and by what the
/// homeserver itself says.
async fn sees(lab: &Lab, user: &Client, room: &str, expected: &[&str], why: &str) {
    let mut random = Random::seeded(7);
    for limit in [50, 2] {
        for client in [user.clone(), lab.past_proxy(user)] {
            let filter = json!({"room": {"timeline": {"limit": limit}}});
            let reply = client.fresh_sync().filter(&filter).send().await.ok();
            let mut history = RoomHistory::of(room);
            history.begin(&reply);
            let prev_batch = joined(&reply, room)["timeline"]["prev_batch"].as_str().unwrap();
            history.page_to_the_beginning(&client, prev_batch, &mut random).await;
            // From a timeline that holds everything, Synapse pages into what it has told already.
            let texts: BTreeSet<&str> = history.bodies().into_iter().collect();
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            assert_eq!(
                texts, expected,
                "{why}: what {} sees with a limit of {limit}",
                client.user_id
            );
        }
    }
}

fn history_visibility(visibility: &str) -> Value {
    json!({"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": visibility}})
}

/// The timeline of a room, without what depends on the moment.
fn without_age(reply: &Value, room: &str) -> Vec<Value> {
    let mut events: Vec<Value> = timeline(reply, room).into_iter().cloned().collect();
    for event in &mut events {
        if let Some(unsigned) = event["unsigned"].as_object_mut() {
            unsigned.remove("age");
        }
    }
    events
}
