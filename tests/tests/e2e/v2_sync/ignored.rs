//! Ignored users: their messages and invites vanish, and come back when they are ignored no longer.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{joined, messages, rooms_in, section, state, timeline};

/// Ignores these users, and nobody else.
async fn ignore(client: &Client, users: &[&Client]) {
    let users: serde_json::Map<String, Value> =
        users.iter().map(|user| (user.user_id.clone(), json!({}))).collect();
    client.set_account_data("m.ignored_user_list", &json!({"ignored_users": users})).await.ok();
}

/// Bob has a room, Alice and Carol are in it.
async fn a_room_of_three(lab: &Lab) -> (Client, Client, Client, String) {
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let carol = lab.user("carol").await;
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    carol.join(&room).await.ok();
    (alice, bob, carol, room)
}

#[tokio::test]
async fn a81_d1_10_messages_of_ignored_users_vanish_and_their_state_does_not() {
    let lab = Lab::shared().await;
    let (alice, bob, carol, room) = a_room_of_three(&lab).await;
    let mut chain = alice.v2();
    chain.next().await;
    bob.send(&room, "before").await;
    chain.until_reply("the message", |reply| messages(reply, &room) == ["before"]).await;
    let before_the_list = chain.since().to_owned();

    ignore(&alice, &[&bob]).await;
    bob.send(&room, "while ignored").await;
    bob.set_topic(&room, "state is told").await;
    carol.send(&room, "the end").await;
    let mut told = Vec::new();
    chain
        .until("Carol's message", |reply| {
            told.extend(messages(reply, &room).into_iter().map(str::to_owned));
            told.contains(&"the end".to_owned()).then_some(())
        })
        .await;
    assert_eq!(told, ["the end"]);

    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(messages(&fresh, &room), ["the end"], "what is older is hidden as well");
    let topic = timeline(&fresh, &room).iter().any(|event| event["type"] == "m.room.topic");
    assert!(topic || state(&fresh, &room, "m.room.topic", "").is_some(), "{fresh:#}");

    let later = alice.sync().since(&before_the_list).send().await.ok();
    assert_eq!(messages(&later, &room), ["the end"]);
    assert_eq!(joined(&later, &room)["timeline"]["limited"], false, "nothing is missing");
}

#[tokio::test]
async fn a81_the_limit_counts_what_is_shown() {
    let lab = Lab::shared().await;
    let (alice, bob, carol, room) = a_room_of_three(&lab).await;
    let mut chain = alice.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    carol.send(&room, "first").await;
    for number in 0..12 {
        bob.send(&room, &format!("noise {number}")).await;
    }
    carol.send(&room, "last").await;
    chain.until("everything", |reply| messages(reply, &room).contains(&"last").then_some(())).await;
    ignore(&alice, &[&bob]).await;

    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let reply = alice.sync().since(&before).filter(&filter).send().await.ok();

    assert_eq!(messages(&reply, &room), ["first", "last"]);
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
}

#[tokio::test]
async fn a81_an_answer_is_not_woken_by_an_ignored_user() {
    let lab = Lab::shared().await;
    let (alice, bob, _carol, room) = a_room_of_three(&lab).await;
    ignore(&alice, &[&bob]).await;
    let mut chain = alice.v2();
    chain.next().await;
    // The list itself, joins and receipts are behind us once a wait has passed in silence.
    chain.until_reply("silence", |reply| reply["rooms"].is_null()).await;

    let waiting = tokio::spawn(chain.request().timeout(3_000).send());
    for number in 0..5 {
        bob.send(&room, &format!("noise {number}")).await;
    }
    let reply = waiting.await.unwrap().ok();

    assert!(joined(&reply, &room).is_null(), "{reply:#}");
}

#[tokio::test]
async fn a87_invites_from_ignored_users_never_appear() {
    let lab = Lab::shared().await;
    let (alice, bob, carol) =
        (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    let mut chain = alice.v2();
    chain.next().await;
    let beginning = chain.since().to_owned();
    let before = bob.create_room(json!({"preset": "private_chat"})).await;
    bob.invite(&before, &alice.user_id).await.ok();
    chain.until_reply("the invite", |reply| section(reply, "invite", &before).is_object()).await;

    ignore(&alice, &[&bob]).await;
    let after = bob.create_room(json!({"preset": "private_chat"})).await;
    bob.invite(&after, &alice.user_id).await.ok();
    let hers = carol.create_room(json!({"preset": "private_chat"})).await;
    carol.invite(&hers, &alice.user_id).await.ok();

    let mut listed = Vec::new();
    chain
        .until("Carol's invite", |reply| {
            listed.extend(rooms_in(reply, "invite").into_iter().map(str::to_owned));
            listed.contains(&hers).then_some(())
        })
        .await;
    assert_eq!(listed, [hers.as_str()], "an incremental sync");
    for reply in [
        alice.fresh_sync().send().await.ok(),
        alice.sync().since(&beginning).send().await.ok(),
        alice.sync().since(&beginning).query("full_state", "true").send().await.ok(),
    ] {
        assert_eq!(rooms_in(&reply, "invite"), [hers.as_str()]);
    }
}

#[tokio::test]
async fn a81_c5_who_is_ignored_no_longer_is_seen_with_what_was_missed() {
    let lab = Lab::shared().await;
    let (alice, bob, carol, room) = a_room_of_three(&lab).await;
    let quiet = carol.create_public_room().await;
    alice.join(&quiet).await.ok();
    carol.send(&quiet, "nothing of Bob here").await;
    let mut chain = alice.v2();
    chain.next().await;
    bob.send(&room, "before").await;
    chain.until_reply("the message", |reply| messages(reply, &room) == ["before"]).await;
    ignore(&alice, &[&bob]).await;
    bob.set_topic(&room, "one").await;
    bob.send(&room, "missed").await;
    bob.set_topic(&room, "two").await;
    let invited = bob.create_room(json!({"preset": "private_chat"})).await;
    bob.invite(&invited, &alice.user_id).await.ok();
    carol.send(&room, "the end").await;
    chain
        .until("Carol's message", |reply| messages(reply, &room).contains(&"the end").then_some(()))
        .await;
    let while_ignored = chain.since().to_owned();

    ignore(&alice, &[]).await;
    carol.send(&room, "after").await;
    // Alice's own writes are in her next answer; Carol's are once upstream has told of them.
    chain
        .until("what comes after", |reply| messages(reply, &room).contains(&"after").then_some(()))
        .await;

    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(messages(&fresh, &room), ["before", "missed", "the end", "after"]);
    assert!(rooms_in(&fresh, "invite").contains(&invited.as_str()), "{fresh:#}");
    let ids: Vec<&str> =
        timeline(&fresh, &room).iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    let different: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), different.len(), "no event stands there twice");
    // Whoever goes on from before reads a timeline that says truthfully what it lacks, and ends with the same state.
    let later = alice.sync().since(&while_ignored).send().await.ok();
    assert!(messages(&later, &room).ends_with(&["after"]));
    bob.send(&room, "heard again").await;
    chain.until("Bob", |reply| messages(reply, &room).contains(&"heard again").then_some(())).await;
    let fresh = alice.fresh_sync().send().await.ok();
    let topics: Vec<&str> = timeline(&fresh, &room)
        .into_iter()
        .filter(|event| event["type"] == "m.room.topic")
        .filter_map(|event| event["content"]["topic"].as_str())
        .collect();
    assert_eq!(topics.last(), Some(&"two"), "{fresh:#}");
    let lists_quiet = joined(&later, &quiet).is_object();
    assert!(!lists_quiet, "a room without Bob is left alone: {later:#}");
}
