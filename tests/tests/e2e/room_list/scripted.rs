//! What Synapse cannot be made to say at will: gaps, threads that nobody reads, and times that lie ahead.

use serde_json::{Value, json};
use tests::scripted_homeserver::{first_sync, message, messages_in};

use super::{entry, texts};
use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

async fn set() -> (Stage, tests::session::Session) {
    let stage = Stage::set().await;
    let first = first_sync(&stage.alice.user_id, ROOM, "s0", &["first"]);
    stage.homeserver.on_sync(None, &first);
    let mut session = stage.alice.v3();
    let reply = session.ask(json!({"room_list": {}})).await;
    assert_eq!(texts(entry(&reply, ROOM)), ["first"]);
    (stage, session)
}

#[tokio::test]
async fn a_gap_is_told_with_the_way_back() {
    let (stage, mut session) = set().await;
    let mut gap = messages_in(ROOM, "s1", &["after the gap"]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    let name = json!({
        "type": "m.room.name", "state_key": "", "event_id": "$name", "sender": "@bob:scripted",
        "origin_server_ts": 1_700_000_000_000_u64, "content": {"name": "Named in it"}, "unsigned": {},
    });
    gap["rooms"]["join"][ROOM]["state"]["events"] = json!([name]);
    stage.homeserver.on_sync(Some("s0"), &gap);
    let reply = session
        .until("the gap", |reply| (!entry(reply, ROOM).is_null()).then(|| reply.clone()))
        .await;
    let entry = entry(&reply, ROOM);
    assert_eq!((&entry["limited"], &entry["name"]), (&json!(true), &json!("Named in it")));
    assert_eq!(texts(entry), ["after the gap"]);
    assert!(entry["initial"].is_null() && entry["prev_batch"].is_string(), "{entry:#}");
}

#[tokio::test]
async fn a_gap_without_events_is_told_as_well() {
    let (stage, mut session) = set().await;
    let mut gap = messages_in(ROOM, "s1", &[]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    stage.homeserver.on_sync(Some("s0"), &gap);
    let reply = session
        .until("the gap", |reply| (!entry(reply, ROOM).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(entry(&reply, ROOM)["limited"], true);
    assert!(entry(&reply, ROOM)["prev_batch"].is_string());
}

#[tokio::test]
async fn more_than_twenty_new_events_are_a_gap_too() {
    let (stage, mut session) = set().await;
    let many: Vec<String> = (0..25).map(|number| format!("message {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    stage.homeserver.on_sync(Some("s0"), &messages_in(ROOM, "s1", &many));
    let reply = session
        .until("the messages", |reply| (!entry(reply, ROOM).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(texts(entry(&reply, ROOM)), many[5..]);
    assert_eq!(entry(&reply, ROOM)["limited"], true);
}

#[tokio::test]
async fn threads_count() {
    let (stage, mut session) = set().await;
    let mut counted = messages_in(ROOM, "s1", &["in a thread"]);
    let room = &mut counted["rooms"]["join"][ROOM];
    room["unread_notifications"] = json!({"notification_count": 1, "highlight_count": 1});
    room["unread_thread_notifications"] = json!({
        "$one": {"notification_count": 2, "highlight_count": 0},
        "$two": {"notification_count": 4, "highlight_count": 1},
    });
    stage.homeserver.on_sync(Some("s0"), &counted);
    let reply = session
        .until("the counts", |reply| (!entry(reply, ROOM).is_null()).then(|| reply.clone()))
        .await;
    let entry = entry(&reply, ROOM);
    assert_eq!((&entry["notification_count"], &entry["highlight_count"]), (&json!(7), &json!(2)));
}

/// An event that claims to be of the year 2300 would be at the head of the list for ever.
#[tokio::test]
async fn no_event_is_later_than_it_was_heard_of() {
    let (stage, mut session) = set().await;
    let mut future: Value = message("of tomorrow");
    future["origin_server_ts"] = json!(10_413_792_000_000_u64);
    future["unsigned"] = json!({});
    let mut reply = messages_in(ROOM, "s1", &[]);
    reply["rooms"]["join"][ROOM]["timeline"]["events"] = json!([future]);
    stage.homeserver.on_sync(Some("s0"), &reply);
    let reply = session
        .until("the event", |reply| (!entry(reply, ROOM).is_null()).then(|| reply.clone()))
        .await;
    let timestamp = entry(&reply, ROOM)["timestamp"].as_u64().unwrap();
    assert!((1_700_000_000_000..10_000_000_000_000).contains(&timestamp), "{timestamp}");
}
