//! Replies with things in them that no homeserver should send, and things that it may send but that are easily broken.

use std::fmt::Write;

use serde_json::json;
use tests::matchers::{events, joined, messages, numbers, of_type, types};
use tests::scripted_homeserver::{first_sync, message, messages_in, with_to_device};

use super::ROOM;
use crate::stage::Stage;

#[tokio::test]
async fn c9_one_hostile_event_is_set_aside_and_the_rest_goes_on() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let (good, bad) = ("!good:scripted", "!bad:scripted");
    homeserver.on_sync(None, &first_sync(&alice.user_id, good, "s1", &["hello"]));
    let mut chain = alice.v2();
    chain.next().await;

    let mut reply = messages_in(bad, "s2", &[]);
    reply["rooms"]["join"][bad]["timeline"]["events"] = json!([
        message("before the bad ones"),
        "not an object",
        null,
        {"type": 5, "event_id": "$five", "sender": "@bob:scripted", "content": {}},
        {"type": "m.room.message", "sender": "@bob:scripted", "content": {"body": "no event_id"}},
        {"type": "m.room.topic", "event_id": "$odd_key", "state_key": 7, "sender": "@bob:scripted", "content": {}},
        message("after the bad ones"),
    ]);
    reply["rooms"]["join"][good] =
        messages_in(good, "s2", &["untouched"])["rooms"]["join"][good].clone();
    homeserver.on_sync(Some("s1"), &with_to_device(reply, &[1]));
    homeserver.on_sync(Some("s2"), &messages_in(good, "s3", &["onwards"]));

    let mut in_bad: Vec<String> = Vec::new();
    let mut in_good: Vec<String> = Vec::new();
    let mut to_device = Vec::new();
    chain
        .until("the poll after it", |reply| {
            in_bad.extend(messages(reply, bad).iter().map(|&text| text.to_owned()));
            in_good.extend(messages(reply, good).iter().map(|&text| text.to_owned()));
            to_device.extend(numbers(&reply["to_device"]));
            in_good.contains(&"onwards".to_owned()).then_some(())
        })
        .await;

    assert_eq!(in_good, ["untouched", "onwards"]);
    assert!(
        in_bad.contains(&"before the bad ones".to_owned())
            && in_bad.contains(&"after the bad ones".to_owned()),
        "{in_bad:?}"
    );
    assert_eq!(to_device, [1]);
    assert!(
        proxy.database().count("SELECT COUNT(*) FROM quarantine").await > 0,
        "what is set aside is kept for a person to see"
    );
}

#[tokio::test]
async fn c9_a_room_that_is_no_room_does_not_stop_the_others() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    let mut chain = alice.v2().of_any_shape("account data without content is passed on as it came");
    chain.next().await;

    let mut reply = messages_in(ROOM, "s2", &["still here"]);
    reply["rooms"]["join"]["!nonsense:scripted"] = json!("a string where a room should be");
    reply["rooms"]["join"]["!empty:scripted"] = json!({});
    reply["presence"] = json!({"events": [17]});
    reply["account_data"] = json!({"events": [{"type": "no content"}]});
    homeserver.on_sync(Some("s1"), &reply);

    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["still here"]);
    homeserver.is_polled_with("s2").await;
}

/// Synapse does this where a user speaks while their new name is still on its way into the room: the message stands on the
/// branch without it.
#[tokio::test]
async fn a58_an_old_join_shown_with_a_message_is_no_rejoin() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let join = |event_id: &str, name: &str, before: &str| {
        json!({
            "type": "m.room.member", "state_key": alice.user_id, "sender": alice.user_id, "event_id": event_id,
            "origin_server_ts": 1, "content": {"membership": "join", "displayname": name},
            "unsigned": {"prev_content": {"membership": before}},
        })
    };
    let (old, new) = (join("$old", "Alice", "invite"), join("$new", "Alice the Great", "join"));
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["hello"]);
    first["rooms"]["join"][ROOM]["state"]["events"][1] = old.clone();
    let mut renamed = messages_in(ROOM, "s2", &[]);
    renamed["rooms"]["join"][ROOM]["timeline"]["events"] = json!([new]);
    let mut spoken = messages_in(ROOM, "s3", &["at the same time"]);
    spoken["rooms"]["join"][ROOM]["state"]["events"] = json!([old]);
    homeserver.on_sync(None, &first);
    homeserver.on_sync(Some("s1"), &renamed);
    homeserver.on_sync(Some("s2"), &spoken);

    let mut chain = alice.v2();
    chain
        .until_reply("the message", |reply| messages(reply, ROOM).contains(&"at the same time"))
        .await;
    let fresh = alice.sync().send().await.ok();

    let types: Vec<&str> = types(&events(&joined(&fresh, ROOM)["state"]));
    assert!(types.contains(&"m.room.create"), "the room's state is lost: {types:?}");
    assert_eq!(messages(&fresh, ROOM), ["hello", "at the same time"]);
    let all = [events(&joined(&fresh, ROOM)["state"]), events(&joined(&fresh, ROOM)["timeline"])]
        .concat();
    let names = of_type(&all, "m.room.member");
    assert_eq!(names.last().unwrap()["content"]["displayname"], "Alice the Great");
}

#[tokio::test]
async fn c9_a110_events_come_through_byte_for_byte_however_odd() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let contents = [
        r#"{"lone surrogate":"\ud800"}"#.to_owned(),
        r#"{"nul":"a\u0000b"}"#.to_owned(),
        r#"{"big":123456789012345678901234567890,"float":1.10,"exponent":1E+2,"huge":1e400}"#
            .to_owned(),
        r#"{"order":{"z":1,"a":2,"m":3},"spaces":  [ 1 ,2 ]}"#.to_owned(),
        format!(r#"{{"deep":{deep}}}"#),
        r#"{"twice":1,"twice":2}"#.to_owned(),
    ];
    let mut events = String::new();
    for (n, content) in contents.iter().enumerate() {
        if n > 0 {
            events.push(',');
        }
        write!(
            events,
            r#"{{"type":"m.odd","event_id":"$odd{n}","sender":"@bob:scripted","origin_server_ts":1,"content":{content},"unsigned":{{}}}}"#
        )
        .unwrap();
    }
    let with_marker = first_sync(&alice.user_id, ROOM, "s1", &["marker"]).to_string();
    let marker = message("marker").to_string();
    assert!(with_marker.contains(&marker));
    homeserver.on_sync_raw(None, with_marker.replace(&marker, &events));

    let request =
        alice.sync().of_any_shape("its events are more than the JSON parser of the tests can hold");
    let reply = request.send().await.expect_status(200);

    let text = reply.body_text();
    for content in &contents {
        assert!(
            text.contains(&format!(r#""content":{content}"#)),
            "{content:.80} did not come through as it was"
        );
    }
}

/// Every place of a reply, with a value there that does not belong: nothing else is spoilt, and the stream goes on.
#[tokio::test]
async fn c9_a_value_of_the_wrong_kind_anywhere_spoils_nothing_else() {
    const PLACES: &[&str] = &[
        "/rooms/invite",
        "/rooms/leave",
        "/rooms/knock",
        "/rooms/join/!odd:scripted",
        "/rooms/join/!odd:scripted/timeline",
        "/rooms/join/!odd:scripted/timeline/events",
        "/rooms/join/!odd:scripted/timeline/events/0",
        "/rooms/join/!odd:scripted/timeline/events/0/type",
        "/rooms/join/!odd:scripted/timeline/events/0/event_id",
        "/rooms/join/!odd:scripted/timeline/events/0/sender",
        "/rooms/join/!odd:scripted/timeline/events/0/content",
        "/rooms/join/!odd:scripted/timeline/events/0/unsigned",
        "/rooms/join/!odd:scripted/timeline/events/0/unsigned/age",
        "/rooms/join/!odd:scripted/timeline/limited",
        "/rooms/join/!odd:scripted/timeline/prev_batch",
        "/rooms/join/!odd:scripted/state",
        "/rooms/join/!odd:scripted/state/events",
        "/rooms/join/!odd:scripted/ephemeral",
        "/rooms/join/!odd:scripted/ephemeral/events",
        "/rooms/join/!odd:scripted/ephemeral/events/0",
        "/rooms/join/!odd:scripted/ephemeral/events/0/content",
        "/rooms/join/!odd:scripted/account_data",
        "/rooms/join/!odd:scripted/account_data/events/0",
        "/rooms/join/!odd:scripted/account_data/events/0/type",
        "/rooms/join/!odd:scripted/unread_notifications",
        "/rooms/join/!odd:scripted/unread_notifications/notification_count",
        "/rooms/join/!odd:scripted/summary",
        "/rooms/join/!odd:scripted/summary/m.heroes",
        "/presence",
        "/presence/events/0",
        "/presence/events/0/content",
        "/presence/events/0/sender",
        "/account_data",
        "/account_data/events/0",
        "/account_data/events/0/type",
        "/device_lists",
        "/device_lists/changed",
        "/device_lists/changed/0",
        "/device_one_time_keys_count",
        "/device_unused_fallback_key_types",
    ];
    const ODD: &str = "!odd:scripted";
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut since = "s0".to_owned();
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, &since, &["hello"]));
    let mut sent: Vec<String> = Vec::new();
    for place in PLACES {
        for value in [json!(null), json!(7), json!("x"), json!([1]), json!({"a": 1}), json!(true)] {
            let n = sent.len();
            let (text, next) = (format!("message {n}"), format!("s{}", n + 1));
            let mut reply = messages_in(ROOM, &next, &[&text]);
            let mut odd =
                messages_in(ODD, &next, &[&format!("odd {n}")])["rooms"]["join"][ODD].take();
            odd["ephemeral"] = json!({"events": [{"type": "m.receipt", "content": {}}]});
            odd["account_data"] = json!({"events": [{"type": "m.tag", "content": {}}]});
            odd["summary"] = json!({"m.heroes": []});
            reply["rooms"]["join"][ODD] = odd;
            for section in ["invite", "leave", "knock"] {
                reply["rooms"][section] = json!({});
            }
            reply["presence"] =
                json!({"events": [{"type": "m.presence", "sender": "@b:x", "content": {}}]});
            reply["account_data"] = json!({"events": [{"type": "m.direct", "content": {}}]});
            reply["device_lists"] = json!({"changed": ["@b:x"]});
            *reply.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not there")) = value;
            homeserver.on_sync(Some(&since), &with_to_device(reply, &[n as u64]));
            sent.push(text);
            since = next;
        }
    }

    let filter = json!({"room": {"timeline": {"limit": 100}}});
    let mut chain = alice.v2().filtered(filter).of_any_shape("the homeserver is odd on purpose");
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    chain
        .until("the last message", |reply| {
            texts.extend(messages(reply, ROOM).iter().map(|&text| text.to_owned()));
            to_device.extend(numbers(&reply["to_device"]));
            (texts.last() == sent.last() && to_device.len() == sent.len()).then_some(())
        })
        .await;
    let all: Vec<u64> = (0..sent.len() as u64).collect();
    assert_eq!(to_device, all);
    homeserver.is_polled_with(&since).await;
}

/// What neither a database nor a parser likes, in the places that become keys.
#[tokio::test]
async fn c9_keys_that_cannot_be_kept_are_set_aside() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    let mut chain = alice.v2().of_any_shape("the homeserver is odd on purpose");
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    let huge = "x".repeat(10_000);
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let odd: Vec<String> = vec!["a\\u0000b".into(), "\\ud800".into(), huge, "x".repeat(300)];
    let mut events = String::new();
    let (mut data, mut presence, mut rooms) = (String::new(), String::new(), String::new());
    for (n, odd) in odd.iter().enumerate() {
        let event = r#"{"event_id":"EVENT","type":"TYPE","sender":"@b:x","content":{"body":"odd"},"unsigned":{"age":1e400}}"#;
        write!(events, "{},", event.replace("EVENT", &format!("$t{n}")).replace("TYPE", odd))
            .unwrap();
        write!(events, "{},", event.replace("EVENT", odd).replace("TYPE", "m.room.message"))
            .unwrap();
        let state = event.replace("EVENT", &format!("$k{n}")).replace("TYPE", "m.odd");
        write!(events, r#"{{"state_key":"{odd}",{},"#, &state[1..]).unwrap();
        write!(data, r#"{{"type":"{odd}","content":{{}}}},"#).unwrap();
        write!(presence, r#"{{"type":"m.presence","sender":"{odd}","content":{{}}}},"#).unwrap();
        write!(rooms, r#""{odd}":{{"timeline":{{"events":[]}}}},"#).unwrap();
    }
    let last = message("after all of it");
    homeserver.on_sync_raw(
        Some("s1"),
        format!(
            r#"{{"next_batch":"s2","next_batch":"s2","unknown":{deep},"account_data":{{"events":[{data}{{"type":"m.deep","content":{{"a":{deep}}}}}]}},
            "presence":{{"events":[{presence}null]}},"rooms":{{"join":{{{rooms}"{ROOM}":{{"timeline":{{"events":[{events}{last}],"limited":false}},
            "unread_notifications":{{"notification_count":1e400,"highlight_count":99999999999999999999}}}}}}}}}}"#
        ),
    );

    let reply = chain.request().timeout(30_000).send().await.expect_status(200);
    assert!(reply.body_text().contains("after all of it"), "{}", reply.body_text());
    assert!(reply.body_text().contains(&deep), "deep data is carried");
    homeserver.is_polled_with("s2").await;
    assert!(proxy.database().count("SELECT COUNT(*) FROM quarantine").await > 0);
}
