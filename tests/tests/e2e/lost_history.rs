//! Tokens of whose history the proxy no longer knows: from before what is retained, and from a database that was restored.

use serde_json::json;
use tests::client::Client;
use tests::matchers::{events, joined, messages, numbers, rooms_in, section};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{first_sync, message, messages_in, nothing_new, with_to_device};

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// Everything is told as if it were new, and what is gone is told as well.
#[tokio::test]
async fn a13_a_since_from_before_what_is_retained_is_a_gap() {
    let (quiet, left_before, left_since) =
        ("!quiet:scripted", "!left_before:scripted", "!left_since:scripted");
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    for room_id in [quiet, left_before, left_since] {
        first["rooms"]["join"][room_id] =
            first_sync(&alice.user_id, room_id, "s1", &[room_id])["rooms"]["join"][room_id].take();
    }
    first["rooms"]["join"][quiet]["state"]["events"].as_array_mut().unwrap().push(json!({
        "type": "m.room.encryption", "state_key": "", "event_id": "$encryption", "sender": alice.user_id,
        "origin_server_ts": 1, "content": {"algorithm": "m.megolm.v1.aes-sha2"}, "unsigned": {},
    }));
    first["account_data"] = json!({"events": [{"type": "m.direct", "content": {}}]});
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.on_sync(Some("s1"), &leaves(alice, left_before, "s2"));
    chain.until_reply("the first leave", |reply| is_left(reply, left_before)).await;
    let old = chain.since().to_owned();
    let mut second = leaves(alice, left_since, "s3");
    second["rooms"]["invite"]["!invite:scripted"] = json!({"invite_state": {"events": []}});
    homeserver.on_sync(Some("s2"), &second);
    homeserver.on_sync(Some("s3"), &messages_in(ROOM, "s4", &["two"]));
    chain.until_reply("the message", |reply| messages(reply, ROOM).contains(&"two")).await;

    proxy.stop().await;
    sql(proxy, "UPDATE accounts SET retained_from = pos").await;
    proxy.start_again().await;
    let reply = alice.sync().since(&old).send().await.ok();

    assert_eq!(rooms_in(&reply, "join"), [quiet, ROOM], "{reply:#}");
    for room_id in [ROOM, quiet] {
        let room = joined(&reply, room_id);
        assert_eq!(room["timeline"]["limited"], true, "{room_id}");
        assert!(room["timeline"]["prev_batch"].is_string(), "{room_id}");
        assert!(!events(&room["state"]).is_empty(), "{room_id}");
    }
    assert_eq!(rooms_in(&reply, "invite"), ["!invite:scripted"]);
    assert_eq!(rooms_in(&reply, "leave"), [left_since], "not what had been left before");
    assert_eq!(events(&reply["account_data"]).len(), 1);
    assert_eq!(reply["device_lists"]["changed"], json!([alice.user_id]));
    chain.absorb(&reply);
    homeserver.on_sync(Some("s4"), &messages_in(ROOM, "s5", &["three"]));
    let reply = chain.until_reply("the message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["three"], "and then it goes on as ever");
}

/// The database was restored from a backup: the client is ahead of it.
#[tokio::test]
async fn a13_a_since_from_the_future_is_a_gap() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
    let mut chain = alice.v2();
    chain.until_reply("the last", |reply| messages(reply, ROOM).contains(&"three")).await;
    let future = chain.since().to_owned();
    homeserver.is_polled_with("s3").await;

    proxy.stop().await;
    for table in ["polls", "room_updates", "timeline_events", "state_changes"] {
        sql(proxy, &format!("DELETE FROM {table} WHERE pos > 1")).await;
    }
    sql(proxy, "UPDATE accounts SET pos = 1, upstream_since = 's1'").await;
    let gate = homeserver.hold_syncs();
    proxy.start_again().await;
    let reply = alice.sync().since(&future).timeout(30_000).send().await.ok();
    assert_ne!(reply["next_batch"], future.as_str(), "it stands where the account is");
    assert_eq!(messages(&reply, ROOM), ["one"], "{reply:#}");
    assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], true, "{reply:#}");
    chain.absorb(&reply);
    gate.open();

    homeserver.on_sync(Some("s3"), &messages_in(ROOM, "s4", &["four"]));
    chain.until_reply("what is new", |reply| messages(reply, ROOM).contains(&"four")).await;
}

/// What such a token covers of the inbox are other messages than those that came in since.
#[tokio::test]
async fn a13_a_since_from_the_future_acknowledges_nothing() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    proxy.stop().await;
    proxy.database().back_up().await;
    let lost = with_to_device(messages_in(ROOM, "s2", &["two"]), &[0, 1, 2]);
    homeserver.on_sync(Some("s1"), &lost);
    proxy.start_again().await;
    chain.until_reply("the message", |reply| messages(reply, ROOM).contains(&"two")).await;
    homeserver.is_polled_with("s2").await;

    proxy.stop().await;
    proxy.database().restore_backup().await;
    homeserver.on_sync(Some("s1"), &with_to_device(nothing_new("s3"), &[3]));
    proxy.start_again().await;
    homeserver.is_polled_with("s3").await;

    for _again in 0..2 {
        let reply = alice.sync().since(chain.since()).send().await.ok();
        assert_eq!(numbers(&reply["to_device"]), [3], "{reply:#}");
    }
    let reply = alice.sync().since(chain.since()).send().await.ok();
    chain.absorb(&reply);
    homeserver.on_sync(Some("s3"), &with_to_device(nothing_new("s4"), &[4]));
    let reply =
        chain.until_reply("the next", |reply| !numbers(&reply["to_device"]).is_empty()).await;
    assert_eq!(numbers(&reply["to_device"]), [4], "and then it goes on as ever");
}

fn leaves(alice: &Client, room_id: &str, next_batch: &str) -> serde_json::Value {
    let mut reply = messages_in(room_id, next_batch, &[]);
    let mut room = reply["rooms"]["join"][room_id].take();
    let mut leave = message(&format!("leave of {room_id}"));
    leave["type"] = json!("m.room.member");
    leave["state_key"] = json!(alice.user_id);
    leave["sender"] = json!(alice.user_id);
    leave["content"] = json!({"membership": "leave"});
    room["timeline"]["events"] = json!([leave]);
    reply["rooms"] = json!({"leave": {room_id: room}});
    reply
}

fn is_left(reply: &serde_json::Value, room_id: &str) -> bool {
    section(reply, "leave", room_id).is_object()
}

async fn sql(proxy: &Proxy, statement: &str) {
    proxy.database().connect().await.unwrap().batch_execute(statement).await.unwrap();
}
