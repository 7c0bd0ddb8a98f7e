//! The four sections: join, invite, knock, leave. A room is in exactly one of them.

use serde_json::json;
use tests::lab::Lab;
use tests::matchers::{
    content_of, events, find_state, joined, messages, of_type, rooms_in, section, sections_of,
    timeline,
};

#[tokio::test]
async fn a84_a85_a86_an_invite_comes_with_stripped_state_and_ends_with_the_join() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut chain = bob.v2();
    chain.next().await;
    let room = alice.create_room(json!({"preset": "private_chat", "name": "The den"})).await;

    alice.invite(&room, &bob.user_id).await.ok();
    let reply =
        chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
    let stripped = events(&section(&reply, "invite", &room)["invite_state"]);
    assert_eq!(content_of(&stripped, "m.room.name")["name"], "The den");
    let own =
        find_state(&stripped, "m.room.member", &bob.user_id).expect("the invite itself is there");
    assert_eq!(own["content"]["membership"], "invite");
    assert_eq!(sections_of(&reply, &room), ["invite"]);

    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &room), ["invite"], "an initial sync has it too");

    bob.join(&room).await.ok();
    let reply = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(sections_of(&reply, &room), ["join"]);
}

#[tokio::test]
async fn a86_a_rejected_invite_becomes_a_leave() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut chain = bob.v2();
    chain.next().await;
    let room = alice.create_room(json!({"preset": "private_chat", "invite": [bob.user_id]})).await;
    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;

    bob.leave(&room).await.ok();
    let reply =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    assert_eq!(sections_of(&reply, &room), ["leave"]);
    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &room), [""; 0], "nothing of it is left in an initial sync");
}

#[tokio::test]
async fn a86_a_retracted_invite_becomes_a_leave() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut chain = bob.v2();
    chain.next().await;
    let room = alice.create_room(json!({"preset": "private_chat", "invite": [bob.user_id]})).await;
    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;

    alice.kick(&room, &bob.user_id).await.ok();
    let reply =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    assert_eq!(sections_of(&reply, &room), ["leave"]);
}

#[tokio::test]
async fn a88_a_knock_has_a_section_of_its_own_until_it_is_answered() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice
        .create_room(json!({
            "name": "Knock first",
            "initial_state": [{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
        }))
        .await;
    let mut chain = bob.v2();
    chain.next().await;

    bob.knock(&room).await.ok();
    let reply =
        chain.until_reply("the knock", |reply| section(reply, "knock", &room).is_object()).await;
    let stripped = events(&section(&reply, "knock", &room)["knock_state"]);
    assert_eq!(content_of(&stripped, "m.room.name")["name"], "Knock first");
    assert_eq!(sections_of(&reply, &room), ["knock"]);

    alice.invite(&room, &bob.user_id).await.ok();
    let reply =
        chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
    assert_eq!(sections_of(&reply, &room), ["invite"]);
}

#[tokio::test]
async fn a89_a91_a92_a94_a_room_that_was_left_says_so_once_and_then_is_silent() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    bob.leave(&room).await.ok();
    let reply =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;
    let left = section(&reply, "leave", &room);
    let own = of_type(&events(&left["timeline"]), "m.room.member")
        .last()
        .copied()
        .expect("the own leave is there");
    assert_eq!(
        (&own["state_key"], &own["content"]["membership"]),
        (&json!(bob.user_id), &json!("leave"))
    );
    assert!(left["ephemeral"].is_null() && left["unread_notifications"].is_null(), "{left:#}");

    alice.send(&room, "now that Bob is gone").await;
    let other = bob.create_public_room().await;
    let reply =
        chain.until_reply("the other room", |reply| joined(reply, &other).is_object()).await;
    assert_eq!(sections_of(&reply, &room), [""; 0]);
    assert!(!reply.to_string().contains("now that Bob is gone"), "{reply:#}");

    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &room), [""; 0], "an initial sync does not list it");
}

#[tokio::test]
async fn a90_those_who_were_kicked_or_banned_hear_of_it_even_in_an_initial_sync() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let (kicked_from, banned_from) =
        (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&kicked_from, &banned_from] {
        bob.join(room).await.ok();
    }
    let mut chain = bob.v2();
    chain.until("both rooms", |reply| (rooms_in(reply, "join").len() == 2).then_some(())).await;

    alice.kick(&kicked_from, &bob.user_id).await.ok();
    chain.until_reply("the kick", |reply| section(reply, "leave", &kicked_from).is_object()).await;
    alice.ban(&banned_from, &bob.user_id).await.ok();
    chain.until_reply("the ban", |reply| section(reply, "leave", &banned_from).is_object()).await;

    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &kicked_from), ["leave"]);
    assert_eq!(sections_of(&fresh, &banned_from), ["leave"]);
}

#[tokio::test]
async fn a46_a58_leaving_and_coming_back_between_two_syncs_is_a_new_join() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let before = chain.since().to_owned();

    bob.leave(&room).await.ok();
    alice.set_topic(&room, "while Bob was away").await;
    bob.join(&room).await.ok();
    chain
        .until_reply("the second join", |reply| {
            of_type(&timeline(reply, &room), "m.room.member")
                .iter()
                .any(|event| event["content"]["membership"] == "join")
        })
        .await;

    let reply = bob.sync().since(&before).send().await.ok();
    assert_eq!(sections_of(&reply, &room), ["join"]);
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
}

#[tokio::test]
async fn a46_a57_joining_and_leaving_between_two_syncs_is_a_leave() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    let mut chain = bob.v2();
    chain.next().await;
    let before = chain.since().to_owned();

    bob.join(&room).await.ok();
    bob.leave(&room).await.ok();
    chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let reply = bob.sync().since(&before).send().await.ok();
    assert_eq!(sections_of(&reply, &room), ["leave"]);
}

#[tokio::test]
async fn a95_a_forgotten_room_does_not_come_back() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    alice.kick(&room, &bob.user_id).await.ok();
    chain.until_reply("the kick", |reply| section(reply, "leave", &room).is_object()).await;

    bob.forget(&room).await.ok();

    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &room), [""; 0]);
}

/// As after a refresh: the first request with the token is the one that forgets.
#[tokio::test]
async fn a95_a_room_that_is_forgotten_with_a_new_token_does_not_come_back() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    alice.kick(&room, &bob.user_id).await.ok();
    chain.until_reply("the kick", |reply| section(reply, "leave", &room).is_object()).await;

    let again = lab.log_in_again(&bob).await;
    again.forget(&room).await.ok();

    let fresh = again.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &room), [""; 0]);
}

#[tokio::test]
async fn everyone_in_a_room_hears_the_same_messages() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let (mut hers, mut his) = (alice.v2(), bob.v2());
    hers.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    his.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    alice.send(&room, "hello Bob").await;

    for chain in [&mut hers, &mut his] {
        let reply =
            chain.until_reply("the message", |reply| !messages(reply, &room).is_empty()).await;
        assert_eq!(messages(&reply, &room), ["hello Bob"]);
    }
}
