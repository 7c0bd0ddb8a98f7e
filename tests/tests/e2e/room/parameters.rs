//! What the stream is asked with: changed in mid-session, lowered, refused.

use serde_json::{Value, json};
use tests::lab::Lab;

use super::{messages, state, timeline, told, two_in_a_room};

#[tokio::test]
async fn a_longer_timeline_brings_every_room_anew_with_what_is_new() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let other = alice.create_public_room().await;
    for n in 0..10 {
        alice.send(&room, &n.to_string()).await;
    }
    let mut session = alice.v3();
    let params = json!({"room_id": [room, other], "timeline_limit": 2});
    let first = session.ask(json!({"room": params})).await;
    assert_eq!(messages(&first, &room), ["8", "9"]);

    alice.send(&room, "live").await;
    let reply = session.ask(json!({"room": {"timeline_limit": 4}})).await;
    assert_eq!(messages(&reply, &room), ["7", "8", "9", "live"]);
    for room in [&room, &other] {
        assert_eq!(told(&reply, room)["initial"], true);
        assert!(!state(&reply, room).is_empty());
    }
    let again = session.ask(json!({})).await;
    assert!(again["room"].is_null(), "{again:#}");

    // No more than was told already.
    for limit in [1, 4] {
        let reply = session.ask(json!({"room": {"timeline_limit": limit}})).await;
        assert!(reply["room"].is_null(), "{reply:#}");
    }
    session.ask(json!({"room": {"timeline_limit": 1}})).await;
    for n in 0..3 {
        alice.send(&room, &format!("short {n}")).await;
    }
    let reply = session.ask(json!({})).await;
    assert_eq!(messages(&reply, &room), ["short 2"]);
    assert_eq!(told(&reply, &room)["timeline"]["limited"], true);
    drop(bob);
}

#[tokio::test]
async fn other_types_and_all_members_bring_rooms_anew() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room, "timeline_limit": 1}})).await;
    for (change, anew) in [
        (json!({"types": ["m.room.*"]}), true),
        (json!({"types": ["m.room.*"]}), false),
        (json!({"not_types": ["m.room.topic"]}), true),
        (json!({"types": null}), true),
        (json!({"lazy_load_members": false}), true),
        (json!({"lazy_load_members": true}), false),
        (json!({"lazy_load_members": false}), false),
        (json!({"earliest_timeline_event_ids": ["$any"]}), false),
    ] {
        let reply = session.ask(json!({"room": change})).await;
        let expected = if anew { json!(true) } else { Value::Null };
        assert_eq!(told(&reply, &room)["initial"], expected, "after {change}");
        assert_eq!(reply["room"].is_null(), !anew, "after {change}: {reply:#}");
    }
}

#[tokio::test]
async fn a_limit_that_is_too_high_is_lowered_and_told() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    let reply = session.ask(json!({"room": {"room_id": room, "timeline_limit": 1000}})).await;
    assert_eq!(reply["room"]["timeline_limit"], 100);
    assert!(!timeline(&reply, &room).is_empty());
    let reply = session.ask(json!({})).await;
    assert!(reply["room"].is_null(), "what sticks is what is in force: {reply:#}");
    let reply = session.ask(json!({"room": {"timeline_limit": 101}})).await;
    assert_eq!(reply["room"], json!({"timeline_limit": 100, "rooms": {}}));
    let reply = session.ask(json!({"room": {"timeline_limit": 100}})).await;
    assert!(reply["room"].is_null(), "{reply:#}");
}

/// Tokens name long lists, of which a session keeps the newest few: those that it goes on with are among them.
#[tokio::test]
async fn a_list_that_stays_outlives_many_that_change() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut all = Vec::new();
    for _ in 0..13 {
        all.push(alice.create_public_room().await);
    }
    let mut session = alice.v3();
    session.ask(json!({"receipts": {"room_id": all}})).await;
    for out in 0..40 {
        let mut some = all.clone();
        some.remove(out % 13);
        some.remove(out / 13);
        session.ask(json!({"room": {"room_id": some, "timeline_limit": 1}})).await;
    }
    let message = alice.send(&all[12], "still there").await;
    alice.read(&all[12], &message).await.ok();
    session
        .until("the receipt", |reply| reply["receipts"]["rooms"][&all[12]].is_array().then_some(()))
        .await;
}

#[tokio::test]
async fn bad_values_are_refused_by_name() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let elsewhere = bob.create_public_room().await;
    let many: Vec<String> = (0..1001).map(|n| format!("!{n}:test.local")).collect();
    let types: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let held: Vec<String> = (0..101).map(|n| format!("${n}")).collect();
    let with = |key: &str, value: Value| {
        let mut params = json!({"room_id": room});
        params[key] = value;
        params
    };
    for stream in ["room", "receipts"] {
        for (params, status, errcode, text) in [
            (json!({}), 400, "M_BAD_JSON", "room_id"),
            (json!({"room_id": null}), 400, "M_BAD_JSON", "room_id"),
            (json!({"room_id": 7}), 400, "M_BAD_JSON", "room_id"),
            (json!({"room_id": [room, 7]}), 400, "M_BAD_JSON", "room_id"),
            (json!({"room_id": "room"}), 400, "M_INVALID_PARAM", "room_id"),
            (json!({"room_id": [room, "room_list"]}), 400, "M_INVALID_PARAM", "room_id"),
            (json!({"room_id": many}), 400, "M_INVALID_PARAM", "1000"),
            (json!({"room_id": "room_list"}), 400, "M_INVALID_PARAM", "room_list"),
            (json!({"room_id": elsewhere}), 403, "M_FORBIDDEN", &elsewhere),
            (json!({"room_id": [room, elsewhere]}), 403, "M_FORBIDDEN", &elsewhere),
            (json!({"room_id": "!no:such.room"}), 403, "M_FORBIDDEN", "!no:such.room"),
        ] {
            let refusal = alice.v3_sync(&json!({stream: params})).send().await;
            let refusal = refusal.refused(status, errcode);
            assert!(refusal["error"].as_str().unwrap().contains(text), "{params}: {refusal}");
        }
    }
    for (params, errcode, text) in [
        (with("timeline_limit", json!(-1)), "M_INVALID_PARAM", "room.timeline_limit"),
        (with("timeline_limit", json!("1")), "M_BAD_JSON", "room.timeline_limit"),
        (with("types", json!("m.room.*")), "M_BAD_JSON", "room.types"),
        (with("types", json!([1])), "M_BAD_JSON", "room.types"),
        (with("not_types", json!(types)), "M_INVALID_PARAM", "room.not_types"),
        (with("lazy_load_members", json!("true")), "M_BAD_JSON", "room.lazy_load_members"),
        (with("event_format", json!("pdu")), "M_INVALID_PARAM", "room.event_format"),
        (with("event_format", json!(null)), "M_BAD_JSON", "room.event_format"),
        (
            with("earliest_timeline_event_ids", json!(held)),
            "M_INVALID_PARAM",
            "room.earliest_timeline_event_ids",
        ),
        (
            with("earliest_timeline_event_ids", json!(["$a\0"])),
            "M_INVALID_PARAM",
            "room.earliest_timeline_event_ids",
        ),
        (
            with("earliest_timeline_event_ids", json!("$a")),
            "M_BAD_JSON",
            "room.earliest_timeline_event_ids",
        ),
    ] {
        let refusal = alice.v3_sync(&json!({"room": params})).send().await.refused(400, errcode);
        assert!(refusal["error"].as_str().unwrap().contains(text), "{params}: {refusal}");
    }
}

#[tokio::test]
async fn a_refused_request_changes_nothing() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let elsewhere = bob.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room, "timeline_limit": 1}})).await;
    let change = json!({"room": {"room_id": elsewhere, "timeline_limit": 9}});
    session.request(&change).send().await.refused(403, "M_FORBIDDEN");
    alice.send(&room, "as before").await;
    let reply = session.ask(json!({})).await;
    assert_eq!(messages(&reply, &room), ["as before"]);
    assert!(told(&reply, &room)["initial"].is_null());
}
