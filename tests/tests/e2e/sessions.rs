//! v3 sessions: what sticks to them, how old tokens are replayed, and how they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::wait::eventually;

const UNKNOWN_SESSION: &str = "Session unknown or expired";

#[tokio::test]
async fn parameters_stick_key_by_key() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    let first = session.ask(json!({"to_device": {"limit": 2}, "room_members": {"room_id": room, "p": {"limit": 7}}})).await;
    assert_eq!(first["room_members"]["p"]["limit"], 7);
    for n in 0..5 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 5).await;

    let reply = session.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0, 1], "the limit stuck");
    let reply =
        session.ask(json!({"room_members": {"p": {"sort": "by_name", "since": "1"}}})).await;
    assert_eq!(reply["room_members"]["p"]["sort"], "by_name");
    assert_eq!(reply["room_members"]["p"]["limit"], 7, "a key that is left out keeps its value");
    assert_eq!(
        numbers(&reply["to_device"]),
        [2, 3],
        "a stream that is left out keeps all its values"
    );
    let reply = session.ask(json!({"to_device": {"limit": 10}})).await;
    assert_eq!(numbers(&reply["to_device"]), [4]);
    assert_eq!(reply["to_device"]["limit"], 10);
}

#[tokio::test]
async fn changed_parameters_are_answered_at_once_with_nothing_to_say() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}, "typing": {"room_id": room}})).await;

    for change in [json!({"typing": null}), json!({"to_device": {"limit": 5}})] {
        let started = Instant::now();
        let reply = session.request(&change).timeout(30_000).send().await.ok();
        session.absorb(&reply);

        assert_eq!(reply, json!({"next": session.next()}), "after {change}");
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{change} waited: {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn an_older_since_is_replayed_with_the_parameters_of_its_time() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut holder = alice.v3();
    holder.ask(json!({})).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 1}})).await;
    for n in 0..4 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 4).await;
    let old = session.clone();

    let lost = session.ask(json!({"to_device": {"limit": 3}})).await;
    assert_eq!(numbers(&lost["to_device"]), [0, 1, 2]);

    let replayed = old.lose(json!({})).await;
    assert_eq!(numbers(&replayed["to_device"]), [0], "the older token has the older limit");
    let asked_again = old.lose(json!({"to_device": {"limit": 3}})).await;
    assert_eq!(
        asked_again["to_device"], lost["to_device"],
        "a reply that was lost can be asked for again"
    );
    let onwards = session.ask(json!({})).await;
    assert_eq!(
        numbers(&onwards["to_device"]),
        [3],
        "and the newer token goes on as if nothing had happened"
    );
}

#[tokio::test]
async fn a_session_survives_a_restart_of_the_proxy() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 2}, "typing": {"room_id": room}})).await;

    lab.proxy.stop().await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    lab.proxy.start_again().await;
    has_waiting(&alice, 3).await;

    let reply = session.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0, 1], "position and limit are still known");
    bob.starts_typing(&room).await;
    session.until("Bob to type", |reply| reply["typing"].is_object().then_some(())).await;
}

#[tokio::test]
async fn a_token_from_after_the_backup_that_was_restored_is_of_no_session() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"room_list": {}})).await;
    lab.proxy.stop().await;
    lab.proxy.database().back_up().await;
    lab.proxy.start_again().await;
    for n in 0..10 {
        let text = format!("lost {n}");
        alice.send(&room, &text).await;
        session.until(&text, |reply| reply.to_string().contains(&text).then_some(())).await;
    }

    lab.proxy.stop().await;
    lab.proxy.database().restore_backup().await;
    lab.proxy.start_again().await;

    let error = session.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    assert_eq!(error["error"], UNKNOWN_SESSION);
    let anew = |reply: &Value| reply.to_string().contains("lost 9").then_some(());
    alice.v3().until_asking(&json!({"room_list": {}}), "what was lost", anew).await;
}

#[tokio::test]
async fn a_session_that_was_not_used_for_long_is_unknown() {
    let lab = Lab::with_own_proxy_and_flags(&["-session-expiry", "1"]).await;
    let alice = lab.user("alice").await;
    let (mut old, mut fresh) = (alice.v3(), alice.v3());
    old.ask(json!({"to_device": {}})).await;
    fresh.ask(json!({"to_device": {}})).await;

    let database = lab.proxy.database().connect().await.unwrap();
    let two_days = 2_i64 * 24 * 60 * 60 * 1_000;
    let aged = database
        .execute("UPDATE sessions SET last_used_at = last_used_at - $1 WHERE session_id = (SELECT MIN(session_id) FROM sessions)", &[&two_days])
        .await
        .unwrap();
    assert_eq!(aged, 1);
    // A running proxy may know the session by heart; what is promised about sleeping sessions is what a new process does.
    lab.proxy.crash_and_restart().await;

    let error = old.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    assert_eq!(error["error"], UNKNOWN_SESSION);
    fresh.ask(json!({})).await;
}

#[tokio::test]
async fn an_expired_session_holds_no_messages_back() {
    let lab = Lab::with_own_proxy_and_flags(&["-session-expiry", "1"]).await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut gone, mut live) = (alice.v3(), alice.v3());
    gone.ask(json!({"to_device": {}})).await;
    live.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    has_waiting_in(&live, 1).await;
    let database = lab.proxy.database().connect().await.unwrap();
    let two_days = 2_i64 * 24 * 60 * 60 * 1_000;
    database
        .execute("UPDATE sessions SET last_used_at = last_used_at - $1 WHERE session_id = (SELECT MIN(session_id) FROM sessions)", &[&two_days])
        .await
        .unwrap();
    lab.proxy.crash_and_restart().await;

    live.ask(json!({})).await;
    live.ask(json!({})).await;

    eventually("the message to be purged", async || {
        (lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_since_is_good_for_its_own_device_only() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    for stranger in [&bob, &laptop] {
        let reply = stranger.v3_sync(&json!({})).since(session.next()).send().await;
        assert_eq!(reply.refused(400, "M_UNKNOWN_SYNC_SESSION")["error"], UNKNOWN_SESSION);
    }
    session.ask(json!({})).await;
}

#[tokio::test]
async fn b2_a_new_login_of_the_same_device_keeps_its_sessions() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 3}})).await;

    let localpart = alice.user_id.trim_start_matches('@').split(':').next().unwrap();
    let again =
        Client::login(&lab.url(), localpart, tests::synapse::PASSWORD, &alice.device_id).await;
    assert_ne!(again.access_token, alice.access_token);

    let reply = again.v3_sync(&json!({})).since(session.next()).send().await.ok();
    assert!(reply["next"].is_string(), "{reply:#}");
}

#[tokio::test]
async fn sessions_of_one_device_do_not_disturb_each_other() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let (mut one, mut two) = (alice.v3(), alice.v3());
    one.ask(json!({"to_device": {"limit": 1}})).await;
    two.ask(json!({"typing": {"room_id": room}})).await;
    for n in 0..2 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 2).await;

    let reply = two.ask(json!({})).await;
    assert!(reply["to_device"].is_null(), "the second session never asked for it: {reply:#}");
    let reply = one.ask(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [0]);
    assert!(reply["typing"].is_null(), "{reply:#}");
}

/// Every existing token, sent once more after the restart, brings the very reply that it brought before.
#[tokio::test]
async fn after_a_restart_every_token_stands_where_it_stood() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut session = alice.v3();
    let all = json!({
        "to_device": {"limit": 2}, "typing": {"room_id": room},
        "room_members": {"room_id": room, "p": {"limit": 1, "sort": "by_name"}},
    });
    session
        .until_asking(&all, "both members", |reply| {
            (reply["room_members"]["count"] == 2).then_some(())
        })
        .await;
    let page = json!({"room_members": {"p": {"since": "1"}}});
    let first_page = session.lose(page).await;
    let next_page =
        json!({"room_members": {"p": {"since": first_page["room_members"]["p"]["next"]}}});
    for n in 0..5 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    carol.join(&room).await.ok();
    carol.rename_in(&room, "Caroline").await.ok();
    has_waiting(&alice, 5).await;
    // Who types is believed for a while only after a restart; that nobody does any more stays.
    bob.starts_typing(&room).await;
    let typists = async |expected: Value| {
        eventually("the typing", async || {
            let reply = session.lose(json!({})).await;
            let told = events(&reply["typing"]).first().map(|event| &event["content"]["user_ids"]);
            (told == Some(&expected)).then_some(())
        })
        .await;
    };
    typists(json!([bob.user_id])).await;
    bob.stops_typing(&room).await;
    typists(json!([])).await;

    // Three replies, each of which is lost once, and in the middle of a list of changes.
    let (mut tokens, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        tokens.push(session.clone());
        let reply = session.ask(json!({})).await;
        replies.push(reply);
    }
    assert_eq!(numbers(&replies[1]["to_device"]), [2, 3]);
    assert!(replies[0]["typing"].is_object(), "{:#}", replies[0]);
    let changes: usize = replies.iter().map(|reply| events(&reply["room_members"]).len()).sum();
    assert_eq!(changes, 2, "one in each of two replies: {replies:#?}");
    let page_before = tokens[0].lose(next_page.clone()).await;

    for _ in 0..2 {
        lab.proxy.crash_and_restart().await;
        for (token, reply) in tokens.iter().zip(&replies) {
            let again = token.lose(json!({})).await;
            // Another session holds the messages, so that acknowledged ones are there to be told again.
            assert_eq!(without_next(&again), without_next(reply));
        }
        for (reply, after) in replies.iter().zip(&replies[1..]) {
            let mut onwards = session.clone();
            onwards.absorb(reply);
            let onwards = onwards.lose(json!({})).await;
            assert_eq!(without_next(&onwards), without_next(after), "each stands where it stood");
        }
        let page_after = tokens[0].lose(next_page.clone()).await;
        assert_eq!(page_after["room_members"], page_before["room_members"]);
    }
    let after = session.ask(json!({})).await;
    assert!(after["typing"].is_null() && after["room_members"].is_null(), "{after:#}");
    assert!(after["to_device"].is_null(), "{after:#}");
}

/// The reply gets lost on its way; the client asks again, the same or something else.
#[tokio::test]
async fn a_lost_reply_can_be_asked_for_again_with_the_same_or_with_other_parameters() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (room, other) = (alice.create_public_room().await, alice.create_public_room().await);
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}, "room_members": {"room_id": room}})).await;
    bob.join(&room).await.ok();
    bob.starts_typing(&room).await;
    eventually("both to be there", async || {
        let reply = session.lose(json!({})).await;
        (reply["typing"].is_object() && reply["room_members"].is_object()).then_some(())
    })
    .await;

    let lost = session.lose(json!({})).await;
    assert_eq!(session.lose(json!({})).await, lost);

    // Two changes of mind, each as if the one before had never been.
    let elsewhere = session.lose(json!({"typing": {"room_id": other}, "room_members": null})).await;
    assert_eq!(events(&elsewhere["typing"])[0]["room_id"], other.as_str());
    assert_eq!(events(&elsewhere["typing"])[0]["content"]["user_ids"], json!([]));
    assert!(elsewhere["room_members"].is_null(), "{elsewhere:#}");
    let by_name = session.lose(json!({"room_members": {"p": {"sort": "by_name"}}})).await;
    assert_eq!(by_name["typing"], lost["typing"], "what was not changed is told as before");
    assert_eq!(by_name["room_members"]["count"], 2);
    assert_eq!(events(&by_name["room_members"]).len(), 2, "another list begins anew");

    assert_eq!(session.lose(json!({})).await, lost, "and none of it has left a trace");
    // A client may take up each of the replies.
    let mut went_elsewhere = session.clone();
    went_elsewhere.absorb(&elsewhere);
    let reply = went_elsewhere.ask(json!({})).await;
    assert_eq!(reply, json!({"next": went_elsewhere.next()}));
    session.absorb(&lost);
    let reply = session.ask(json!({})).await;
    assert!(reply["typing"].is_null() && reply["room_members"].is_null(), "{reply:#}");
}

#[tokio::test]
async fn requests_with_the_same_since_at_once_do_not_disturb_each_other() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;

    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = alice.on_new_connections();
            let request = client.v3_sync(&json!({})).since(session.next()).timeout(30_000);
            tokio::spawn(request.send())
        })
        .collect();
    // And one that changes the parameters in the meantime.
    let changed = session.lose(json!({"to_device": {"limit": 1}})).await;
    assert_eq!(changed.as_object().unwrap().len(), 1, "{changed:#}");
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();

    let mut replies = Vec::new();
    for request in waiting {
        replies.push(request.await.unwrap().ok());
    }
    for reply in &replies {
        assert_eq!(numbers(&reply["to_device"]), [1]);
        assert_eq!(reply["to_device"]["limit"], 100, "the other request's parameters are its own");
        assert_eq!(reply["next"], replies[0]["next"]);
    }
}

#[tokio::test]
async fn a_since_from_several_replies_ago_is_taken_up_again() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut holder = alice.v3();
    holder.ask(json!({})).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 1}})).await;
    for n in 0..6 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    has_waiting(&alice, 6).await;
    let mut tokens = Vec::new();
    for n in 0..6 {
        tokens.push(session.clone());
        assert_eq!(numbers(&session.ask(json!({})).await["to_device"]), [n]);
    }

    for back in [4, 1, 0, 3] {
        let mut from_there = tokens[back].clone();
        for n in back..6 {
            assert_eq!(numbers(&from_there.ask(json!({})).await["to_device"]), [n as u64]);
        }
        assert_eq!(from_there.next(), session.next(), "and comes to the same place");
    }
}

#[tokio::test]
async fn of_more_sessions_than_a_device_may_have_the_least_recently_used_goes() {
    let lab = Lab::with_own_proxy_and_flags(&["-sessions-per-device", "2"]).await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let tablet = lab.second_device(&alice).await;
    let mut elsewhere = tablet.v3();
    elsewhere.ask(json!({"to_device": {}})).await;
    let (mut one, mut two) = (alice.v3(), alice.v3());
    one.ask(json!({"to_device": {}})).await;
    two.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    has_waiting_in(&two, 1).await;
    // The older one is used last, and has acknowledged everything.
    assert_eq!(numbers(&one.ask(json!({})).await["to_device"]), [1]);
    one.ask(json!({})).await;
    let held = async || lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
    assert_eq!(held().await, 1, "the other session holds it");

    let mut three = alice.v3();
    let first = three.ask(json!({"to_device": {}})).await;

    assert_eq!(numbers(&first["to_device"]), [1], "it begins with the oldest that is held");
    let error = two.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    assert_eq!(error["error"], UNKNOWN_SESSION);
    assert_eq!(held().await, 1);
    three.ask(json!({})).await;
    assert_eq!(held().await, 0, "nobody holds it for the session that has gone");
    one.ask(json!({})).await;
    elsewhere.ask(json!({})).await;
    two.request(&json!({"to_device": null})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    assert_eq!(lab.proxy.database().count("SELECT COUNT(*) FROM sessions").await, 3);
}

#[tokio::test]
async fn a_request_that_waits_in_a_session_that_makes_way_is_refused_before_long() {
    let lab = Lab::with_own_proxy_and_flags(&["-sessions-per-device", "1"]).await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut old = alice.v3();
    old.ask(json!({"to_device": {}})).await;
    let waiting = tokio::spawn(old.request(&json!({})).timeout(30_000).send());

    let mut new = alice.v3();
    new.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();

    assert_eq!(
        numbers(
            &new.until("it", |reply| reply["to_device"].is_object().then(|| reply.clone())).await["to_device"]
        ),
        [1]
    );
    // It had begun to wait before, and has its answer; or it had not, and is refused. What comes next is refused.
    let reply = waiting.await.unwrap();
    if reply.status == 200 {
        old.absorb(&reply.json);
    }
    old.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
}

/// An old token loses its parameters in the end, the latest one never does.
#[tokio::test]
async fn parameters_from_many_changes_ago_are_forgotten() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {"limit": 1}})).await;
    let first = session.clone();
    for limit in 2..=33 {
        session.ask(json!({"to_device": {"limit": limit}})).await;
    }
    let recent = session.clone();
    first.lose(json!({})).await;
    // A client that goes on from the same token each time keeps that alive.
    for limit in 100..140 {
        recent.lose(json!({"to_device": {"limit": limit}})).await;
    }
    recent.lose(json!({})).await;
    session.ask(json!({"to_device": {"limit": 2_000}})).await;

    first.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    let reply = session.ask(json!({})).await;
    assert_eq!(reply, json!({"next": session.next()}));
    let kept = lab.proxy.database().count("SELECT COUNT(*) FROM session_params").await;
    assert!(kept <= 64, "{kept} sets of parameters are kept");
}

/// When a session was used is written now and then, and yet often enough that one in use never expires.
#[tokio::test]
async fn the_use_of_a_session_is_written_once_in_a_while() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let database = lab.proxy.database().connect().await.unwrap();
    let age = async |milliseconds: i64| {
        let sql = "UPDATE sessions SET last_used_at = last_used_at - $1";
        database.execute(sql, &[&milliseconds]).await.unwrap();
    };
    let used_at = async || {
        let row = database.query_one("SELECT MAX(last_used_at) FROM sessions", &[]).await.unwrap();
        row.get::<_, i64>(0)
    };

    age(120_000).await;
    let before = used_at().await;
    session.ask(json!({})).await;
    let after = used_at().await;
    assert!(after >= before + 120_000, "a use after a while is written");

    // The clock of the test need not be quick: what was used a moment from now was used just now.
    age(-600_000).await;
    let before = used_at().await;
    for _ in 0..3 {
        session.ask(json!({})).await;
    }
    assert_eq!(used_at().await, before, "and not each use");

    let mut other = alice.v3();
    other.ask(json!({})).await;
    age(600_000 + 30_000).await;
    let before = used_at().await;
    session.ask(json!({})).await;
    other.ask(json!({})).await;
    assert!(used_at().await > before, "but which session was used last is always known");
}

/// Expiry and restart in one: housekeeping takes what has expired, and what it alone held.
#[tokio::test]
async fn housekeeping_lets_go_what_expired_sessions_held() {
    let lab = Lab::with_own_proxy_and_flags(&["-session-expiry", "1"]).await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let (mut gone, mut live) = (alice.v3(), alice.v3());
    gone.ask(json!({"to_device": {}})).await;
    live.ask(json!({"to_device": {}})).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    has_waiting_in(&live, 1).await;
    live.ask(json!({})).await;
    live.ask(json!({})).await;
    assert_eq!(lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await, 1);
    let database = lab.proxy.database().connect().await.unwrap();
    let two_days = 2_i64 * 24 * 60 * 60 * 1_000;
    database
        .execute("UPDATE sessions SET last_used_at = last_used_at - $1 WHERE session_id = (SELECT MIN(session_id) FROM sessions)", &[&two_days])
        .await
        .unwrap();

    // Nobody asks for anything: the process does it by itself when it begins.
    lab.proxy.crash_and_restart().await;

    eventually("the session and its message to go", async || {
        let sessions = lab.proxy.database().count("SELECT COUNT(*) FROM sessions").await;
        let held = lab.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
        (sessions == 1 && held == 0).then_some(())
    })
    .await;
    live.ask(json!({})).await;
}

/// What the streams of a reply say.
fn without_next(reply: &Value) -> Value {
    let mut reply = reply.clone();
    reply.as_object_mut().unwrap().remove("next");
    reply
}

/// Waits until so many to-device messages are there for a device, as a session made for that alone sees them. One session
/// that asks again and again: with many, those of the test would have to make way.
async fn has_waiting(client: &Client, count: usize) {
    let mut probe = client.v3();
    probe.ask(json!({})).await;
    eventually(&format!("{count} messages for the device"), async || {
        let reply: Value = probe.lose(json!({"to_device": {"limit": 100}})).await;
        (events(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}

/// Waits until a session could be told of so many messages, without telling it.
async fn has_waiting_in(session: &tests::session::Session, count: usize) {
    eventually(&format!("{count} messages for the session"), async || {
        let reply = session.lose(json!({})).await;
        (events(&reply["to_device"]).len() == count).then_some(())
    })
    .await;
}
