//! Lazy loading of members, and the room summary that goes with it.
//! <https://spec.matrix.org/v1.16/client-server-api/#lazy-loading-room-members>

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{joined, members_in_state, messages, of_type, timeline};

#[tokio::test]
async fn without_lazy_loading_all_members_come() {
    let lab = Lab::shared().await;
    let Party { alice, bob, carol, room } = party(&lab).await;

    let reply = alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();

    assert_eq!(members_in_state(&reply, &room), sorted(&[&alice, &bob, &carol]));
}

#[tokio::test]
async fn with_lazy_loading_only_the_senders_and_oneself_come() {
    let lab = Lab::shared().await;
    let Party { alice, bob, carol, room } = party(&lab).await;

    let mut chain = alice.v2().filtered(lazy(1));
    let reply = chain.next().await;
    let members = members_in_state(&reply, &room);
    assert!(members.contains(&bob.user_id.as_str()), "Bob sent the last message: {members:?}");
    assert!(
        members.contains(&alice.user_id.as_str()),
        "the own membership always comes: {members:?}"
    );
    // Carol may come as a hero of the room's name; a named room has no heroes.
    assert!(!members.contains(&carol.user_id.as_str()), "Carol said nothing: {members:?}");

    carol.send(&room, "here I am").await;
    let reply =
        chain.until_reply("Carol's message", |reply| !messages(reply, &room).is_empty()).await;
    assert_eq!(
        members_in_state(&reply, &room),
        [carol.user_id.as_str()],
        "now that she speaks, her membership comes"
    );
}

#[tokio::test]
#[ignore = "not built yet: a member is sent again with every message, which the specification allows (docs/deviations.md)"]
async fn with_lazy_loading_a_member_who_was_acknowledged_does_not_come_again() {
    let lab = Lab::shared().await;
    let Party { alice, carol, room, .. } = party(&lab).await;
    let mut chain = alice.v2().filtered(lazy(1));
    chain.next().await;
    carol.send(&room, "here I am").await;
    chain.until_reply("Carol's message", |reply| !messages(reply, &room).is_empty()).await;

    carol.send(&room, "and again").await;
    let reply =
        chain.until_reply("Carol's message", |reply| !messages(reply, &room).is_empty()).await;
    assert_eq!(members_in_state(&reply, &room), [""; 0], "and not again");
}

#[tokio::test]
async fn the_members_who_changed_in_a_gap_come() {
    let lab = Lab::shared().await;
    let Party { alice, bob, carol, room } = party(&lab).await;
    let mut chain = alice.v2().filtered(lazy(2));
    chain.next().await;
    let before = chain.since().to_owned();

    carol.leave(&room).await.ok();
    for n in 0..4 {
        bob.send(&room, &format!("after her leave {n}")).await;
    }
    chain
        .until_reply("the last message", |reply| {
            messages(reply, &room).contains(&"after her leave 3")
        })
        .await;

    let reply = alice.sync().since(&before).filter(&lazy(2)).send().await.ok();
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
    let leaves = tests::matchers::state(&reply, &room, "m.room.member", &carol.user_id)
        .expect("her leave comes");
    assert_eq!(leaves["content"]["membership"], "leave");
}

#[tokio::test]
async fn the_summary_counts_members_and_names_heroes() {
    let lab = Lab::shared().await;
    let (alice, bob, carol) =
        (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    let room = alice
        .create_room(json!({"preset": "private_chat", "invite": [bob.user_id, carol.user_id]}))
        .await;
    bob.join(&room).await.ok();

    let mut chain = alice.v2().filtered(lazy(10));
    let reply = chain
        .until_reply("Bob's join", |reply| {
            joined(reply, &room)["summary"]["m.joined_member_count"] == 2
        })
        .await;
    let summary = &joined(&reply, &room)["summary"];
    assert_eq!(summary["m.invited_member_count"], 1);
    let mut heroes: Vec<&str> =
        summary["m.heroes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    heroes.sort_unstable();
    assert_eq!(heroes, sorted(&[&bob, &carol]));

    carol.join(&room).await.ok();
    let reply = chain
        .until_reply("Carol's join", |reply| {
            joined(reply, &room)["summary"].get("m.joined_member_count").is_some()
        })
        .await;
    assert_eq!(joined(&reply, &room)["summary"]["m.joined_member_count"], 3);
    assert_eq!(of_type(&timeline(&reply, &room), "m.room.member").len(), 1);
}

/// A named room with three members, in which Bob spoke last.
struct Party {
    alice: Client,
    bob: Client,
    carol: Client,
    room: String,
}

async fn party(lab: &Lab) -> Party {
    let (alice, bob, carol) =
        (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    let room = alice.create_room(json!({"preset": "public_chat", "name": "Party"})).await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    bob.send(&room, "hello all").await;
    Party { alice, bob, carol, room }
}

fn lazy(limit: u64) -> Value {
    json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": limit}}})
}

fn sorted<'a>(users: &[&'a Client]) -> Vec<&'a str> {
    let mut ids: Vec<&str> = users.iter().map(|user| user.user_id.as_str()).collect();
    ids.sort_unstable();
    ids
}
