//! Initial syncs that want more of a room than the proxy was ever told: it asks the homeserver, within bounds.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{bodies, events, joined, messages, timeline, types};
use tests::scripted_homeserver::{Canned, first_sync, message, messages_in, nothing_new};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// How the question for a room's timeline begins on the wire: with a filter that names the room.
const LOOKING_BACK: &str = "/_matrix/client/v3/sync?filter=%7B%22room%22%3A%7B%22rooms%22%3A%5B%22";

#[tokio::test]
async fn a20_a_filtered_timeline_reaches_its_limit() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.send_event(&room, "m.needle", json!({"body": "needle"})).await.ok();
    for n in 0..25 {
        alice.send(&room, &format!("hay {n}")).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 1, "types": ["m.needle"]}}});

    let reply = alice.sync().filter(&filter).send().await.ok();

    assert_eq!(types(&timeline(&reply, &room)), ["m.needle"], "{reply:#}");
    let theirs = lab.past_proxy(&alice).fresh_sync().filter(&filter).send().await.ok();
    assert_eq!(
        joined(&reply, &room)["timeline"]["limited"],
        joined(&theirs, &room)["timeline"]["limited"]
    );
    assert!(!events(&joined(&reply, &room)["state"]).is_empty(), "what is filtered out is state");
}

#[tokio::test]
async fn a20_a_filtered_timeline_that_is_all_there_is_is_not_limited() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.send_event(&room, "m.needle", json!({"body": "needle"})).await.ok();
    for n in 0..12 {
        alice.send(&room, &format!("hay {n}")).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 1, "types": ["m.needle"]}}});

    let reply = alice.sync().filter(&filter).send().await.ok();

    assert_eq!(types(&timeline(&reply, &room)), ["m.needle"], "{reply:#}");
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
}

#[tokio::test]
async fn a20_a_large_limit_is_filled_and_the_answer_is_the_homeservers() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for n in 0..14 {
        alice.send(&room, &format!("early {n}")).await;
    }
    alice.set_topic(&room, "in the middle").await;
    for n in 0..20 {
        alice.send(&room, &format!("late {n}")).await;
    }

    for filter in [
        json!({"room": {"timeline": {"limit": 100}}}),
        json!({"room": {"timeline": {"limit": 30}}}),
        json!({"room": {"timeline": {"limit": 30}, "state": {"lazy_load_members": true}}}),
        json!({"room": {"timeline": {"limit": 3, "types": ["m.room.topic", "m.room.create"]}}}),
        json!({"room": {"timeline": {"limit": 30, "not_senders": [alice.user_id]}}}),
        json!({"room": {"timeline": {"limit": 30}, "state": {"types": ["m.room.topic"]}}}),
    ] {
        let ours = alice.sync().filter(&filter).send().await.ok();
        let theirs = lab.past_proxy(&alice).fresh_sync().filter(&filter).send().await.ok();
        assert_eq!(ids(&ours, &room, "timeline"), ids(&theirs, &room, "timeline"), "{filter}");
        let [mut our_state, mut their_state] =
            [&ours, &theirs].map(|reply| ids(reply, &room, "state"));
        our_state.sort_unstable();
        their_state.sort_unstable();
        assert_eq!(our_state, their_state, "{filter}");
        let limited = |reply: &Value| joined(reply, &room)["timeline"]["limited"].clone();
        assert_eq!(limited(&ours), limited(&theirs), "{filter}");
    }
}

#[tokio::test]
async fn a20_the_client_goes_on_and_back_from_a_timeline_that_was_looked_for() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for n in 0..40 {
        alice.send(&room, &format!("{n}")).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 30}}});
    let mut chain = alice.v2().filtered(filter);

    let reply = chain.next().await;
    let expected: Vec<String> = (10..40).map(|n| n.to_string()).collect();
    assert_eq!(messages(&reply, &room), expected);

    let prev_batch = joined(&reply, &room)["timeline"]["prev_batch"].as_str().unwrap();
    let page = alice.messages_before(&room, prev_batch, 3).send().await.ok();
    assert_eq!(
        bodies(&page["chunk"].as_array().unwrap().iter().collect::<Vec<_>>()),
        ["9", "8", "7"]
    );
    alice.send(&room, "onwards").await;
    let reply = chain.until_reply("the message", |reply| !messages(reply, &room).is_empty()).await;
    assert_eq!(messages(&reply, &room), ["onwards"]);
}

#[tokio::test]
async fn a20_what_arrives_while_the_proxy_looks_back_comes_once() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &limited_room(alice, "s1"));
    alice.sync().send().await.ok();
    homeserver.is_polled_with("s1").await;
    // The answer is there before the poll that brings the same.
    let found = messages_in(ROOM, "ignored", &["old", "stored", "in both"]);
    homeserver.on_path(LOOKING_BACK, Canned::json(&found));
    let asking = tokio::spawn(alice.sync().filter(&needles()).send());
    eventually("the question", async || {
        (!homeserver.seen_at(LOOKING_BACK).is_empty()).then_some(())
    })
    .await;
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));

    let reply = asking.await.unwrap().ok();
    let mut chain = alice.v2().filtered(needles());
    chain.absorb(&reply);
    let mut texts: Vec<String> =
        messages(&reply, ROOM).iter().map(|&text| text.to_owned()).collect();
    if texts.len() < 3 {
        let later = chain.until_reply("the rest", |reply| !messages(reply, ROOM).is_empty()).await;
        texts.extend(messages(&later, ROOM).iter().map(|&text| text.to_owned()));
    }
    assert_eq!(texts, ["old", "stored", "in both"]);
    assert!(chain.next().await["rooms"].is_null());
}

/// Polls lag behind, and what upstream told is not known to come once: the answer is as short as what is stored.
#[tokio::test]
async fn what_is_found_while_no_poll_succeeds_comes_once() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_path("/_matrix/client/v3/user", Canned::json(&json!({})));
    homeserver.on_sync(None, &limited_room(alice, "s1"));
    alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();
    homeserver.is_polled_with("s1").await;
    let polls = homeserver.hold_syncs();
    alice.set_account_data("com.example", &json!({})).await.ok();
    // This one waits for the write in vain, and others do not wait after it.
    alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();
    let found = messages_in(ROOM, "ignored", &["old", "stored", "in both"]);
    homeserver.on_path(LOOKING_BACK, Canned::json(&found));

    let reply = alice.sync().filter(&needles()).send().await.ok();
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["in both"]));
    polls.open();

    let mut chain = alice.v2().filtered(needles());
    chain.absorb(&reply);
    let later = chain.until_reply("the rest", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&later, ROOM), ["in both"]);
    assert_eq!(messages(&reply, ROOM), ["stored"]);
    assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], true);
}

/// The bound, and what becomes of the rooms beyond it: their timelines are short, and say so.
#[tokio::test]
async fn a20_an_answer_looks_back_in_few_rooms_and_never_fails_for_it() {
    const ROOMS: usize = 200;
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut first = nothing_new("s1");
    for n in 0..ROOMS {
        let room_id = format!("!room{n}:scripted");
        let mut reply = first_sync(&alice.user_id, &room_id, "s1", &["stored"]);
        reply["rooms"]["join"][&room_id]["timeline"]["limited"] = json!(true);
        first["rooms"]["join"][&room_id] = reply["rooms"]["join"][&room_id].take();
    }
    homeserver.on_sync(None, &first);
    alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();
    assert!(homeserver.seen_at(LOOKING_BACK).is_empty(), "what is stored is enough");

    homeserver.on_path(LOOKING_BACK, Canned::bytes(500, r#"{"errcode":"M_UNKNOWN","error":"-"}"#));
    let reply = alice.sync().filter(&needles()).send().await.ok();

    assert_eq!(reply["rooms"]["join"].as_object().unwrap().len(), ROOMS);
    for (room_id, room) in reply["rooms"]["join"].as_object().unwrap() {
        assert_eq!(room["timeline"]["limited"], true, "{room_id}");
        assert_eq!(messages(&reply, room_id), ["stored"]);
    }
    let questions = homeserver.seen_at(LOOKING_BACK).len();
    assert!((1..=4).contains(&questions), "it asked {questions} times");
}

fn needles() -> Value {
    json!({"room": {"timeline": {"limit": 20, "types": ["m.room.message"]}}})
}

/// A first sync with one message stored, and more before it.
fn limited_room(alice: &Client, next_batch: &str) -> Value {
    let mut reply = first_sync(&alice.user_id, ROOM, next_batch, &[]);
    let timeline = &mut reply["rooms"]["join"][ROOM]["timeline"];
    timeline["events"] = json!([message("stored")]);
    timeline["limited"] = json!(true);
    reply
}

fn ids<'a>(reply: &'a Value, room_id: &str, list: &str) -> Vec<&'a str> {
    let events = events(&joined(reply, room_id)[list]);
    events.iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

/// Whose filter leaves nothing of a new room goes on waiting, and every poll has its answer put together anew.
#[tokio::test]
async fn a20_one_answer_asks_for_a_room_once() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let filter =
        json!({"room": {"timeline": {"types": ["m.room.message"]}, "state": {"types": []}}});
    let first = first_sync(&alice.user_id, "!other:scripted", "s1", &["one"]);
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2().filtered(filter);
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    let mut joins = first_sync(&alice.user_id, ROOM, "s2", &[]);
    joins["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    homeserver.on_path(LOOKING_BACK, Canned::json(&joins));

    let waiting = tokio::spawn(chain.request().timeout(20_000).send());
    homeserver.on_sync(Some("s1"), &joins);
    for n in 2..8 {
        homeserver.is_polled_with(&format!("s{n}")).await;
        let mut quiet = messages_in("!other:scripted", &format!("s{}", n + 1), &[]);
        quiet["rooms"]["join"]["!other:scripted"]["unread_notifications"]["notification_count"] =
            json!(n);
        homeserver.on_sync(Some(&format!("s{n}")), &quiet);
    }
    homeserver.is_polled_with("s8").await;
    homeserver.on_sync(Some("s8"), &messages_in(ROOM, "s9", &["at last"]));

    let reply = waiting.await.unwrap().ok();
    assert_eq!(messages(&reply, ROOM), ["at last"]);
    let asked =
        homeserver.seen().iter().filter(|seen| seen.target.starts_with(LOOKING_BACK)).count();
    assert_eq!(asked, 1);
}
