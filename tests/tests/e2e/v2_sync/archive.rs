//! Rooms that the user has left: in an initial sync only for those who ask for them with `include_leave`.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{
    bodies, events, find_state, joined, of_type, rooms_in, section, sections_of,
};

fn include_leave() -> Value {
    json!({"room": {"include_leave": true}})
}

/// Bob, who has never synced, and Alice's room, which he left after she said something in it.
async fn left_before(lab: &Lab) -> (Client, Client, String) {
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.send(&room, "while Bob was there").await;
    bob.leave(&room).await.ok();
    alice.send(&room, "behind his back").await;
    (alice, bob, room)
}

fn tells_own_leave(entry: &Value, user_id: &str) -> bool {
    let timeline = events(&entry["timeline"]);
    of_type(&timeline, "m.room.member")
        .iter()
        .any(|event| event["state_key"] == user_id && event["content"]["membership"] == "leave")
}

#[tokio::test]
async fn a31_a91_rooms_left_before_the_first_sync_are_listed_on_request() {
    let lab = Lab::shared().await;
    let (_alice, bob, room) = left_before(&lab).await;
    bob.v2().next().await;

    let plain = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&plain, &room), [""; 0]);
    let reply = bob.fresh_sync().filter(&include_leave()).send().await.ok();

    assert_eq!(sections_of(&reply, &room), ["leave"]);
    let entry = section(&reply, "leave", &room);
    assert!(tells_own_leave(entry, &bob.user_id), "{entry:#}");
    assert!(!entry.to_string().contains("behind his back"), "{entry:#}");
    let timeline = events(&entry["timeline"]);
    assert_eq!(bodies(&timeline), ["while Bob was there"]);
    let filter = json!({"room": {"include_leave": true, "timeline": {"limit": 1}}});
    let reply = bob.fresh_sync().filter(&filter).send().await.ok();
    let entry = section(&reply, "leave", &room);
    assert_eq!(events(&entry["timeline"]).len(), 1, "the client's own filter counts");
    assert!(find_state(&events(&entry["state"]), "m.room.create", "").is_some(), "{entry:#}");
    let prev_batch = entry["timeline"]["prev_batch"].as_str().expect("a way back");
    let page = bob.messages_before(&room, prev_batch, 10).send().await.ok();
    assert!(page.to_string().contains("while Bob was there"), "{page:#}");
}

#[tokio::test]
async fn a31_a_full_state_sync_lists_what_an_incremental_one_does() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = left_before(&lab).await;
    let joined_room = alice.create_public_room().await;
    bob.join(&joined_room).await.ok();
    let mut chain = bob.v2();
    chain.until_reply("the room", |reply| joined(reply, &joined_room).is_object()).await;

    let request = bob.sync().since(chain.since()).filter(&include_leave());
    let reply = request.query("full_state", "true").send().await.ok();

    assert_eq!(sections_of(&reply, &joined_room), ["join"]);
    assert_eq!(sections_of(&reply, &room), [""; 0], "it was left before the since");
    let request = bob.fresh_sync().filter(&include_leave()).query("full_state", "true");
    let reply = request.send().await.ok();
    assert_eq!(sections_of(&reply, &room), ["leave"]);
    assert_eq!(sections_of(&reply, &joined_room), ["join"]);
}

#[tokio::test]
async fn a31_the_filters_rooms_count_for_left_rooms_as_well() {
    let lab = Lab::shared().await;
    let (_alice, bob, room) = left_before(&lab).await;
    bob.v2().next().await;

    // Synapse lists such rooms all the same, with nothing in them.
    let unwanted = [json!({"not_rooms": [room]}), json!({"rooms": ["!other:test.local"]})];
    for rooms in unwanted.into_iter().filter(|_| std::env::var_os("TEST_DIRECT").is_none()) {
        let mut filter = json!({"room": rooms});
        filter["room"]["include_leave"] = json!(true);
        let reply = bob.fresh_sync().filter(&filter).send().await.ok();
        assert_eq!(sections_of(&reply, &room), [""; 0], "{filter}");
    }
    let filter = json!({"room": {"rooms": [room], "include_leave": true}});
    let reply = bob.fresh_sync().filter(&filter).send().await.ok();
    assert_eq!(rooms_in(&reply, "leave"), [room.as_str()]);
}

#[tokio::test]
async fn a95_a_forgotten_room_is_not_listed_even_on_request() {
    let lab = Lab::shared().await;
    let (alice, bob, forgotten_before) = left_before(&lab).await;
    bob.forget(&forgotten_before).await.ok();
    let mut chain = bob.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    let (elsewhere, kept) = (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&elsewhere, &kept] {
        bob.join(room).await.ok();
        chain.until_reply("the room", |reply| joined(reply, room).is_object()).await;
        bob.leave(room).await.ok();
        chain.until_reply("the leave", |reply| section(reply, "leave", room).is_object()).await;
    }

    // Past the proxy, as by a client that does not use it.
    lab.past_proxy(&bob).forget(&elsewhere).await.ok();

    let reply = bob.fresh_sync().filter(&include_leave()).send().await.ok();
    assert_eq!(rooms_in(&reply, "leave"), [kept.as_str()]);
    let later = bob.sync().since(&before).send().await.ok();
    assert_eq!(
        sections_of(&later, &elsewhere),
        ["leave"],
        "a leave that is news is told all the same"
    );
}

#[tokio::test]
async fn a90_kicks_and_bans_from_before_the_first_sync_are_listed_without_asking() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let (kicked_from, banned_from) =
        (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&kicked_from, &banned_from] {
        bob.join(room).await.ok();
    }
    alice.kick(&kicked_from, &bob.user_id).await.ok();
    alice.ban(&banned_from, &bob.user_id).await.ok();

    for request in [bob.fresh_sync(), bob.fresh_sync().filter(&include_leave())] {
        let reply = request.send().await.ok();
        assert_eq!(sections_of(&reply, &kicked_from), ["leave"]);
        assert_eq!(sections_of(&reply, &banned_from), ["leave"]);
        let own = section(&reply, "leave", &banned_from);
        assert!(own.to_string().contains("ban"), "{own:#}");
    }
}

#[tokio::test]
async fn a97_the_last_membership_wins_and_a_room_has_one_section() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let (reinvited, unbanned) =
        (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&reinvited, &unbanned] {
        bob.join(room).await.ok();
    }
    let mut chain = bob.v2();
    chain.next().await;
    let before = chain.since().to_owned();

    alice.kick(&reinvited, &bob.user_id).await.ok();
    alice.invite(&reinvited, &bob.user_id).await.ok();
    alice.ban(&unbanned, &bob.user_id).await.ok();
    let body = json!({"user_id": bob.user_id});
    let path = format!("/_matrix/client/v3/rooms/{}/unban", tests::client::encode(&unbanned));
    alice.post(&path).json(&body).send().await.ok();
    let mut seen = (false, false);
    chain
        .until("both", |reply| {
            seen.0 |= section(reply, "invite", &reinvited).is_object();
            let left = section(reply, "leave", &unbanned);
            seen.1 |= tells_own_leave(left, &bob.user_id);
            (seen.0 && seen.1).then_some(())
        })
        .await;

    let reply = bob.sync().since(&before).send().await.ok();
    // Synapse lists the room as left as well.
    if std::env::var_os("TEST_DIRECT").is_none() {
        assert_eq!(sections_of(&reply, &reinvited), ["invite"]);
    }
    assert_eq!(sections_of(&reply, &unbanned), ["leave"]);
    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &reinvited), ["invite"]);
}
