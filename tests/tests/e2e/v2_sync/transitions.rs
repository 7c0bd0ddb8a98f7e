//! What happened between two syncs: only the end of it counts.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{
    content_of, events, joined, messages, of_type, section, sections_of, timeline, types,
};

#[tokio::test]
async fn a46_d5_14_an_invite_that_was_rejected_and_came_again_is_a_join_in_the_end() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await;
    let mut chain = bob.v2();
    chain.next().await;
    let mut stages = vec![chain.since().to_owned()];
    for step in 0..4 {
        let name = match step {
            0 | 2 => {
                alice.invite(&room, &bob.user_id).await.ok();
                "invite"
            }
            1 => {
                bob.leave(&room).await.ok();
                "leave"
            }
            _ => {
                bob.join(&room).await.ok();
                "join"
            }
        };
        let reply = chain.until_reply(name, |reply| section(reply, name, &room).is_object()).await;
        assert_eq!(sections_of(&reply, &room), [name]);
        stages.push(chain.since().to_owned());
    }

    for since in &stages[..4] {
        let reply = bob.sync().since(since).send().await.ok();
        assert_eq!(sections_of(&reply, &room), ["join"]);
        assert_eq!(joined(&reply, &room)["timeline"]["limited"], true, "it is new to this client");
        let all = [timeline(&reply, &room), events(&joined(&reply, &room)["state"])].concat();
        assert!(types(&all).contains(&"m.room.create"), "{reply:#}");
    }
    let reply = bob.sync().since(&stages[4]).send().await.ok();
    assert_eq!(sections_of(&reply, &room), [""; 0]);
}

/// Two of them invited him; there was one invite, and one rejection ends it.
#[tokio::test]
async fn d5_14_one_rejection_ends_the_invites_of_two() {
    let lab = Lab::shared().await;
    let (alice, bob, carol) =
        (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    let room = alice.create_public_room().await;
    carol.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.next().await;
    let since = chain.since().to_owned();
    alice.invite(&room, &bob.user_id).await.ok();
    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
    // What the homeserver makes of the second one is its own affair.
    carol.invite(&room, &bob.user_id).await;

    bob.leave(&room).await.ok();
    chain.until_reply("the end", |reply| section(reply, "leave", &room).is_object()).await;

    for reply in [bob.sync().since(&since).send().await.ok(), bob.fresh_sync().send().await.ok()] {
        assert!(section(&reply, "invite", &room).is_null(), "{reply:#}");
    }
}

#[tokio::test]
async fn a56_d1_15_joining_twice_is_joining_once() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let since = chain.since().to_owned();

    bob.join(&room).await.ok();
    bob.rename_in(&room, "Bob").await.ok();
    bob.rename_in(&room, "Robert").await.ok();
    bob.join(&room).await.ok();
    alice.send(&room, "welcome again").await;
    chain
        .until_reply("the message", |reply| messages(reply, &room).contains(&"welcome again"))
        .await;

    let reply = bob.sync().since(&since).send().await.ok();
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
    assert!(events(&joined(&reply, &room)["state"]).is_empty(), "{reply:#}");
    assert_eq!(messages(&reply, &room), ["welcome again"], "nothing from before comes again");
    let names = of_type(&timeline(&reply, &room), "m.room.member");
    assert!(names.iter().any(|event| event["content"]["displayname"] == "Robert"), "{names:#?}");
}

#[tokio::test]
async fn a57_who_joined_and_left_is_told_the_state_of_what_was_left() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room_with_a_topic(&alice).await;
    let mut chain = bob.v2();
    chain.next().await;
    let since = chain.since().to_owned();

    bob.join(&room).await.ok();
    bob.leave(&room).await.ok();
    chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let reply = bob.sync().since(&since).filter(&limit(1)).send().await.ok();
    let left = section(&reply, "leave", &room);
    let shown = events(&left["timeline"]);
    assert_eq!(types(&shown), ["m.room.member"], "{left:#}");
    assert_eq!(shown[0]["content"]["membership"], "leave");
    has_full_state(&events(&left["state"]));
}

#[tokio::test]
async fn a58_who_left_and_joined_is_told_the_whole_state() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room_with_a_topic(&alice).await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let since = chain.since().to_owned();

    bob.leave(&room).await.ok();
    alice.set_state(&room, "m.room.name", "", json!({"name": "While Bob was away"})).await.ok();
    bob.join(&room).await.ok();
    bob.send(&room, "back again").await;
    chain.until_reply("the message", |reply| messages(reply, &room).contains(&"back again")).await;

    let reply = bob.sync().since(&since).filter(&limit(1)).send().await.ok();
    assert_eq!(sections_of(&reply, &room), ["join"]);
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
    let state = events(&joined(&reply, &room)["state"]);
    has_full_state(&state);
    assert_eq!(content_of(&state, "m.room.name")["name"], "While Bob was away");
}

async fn a_room_with_a_topic(alice: &Client) -> String {
    alice.create_room(json!({"preset": "public_chat", "topic": "what it is about"})).await
}

fn limit(limit: u64) -> Value {
    json!({"room": {"timeline": {"limit": limit}}})
}

#[track_caller]
fn has_full_state(state: &[&Value]) {
    assert_eq!(content_of(state, "m.room.topic")["topic"], "what it is about", "{state:#?}");
    for event_type in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
        assert!(types(state).contains(&event_type), "{event_type} is missing in {state:#?}");
    }
}
