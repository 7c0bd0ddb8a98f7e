//! The v3 stream `presence`: who is online, and what a session shows its own user as.

use serde_json::{Value, json};
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::events;
use tests::scripted_homeserver::{first_sync, nothing_new};
use tests::session::Session;
use tests::wait::eventually;
use tokio::task::JoinHandle;

use crate::quiet::{says_nothing, waits};
use crate::stage::Stage;

#[tokio::test]
async fn the_first_reply_is_everybody_who_is_not_offline() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let carol = lab.user_on_synapse("carol").await;
    carol.join(&room).await.ok();
    let mut hers = alice.v3();
    let first = hers.ask(json!({"presence": {}})).await;
    assert_eq!(of(&first, &alice).expect("oneself is among them")["presence"], "online");
    bob.set_presence("unavailable", "in the lab").await.ok();
    carol.set_presence("online", "").await.ok();
    carol.set_presence("offline", "").await.ok();

    let (mut sees_bob, mut sees_carol) = (false, false);
    hers.until("both of them", |reply| {
        sees_bob |= of(reply, &bob).is_some_and(|his| his["status_msg"] == "in the lab");
        sees_carol |= of(reply, &carol).is_some_and(|hers| hers["presence"] == "offline");
        (sees_bob && sees_carol).then_some(())
    })
    .await;

    let fresh = alice.v3().ask(json!({"presence": {}})).await;
    let his = of(&fresh, &bob).expect("he is not offline");
    assert_eq!(
        (&his["presence"], &his["status_msg"]),
        (&json!("unavailable"), &json!("in the lab"))
    );
    assert!(of(&fresh, &carol).is_none(), "{fresh:#}");
    assert_eq!(events(&fresh["presence"])[0]["type"], "m.presence");
}

#[tokio::test]
async fn a_session_shows_the_user_online_only_with_the_stream() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    // Whoever joins a room is shown online by that; what he says last, counts.
    bob.join(&room).await.ok();
    bob.set_presence("offline", "").await.ok();

    let mut session = bob.v3();
    session.ask(json!({"to_device": {}, "account_data": {}})).await;
    for n in 0..3 {
        // Each of these has his device polled for anew.
        bob.set_account_data("com.example", &json!({"n": n})).await.ok();
        session.ask(json!({})).await;
        assert_eq!(presence_of(&bob, &alice).await["presence"], "offline");
    }

    session.ask(json!({"presence": {}})).await;
    is_shown(&bob, &alice, "online").await;
    session.ask(json!({"presence": {"set_presence": "unavailable"}})).await;
    // The wish of the request before it lasts for some seconds.
    let goes_on = keeps_asking(session);
    is_shown(&bob, &alice, "unavailable").await;
    goes_on.abort();
}

#[tokio::test]
async fn a_session_that_is_offline_is_told_and_not_shown() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    bob.set_presence("offline", "").await.ok();

    let mut session = bob.v3();
    let first = session.ask(json!({"presence": {"set_presence": "offline"}})).await;
    assert!(first["presence"]["events"].is_array(), "{first:#}");
    alice.set_presence("online", "here").await.ok();
    until_status(&mut session, &alice, "here").await;

    assert_eq!(presence_of(&bob, &alice).await["presence"], "offline");
}

#[tokio::test]
async fn a_waiting_session_hears_of_presence_and_of_nothing_else() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    bob.set_presence("unavailable", "quiet").await.ok();
    let mut session = alice.v3();
    let body = json!({"presence": {"set_presence": "offline"}});
    let first = session.ask(body).await;
    if of(&first, &bob).is_none_or(|his| his["status_msg"] != "quiet") {
        until_status(&mut session, &bob, "quiet").await;
    }

    let waiting = waits(&session);
    // Neither of them is an activity of hers or his to the homeserver.
    for n in 0..3 {
        alice.set_account_data("com.example", &json!({"n": n})).await.ok();
        alice.tag(&room, &format!("u.{n}")).await.ok();
    }
    bob.set_presence("unavailable", "out").await.ok();
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    assert!(!events(&reply["presence"]).is_empty(), "woken by something else: {reply:#}");
    if of(&reply, &bob).is_none_or(|his| his["status_msg"] != "out") {
        until_status(&mut session, &bob, "out").await;
    }
}

#[tokio::test]
async fn an_old_since_is_replayed_and_a_dropped_stream_begins_anew() {
    let lab = Lab::shared().await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    let body = json!({"presence": {"set_presence": "offline"}, "to_device": {}});
    let (mut session, mut other) = (alice.v3(), alice.v3());
    session.ask(body.clone()).await;
    other.ask(body).await;
    let old = session.clone();
    bob.set_presence("online", "first").await.ok();
    until_status(&mut session, &bob, "first").await;

    for _ in 0..2 {
        let replayed = old.lose(json!({})).await;
        assert_eq!(of(&replayed, &bob).unwrap()["status_msg"], "first");
    }
    until_status(&mut other, &bob, "first").await;
    assert!(session.ask(json!({"presence": null})).await["presence"].is_null());
    bob.set_presence("online", "second").await.ok();
    until_status(&mut other, &bob, "second").await;
    let silent = session.ask(json!({})).await;
    assert!(says_nothing(&silent), "{silent:#}");
    let anew = session.ask(json!({"presence": {}})).await;
    assert_eq!(of(&anew, &bob).expect("as in a new session")["status_msg"], "second");
    assert!(of(&anew, &alice).is_some(), "{anew:#}");
}

#[tokio::test]
async fn another_wish_in_mid_session_tells_nobody_anew() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &with_presence(first_sync(&alice.user_id, "!r:scripted", "s1", &[])));
    let mut session = alice.v3();
    let first = session.ask(json!({"presence": {"set_presence": "offline"}})).await;
    assert_eq!(events(&first["presence"]).len(), 1);

    let changed = session.ask(json!({"presence": {"set_presence": "unavailable"}})).await;
    assert!(says_nothing(&changed), "{changed:#}");
    eventually("a poll that says so", async || {
        homeserver.seen_at("set_presence=unavailable").pop()
    })
    .await;
    homeserver.on_sync(Some("s1"), &with_presence(nothing_new("s2")));
    let reply = session.until("the change", |reply| reply["presence"]["events"].get(0).cloned());
    assert_eq!(reply.await["content"]["presence"], "online");
}

/// How long ago somebody was active counts from the reply, not from when the homeserver said so.
#[tokio::test]
async fn activity_grows_old_while_it_is_stored() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &with_presence(first_sync(&alice.user_id, "!r:scripted", "s1", &[])));
    let ago = async || {
        let reply = alice.v3().ask(json!({"presence": {}})).await;
        reply["presence"]["events"][0]["content"]["last_active_ago"].as_u64().unwrap()
    };
    let first = ago().await;
    assert!(first >= 60_000, "{first}");
    eventually("it to be longer ago", async || (ago().await > first).then_some(())).await;
}

#[tokio::test]
async fn what_changes_while_the_proxy_is_away_is_told() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"presence": {"set_presence": "offline"}})).await;

    lab.while_the_proxy_is_down(async {
        bob.set_presence("unavailable", "meanwhile").await.ok();
    })
    .await;

    until_status(&mut session, &bob, "meanwhile").await;
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    alice.set_presence("offline", "").await.ok();
    for (wrong, errcode) in [
        (json!({"set_presence": "busy"}), "M_INVALID_PARAM"),
        (json!({"set_presence": "Online"}), "M_INVALID_PARAM"),
        (json!({"set_presence": ""}), "M_INVALID_PARAM"),
        (json!({"set_presence": null}), "M_BAD_JSON"),
        (json!({"set_presence": true}), "M_BAD_JSON"),
        (json!("online"), "M_BAD_JSON"),
    ] {
        let reply = alice.v3_sync(&json!({"presence": wrong})).send().await;
        let error = reply.refused(400, errcode);
        assert!(error["error"].as_str().unwrap().starts_with("presence"), "{error}");
    }
    // Another stream's fault is this one's as well: a refused request shows nobody as online.
    let body = json!({"presence": {}, "account_data": {"rooms": 5}});
    alice.v3_sync(&body).send().await.refused(400, "M_BAD_JSON");
    alice.v3().ask(json!({"to_device": {}})).await;
    assert_eq!(presence_of(&alice, &bob).await["presence"], "offline");
}

/// The latest presence of a user that a reply tells.
fn of<'a>(reply: &'a Value, user: &Client) -> Option<&'a Value> {
    let presence = events(&reply["presence"]);
    let mut latest = presence.into_iter().rev();
    latest.find(|event| event["sender"] == user.user_id.as_str()).map(|event| &event["content"])
}

async fn until_status(session: &mut Session, user: &Client, status: &str) {
    let says = |reply: &Value| (of(reply, user)?["status_msg"] == status).then_some(());
    session.until(status, says).await;
}

/// Asks the homeserver, as another user.
async fn presence_of(user: &Client, asked_by: &Client) -> Value {
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id));
    asked_by.get(&path).send().await.ok()
}

async fn is_shown(user: &Client, to: &Client, presence: &str) {
    eventually(presence, async || {
        (presence_of(user, to).await["presence"] == presence).then_some(())
    })
    .await;
}

/// A session that goes on until it is aborted.
fn keeps_asking(mut session: Session) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            session.poll().await;
        }
    })
}

/// Bob was online a minute ago.
fn with_presence(mut reply: Value) -> Value {
    let content = json!({"presence": "online", "last_active_ago": 60_000});
    let event = json!({"type": "m.presence", "sender": "@bob:scripted", "content": content});
    reply["presence"]["events"] = json!([event]);
    reply
}
