//! The description is OpenAPI, a good reply passes, and each single thing that may be wrong with one is refused by name.

use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use super::{ENDPOINT, compiled, faults_of_v3_reply, faults_of_v3_request, openapi};

/// Says what the OpenAPI Initiative's own schema has against a description.
fn faults_of_description(page: &Value) -> Option<String> {
    let official: Value =
        serde_json::from_str(include_str!("../../../schemas/openapi_3.1.json")).unwrap();
    let id = official["$id"].as_str().unwrap().to_owned();
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource(&id, official).unwrap();
    let schema = compiler.compile(&id, &mut schemas).unwrap();
    schemas.validate(page, schema).err().map(|error| error.to_string())
}

/// Says what JSON Schema 2020-12 has against the schemas in a description.
fn faults_of_schemas(page: &Value) -> Option<String> {
    const ADDRESS: &str = "https://tests.invalid/a_description";
    let names = page["components"]["schemas"].as_object().unwrap().keys();
    names.into_iter().find_map(|name| {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource(ADDRESS, page.clone()).unwrap();
        let schema = format!("{ADDRESS}#/components/schemas/{name}");
        compiler.compile(&schema, &mut schemas).err().map(|error| format!("{name}: {error:#}"))
    })
}

#[test]
fn the_description_is_openapi_3_1_with_schemas_of_2020_12() {
    assert_eq!(faults_of_description(&openapi()), None);
    assert_eq!(faults_of_schemas(&openapi()), None);
}

#[test]
fn a_description_that_is_none_is_refused() {
    let check = |place: &str, wrong: Value| {
        let mut page = openapi();
        *page.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = wrong.clone();
        let fault = faults_of_description(&page).or_else(|| faults_of_schemas(&page));
        assert!(fault.is_some(), "{wrong} passes at {place}");
    };
    check("/openapi", json!("3.0.0"));
    check("/info", json!({"title": "without a version"}));
    check(&format!("{ENDPOINT}/parameters/0/in"), json!("body"));
    check(&format!("{ENDPOINT}/responses/400"), json!({"content": {}}));
    check("/components/securitySchemes/access_token/type", json!("bearer"));
    check("/components/schemas/Reply/required", json!("next"));
    check("/components/schemas/Count/type", json!("whole number"));
    check("/components/schemas/Count/minimum", json!("0"));
    check("/components/schemas/TypingReply/properties/events/items/$ref", json!("#/nowhere"));
}

#[test]
fn every_status_of_the_description_has_its_schema() {
    let mut statuses: Vec<u16> = compiled().replies.keys().copied().collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 401, 403, 408, 413, 429, 431, 502, 503, 504]);
}

/// A reply with one of everything.
fn good() -> Value {
    let event = |id: &str, event_type: &str| {
        json!({
            "event_id": id, "type": event_type, "sender": "@bob:test", "origin_server_ts": 1,
            "content": {"body": "hello"}, "unsigned": {"age": 5},
        })
    };
    let state = |id: &str, event_type: &str| {
        let mut event = event(id, event_type);
        event["state_key"] = json!("");
        event
    };
    let mut member = state("$member", "m.room.member");
    member["room_id"] = json!("!room:test");
    let mut created = state("$created", "m.room.create");
    created["room_id"] = json!("!room");
    let mut federated = event("$federated", "m.room.message");
    for name in ["auth_events", "prev_events", "depth", "hashes", "signatures", "room_id"] {
        federated[name] = json!("whatever");
    }
    federated.as_object_mut().unwrap().remove("event_id");
    let typing = json!({"type": "m.typing", "content": {"user_ids": ["@bob:test"]}});
    let receipt = json!({
        "type": "m.receipt", "content": {"$message": {"m.read": {"@bob:test": {"ts": 1}}}},
    });
    let stripped = json!({"events": [
        {"type": "m.room.name", "state_key": "", "sender": "@bob:test", "content": {"name": "a room"}},
    ]});
    json!({
        "next": "v3_token",
        "typing": {"events": [
            {"type": "m.typing", "room_id": "!room:test", "content": {"user_ids": ["@bob:test"]}},
        ]},
        "to_device": {"limit": 1000, "events": [{"type": "m.room_key", "sender": "@bob:test", "content": {}}]},
        "room_members": {"p": {"limit": 50, "sort": "by_pl", "next": "page"}, "events": [member], "count": 7},
        "room": {"timeline_limit": 100, "rooms": {"!room:test": {
            "initial": true,
            "state": {"events": [state("$topic", "m.room.topic"), created], "state_before": "$message"},
            "timeline": {"events": [event("$message", "m.room.message"), federated], "limited": true, "prev_batch": "p1"},
            "ephemeral": {"events": [typing, receipt]},
            "account_data": {"events": [{"type": "m.tag", "content": {"tags": {}}}]},
            "unread_notifications": {"highlight_count": 0, "notification_count": 3},
            "unread_thread_notifications": {"$message": {"highlight_count": 0, "notification_count": 1}},
            "summary": {"m.heroes": ["@bob:test"], "m.joined_member_count": 2, "m.invited_member_count": 0},
        }}},
        "room_list": {
            "p": {"limit": 20, "sort": ["by_recency"], "next": "page"},
            "count": 1,
            "rooms": [{
                "room_id": "!room:test", "initial": true, "name": "Bob", "avatar_url": null,
                "heroes": [{"user_id": "@bob:test", "displayname": "Bob", "avatar_url": "mxc://test/bob"}],
                "timestamp": 1, "joined_count": 2, "invited_count": 0, "notification_count": 3, "highlight_count": 0,
                "is_dm": true, "tags": {"m.favourite": {"order": 0.5}},
                "state_events": [state("$topic", "m.room.topic")],
                "timeline": [event("$message", "m.room.message")], "limited": true, "prev_batch": "p1",
            }],
            "removed": ["!other:test"],
            "notifications": [],
        },
        "invites": {
            "rooms": {"!invited:test": {"invite_state": stripped}, "!knocked:test": {"knock_state": stripped}},
            "left": ["!left:test"],
        },
        "account_data": {
            "events": [{"type": "m.direct", "content": {}}],
            "rooms": {"!room:test": [{"type": "m.tag", "content": {}}]},
        },
        "receipts": {"rooms": {"!room:test": [receipt]}},
        "presence": {"events": [{"type": "m.presence", "sender": "@bob:test", "content": {"presence": "online"}}]},
        "e2ee": {
            "device_lists": {"changed": ["@bob:test"], "left": ["@carol:test"]},
            "device_one_time_keys_count": {"signed_curve25519": 50},
            "device_unused_fallback_key_types": ["signed_curve25519"],
        },
    })
}

const ROOM: &str = "/room/rooms/!room:test";
const ENTRY: &str = "/room_list/rooms/0";

/// Checks that a changed reply is refused, and that the stream and the path are named.
#[track_caller]
fn is_refused(changed: &Value, stream: &str, path: &str, what: &str) {
    let fault = faults_of_v3_reply(200, changed).unwrap_or_else(|| panic!("{what} passes"));
    let named = format!("stream `{stream}`, at `/{path}");
    assert!(fault.contains(&named), "{what}: no {named} in {fault}");
}

/// The stream that a place is in, and the path within it.
fn split(place: &str) -> (&str, &str) {
    let place = place.trim_start_matches('/');
    place.split_once('/').unwrap_or((place, ""))
}

#[test]
fn a_good_reply_passes() {
    assert_eq!(faults_of_v3_reply(200, &good()), None);
    assert_eq!(faults_of_v3_reply(200, &json!({"next": "v3_token"})), None);
}

#[test]
fn each_required_thing_is_required() {
    let check = |parent: &str, names: &[&str]| {
        for name in names {
            let mut reply = good();
            let object = reply.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
            assert!(object.remove(*name).is_some(), "the good reply has {parent}/{name}");
            let (stream, path) = split(parent);
            is_refused(&reply, stream, path, &format!("a reply without {parent}/{name}"));
        }
    };
    check("", &["next"]);
    check("/typing", &["events"]);
    check("/typing/events/0", &["type", "room_id", "content"]);
    check("/to_device", &["limit", "events"]);
    check("/to_device/events/0", &["type", "sender", "content"]);
    check("/room_members", &["p", "events", "count"]);
    check("/room_members/p", &["limit", "sort"]);
    check("/room_members/events/0", &["room_id", "event_id", "state_key", "sender", "content"]);
    check("/room", &["rooms"]);
    for list in ["state", "timeline", "ephemeral", "account_data"] {
        check(&format!("{ROOM}/{list}"), &["events"]);
    }
    check(&format!("{ROOM}/timeline"), &["limited", "prev_batch"]);
    check(ROOM, &["timeline"]);
    check(&format!("{ROOM}/timeline/events/0"), &["event_id", "type", "sender", "content"]);
    check(&format!("{ROOM}/state/events/0"), &["state_key", "event_id"]);
    check("/room_list", &["p", "count", "rooms", "removed", "notifications"]);
    check(ENTRY, &["room_id", "timestamp", "is_dm", "tags"]);
    check(ENTRY, &["notification_count", "highlight_count"]);
    check(&format!("{ENTRY}/state_events/0"), &["state_key"]);
    check(&format!("{ENTRY}/heroes/0"), &["user_id"]);
    check("/invites/rooms/!invited:test", &["invite_state"]);
    check("/invites/rooms/!knocked:test/knock_state/events/0", &["state_key", "content"]);
    check("/receipts", &["rooms"]);
    check("/presence", &["events"]);
    let counts = ["device_one_time_keys_count", "device_unused_fallback_key_types"];
    check("/e2ee", &counts);
    check("/e2ee", &["device_lists"]);
    check("/e2ee/device_lists", &["changed", "left"]);
}

#[test]
fn names_that_are_not_described_are_refused() {
    let check = |place: &str| {
        let mut reply = good();
        let parent = reply.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        parent.insert("undocumented".to_owned(), json!([]));
        let (stream, path) = split(place);
        is_refused(&reply, stream, path, &format!("`undocumented` in {place}"));
    };
    for place in ["", "/typing", "/typing/events/0", "/to_device", "/room_members", "/room"] {
        check(place);
    }
    for place in ["/room_members/p", "/room_list", "/room_list/p", "/invites", "/account_data"] {
        check(place);
    }
    for place in ["/receipts", "/presence", "/e2ee", "/e2ee/device_lists", ENTRY] {
        check(place);
    }
    check(&format!("{ENTRY}/heroes/0"));
    check("/invites/rooms/!invited:test");
    check("/invites/rooms/!invited:test/invite_state");
    let parts = ["state", "timeline", "ephemeral", "account_data", "summary"];
    for part in [&parts[..], &["unread_notifications"]].concat() {
        check(&format!("{ROOM}/{part}"));
    }
    check(ROOM);
    // What is by room has rooms for its names.
    for place in ["/room/rooms", "/invites/rooms", "/account_data/rooms", "/receipts/rooms"] {
        let mut reply = good();
        reply.pointer_mut(place).unwrap()["@bob:test"] = json!({});
        is_refused(&reply, split(place).0, "", &format!("a user in {place}"));
    }
}

#[test]
fn each_wrong_value_is_refused() {
    let check = |place: &str, wrong: Value| {
        let mut reply = good();
        *reply.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = wrong.clone();
        // Where another alternative is meant, the fault can be one level up.
        let (stream, _path) = split(place);
        is_refused(&reply, stream, "", &format!("{wrong} at {place}"));
    };
    let in_room = |place: &str, wrong: Value| check(&format!("{ROOM}/{place}"), wrong);
    let in_entry = |place: &str, wrong: Value| check(&format!("{ENTRY}/{place}"), wrong);
    check("/next", json!(""));
    check("/next", json!(null));
    check("/typing", json!(null));
    check("/typing/events", json!([]));
    check("/typing/events/0/content/user_ids", json!(null));
    check("/to_device/limit", json!(1001));
    check("/to_device/limit", json!(0));
    check("/to_device/events", json!(null));
    check("/room/timeline_limit", json!(101));
    check("/room_members/p/limit", json!("50"));
    check("/room_members/p/sort", json!("by_magic"));
    check("/room_members/p/next", json!(null));
    check("/room_members/count", json!(-1));
    check("/room_members/events/0/type", json!("m.room.topic"));
    in_room("initial", json!(null));
    in_room("timeline/limited", json!(null));
    in_room("timeline/prev_batch", json!(null));
    in_room("ephemeral/events", json!([]));
    in_room("account_data/events", json!([]));
    in_room("unread_notifications/highlight_count", json!(null));
    in_room("summary/m.joined_member_count", json!("2"));
    check("/room_list/p/sort", json!([]));
    check("/room_list/p/sort", json!(["by_magic"]));
    check("/room_list/p/sort", json!("by_name"));
    check("/room_list/rooms", json!(null));
    check("/room_list/removed", json!(["@bob:test"]));
    check("/room_list/notifications", json!([{"room_id": "!room:test"}]));
    in_entry("name", json!(null));
    in_entry("timestamp", json!("1"));
    in_entry("is_dm", json!(null));
    in_entry("tags", json!([]));
    in_entry("timeline/0/event_id", json!("message"));
    check("/invites", json!({}));
    check("/invites/left", json!(null));
    check("/account_data", json!({}));
    check("/invites/rooms/!invited:test/invite_state/events/0/sender", json!("bob"));
    check("/account_data/rooms/!room:test", json!({}));
    check("/account_data/rooms/!room:test", json!([]));
    check("/receipts/rooms/!room:test", json!([]));
    check("/receipts/rooms/!room:test/0/type", json!("m.typing"));
    check("/presence/events/0/content/presence", json!("away"));
    check("/e2ee/device_lists/changed", json!(null));
    check("/e2ee/device_one_time_keys_count", json!({"signed_curve25519": -1}));
}

#[test]
fn a_room_id_is_only_where_the_description_has_one() {
    for place in [
        format!("{ROOM}/state/events/0"),
        format!("{ROOM}/timeline/events/0"),
        format!("{ROOM}/ephemeral/events/0"),
        format!("{ROOM}/account_data/events/0"),
        format!("{ENTRY}/state_events/0"),
        format!("{ENTRY}/timeline/0"),
        "/to_device/events/0".to_owned(),
        "/account_data/rooms/!room:test/0".to_owned(),
        "/receipts/rooms/!room:test/0".to_owned(),
    ] {
        let mut reply = good();
        reply.pointer_mut(&place).unwrap()["room_id"] = json!("!room:test");
        is_refused(&reply, split(&place).0, "", &format!("a room_id in {place}"));
    }
}

#[test]
fn contradictions_are_refused() {
    let check = |expected: &str, change: fn(&mut Value)| {
        let mut reply = good();
        change(&mut reply);
        let fault = faults_of_v3_reply(200, &reply);
        let fault = fault.unwrap_or_else(|| panic!("passes, although it is {expected}"));
        assert!(fault.contains(expected), "{fault}");
    };
    check("twice in the timeline", |reply| twice(reply, &format!("{ROOM}/timeline/events")));
    check("twice in the state", |reply| twice(reply, &format!("{ROOM}/state/events")));
    check("twice in the timeline", |reply| twice(reply, &format!("{ENTRY}/timeline")));
    check("twice in the state_events", |reply| twice(reply, &format!("{ENTRY}/state_events")));
    check("both changed and left", |reply| {
        reply["e2ee"]["device_lists"]["left"] = json!(["@bob:test"]);
    });
}

fn twice(reply: &mut Value, list: &str) {
    let list = reply.pointer_mut(list).and_then(Value::as_array_mut).unwrap();
    list.push(list[0].clone());
}

#[test]
fn errors_have_the_code_of_their_status() {
    let check = |status: u16, errcode: &str, passes: bool| {
        let fault = faults_of_v3_reply(status, &json!({"errcode": errcode, "error": "why"}));
        assert_eq!(fault.is_none(), passes, "{status} {errcode}: {fault:?}");
    };
    for errcode in ["M_UNKNOWN_SYNC_SESSION", "M_NOT_JSON", "M_BAD_JSON", "M_INVALID_PARAM"] {
        check(400, errcode, true);
        check(413, errcode, false);
    }
    check(400, "M_UNKNOWN", false);
    check(401, "M_MISSING_TOKEN", true);
    check(403, "M_FORBIDDEN", true);
    check(413, "M_TOO_LARGE", true);
    for status in [502, 503, 504] {
        check(status, "M_UNKNOWN", true);
        check(status, "M_NOT_JSON", false);
    }
    check(429, "M_LIMIT_EXCEEDED", true);
    for wrong in [json!(null), json!({"errcode": "M_UNKNOWN"}), json!({"error": "why"})] {
        for status in [400, 401, 403, 413, 429, 502, 503, 504] {
            assert!(faults_of_v3_reply(status, &wrong).is_some(), "{wrong} passes with {status}");
        }
    }
    let soft = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "why", "soft_logout": true});
    assert_eq!(faults_of_v3_reply(401, &soft), None);
    let soft = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "why", "soft_logout": "yes"});
    assert!(faults_of_v3_reply(401, &soft).is_some());
}

#[test]
fn requests() {
    let check = |body: &str, passes: bool| {
        let fault = faults_of_v3_request(body.as_bytes());
        assert_eq!(fault.is_none(), passes, "{body}: {fault:?}");
    };
    check("", true);
    check("{}", true);
    check(r#"{"typing": null, "room": null, "room_list": null, "e2ee": null}"#, true);
    check(r#"{"a_stream_of_the_future": 5, "typing": {"a_key_of_the_future": 5}}"#, true);
    check(r#"{"room_list": {"p": {"limit": 0, "sort": ["by_magic", "by_name"]}}}"#, true);
    check(r#"{"room": {"room_id": ["!a:b"], "types": null, "timeline_limit": 100000}}"#, true);
    check(r#"{"room": {"room_id": "room_list"}, "receipts": {"room_id": "!a:b"}}"#, true);
    check(r#"{"to_device": {"limit": 1e30}}"#, true);
    check("[]", false);
    check("{", false);
    check(r#"{"typing": {"room_id": "@a:b"}}"#, false);
    check(r#"{"to_device": {"limit": 0}}"#, false);
    check(r#"{"room": {"room_id": "room_lists"}}"#, false);
    check(r#"{"room": {"event_format": "matrix"}}"#, false);
    check(r#"{"room_list": {"state_events": [["m.room.topic"]]}}"#, false);
    check(r#"{"room_list": {"p": {"sort": "by_name"}}}"#, false);
    check(r#"{"room_list": {"filters": {"is_dm": null}}}"#, false);
    check(r#"{"presence": {"set_presence": "away"}}"#, false);
    check(r#"{"account_data": {"rooms": "yes"}}"#, false);
}
