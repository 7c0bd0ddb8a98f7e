//! Invites, knocks and departures to their end, and what each tells. The first tests of the sections are in
//! `membership.rs`.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{
    assert_no_trace, content_of, events, find_state, joined, messages, rooms_in, section,
    sections_of, types,
};

#[tokio::test]
async fn a84_an_initial_sync_has_every_invite_and_an_incremental_one_those_that_are_new() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let invitation = json!({"preset": "private_chat", "invite": [bob.user_id]});
    let first = alice.create_room(invitation.clone()).await;
    let mut chain = bob.v2();
    chain.until("the first", |reply| (rooms_in(reply, "invite") == [&first]).then_some(())).await;

    let second = alice.create_room(invitation).await;
    let reply =
        chain.until_reply("the second", |reply| !rooms_in(reply, "invite").is_empty()).await;
    assert_eq!(rooms_in(&reply, "invite"), [&second], "the first is not new");

    let initial = bob.fresh_sync().send().await.ok();
    let mut invited = rooms_in(&initial, "invite");
    invited.sort_unstable();
    let mut expected = [first.as_str(), second.as_str()];
    expected.sort_unstable();
    assert_eq!(invited, expected);
    assert_eq!(rooms_in(&initial, "join"), [""; 0]);
}

#[tokio::test]
async fn a85_the_invited_hear_who_where_and_what() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_room(json!({"preset": "private_chat", "name": "The den"})).await;
    alice.send(&room, "nothing for strangers").await;
    alice.set_topic(&room, "What we talk about").await;
    let mut chain = bob.v2();
    chain.next().await;

    alice.invite(&room, &bob.user_id).await.ok();
    let reply =
        chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;

    let entry = section(&reply, "invite", &room);
    assert_eq!(
        entry.as_object().unwrap().len(),
        1,
        "there is `invite_state` and no more: {entry:#}"
    );
    let stripped = events(&entry["invite_state"]);
    for event_type in ["m.room.create", "m.room.join_rules", "m.room.name", "m.room.topic"] {
        assert!(types(&stripped).contains(&event_type), "no {event_type} in {entry:#}");
    }
    let own = find_state(&stripped, "m.room.member", &bob.user_id).expect("the invite itself");
    assert_eq!(own["sender"], alice.user_id.as_str());
    assert_no_trace(&reply.to_string(), &["nothing for strangers"]);
}

#[tokio::test]
async fn a88_a_knock_ends_with_the_invite_and_that_with_the_join() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room_to_knock_at(&alice).await;
    let mut chain = bob.v2();
    chain.next().await;

    bob.knock(&room).await.ok();
    let reply =
        chain.until_reply("the knock", |reply| section(reply, "knock", &room).is_object()).await;
    let stripped = events(&section(&reply, "knock", &room)["knock_state"]);
    assert!(types(&stripped).contains(&"m.room.create"), "{reply:#}");
    let own = find_state(&stripped, "m.room.member", &bob.user_id).expect("the knock itself");
    assert_eq!(own["content"]["membership"], "knock");
    let initial = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&initial, &room), ["knock"], "an initial sync has it too");
    assert!(events(&section(&initial, "knock", &room)["knock_state"]).len() > 1, "{initial:#}");

    alice.invite(&room, &bob.user_id).await.ok();
    let reply =
        chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
    assert_eq!(sections_of(&reply, &room), ["invite"]);
    let initial = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&initial, &room), ["invite"]);

    bob.join(&room).await.ok();
    let reply = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(sections_of(&reply, &room), ["join"]);
    let initial = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&initial, &room), ["join"]);
}

#[tokio::test]
async fn a88_a86_a_knock_that_is_refused_or_withdrawn_becomes_a_leave() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_room_to_knock_at(&alice).await;
    let mut chain = bob.v2();
    chain.next().await;

    for refused in [true, false] {
        bob.knock(&room).await.ok();
        chain.until_reply("the knock", |reply| section(reply, "knock", &room).is_object()).await;
        if refused {
            alice.kick(&room, &bob.user_id).await.ok();
        } else {
            bob.leave(&room).await.ok();
        }
        let reply = chain
            .until_reply("the leave", |reply| section(reply, "leave", &room).is_object())
            .await;
        assert_eq!(sections_of(&reply, &room), ["leave"]);
        let told = events(&section(&reply, "leave", &room)["timeline"]);
        let own = find_state(&told, "m.room.member", &bob.user_id).expect("the own leave");
        assert_eq!(own["content"]["membership"], "leave");
        let sender = if refused { &alice } else { &bob };
        assert_eq!(own["sender"], sender.user_id.as_str());
        // Whoever was turned away hears of it in an initial sync, too; whoever went does not.
        let initial = bob.fresh_sync().send().await.ok();
        let expected: &[&str] = if refused { &["leave"] } else { &[] };
        assert_eq!(sections_of(&initial, &room), expected, "{initial:#}");
    }
}

#[tokio::test]
async fn a89_a92_a_departure_has_its_parts_and_nothing_from_after_it() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab, "shared").await;
    bob.tag(&room, "u.tagged").await.ok();
    alice.set_topic(&room, "before").await;
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let before = chain.since().to_owned();

    alice.send(&room, "said to all").await;
    bob.leave(&room).await.ok();
    alice.send(&room, "said behind the back").await;
    alice.set_topic(&room, "after").await;
    chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let with_left = json!({"room": {"include_leave": true}});
    let short = json!({"room": {"include_leave": true, "timeline": {"limit": 1}}});
    for request in [
        bob.sync().since(&before),
        bob.sync().since(&before).filter(&short),
        bob.fresh_sync().filter(&with_left),
        bob.fresh_sync().filter(&short),
        bob.sync().since(&before).query("full_state", "true"),
    ] {
        let reply = request.send().await.ok();
        let left = section(&reply, "leave", &room);
        let mut parts: Vec<&str> = left
            .as_object()
            .unwrap_or_else(|| panic!("not left: {reply:#}"))
            .keys()
            .map(String::as_str)
            .collect();
        parts.sort_unstable();
        assert_eq!(parts, ["account_data", "state", "timeline"]);
        assert_no_trace(&reply.to_string(), &["said behind the back", r#"topic":"after"#]);
        let timeline = events(&left["timeline"]);
        assert_eq!(
            content_of(&timeline[timeline.len() - 1..], "m.room.member")["membership"],
            "leave"
        );
    }
}

#[tokio::test]
async fn a93_whoever_leaves_sees_that_even_where_the_history_is_for_members_only() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab, "joined").await;
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let before = chain.since().to_owned();

    bob.leave(&room).await.ok();
    alice.send(&room, "members only").await;
    chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let with_left = json!({"room": {"include_leave": true}});
    let reply = bob.sync().since(&before).filter(&with_left).send().await.ok();
    let left = section(&reply, "leave", &room);
    let timeline = events(&left["timeline"]);
    assert_eq!(types(&timeline), ["m.room.member"], "{left:#}");
    assert_eq!(timeline[0]["content"]["membership"], "leave");
    assert_eq!(timeline[0]["sender"], bob.user_id.as_str());
    assert!(events(&left["state"]).is_empty(), "{left:#}");
}

#[tokio::test]
async fn a93_d5_14_whoever_rejects_an_invite_sees_that_and_nothing_of_the_room() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice
        .create_room(json!({"name": "Behind closed doors", "initial_state": [history("joined")]}))
        .await;
    let mut chain = bob.v2().filtered(json!({"room": {"include_leave": true}}));
    chain.next().await;
    alice.invite(&room, &bob.user_id).await.ok();
    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
    alice.send(&room, "members only").await;

    bob.leave(&room).await.ok();
    let reply =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let left = section(&reply, "leave", &room);
    let timeline = events(&left["timeline"]);
    assert_eq!(types(&timeline), ["m.room.member"], "{left:#}");
    assert_eq!(timeline[0]["content"]["membership"], "leave");
    assert!(events(&left["state"]).is_empty(), "{left:#}");
    assert_no_trace(&reply.to_string(), &["members only", "Behind closed doors"]);
}

#[tokio::test]
async fn a94_a_room_left_long_ago_stays_away_whatever_is_said_there() {
    let lab = Lab::shared().await;
    let (alice, bob, left) = two_in_a_room(&lab, "shared").await;
    let busy = alice.create_public_room().await;
    bob.join(&busy).await.ok();
    let filter = json!({"room": {"timeline": {"limit": 1}, "include_leave": true}});
    let mut chain = bob.v2().filtered(filter);
    chain.until("both", |reply| (rooms_in(reply, "join").len() == 2).then_some(())).await;
    bob.leave(&left).await.ok();
    chain.until_reply("the leave", |reply| section(reply, "leave", &left).is_object()).await;

    for n in 0..20 {
        alice.send(&busy, &format!("message {n}")).await;
        alice.send(&left, &format!("among ourselves {n}")).await;
    }
    chain
        .until("the last", |reply| {
            assert_eq!(sections_of(reply, &left), [""; 0], "{reply:#}");
            messages(reply, &busy).contains(&"message 19").then_some(())
        })
        .await;
}

#[tokio::test]
async fn a93_a_rejection_tells_nothing_of_a_former_stay() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab, "joined").await;
    alice.send(&room, "in former times").await;
    let mut chain = bob.v2();
    chain
        .until("the message", |reply| {
            messages(reply, &room).contains(&"in former times").then_some(())
        })
        .await;
    bob.leave(&room).await.ok();
    chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;
    alice.invite(&room, &bob.user_id).await.ok();
    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;

    bob.leave(&room).await.ok();
    let reply =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;

    let left = section(&reply, "leave", &room);
    let timeline = events(&left["timeline"]);
    assert_eq!(types(&timeline), ["m.room.member"], "{left:#}");
    assert_eq!(timeline[0]["unsigned"]["prev_content"]["membership"], "invite", "{left:#}");
    assert_no_trace(&reply.to_string(), &["in former times"]);
}

/// Not for Synapse, which lists the last room twice.
#[tokio::test]
async fn a97_of_several_memberships_the_last_one_counts() {
    let lab = Lab::shared().await;
    let (alice, bob, unbanned) = two_in_a_room(&lab, "shared").await;
    let (back, invited) = (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&back, &invited] {
        bob.join(room).await.ok();
    }
    let mut chain = bob.v2();
    chain.until("all", |reply| (rooms_in(reply, "join").len() == 3).then_some(())).await;
    let before = chain.since().to_owned();

    alice.ban(&unbanned, &bob.user_id).await.ok();
    unban(&alice, &unbanned, &bob).await;
    alice.kick(&back, &bob.user_id).await.ok();
    alice.invite(&back, &bob.user_id).await.ok();
    bob.join(&back).await.ok();
    alice.kick(&invited, &bob.user_id).await.ok();
    alice.invite(&invited, &bob.user_id).await.ok();
    chain
        .until("the last invite", |reply| {
            section(reply, "invite", &invited).is_object().then_some(())
        })
        .await;

    for request in [bob.sync().since(&before), bob.fresh_sync()] {
        let reply = request.send().await.ok();
        assert_eq!(sections_of(&reply, &unbanned), ["leave"], "{reply:#}");
        assert_eq!(sections_of(&reply, &back), ["join"], "{reply:#}");
        assert_eq!(sections_of(&reply, &invited), ["invite"], "{reply:#}");
    }
}

async fn a_room_to_knock_at(alice: &Client) -> String {
    let rules = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
    alice.create_room(json!({"name": "Knock first", "initial_state": [rules]})).await
}

async fn two_in_a_room(lab: &Lab, visibility: &str) -> (Client, Client, String) {
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let body = json!({"preset": "public_chat", "initial_state": [history(visibility)]});
    let room = alice.create_room(body).await;
    bob.join(&room).await.ok();
    (alice, bob, room)
}

fn history(visibility: &str) -> Value {
    json!({"type": "m.room.history_visibility", "content": {"history_visibility": visibility}})
}

async fn unban(moderator: &Client, room: &str, user: &Client) {
    let path = format!("/_matrix/client/v3/rooms/{}/unban", tests::client::encode(room));
    moderator.post(&path).json(&json!({"user_id": user.user_id})).send().await.ok();
}
