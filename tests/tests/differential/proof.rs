//! The judge itself is judged: agreement passes, and each kind of difference and of lie is found.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::compare::{Leeway, differences, fresh_differences, misplaced, unheard_device_lists};
use crate::filters::Filter;
use crate::model::{Heard, Model};
use crate::truth::Truth;

const ROOM: &str = "!room:x";

fn event(number: u64) -> Value {
    json!({
        "event_id": format!("${number}"), "type": "m.room.message", "sender": "@bob:x", "content": {"body": number},
        "unsigned": {"age": number},
    })
}

fn reply(numbers: &[u64], limited: bool) -> Value {
    let timeline: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
    json!({
        "next_batch": "s",
        "device_one_time_keys_count": {"signed_curve25519": 1},
        "device_unused_fallback_key_types": [],
        "account_data": {"events": [{"type": "m.direct", "content": {}}]},
        "to_device": {"events": [{"type": "m.test", "sender": "@bob:x", "content": {"n": 1}}]},
        "device_lists": {"changed": ["@bob:x"], "left": []},
        "rooms": {"join": {ROOM: {
            "timeline": {"events": timeline, "limited": limited, "prev_batch": "p"},
            "state": {"events": [{
                "event_id": "$topic", "type": "m.room.topic", "state_key": "", "sender": "@bob:x", "content": {"topic": "one"},
            }]},
            "account_data": {"events": [{"type": "m.tag", "content": {"tags": {"u.one": {}}}}]},
            "ephemeral": {"events": [
                {"type": "m.typing", "content": {"user_ids": ["@bob:x"]}},
                {"type": "m.receipt", "content": {"$1": {"m.read": {"@bob:x": {"ts": 1, "thread_id": "main"}}}}},
            ]},
            "unread_notifications": {"highlight_count": 0, "notification_count": 1},
            "unread_thread_notifications": {"$1": {"highlight_count": 0, "notification_count": 1}},
            "summary": {"m.joined_member_count": 2},
        }}},
    })
}

fn folded(reply: &Value) -> Model {
    let mut model = Model::default();
    model.fold(reply);
    model
}

/// What is found when the proxy's client hears a reply with this change.
fn found(change: impl Fn(&mut Value)) -> Vec<String> {
    let good = reply(&[1, 2], true);
    let mut other = good.clone();
    change(&mut other);
    let (one, other) = (folded(&good), folded(&other));
    let filter = Filter::everything();
    let (rejoined, unseen_receipts) = (BTreeSet::new(), BTreeSet::new());
    let leeway = Leeway {
        filter: &filter,
        observer: &one,
        rejoined: &rejoined,
        unseen_receipts: &unseen_receipts,
    };
    let mut found = misplaced(&one, &other, &filter);
    found.extend(unheard_device_lists(&one, &other, "@me:x"));
    found.extend(differences(&one, &other, &leeway));
    assert!(
        fresh_differences(&one, &other, &leeway).len() >= differences(&one, &other, &leeway).len()
    );
    found
}

#[test]
fn what_agrees_passes() {
    assert_eq!(found(|_| {}), [""; 0]);
    let when_and_how = found(|reply| {
        reply["next_batch"] = "another".into();
        reply["rooms"]["join"][ROOM]["timeline"]["prev_batch"] = "another".into();
        reply["rooms"]["join"][ROOM]["timeline"]["events"][0]["unsigned"] =
            json!({"age": 9, "membership": "join"});
    });
    assert_eq!(when_and_how, [""; 0]);
}

#[test]
fn every_kind_of_difference_is_found() {
    let check = |what: &str, change: fn(&mut Value)| {
        let found = found(change);
        assert!(found.iter().any(|difference| difference.contains(what)), "{what}: {found:?}");
    };
    check("join", |reply| {
        let room = reply["rooms"]["join"][ROOM].take();
        reply["rooms"] = json!({"leave": {ROOM: room}});
    });
    check("join", |reply| reply["rooms"] = json!({}));
    check("invite", |reply| {
        reply["rooms"]["invite"]["!other:x"] = json!({"invite_state": {"events": []}});
    });
    check("global account data", |reply| reply["account_data"]["events"] = json!([]));
    check("to-device", |reply| reply["to_device"]["events"][0]["content"]["n"] = 2.into());
    check("one-time keys", |reply| reply["device_one_time_keys_count"] = json!({}));
    check("fallback keys", |reply| reply["device_unused_fallback_key_types"] = json!(["x"]));
    check("devices of @bob:x", |reply| {
        reply["device_lists"] = json!({"changed": [], "left": ["@bob:x"]});
    });
    check("devices of @bob:x", |reply| reply["device_lists"] = json!({}));
    check("state", |reply| reply["rooms"]["join"][ROOM]["state"]["events"] = json!([]));
    check("state", |reply| {
        reply["rooms"]["join"][ROOM]["state"]["events"][0]["content"]["topic"] = "two".into();
    });
    check("newest", |reply| reply["rooms"]["join"][ROOM]["timeline"]["events"] = json!([event(1)]));
    check("account data", |reply| {
        reply["rooms"]["join"][ROOM]["account_data"]["events"] = json!([]);
    });
    check("receipts", |reply| {
        reply["rooms"]["join"][ROOM]["ephemeral"]["events"][1]["content"] =
            json!({"$1": {"m.read": {"@bob:x": {"ts": 1}}}});
    });
    check("typing", |reply| {
        reply["rooms"]["join"][ROOM]["ephemeral"]["events"][0]["content"]["user_ids"] = json!([]);
    });
    check("unread counts:", |reply| {
        reply["rooms"]["join"][ROOM]["unread_notifications"]["notification_count"] = 0.into();
    });
    check("of threads", |reply| {
        reply["rooms"]["join"][ROOM]["unread_thread_notifications"] = json!({});
    });
    check("member_count", |reply| {
        reply["rooms"]["join"][ROOM]["summary"]["m.joined_member_count"] = 3.into();
    });
}

#[test]
fn every_lie_about_a_timeline_is_found() {
    let filter = Filter::everything();
    let mut observer = Model::default();
    let mut truth = Truth::default();
    for heard in observer.fold(&reply(&[1, 2, 3, 4, 5, 6], true)) {
        truth.learn(&heard);
    }
    let check = |first: (&[u64], bool), second: (&[u64], bool), lie: Option<&str>| {
        let mut model = Model::default();
        let mut heard: Vec<Heard> = model.fold(&reply(first.0, first.1));
        heard.extend(model.fold(&reply(second.0, second.1)));
        let lies: Vec<String> =
            heard.iter().flat_map(|heard| truth.lies(heard, &filter, true)).collect();
        match lie {
            None => assert_eq!(lies, [""; 0], "{first:?}, {second:?}"),
            Some(lie) => assert!(
                lies.iter().any(|told| told.contains(lie)),
                "{first:?}, {second:?}: {lies:?}"
            ),
        }
    };
    check((&[1, 2], true), (&[3, 4], false), None);
    check((&[1, 2], true), (&[5, 6], true), None);
    check((&[1, 2], true), (&[5, 6], false), Some("not limited"));
    check((&[1, 2], true), (&[2, 3], false), Some("not limited"));
    check((&[1, 2], true), (&[3, 4], true), Some("limited, and yet"));
    check((&[1, 2], true), (&[3, 5], false), Some("holes"));
    check((&[2, 1], true), (&[3], false), Some("out of order"));
    check((&[1, 2], true), (&[3, 7], false), Some("not in the room's timeline"));
}

#[test]
fn the_truth_of_a_room_that_is_joined_again_is_put_together() {
    let mut observer = Model::default();
    let mut truth = Truth::default();
    for numbers in [&[3, 4][..], &[8], &[1, 2, 3, 4, 5, 6, 7, 8, 9]] {
        for heard in observer.fold(&reply(numbers, true)) {
            truth.learn(&heard);
        }
    }
    let shown = truth.shown(ROOM, &Filter::everything());
    assert_eq!(shown, ["$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9"]);
}
