//! Nobody learns anything of a room that they are not in, or through another user's tokens.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{assert_no_trace, numbers};
use tests::wait::eventually;

/// The bodies of all v3 requests that name a room, one for each stream and way that can.
fn requests_about(room_id: &str) -> [Value; 9] {
    [
        json!({"typing": {"room_id": room_id}}),
        json!({"room_members": {"room_id": room_id}}),
        json!({"room_members": {"room_id": room_id, "p": {"since": "1", "limit": 1}}}),
        json!({"room": {"room_id": room_id}}),
        json!({"room": {"room_id": [room_id], "earliest_timeline_event_ids": ["$event"]}}),
        json!({"receipts": {"room_id": room_id}}),
        json!({"receipts": {"room_id": [room_id]}}),
        json!({"room_list": {"spaces": [room_id]}}),
        json!({"room_list": {"p": {"limit": 0}, "spaces": [room_id]}}),
    ]
}

#[tokio::test]
async fn a_stranger_is_refused_in_every_stream() {
    let lab = Lab::shared().await;
    let (alice, mallory) = (lab.user("alice").await, lab.user("mallory").await);
    let room = a_secret_room(&alice).await;

    for body in requests_about(&room) {
        is_refused(&mallory, &body, &alice).await;
    }
    let nowhere = "!there_is_no_such_room:test.local";
    for body in requests_about(nowhere) {
        is_refused(&mallory, &body, &alice).await;
    }
}

#[tokio::test]
async fn the_invited_the_departed_the_kicked_and_the_banned_are_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = a_secret_room(&alice).await;
    let users = [
        lab.user("invited").await,
        lab.user("departed").await,
        lab.user("kicked").await,
        lab.user("banned").await,
    ];
    for user in &users {
        alice.invite(&room, &user.user_id).await.ok();
    }
    let [invited, departed, kicked, banned] = &users;
    for user in [departed, kicked, banned] {
        user.join(&room).await.ok();
        user.v3().ask(json!({"typing": {"room_id": room}})).await;
    }
    departed.leave(&room).await.ok();
    alice.kick(&room, &kicked.user_id).await.ok();
    alice.ban(&room, &banned.user_id).await.ok();
    // The leave has reached the proxy when the user's own sync has it.
    for user in [departed, kicked, banned] {
        let mut chain = user.v2();
        chain
            .until("the room to be gone", |reply| {
                reply["rooms"]["join"][&room].is_null().then_some(())
            })
            .await;
    }

    for user in [invited, departed, kicked, banned] {
        for body in requests_about(&room) {
            is_refused(user, &body, &alice).await;
        }
    }
}

#[tokio::test]
async fn whoever_leaves_in_mid_session_hears_no_more() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = a_secret_room(&alice).await;
    alice.invite(&room, &bob.user_id).await.ok();
    bob.join(&room).await.ok();
    let mut session = bob.v3();
    session.ask(json!({"typing": {"room_id": room}, "room_members": {"room_id": room}})).await;
    let mut chain = bob.v2();
    chain.next().await;

    alice.kick(&room, &bob.user_id).await.ok();
    chain.until("the kick", |reply| reply["rooms"]["leave"][&room].is_object().then_some(())).await;
    let carol = lab.user("carol").await;
    alice.invite(&room, &carol.user_id).await.ok();
    alice.starts_typing(&room).await;

    let reply = session.request(&json!({})).send().await;
    assert_no_trace(&reply.body_text(), &[&carol.user_id, "m.typing"]);
    reply.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn whoever_loses_the_room_while_waiting_is_woken_and_refused_from_then_on() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    let room = a_secret_room(&alice).await;
    alice.invite(&room, &bob.user_id).await.ok();
    bob.join(&room).await.ok();
    let mut session = bob.v3();
    session.ask(json!({"to_device": {}, "typing": {"room_id": room}})).await;
    carol.send_to_device(&bob, "m.test", json!({"n": 1})).await.ok();
    session.until("the message", |reply| numbers(&reply["to_device"]).first().copied()).await;

    let started = Instant::now();
    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    // It acknowledges what its `since` says before it begins to wait.
    held_is(&lab, 0).await;
    alice.kick(&room, &bob.user_id).await.ok();
    let reply = waiting.await.unwrap().ok();
    assert_eq!(reply, json!({"next": session.next()}), "it says nothing and moves nothing");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());

    carol.send_to_device(&bob, "m.test", json!({"n": 2})).await.ok();
    held_is(&lab, 1).await;
    for _ in 0..2 {
        session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
    }
    // Without the room the session goes on, and what was sent meanwhile has not been lost to a refusal.
    let reply = session.ask(json!({"typing": null})).await;
    assert_eq!(numbers(&reply["to_device"]), [2]);
}

#[tokio::test]
async fn another_users_tokens_open_nothing() {
    let lab = Lab::shared().await;
    let (alice, mallory) = (lab.user("alice").await, lab.user("mallory").await);
    let room = a_secret_room(&alice).await;
    let mut session = alice.v3();
    let first = session.ask(json!({"room_members": {"room_id": room, "p": {"limit": 1}}})).await;
    let v2_since = alice.v2().next().await["next_batch"].as_str().unwrap().to_owned();
    let own_room = mallory.create_public_room().await;
    let mut own = mallory.v3();
    own.ask(json!({})).await;

    let reply = mallory.v3_sync(&json!({})).since(session.next()).send().await;
    leaks_nothing(&reply.body_text(), &alice, &room);
    reply.refused(400, "M_UNKNOWN_SYNC_SESSION");

    let reply = mallory.sync().since(&v2_since).send().await;
    leaks_nothing(&reply.body_text(), &alice, &room);
    assert_eq!(reply.status, 400, "{}", reply.body_text());

    for (since, what) in [(&v2_since, "a v2 token"), (&session.next().to_owned(), "a v3 token")] {
        let reply = mallory.messages_before(&own_room, since, 5).send().await;
        leaks_nothing(&reply.body_text(), &alice, &room);
        assert_eq!(
            reply.status,
            400,
            "/messages from {what} of another user: {}",
            reply.body_text()
        );
    }

    // A page token only exists where there is more than one page.
    let bob = lab.user("bob").await;
    alice.invite(&room, &bob.user_id).await.ok();
    let mut paging = alice.v3();
    let page = eventually("a second member", async || {
        let reply = paging
            .ask(json!({"room_members": {"room_id": room, "p": {"limit": 1, "since": "1"}}}))
            .await;
        (reply["room_members"]["count"] == 2).then_some(reply)
    })
    .await;
    let page_token = page["room_members"]["p"]["next"]
        .as_str()
        .expect("two members are two pages of one")
        .to_owned();
    let body = json!({"room_members": {"room_id": own_room, "p": {"since": page_token}}});
    let reply = own.request(&body).send().await;
    leaks_nothing(&reply.body_text(), &alice, &room);
    reply.refused(400, "M_INVALID_PARAM");
    assert_eq!(first["room_members"]["count"], 1);
}

async fn a_secret_room(alice: &Client) -> String {
    alice.create_room(json!({"preset": "private_chat", "name": "The secret society", "topic": "what nobody may know"})).await
}

async fn is_refused(user: &Client, body: &Value, insider: &Client) {
    let reply = user.v3_sync(body).send().await;
    assert_no_trace(&reply.body_text(), &["secret society", "nobody may know", &insider.user_id]);
    reply.refused(403, "M_FORBIDDEN");
}

/// Waits until the proxy keeps so many to-device messages, whoever they are for.
async fn held_is(lab: &Lab, expected: i64) {
    eventually(&format!("{expected} messages in the database"), async || {
        let held = lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
        (held == expected).then_some(())
    })
    .await;
}

#[track_caller]
fn leaks_nothing(reply: &str, insider: &Client, room_id: &str) {
    assert_no_trace(reply, &["secret society", "nobody may know", &insider.user_id, room_id]);
}
