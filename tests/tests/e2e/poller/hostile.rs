//! Replies with things in them that no homeserver should send, and things that it may send but that are easily broken.

use std::fmt::Write;

use serde_json::json;
use tests::matchers::{messages, numbers};
use tests::scripted_homeserver::{first_sync, message, messages_in, with_to_device};

use super::ROOM;
use crate::stage::Stage;

#[tokio::test]
async fn one_hostile_event_is_set_aside_and_the_rest_goes_on() {
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
async fn a_room_that_is_no_room_does_not_stop_the_others() {
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

#[tokio::test]
async fn a110_events_come_through_byte_for_byte_however_odd() {
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
