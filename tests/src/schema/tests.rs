//! A good reply passes, and each single thing that may be wrong with one is refused.

use serde_json::{Value, json};

use super::{faults_of_error, faults_of_sync};

/// A reply with one of everything.
fn good() -> Value {
    let message = json!({
        "event_id": "$message", "type": "m.room.message", "sender": "@bob:test", "origin_server_ts": 1,
        "content": {"body": "hello"},
        "unsigned": {"age": 5, "transaction_id": "t1", "membership": "join"},
    });
    let redacted = json!({
        "event_id": "$redacted", "type": "m.room.message", "sender": "@bob:test", "origin_server_ts": 1,
        "content": {}, "unsigned": {"redacted_because": {
            "event_id": "$redaction", "type": "m.room.redaction", "sender": "@bob:test", "origin_server_ts": 2,
            "content": {"redacts": "$redacted"}, "redacts": "$redacted",
        }},
    });
    let topic = json!({
        "event_id": "$topic", "type": "m.room.topic", "state_key": "", "sender": "@bob:test", "origin_server_ts": 1,
        "content": {"topic": "tests"},
    });
    let created = json!({
        "event_id": "$create", "type": "m.room.create", "state_key": "", "sender": "@bob:test", "origin_server_ts": 1,
        "content": {"room_version": "12"}, "room_id": "!joined",
    });
    let stripped = json!({"events": [
        {"type": "m.room.name", "state_key": "", "sender": "@bob:test", "content": {"name": "a room"}},
    ]});
    json!({
        "next_batch": "s1",
        "account_data": {"events": [{"type": "m.direct", "content": {}}]},
        "presence": {"events": [
            {"type": "m.presence", "sender": "@bob:test", "content": {"presence": "online", "last_active_ago": 5}},
        ]},
        "to_device": {"events": [{"type": "m.room_key", "sender": "@bob:test", "content": {}}]},
        "device_lists": {"changed": ["@bob:test"], "left": ["@carol:test"]},
        "device_one_time_keys_count": {"signed_curve25519": 50},
        "device_unused_fallback_key_types": ["signed_curve25519"],
        "rooms": {
            "join": {"!joined": {
                "timeline": {"events": [message, redacted], "limited": true, "prev_batch": "p1"},
                "state": {"events": [topic.clone(), created]},
                "account_data": {"events": [{"type": "m.tag", "content": {"tags": {"m.favourite": {}}}}]},
                "ephemeral": {"events": [
                    {"type": "m.typing", "content": {"user_ids": ["@bob:test"]}},
                    {"type": "m.receipt", "content": {"$message": {"m.read": {"@bob:test": {"ts": 1, "thread_id": "main"}}}}},
                ]},
                "unread_notifications": {"highlight_count": 0, "notification_count": 3},
                "unread_thread_notifications": {"$message": {"highlight_count": 0, "notification_count": 1}},
                "summary": {"m.heroes": ["@bob:test"], "m.joined_member_count": 2, "m.invited_member_count": 0},
            }},
            "invite": {"!invited": {"invite_state": stripped}},
            "knock": {"!knocked": {"knock_state": stripped}},
            "leave": {"!left": {
                "timeline": {"events": [], "limited": false, "prev_batch": "p2"},
                "state_after": {"events": [topic]},
                "account_data": {"events": []},
            }},
        },
    })
}

const JOINED: &str = "/rooms/join/!joined";
const MESSAGE: &str = "/rooms/join/!joined/timeline/events/0";

#[test]
fn a_good_reply_passes() {
    assert_eq!(faults_of_sync(&good()), None);
    let idle = json!({"next_batch": "s1", "device_one_time_keys_count": {}, "device_unused_fallback_key_types": []});
    assert_eq!(faults_of_sync(&idle), None);
}

#[test]
fn each_required_thing_is_required() {
    let check = |parent: &str, name: &str| {
        let mut reply = good();
        let object = reply.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
        assert!(object.remove(name).is_some(), "the good reply has {parent}/{name}");
        assert!(faults_of_sync(&reply).is_some(), "a reply without {parent}/{name} passes");
    };
    for name in ["next_batch", "device_one_time_keys_count", "device_unused_fallback_key_types"] {
        check("", name);
    }
    for name in
        ["timeline", "state", "account_data", "ephemeral", "unread_notifications", "summary"]
    {
        check(JOINED, name);
    }
    for name in ["timeline", "state_after", "account_data"] {
        check("/rooms/leave/!left", name);
    }
    for list in ["/account_data", "/presence", "/to_device"] {
        check(list, "events");
    }
    for list in ["timeline", "state", "account_data", "ephemeral"] {
        check(&format!("{JOINED}/{list}"), "events");
    }
    check("/rooms/invite/!invited", "invite_state");
    check("/rooms/invite/!invited/invite_state", "events");
    check("/rooms/knock/!knocked", "knock_state");
    for name in ["limited", "prev_batch"] {
        check(&format!("{JOINED}/timeline"), name);
    }
    for name in ["event_id", "type", "sender", "origin_server_ts", "content"] {
        check(MESSAGE, name);
        check(&format!("{JOINED}/state/events/0"), name);
        check(&format!("{JOINED}/timeline/events/1/unsigned/redacted_because"), name);
    }
    check(&format!("{JOINED}/state/events/0"), "state_key");
    check("/rooms/leave/!left/state_after/events/0", "state_key");
    for name in ["type", "state_key", "sender", "content"] {
        check("/rooms/invite/!invited/invite_state/events/0", name);
        check("/rooms/knock/!knocked/knock_state/events/0", name);
    }
    for name in ["highlight_count", "notification_count"] {
        check(&format!("{JOINED}/unread_notifications"), name);
        check(&format!("{JOINED}/unread_thread_notifications/$message"), name);
    }
    for name in ["type", "content"] {
        check("/account_data/events/0", name);
        check(&format!("{JOINED}/ephemeral/events/0"), name);
        check(&format!("{JOINED}/ephemeral/events/1"), name);
    }
    for name in ["type", "sender", "content"] {
        check("/presence/events/0", name);
        check("/to_device/events/0", name);
    }
    check(&format!("{JOINED}/ephemeral/events/0/content"), "user_ids");
    check("/presence/events/0/content", "presence");
}

#[test]
fn each_wrong_value_is_refused() {
    let check = |place: &str, wrong: Value| {
        let mut reply = good();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let parent = reply.pointer_mut(parent).unwrap_or_else(|| panic!("no parent of {place}"));
        match parent {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = wrong.clone(),
            other => other[name] = wrong.clone(),
        }
        assert!(faults_of_sync(&reply).is_some(), "{wrong} passes at {place}");
    };
    let joined = |place: &str, wrong: Value| check(&format!("{JOINED}/{place}"), wrong);
    check("/next_batch", json!(5));
    check("/next_batch", json!(""));
    check("/device_one_time_keys_count", json!({"signed_curve25519": -1}));
    check("/device_one_time_keys_count", json!({"signed_curve25519": "50"}));
    check("/device_unused_fallback_key_types", json!({}));
    check("/device_lists/changed/0", json!("bob"));
    check("/device_lists/changed", json!(null));
    joined("timeline/limited", json!("true"));
    joined("timeline/limited", json!(null));
    joined("timeline/prev_batch", json!(null));
    joined("timeline/prev_batch", json!(7));
    joined("timeline/events", json!(null));
    joined("unread_notifications/highlight_count", json!(-1));
    joined("unread_notifications/notification_count", json!(1.5));
    joined("unread_notifications/notification_count", json!(null));
    joined(
        "unread_thread_notifications",
        json!({"main": {"highlight_count": 0, "notification_count": 0}}),
    );
    joined("summary/m.heroes", json!("@bob:test"));
    joined("summary/m.joined_member_count", json!("2"));
    joined("summary/m.invited_member_count", json!(-1));
    joined("timeline/events/0/event_id", json!("message"));
    joined("timeline/events/0/sender", json!("bob"));
    joined("timeline/events/0/type", json!(null));
    joined("timeline/events/0/origin_server_ts", json!("1"));
    joined("timeline/events/0/content", json!("hello"));
    joined("timeline/events/0/unsigned", json!(null));
    joined("timeline/events/0/unsigned/age", json!("5"));
    joined("timeline/events/0/unsigned/membership", json!("joined"));
    joined("timeline/events/0/unsigned/transaction_id", json!(1));
    joined("timeline/events/0/unsigned/prev_content", json!(null));
    joined("state/events/0/state_key", json!(null));
    joined("ephemeral/events/0/content/user_ids", json!(["bob"]));
    joined("ephemeral/events/0/type", json!("m.presence"));
    joined("ephemeral/events/1/content", json!({"message": {"m.read": {"@bob:test": {"ts": 1}}}}));
    joined(
        "ephemeral/events/1/content",
        json!({"$message": {"m.read": {"@bob:test": {"ts": "1"}}}}),
    );
    joined("ephemeral/events/1/content", json!({"$message": {}}));
    joined("account_data/events/0/content", json!({"tags": []}));
    check("/presence/events/0/content/presence", json!("away"));
    check("/presence/events/0/content/last_active_ago", json!(-1));
    check("/presence/events/0/type", json!("m.typing"));
}

#[test]
fn what_must_not_be_there_is_refused() {
    let check = |place: &str, name: &str, value: Value| {
        let mut reply = good();
        let parent = reply.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        parent.insert(name.to_owned(), value);
        assert!(faults_of_sync(&reply).is_some(), "`{name}` passes in {place}");
    };
    let no_state = json!({"events": []});
    check("", "notifications", json!({}));
    check("/rooms", "peek", json!({}));
    check("/rooms/join", "#alias:test", good()["rooms"]["join"]["!joined"].clone());
    check(JOINED, "state_after", no_state.clone());
    check(JOINED, "org.matrix.msc4222.state_after", no_state.clone());
    check(JOINED, "invite_state", no_state.clone());
    check("/rooms/leave/!left", "state", no_state.clone());
    check("/rooms/leave/!left", "ephemeral", no_state.clone());
    check("/rooms/leave/!left", "summary", json!({}));
    check(
        "/rooms/leave/!left",
        "unread_notifications",
        json!({"highlight_count": 0, "notification_count": 0}),
    );
    check("/rooms/invite/!invited", "timeline", no_state.clone());
    check("/rooms/knock/!knocked", "invite_state", no_state);
    check(MESSAGE, "room_id", json!("!joined"));
    check(MESSAGE, "depth", json!(5));
    check(MESSAGE, "prev_content", json!({}));
    check(&format!("{MESSAGE}/unsigned"), "age_ts", json!(5));
    check(&format!("{JOINED}/ephemeral/events/0"), "room_id", json!("!joined"));
    check("/account_data/events/0", "room_id", json!("!joined"));
    check("/presence/events/0", "room_id", json!("!joined"));
    check("/to_device/events/0", "message_id", json!("m1"));
}

#[test]
fn contradictions_are_refused() {
    let check = |expected: &str, change: fn(&mut Value)| {
        let mut reply = good();
        change(&mut reply);
        let fault =
            faults_of_sync(&reply).unwrap_or_else(|| panic!("passes, although it {expected}"));
        assert!(fault.contains(expected), "{fault}");
    };
    check("two sections", |reply| {
        let room = reply["rooms"]["invite"]["!invited"].clone();
        reply["rooms"]["invite"]["!joined"] = room;
    });
    check("twice in the timeline", |reply| {
        let events =
            reply["rooms"]["join"]["!joined"]["timeline"]["events"].as_array_mut().unwrap();
        events.push(events[0].clone());
    });
    check("twice in the state", |reply| {
        let events = reply["rooms"]["join"]["!joined"]["state"]["events"].as_array_mut().unwrap();
        events.push(events[0].clone());
    });
    check("both changed and left", |reply| {
        reply["device_lists"]["left"] = json!(["@bob:test"]);
    });
}

#[test]
fn refusals_have_the_shape_of_the_specification() {
    let good = json!({"errcode": "M_UNKNOWN", "error": "what went wrong"});
    assert_eq!(faults_of_error(400, &good), None);
    let later = json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast", "retry_after_ms": 500});
    assert_eq!(faults_of_error(429, &later), None);
    let check = |status: u16, wrong: Value| {
        assert!(faults_of_error(status, &wrong).is_some(), "{wrong} passes with {status}");
    };
    check(400, Value::Null);
    check(400, json!({"errcode": "M_UNKNOWN"}));
    check(400, json!({"error": "what went wrong"}));
    check(400, json!({"errcode": "unknown", "error": "what went wrong"}));
    check(400, json!({"errcode": 5, "error": "what went wrong"}));
    check(400, json!({"errcode": "M_UNKNOWN", "error": {}}));
    check(401, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "gone", "soft_logout": "yes"}));
    check(429, good);
    check(429, json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast"}));
    check(
        429,
        json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast", "retry_after_ms": "500"}),
    );
}
