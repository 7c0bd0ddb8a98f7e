//! Lazy loading of members, and the room summary that goes with it.
//! <https://spec.matrix.org/v1.16/client-server-api/#lazy-loading-room-members>

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{joined, members_in_state, messages, of_type, timeline};

#[tokio::test]
async fn a53_without_lazy_loading_all_members_come() {
    let lab = Lab::shared().await;
    let Party { alice, bob, carol, room } = party(&lab).await;

    let reply = alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();

    assert_eq!(members_in_state(&reply, &room), sorted(&[&alice, &bob, &carol]));
}

#[tokio::test]
async fn a62_a63_a65_only_the_senders_and_oneself_come() {
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
async fn a66_a_member_who_was_acknowledged_does_not_come_again() {
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

    let from_the_start = alice.fresh_sync().filter(&lazy(1)).send().await.ok();
    assert_eq!(
        members_in_state(&from_the_start, &room),
        sorted(&[&alice, &carol]),
        "a client that knows nothing is told again"
    );
}

#[tokio::test]
async fn a66_a_member_of_a_lost_answer_comes_again() {
    let lab = Lab::shared().await;
    let Party { alice, carol, room, .. } = party(&lab).await;
    let mut chain = alice.v2().filtered(lazy(1));
    chain.next().await;
    let before = chain.since().to_owned();
    carol.send(&room, "here I am").await;
    chain.until_reply("Carol's message", |reply| !messages(reply, &room).is_empty()).await;

    // The client never got that answer: it asks again from where it was.
    let again = alice.sync().since(&before).filter(&lazy(1)).send().await.ok();
    assert_eq!(members_in_state(&again, &room), [carol.user_id.as_str()]);

    // Whoever got the answer knows her; whoever did not is told, however much has come since.
    carol.send(&room, "and again").await;
    let next = chain.until_reply("her next message", |reply| !messages(reply, &room).is_empty());
    let next = next.await;
    assert_eq!(messages(&next, &room), ["and again"]);
    assert_eq!(members_in_state(&next, &room), [""; 0]);
    let both = alice.sync().since(&before).filter(&lazy(9)).send().await.ok();
    assert_eq!(messages(&both, &room), ["here I am", "and again"]);
    assert_eq!(members_in_state(&both, &room), [carol.user_id.as_str()]);
}

#[tokio::test]
async fn a33_redundant_members_come_on_request() {
    let lab = Lab::shared().await;
    let Party { alice, carol, room, .. } = party(&lab).await;
    let redundant = json!({"room": {
        "state": {"lazy_load_members": true, "include_redundant_members": true},
        "timeline": {"limit": 1},
    }});
    let mut chain = alice.v2().filtered(redundant);
    chain.next().await;
    for text in ["here I am", "and again"] {
        carol.send(&room, text).await;
        let reply =
            chain.until_reply("her message", |reply| messages(reply, &room) == [text]).await;
        assert_eq!(members_in_state(&reply, &room), [carol.user_id.as_str()], "{text}");
    }
}

#[tokio::test]
async fn a38_an_idle_answer_repeats_its_since_with_lazy_loading_too() {
    let lab = Lab::shared().await;
    let Party { alice, carol, room, .. } = party(&lab).await;
    let mut chain = alice.v2().filtered(lazy(1));
    chain.next().await;
    carol.send(&room, "here I am").await;
    chain.until_reply("Carol's message", |reply| !messages(reply, &room).is_empty()).await;

    let idle = chain.request().send().await.ok();
    assert_eq!(idle["next_batch"], chain.since());
}

#[tokio::test]
async fn a64_the_members_who_changed_in_a_gap_come() {
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
async fn a67_a68_the_summary_counts_members_and_names_heroes() {
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

#[tokio::test]
async fn a67_who_becomes_a_hero_comes_in_the_state() {
    let lab = Lab::shared().await;
    let Party { alice, bob, carol, room } = party(&lab).await;
    carol.send(&room, "the last word").await;
    let mut chain = alice.v2().filtered(lazy(1));
    let reply = chain.until_reply("her word", |reply| !messages(reply, &room).is_empty()).await;
    assert!(!members_in_state(&reply, &room).contains(&bob.user_id.as_str()), "{reply}");

    // Without a name the room is known by its members, and a summary names them.
    alice.set_state(&room, "m.room.name", "", json!({"name": ""})).await.ok();
    let dave = lab.user("dave").await;
    dave.join(&room).await.ok();
    let mut told = Vec::new();
    chain
        .until("the heroes", |reply| {
            told.extend(members_in_state(reply, &room).into_iter().map(str::to_owned));
            joined(reply, &room)["summary"].get("m.heroes").map(|_| ())
        })
        .await;
    assert!(told.contains(&bob.user_id), "Bob is a hero now: {told:?}");
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
