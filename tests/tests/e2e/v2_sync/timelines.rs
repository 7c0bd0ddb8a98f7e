//! Timelines: the state at their start, `limited`, and what redactions do.

use serde_json::json;
use tests::lab::Lab;
use tests::matchers::{events, joined, messages, of_type, state, timeline, types};

#[tokio::test]
async fn a53_the_state_is_the_one_at_the_start_of_the_timeline() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.set_topic(&room, "first topic").await;
    for n in 0..3 {
        alice.send(&room, &format!("early {n}")).await;
    }
    alice.set_topic(&room, "second topic").await;
    for n in 0..3 {
        alice.send(&room, &format!("late {n}")).await;
    }

    // With a limit of 4 the timeline begins with the second topic, and there Synapse leaves the first one out.
    for (limit, topic_before) in [(3, "second topic"), (5, "first topic"), (6, "first topic")] {
        let filter = json!({"room": {"timeline": {"limit": limit}}});
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(timeline(&reply, &room).len(), limit, "{reply:#}");
        let topic = state(&reply, &room, "m.room.topic", "")
            .unwrap_or_else(|| panic!("no topic with a limit of {limit}: {reply:#}"));
        assert_eq!(topic["content"]["topic"], topic_before, "with a limit of {limit}");
    }
}

#[tokio::test]
async fn a53_a_young_room_has_its_whole_life_in_the_timeline() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;

    let filter = json!({"room": {"timeline": {"limit": 50}}});
    let reply = alice.sync().filter(&filter).send().await.ok();

    assert_eq!(types(&timeline(&reply, &room)).first(), Some(&"m.room.create"));
    assert!(events(&joined(&reply, &room)["state"]).is_empty(), "{reply:#}");
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
}

#[tokio::test]
async fn a50_a54_an_incremental_sync_has_no_state_unless_it_is_limited() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    alice.set_topic(&room, "a new topic").await;
    for n in 0..5 {
        alice.send(&room, &format!("message {n}")).await;
    }
    chain
        .until_reply("the last message", |reply| messages(reply, &room).contains(&"message 4"))
        .await;

    let whole = alice.sync().since(&before).send().await.ok();
    assert_eq!(joined(&whole, &room)["timeline"]["limited"], false);
    assert_eq!(types(&timeline(&whole, &room)).first(), Some(&"m.room.topic"));
    assert!(events(&joined(&whole, &room)["state"]).is_empty(), "{whole:#}");

    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let cut = alice.sync().since(&before).filter(&filter).send().await.ok();
    assert_eq!(joined(&cut, &room)["timeline"]["limited"], true);
    assert_eq!(messages(&cut, &room), ["message 3", "message 4"]);
    let in_the_gap = state(&cut, &room, "m.room.topic", "").expect("the gap's state change comes");
    assert_eq!(in_the_gap["content"]["topic"], "a new topic");
    assert!(
        state(&cut, &room, "m.room.create", "").is_none(),
        "what the client has does not come again"
    );
}

#[tokio::test]
async fn a_room_joined_since_comes_with_its_state_and_is_limited() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    alice.set_topic(&room, "welcome").await;
    for n in 0..12 {
        alice.send(&room, &format!("old {n}")).await;
    }
    let mut chain = bob.v2();
    chain.next().await;

    bob.join(&room).await.ok();
    let reply = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
    let topic = state(&reply, &room, "m.room.topic", "").expect("the state has the topic");
    assert_eq!(topic["content"]["topic"], "welcome");
    assert!(state(&reply, &room, "m.room.create", "").is_some(), "{reply:#}");
}

#[tokio::test]
async fn a56_d1_15_a_new_display_name_is_no_new_join() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    bob.rename_in(&room, "Robert").await.ok();
    let reply = chain
        .until_reply("the new name", |reply| {
            of_type(&timeline(reply, &room), "m.room.member")
                .iter()
                .any(|event| event["content"]["displayname"] == "Robert")
        })
        .await;

    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
    assert!(events(&joined(&reply, &room)["state"]).is_empty(), "{reply:#}");
}

#[tokio::test]
async fn a76_a_redacted_message_is_never_served_again() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    let secret = alice.send(&room, "my password is swordfish").await;
    chain.until_reply("the message", |reply| messages(reply, &room).len() == 1).await;

    alice.redact(&room, &secret).await.ok();
    chain
        .until_reply("the redaction", |reply| {
            types(&timeline(reply, &room)).contains(&"m.room.redaction")
        })
        .await;

    for request in [alice.fresh_sync(), alice.sync().since(&before)] {
        let reply = request.send().await.expect_status(200);
        assert!(!reply.body_text().contains("swordfish"), "{}", reply.body_text());
        let timeline = timeline(&reply.json, &room);
        let pruned = timeline
            .iter()
            .find(|event| event["event_id"] == secret.as_str())
            .expect("the event is still there");
        assert_eq!(pruned["content"], json!({}));
        assert!(pruned["unsigned"]["redacted_because"].is_object(), "{pruned:#}");
    }
}

#[tokio::test]
async fn a78_the_sender_alone_sees_the_transaction_id() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let laptop = lab.second_device(&alice).await;
    let event_id = alice.send(&room, "who sent this?").await;

    let transaction_of = async |reader: &tests::client::Client| {
        let mut chain = reader.v2();
        chain
            .until("the message", |reply| {
                let timeline = timeline(reply, &room);
                let event = timeline.iter().find(|event| event["event_id"] == event_id.as_str())?;
                Some(event["unsigned"]["transaction_id"].clone())
            })
            .await
    };

    assert!(transaction_of(&alice).await.is_string());
    assert!(transaction_of(&laptop).await.is_null(), "the user's other device did not send it");
    assert!(transaction_of(&bob).await.is_null());
}

#[tokio::test]
async fn a59_d1_1_a_newcomer_sees_nothing_from_before_where_the_history_is_for_members_only() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice
        .create_room(json!({
            "preset": "public_chat",
            "initial_state": [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}],
        }))
        .await;
    alice.send(&room, "behind your back").await;
    bob.join(&room).await.ok();
    alice.send(&room, "to your face").await;

    let filter = json!({"room": {"timeline": {"limit": 50}}});
    let mut chain = bob.v2().filtered(filter);
    let reply = chain.until_reply("the message", |reply| !messages(reply, &room).is_empty()).await;

    assert_eq!(messages(&reply, &room), ["to your face"]);
    assert!(!reply.to_string().contains("behind your back"), "{reply:#}");
}
