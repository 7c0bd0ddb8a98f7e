//! What lies between two replies, or between two ways to be told of a room, and is easily lost there.

use serde_json::{Value, json};
use tests::scripted_homeserver::{
    Canned, Fault, LargeAccount, first_sync, message, messages_in, nothing_new,
};
use tests::session::Session;

use super::{entry, ids, next_page, notification, removed, texts};
use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// A session that follows no room.
async fn outside() -> (Stage, Session) {
    let stage = Stage::set().await;
    let first = first_sync(&stage.alice.user_id, ROOM, "s0", &["first"]);
    stage.homeserver.on_sync(None, &first);
    let mut session = stage.alice.v3();
    session.ask(json!({"room_list": {"p": {"limit": 0}}})).await;
    (stage, session)
}

/// Messages, after which so many events notify.
fn counted(next_batch: &str, said: &[&str], notifications: u64) -> Value {
    let mut reply = messages_in(ROOM, next_batch, said);
    reply["rooms"]["join"][ROOM]["unread_notifications"]["notification_count"] =
        json!(notifications);
    reply
}

async fn notified(session: &mut Session, what: &str) -> Value {
    let find = |reply: &Value| {
        let found = notification(reply, ROOM);
        (!found.is_null()).then(|| found.clone())
    };
    session.until(what, find).await
}

/// What does not notify is not told, but neither does it count as told.
#[tokio::test]
async fn what_follows_a_notification_in_the_same_reply_is_not_lost() {
    let (stage, mut session) = outside().await;
    stage.homeserver.on_sync(Some("s0"), &counted("s1", &["one"], 1));
    stage.homeserver.on_sync(Some("s1"), &counted("s2", &["quiet"], 1));
    stage.homeserver.is_polled_with("s2").await;
    let told = notified(&mut session, "the first").await;
    assert_eq!(texts(&told), ["one"]);
    let reply = session.lose(json!({"room_list": {"p": {"limit": 5}}})).await;
    assert_eq!(texts(entry(&reply, ROOM)), ["quiet"], "{reply:#}");

    stage.homeserver.on_sync(Some("s2"), &counted("s3", &["two"], 2));
    let told = notified(&mut session, "the second").await;
    assert_eq!(texts(&told), ["two"]);
    assert_eq!(told["limited"], true, "there was one in between: {told:#}");
}

/// In one poll as well: what the user says after it comes with it.
#[tokio::test]
async fn what_the_user_says_after_a_notification_is_not_lost() {
    let (stage, mut session) = outside().await;
    let mut mine = message("mine");
    mine["sender"] = json!(stage.alice.user_id);
    let mut poll = counted("s1", &["one"], 1);
    poll["rooms"]["join"][ROOM]["timeline"]["events"].as_array_mut().unwrap().push(mine);
    stage.homeserver.on_sync(Some("s0"), &poll);
    let told = notified(&mut session, "the message").await;
    assert_eq!(texts(&told), ["one", "mine"]);
    let reply = session.ask(json!({"room_list": {"p": {"limit": 5}}})).await;
    assert_eq!(texts(entry(&reply, ROOM)), [""; 0], "{reply:#}");
}

/// A room that came once in `notifications` has got none of the state that is asked for since.
#[tokio::test]
async fn other_state_reaches_rooms_that_came_as_notifications() {
    let (stage, mut session) = outside().await;
    stage.homeserver.on_sync(Some("s0"), &counted("s1", &["one"], 1));
    notified(&mut session, "the first").await;
    session.ask(json!({"room_list": {"state_events": [["m.room.create", ""]]}})).await;
    stage.homeserver.on_sync(Some("s1"), &counted("s2", &["two"], 2));
    let told = notified(&mut session, "the second").await;
    let mut types = told["state_events"].as_array().into_iter().flatten().map(|it| &it["type"]);
    assert!(types.any(|it| it == "m.room.create"), "{told:#}");
}

#[tokio::test]
async fn heroes_come_when_they_are_asked_for() {
    let stage = Stage::set().await;
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s0", &["first"]);
    let room = &mut first["rooms"]["join"][ROOM];
    room["summary"] = json!({"m.heroes": ["@bob:scripted"], "m.joined_member_count": 2});
    let bob = json!({
        "type": "m.room.member", "state_key": "@bob:scripted", "sender": "@bob:scripted", "event_id": "$bob",
        "origin_server_ts": 1_700_000_000_000_u64, "content": {"membership": "join"}, "unsigned": {},
    });
    room["state"]["events"].as_array_mut().unwrap().push(bob);
    stage.homeserver.on_sync(None, &first);
    let mut session = stage.alice.v3();
    let reply = session.ask(json!({"room_list": {"lazy_load_members": false}})).await;
    assert!(entry(&reply, ROOM)["state_events"].is_null(), "{reply:#}");
    let reply = session.ask(json!({"room_list": {"lazy_load_members": true}})).await;
    let state = &entry(&reply, ROOM)["state_events"];
    assert_eq!(state[0]["state_key"], "@bob:scripted", "{reply:#}");
}

#[tokio::test]
async fn no_state_has_a_zero_character() {
    let (_stage, mut session) = outside().await;
    let strange = json!([["m.room.create\0", ""], ["m.room.create", "\0"], ["m.\0", "*"]]);
    let ask = json!({"room_list": {"p": {"limit": 5}, "state_events": strange}});
    let reply = session.ask(ask).await;
    assert!(entry(&reply, ROOM)["state_events"].is_null(), "{reply:#}");
}

/// The homeserver tells nothing of it any more.
#[tokio::test]
async fn an_invite_that_is_forgotten_is_gone() {
    let invite = "!invite:scripted";
    let stage = Stage::set().await;
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s0", &["first"]);
    first["rooms"]["invite"][invite] = json!({"invite_state": {"events": []}});
    stage.homeserver.on_sync(None, &first);
    let mut session = stage.alice.v3();
    let ask = json!({"room_list": {"filters": {"is_invite": true}}});
    let reply = session.ask(ask.clone()).await;
    assert_eq!(ids(&reply["room_list"]["rooms"]), [invite]);

    let path = format!("/_matrix/client/v3/rooms/{invite}/forget");
    stage.homeserver.on_path(&path, Canned::json(&json!({})));
    stage.alice.post(&path).json(&json!({})).send().await.ok();
    let reply = stage.alice.v3().ask(ask).await;
    assert_eq!(reply["room_list"]["count"], 0, "{reply:#}");
    stage.homeserver.on_sync(Some("s0"), &nothing_new("s1"));
    session.until("the end", |reply| (removed(reply) == [invite]).then_some(())).await;
}

/// Every room is told anew by the homeserver, but the user has joined none.
#[tokio::test]
async fn a_stream_that_begins_anew_brings_no_room_onto_the_list() {
    let (followed, other) = ("!a:scripted", "!b:scripted");
    let stage = Stage::set().await;
    let user_id = &stage.alice.user_id;
    let both = |next_batch: &str, text: &str| {
        let mut reply = first_sync(user_id, followed, next_batch, &[&format!("a {text}")]);
        let said = format!("b {text}");
        reply["rooms"]["join"][other] =
            first_sync(user_id, other, next_batch, &[&said])["rooms"]["join"][other].take();
        reply
    };
    stage.homeserver.on_sync(None, &both("s1", "one"));
    let mut session = stage.alice.v3();
    let list =
        json!({"p": {"limit": 1, "sort": ["by_name"]}, "state_events": [["m.room.create", ""]]});
    let reply = session.ask(json!({"room_list": list})).await;
    assert_eq!(ids(&reply["room_list"]["rooms"]), [followed]);
    stage.homeserver.is_polled_with("s1").await;
    stage.homeserver.on_sync(None, &both("t1", "anew"));
    let refusal = json!({"errcode": "M_UNKNOWN", "error": "Invalid stream token"});
    stage.homeserver.next_syncs_fail(2, &Fault::Status(400, refusal));
    stage.homeserver.on_sync(Some("s1"), &nothing_new("s1"));

    let told = |reply: &Value| {
        let rooms = &reply["room_list"]["rooms"];
        (!rooms.is_null()).then(|| reply["room_list"].clone())
    };
    let list = session.until("the room", told).await;
    assert_eq!(ids(&list["rooms"]), [followed], "{list:#}");
    assert_eq!(list["rooms"][0]["initial"], true);
}

/// A page moves no position, so a client may read all of them from where it is, and then go on from there.
#[tokio::test]
async fn a_client_reads_as_many_pages_from_one_token_as_it_likes() {
    let stage = Stage::set().await;
    LargeAccount::moves_in(&stage.homeserver, &stage.alice.user_id, 45);
    let mut session = stage.alice.v3();
    let mut page = session.ask(json!({"room_list": {"p": {"limit": 1}}})).await;
    let mut pages = 1;
    while let Some(token) = next_page(&page) {
        page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
        assert_eq!(ids(&page["room_list"]["rooms"]).len(), 1);
        pages += 1;
    }
    assert_eq!(pages, 45);
    session.ask(json!({})).await;
}

/// One room that was invited to, joined, left and invited to again between two replies, in each list.
#[tokio::test]
async fn a_room_that_goes_round_between_two_replies_ends_where_it_is() {
    let (stage, _) = outside().await;
    let mut joined = stage.alice.v3();
    joined.ask(json!({"room_list": {}, "room": {"room_id": "room_list"}})).await;
    let mut invites = stage.alice.v3();
    invites.ask(json!({"room_list": {"filters": {"is_invite": true}}})).await;
    let member = |membership: &str, next_batch: &str| {
        json!({
            "type": "m.room.member", "state_key": stage.alice.user_id, "sender": stage.alice.user_id,
            "event_id": format!("${membership}_{next_batch}"), "origin_server_ts": 1_700_000_000_000_u64,
            "content": {"membership": membership}, "unsigned": {},
        })
    };
    let timeline = |membership: &str, next_batch: &str| {
        json!({
            "timeline": {"events": [member(membership, next_batch)], "limited": false, "prev_batch": next_batch},
            "state": {"events": []},
        })
    };
    let reply = |section: &str, room: Value, next_batch: &str| {
        let mut reply = nothing_new(next_batch);
        reply["rooms"][section][ROOM] = room;
        reply
    };
    let steps = [
        reply("leave", timeline("leave", "s1"), "s1"),
        reply("invite", json!({"invite_state": {"events": []}}), "s2"),
        reply("join", timeline("join", "s3"), "s3"),
        reply("leave", timeline("leave", "s4"), "s4"),
        reply("invite", json!({"invite_state": {"events": []}}), "s5"),
    ];
    for (number, step) in steps.iter().enumerate() {
        stage.homeserver.on_sync(Some(&format!("s{number}")), step);
    }
    stage.homeserver.is_polled_with("s5").await;

    let told = joined.ask(json!({})).await;
    assert_eq!(removed(&told), [ROOM], "{told:#}");
    let events = entry(&told, ROOM)["timeline"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["event_id"], "$leave_s4", "{told:#}");
    let room = &told["room"]["rooms"][ROOM];
    let events = room["timeline"]["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["event_id"], "$leave_s4", "{told:#}");
    let quiet = joined.ask(json!({})).await;
    assert!(quiet["room_list"].is_null() && quiet["room"].is_null(), "{quiet:#}");
    let told = invites.ask(json!({})).await;
    assert_eq!(entry(&told, ROOM)["initial"], true, "{told:#}");
    let quiet = invites.ask(json!({})).await;
    assert!(quiet["room_list"].is_null(), "{quiet:#}");
}

/// An odd name, tag or direct chat spoils nothing for other rooms.
#[tokio::test]
async fn odd_json_is_no_error() {
    let stage = Stage::set().await;
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s0", &["first"]);
    let state = |event_type: &str, state_key: &str, content: &str| {
        format!(
            r#"{{"type":"{event_type}","state_key":"{state_key}","sender":"@bob:scripted","event_id":"$odd_{event_type}",
            "origin_server_ts":1700000000000,"content":{content},"unsigned":{{}}}}"#
        )
    };
    let events = [
        state("m.room.name", "", r#"{"name":"a\ud800\u0000b"}"#),
        state("m.room.canonical_alias", "", r#"{"alias":["\udfff"]}"#),
        state("m.space.child", "not a room", r#"{"via":["x"],"order":"\ud800"}"#),
        state("m.room.avatar", "", r#"{"url":1e999}"#),
    ]
    .join(",");
    let room = &mut first["rooms"]["join"][ROOM];
    room["state"]["events"].as_array_mut().unwrap().push(json!("ODD"));
    room["summary"] = json!({"m.heroes": ["ODD_HEROES"], "m.joined_member_count": i64::MAX});
    room["account_data"]["events"] = json!([{"type": "m.tag", "content": {"tags": "ODD_TAGS"}}]);
    first["account_data"] = json!({"events": [{"type": "m.direct", "content": "ODD_DIRECT"}]});
    let raw = first
        .to_string()
        .replace(r#""ODD""#, &events)
        .replace(r#""ODD_HEROES""#, r#""\ud800", 5, null, "@bob:scripted""#)
        .replace(r#""ODD_TAGS""#, r#"{"m.favourite":{},"u.\u0000":{}}"#)
        .replace(r#""ODD_DIRECT""#, r#"{"@\ud800":["!room:scripted"],"@b:x":{"a":1}}"#);
    stage.homeserver.on_sync_raw(None, raw);
    let list = json!({
        "p": {"sort": ["by_name", "by_space_order"]}, "spaces": [ROOM],
        "state_events": [["m.room.name", ""], ["m.space.child", "*"]],
    });
    stage.alice.v3().ask(json!({"room_list": list})).await;
    // Events are carried as they are: this reply is none that every client can read.
    stage.alice.v3().lose(json!({"room_list": {}, "room": {"room_id": "room_list"}})).await;
    let mut session = stage.alice.v3();
    for filters in [json!({"tags": ["m.favourite"]}), json!({"is_dm": true}), json!({})] {
        let list =
            json!({"p": {"sort": ["by_name"]}, "filters": filters, "lazy_load_members": false});
        let reply = session.ask(json!({"room_list": list})).await;
        assert_eq!(ids(&reply["room_list"]["rooms"]), [ROOM], "{reply:#}");
    }
}
