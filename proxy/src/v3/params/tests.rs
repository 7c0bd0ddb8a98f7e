//! Stickiness, case by case: what a body makes of the parameters so far.

use serde_json::json;
use store::{AccountId, Position};

use super::*;
use crate::token::Tokens;

const ROOM: &str = "!a:b";

/// What sticks after each of `bodies` in turn, or how the last is refused.
fn after(bodies: &[Value]) -> Result<Value, String> {
    let tokens = Tokens::new(&[1; 32]);
    let pages = PageTokens::new(&tokens, AccountId(1), Position(0));
    let mut params = Params::default();
    for body in bodies {
        let body = body.as_object().expect("the tests send objects");
        let request = Request::read(&params, body, pages).map_err(|error| match error {
            Error::BadJson(text) => format!("bad: {text}"),
            Error::InvalidParam(text) => format!("invalid: {text}"),
            other => other.to_string(),
        })?;
        params = Params::from_stored(&request.params.to_stored()).expect("what we stored");
        assert_eq!(params, request.params, "what is stored is what sticks");
    }
    Ok(Value::Object(params.0))
}

#[track_caller]
fn check(bodies: &[Value], expected: Value) {
    assert_eq!(after(bodies), Ok(expected));
}

#[track_caller]
fn check_refused(bodies: &[Value], expected: &str) {
    assert_eq!(after(bodies), Err(expected.to_owned()));
}

#[test]
fn no_more_is_kept_than_fits() {
    let pairs = |bytes: usize| {
        let state_events = json!([["x".repeat(bytes), ""]]);
        json!({ "room_list": { "state_events": state_events } })
    };
    let refused = "the session's parameters take more than 262144 bytes";
    assert!(after(&[pairs(MOST_BYTES - 4096)]).is_ok());
    check_refused(&[pairs(MOST_BYTES)], refused);
    // Each change is small enough, and all together are not.
    let types = json!({ "room": { "room_id": ROOM, "types": ["y".repeat(8192)] } });
    check_refused(&[pairs(MOST_BYTES - 4096), types.clone()], refused);
    assert!(after(&[pairs(MOST_BYTES - 4096), json!({ "room_list": null }), types]).is_ok());
}

fn members(limit: u64, sort: &str, memberships: &[&str]) -> Value {
    json!({
        "room_id": ROOM,
        "p": { "limit": limit, "sort": sort },
        "memberships": memberships,
    })
}

#[test]
fn what_is_left_out_stays() {
    check(&[json!({})], json!({}));
    check(&[json!({ "to_device": {} })], json!({ "to_device": { "limit": 100 } }));
    check(
        &[json!({ "to_device": { "limit": 5 } }), json!({}), json!({ "to_device": {} })],
        json!({ "to_device": { "limit": 5 } }),
    );
    check(
        &[json!({ "to_device": { "limit": 5 } }), json!({ "typing": { "room_id": ROOM } })],
        json!({ "to_device": { "limit": 5 }, "typing": { "room_id": ROOM } }),
    );
}

#[test]
fn keys_merge_one_by_one() {
    let first = json!({ "room_members": { "room_id": ROOM, "p": { "sort": "by_name" } } });
    check(
        &[first.clone(), json!({ "room_members": { "p": { "limit": 5 } } })],
        json!({ "room_members": members(5, "by_name", &["invite", "join"]) }),
    );
    check(
        &[first.clone(), json!({ "room_members": { "memberships": ["ban"] } })],
        json!({ "room_members": members(50, "by_name", &["ban"]) }),
    );
    check(
        &[first, json!({ "room_members": { "p": { "sort": "by_pl", "since": "1" } } })],
        json!({ "room_members": members(50, "by_pl", &["invite", "join"]) }),
    );
}

#[test]
fn null_drops_a_stream() {
    let typing = json!({ "typing": { "room_id": ROOM } });
    check(&[typing.clone(), json!({ "typing": null })], json!({}));
    check(&[json!({ "typing": null })], json!({}));
    check_refused(
        &[typing, json!({ "typing": null }), json!({ "typing": {} })],
        "bad: typing.room_id: is missing",
    );
}

#[test]
fn what_was_negotiated_sticks() {
    check(&[json!({ "to_device": { "limit": 5000 } })], json!({ "to_device": { "limit": 1000 } }));
    check(
        &[json!({ "room_members": {
            "room_id": ROOM,
            "p": { "limit": 5000, "sort": "by_shoe_size" },
            "memberships": ["leave", "join", "leave"],
        } })],
        json!({ "room_members": members(1000, "by_pl", &["join", "leave"]) }),
    );
}

#[test]
fn a_page_is_asked_for_once() {
    let tokens = Tokens::new(&[1; 32]);
    let pages = PageTokens::new(&tokens, AccountId(1), Position(0));
    let first_page = json!({ "room_members": { "room_id": ROOM, "p": { "since": "1" } } });
    let asked = Request::read(&Params::default(), first_page.as_object().unwrap(), pages).unwrap();
    assert!(asked.asks_for_page());
    let next = Request::read(&asked.params, &Map::new(), pages).unwrap();
    assert!(!next.asks_for_page());
    assert_eq!(next.params, asked.params);
}

#[test]
fn unknown_keys_are_ignored() {
    check(
        &[json!({ "new_stream": 5, "room_member": [], "to_device": { "limit": 1, "new": [1] } })],
        json!({ "to_device": { "limit": 1 } }),
    );
    check(
        &[json!({ "typing": { "room_id": ROOM, "p": { "since": "1" } } })],
        json!({ "typing": { "room_id": ROOM } }),
    );
}

#[test]
fn refusals_name_stream_and_field() {
    let good = json!({ "room_id": ROOM });
    let with = |key: &str, value: Value| {
        let mut fields = good.clone();
        fields[key] = value;
        [json!({ "room_members": fields })]
    };
    check_refused(&[json!({ "typing": [] })], "bad: typing: must be an object or null");
    check_refused(&[json!({ "typing": "x" })], "bad: typing: must be an object or null");
    check_refused(&[json!({ "typing": {} })], "bad: typing.room_id: is missing");
    check_refused(
        &[json!({ "typing": { "room_id": null } })],
        "bad: typing.room_id: must be a string",
    );
    check_refused(
        &[json!({ "typing": { "room_id": "a" } })],
        "invalid: typing.room_id: is not a room ID",
    );
    check_refused(
        &[json!({ "to_device": { "limit": 0 } })],
        "invalid: to_device.limit: must be at least 1",
    );
    check_refused(
        &[json!({ "to_device": { "limit": "5" } })],
        "bad: to_device.limit: must be an integer",
    );
    check_refused(&with("p", json!(5)), "bad: room_members.p: must be an object");
    check_refused(&with("p", json!(null)), "bad: room_members.p: must be an object");
    check_refused(
        &with("p", json!({ "limit": -1 })),
        "invalid: room_members.p.limit: must not be negative",
    );
    check_refused(&with("p", json!({ "sort": 1 })), "bad: room_members.p.sort: must be a string");
    check_refused(&with("p", json!({ "since": 1 })), "bad: room_members.p.since: must be a string");
    check_refused(
        &with("p", json!({ "since": "2" })),
        "invalid: room_members.p.since: is not a page of this list",
    );
    check_refused(
        &with("memberships", json!("join")),
        "bad: room_members.memberships: must be a list of strings",
    );
    check_refused(
        &with("memberships", json!(["joined"])),
        "invalid: room_members.memberships: may hold join, invite, knock, leave and ban",
    );
}

#[test]
fn a_stuck_stream_is_refused_by_a_later_request() {
    check_refused(
        &[json!({ "typing": { "room_id": ROOM } }), json!({ "typing": { "room_id": 5 } })],
        "bad: typing.room_id: must be a string",
    );
}

#[test]
fn streams_that_tell_of_the_account_are_asked_together() {
    let tokens = Tokens::new(&[1; 32]);
    let pages = PageTokens::new(&tokens, AccountId(1), Position(0));
    let check = |body: Value, source: Source, expected: &[&str]| {
        let body = body.as_object().expect("the tests send objects");
        let request = Request::read(&Params::default(), body, pages).expect("good parameters");
        let due: Vec<&str> =
            request.fed_by(source).into_iter().map(|wanted| wanted.stream.name()).collect();
        assert_eq!(due, expected, "{source:?}");
    };
    let all = json!({ "typing": { "room_id": ROOM }, "to_device": {}, "e2ee": {} });
    check(all.clone(), Source::Account, &["typing", "e2ee"]);
    check(all.clone(), Source::Inbox, &["to_device"]);
    check(all, Source::KeyCounts, &["typing", "e2ee"]);
    let without = json!({ "typing": { "room_id": ROOM }, "to_device": {} });
    check(without, Source::KeyCounts, &[]);
}
