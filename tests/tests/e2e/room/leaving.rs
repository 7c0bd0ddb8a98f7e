//! Rooms that the user leaves, joins again, or names no more.

use serde_json::json;
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::find_state;
use tests::session::Session;

use super::{messages, rooms, timeline, told, two_in_a_room, until_message};

/// Polls until a room's leave is told, and checks that it is.
async fn until_left(session: &mut Session, room: &str, user: &Client) {
    let reply = session
        .until("the leave", |reply| (!told(reply, room).is_null()).then(|| reply.clone()))
        .await;
    let own = find_state(&timeline(&reply, room), "m.room.member", &user.user_id).cloned();
    let own = own.expect("the timeline ends with the leave");
    assert!(own["content"]["membership"] != "join", "{own:#}");
    let entry = told(&reply, room);
    assert!(entry["initial"].is_null() && entry["unread_notifications"].is_null(), "{entry:#}");
}

#[tokio::test]
async fn a_left_room_is_told_once_and_refused_then() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;
    let before = session.clone();
    bob.send(&room, "seen").await;
    alice.leave(&room).await.ok();

    let waiting = session.clone();
    until_left(&mut session, &room, &alice).await;
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
    session.request(&json!({})).timeout(1000).send().await.refused(403, "M_FORBIDDEN");
    let again = waiting.lose(json!({})).await;
    assert!(!timeline(&again, &room).is_empty(), "a reply that was lost can be asked for again");
    alice.v3_sync(&json!({"room": {"room_id": room}})).send().await.refused(403, "M_FORBIDDEN");

    let dropped = session.ask(json!({"room": null})).await;
    assert!(dropped["room"].is_null());
    drop(before);
}

#[tokio::test]
async fn who_is_kicked_is_told_while_waiting() {
    let lab = Lab::shared().await;
    let (bob, alice) = (lab.user_on_synapse("bob").await, lab.user("alice").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.kick(&room, &alice.user_id).await.ok();
    let reply = waiting.await.unwrap().ok();

    let own = find_state(&timeline(&reply, &room), "m.room.member", &alice.user_id).cloned();
    assert_eq!(own.unwrap()["content"]["membership"], "leave");
    session.absorb(&reply);
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_room_that_is_joined_again_comes_anew() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let other = alice.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": [room, other]}})).await;
    let old = session.clone();
    alice.leave(&room).await.ok();
    until_left(&mut session, &room, &alice).await;
    session.ask(json!({"room": {"room_id": [other]}})).await;

    bob.send(&room, "while she is away").await;
    alice.join(&room).await.ok();
    let reply = session.ask(json!({"room": {"room_id": [room, other]}})).await;
    assert_eq!(told(&reply, &room)["initial"], true);
    assert!(told(&reply, &other).is_null(), "nothing happened there: {reply:#}");
    let once = old.lose(json!({})).await;
    assert_eq!(told(&once, &room)["initial"], true, "for who missed all of that as well");
    bob.send(&room, "she is back").await;
    let reply = until_message(&mut session, &room, "she is back").await;
    assert!(told(&reply, &room)["initial"].is_null());
}

#[tokio::test]
async fn another_room_in_mid_session_begins_anew() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let other = alice.create_public_room().await;
    bob.join(&other).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;

    let reply = session.ask(json!({"room": {"room_id": other}})).await;
    assert_eq!(rooms(&reply), [&other]);
    assert_eq!(told(&reply, &other)["initial"], true);
    bob.send(&room, "no longer asked for").await;
    bob.send(&other, "asked for").await;
    let reply = until_message(&mut session, &other, "asked for").await;
    assert_eq!((rooms(&reply), messages(&reply, &other)), (vec![&*other], vec!["asked for"]));
    // Who names a room no more is not told that it was left.
    alice.leave(&room).await.ok();
    let mut both = alice.v3();
    both.ask(json!({"room": {"room_id": [other]}})).await;
    let reply = session.ask(json!({})).await;
    assert!(told(&reply, &room).is_null());
}

#[tokio::test]
async fn a_room_of_many_is_left() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut all = vec![room.clone()];
    for _ in 0..12 {
        all.push(alice.create_public_room().await);
    }
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": all}, "receipts": {"room_id": all}})).await;

    alice.leave(&room).await.ok();
    until_left(&mut session, &room, &alice).await;
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
    let rest = &all[1..];
    bob.join(&all[5]).await.ok();
    let reply =
        session.ask(json!({"room": {"room_id": rest}, "receipts": {"room_id": rest}})).await;
    assert!(rooms(&reply).iter().all(|room| told(&reply, room)["initial"].is_null()), "{reply:#}");
    bob.send(&all[5], "one of the rest").await;
    let reply = until_message(&mut session, &all[5], "one of the rest").await;
    assert!(told(&reply, &all[5])["initial"].is_null());
}
