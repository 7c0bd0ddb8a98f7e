//! The judge is judged: it finds each thing that a client can get wrong, in a story that went well.

use serde_json::{Value, json};

use super::judge::{Terms, faults};
use super::story::Story;
use super::truth::Truth;
use crate::model::text;

/// A room in which everything is that a room can have.
#[derive(Debug)]
pub(super) struct Everything {
    pub(super) room_id: String,
    pub(super) truth: Truth,
    pub(super) shown: Value,
    pub(super) terms: Terms,
}

/// One of each kind of thing happens, and the client hears of it.
pub(super) async fn everything_happens(story: &mut Story) -> Everything {
    let (me, bob) = (story.world.direct.client.clone(), story.world.others[0].clone());
    let carol = story.world.others[1].clone();
    story.world.observe().await;
    story.tell(json!({"do": "sync", "change": {"presence": {"set_presence": "offline"}}})).await;
    let room_id = me
        .create_room(json!({"preset": "public_chat", "name": "a room", "topic": "everything"}))
        .await;
    let unread = me.create_room(json!({"preset": "public_chat"})).await;
    for room_id in [&room_id, &unread] {
        bob.join(room_id).await.ok();
        story.world.rooms.push(room_id.clone());
    }
    let avatar = json!({"url": "mxc://test.local/avatar"});
    me.set_state(&room_id, "m.room.avatar", "", avatar).await.ok();
    for number in 0..5 {
        let event_id = bob.send(&room_id, &format!("message {number}")).await;
        me.read(&room_id, &event_id).await.ok();
    }
    let root = bob.send(&room_id, "a root").await;
    bob.send_in_thread(&room_id, &root, "in a thread").await;
    bob.send(&room_id, "unread").await;
    bob.redact(&room_id, &root).await.ok();
    bob.starts_typing(&room_id).await;
    me.tag(&room_id, "m.favourite").await.ok();
    me.set_account_data("m.direct", &json!({&bob.user_id: [room_id]})).await.ok();
    let invited_to = carol.create_room(json!({"invite": [me.user_id]})).await;
    story.world.rooms.push(invited_to);
    let number = 7;
    for to in [&me, &story.world.proxied.client.clone()] {
        bob.send_to_device(to, "m.test", json!({"n": number})).await.ok();
    }
    story.world.to_device.push(number);
    story.world.observe().await;
    story.settle().await.unwrap();
    while !story.tell(json!({"do": "page"})).await.is_null() {}
    let (truth, shown) = (story.truth().await, story.shown().await);
    Everything { room_id, truth, shown, terms: story.terms() }
}

/// What is found when the client shows something else.
pub(super) fn every_fault_is_found(everything: &Everything) {
    let Everything { room_id, truth, shown, terms } = everything;
    assert_eq!(faults(shown, truth, terms), [""; 0]);
    let check = |what: &str, spoil: &dyn Fn(&mut Value)| {
        let mut spoilt = shown.clone();
        spoil(&mut spoilt);
        assert_ne!(spoilt, *shown, "{what}: nothing is spoilt");
        let found = faults(&spoilt, truth, terms);
        assert!(found.iter().any(|fault| fault.contains(what)), "{what}: {found:?}");
    };
    let in_room = |what: &str, spoil: &dyn Fn(&mut Value)| {
        check(what, &|shown: &mut Value| spoil(&mut shown["rooms"][room_id]));
    };
    check("the list", &|shown| shown["list"].as_array_mut().unwrap().reverse());
    check("the list", &|shown| drop(shown["list"].as_array_mut().unwrap().pop()));
    check("length of the list", &|shown| shown["count"] = json!(0));
    check("invites", &|shown| shown["invites"] = json!({}));
    check("invites, beside", &|shown| shown["invites"] = json!({}));
    check("stripped state", &|shown| {
        let invites = shown["invites"].as_object_mut().unwrap();
        let (_, told) = invites.iter_mut().next().unwrap();
        drop(told["invite_state"]["events"].as_array_mut().unwrap().pop());
    });
    check("account data m.direct", &|shown| shown["account_data"]["m.direct"] = json!({}));
    check("account data org.test.none", &|shown| {
        shown["account_data"]["org.test.none"] = json!({});
    });
    check("to-device", &|shown| drop(shown["to_device"].as_array_mut().unwrap().remove(0)));
    check("to-device", &|shown| {
        let messages = shown["to_device"].as_array_mut().unwrap();
        messages.push(messages[0].clone());
    });
    check("one-time keys", &|shown| shown["e2ee"]["device_one_time_keys_count"] = json!({"a": 9}));
    check("fallback keys", &|shown| {
        shown["e2ee"]["device_unused_fallback_key_types"] = json!(["a"]);
    });

    in_room("name", &|room| room["entry"]["name"] = json!("another"));
    in_room("heroes", &|room| room["entry"]["heroes"] = json!([{"user_id": "@nobody:x"}]));
    in_room("avatar_url", &|room| room["entry"]["avatar_url"] = Value::Null);
    for count in
        ["timestamp", "joined_count", "invited_count", "notification_count", "highlight_count"]
    {
        in_room(count, &|room| room["entry"][count] = json!(77));
    }
    in_room("is_dm", &|room| room["entry"]["is_dm"] = json!(false));
    in_room("tags", &|room| room["entry"]["tags"] = json!({}));
    in_room("the list's m.room.topic", &|room| room["outside"]["state"] = json!({}));
    in_room("the list's timeline", &|room| drop(events(room, "outside").pop()));
    in_room("timeline", &|room| drop(events(room, "inside").pop()));
    in_room("newest event, beside", &|room| drop(events(room, "inside").pop()));
    in_room("timeline", &|room| {
        let events = events(room, "inside");
        drop(events.remove(events.len() - 3));
    });
    in_room("timeline", &|room| {
        let events = events(room, "inside");
        let last = events.len() - 1;
        events.swap(last, last - 1);
    });
    in_room("timeline", &|room| {
        let redacted =
            |event: &&mut Value| event["type"] == "m.room.message" && event["content"] == json!({});
        let event = events(room, "inside").iter_mut().find(redacted).unwrap();
        event["content"] = json!({"body": "what was redacted"});
    });
    in_room("state", &|room| room["inside"]["state"]["m.room.topic"] = json!({}));
    in_room("state", &|room| {
        room["inside"]["state"]["m.room.topic"][""]["content"]["topic"] = json!("another");
    });
    in_room("state", &|room| room["inside"]["state"]["m.room.member"] = json!({}));
    in_room("unread counts:", &|room| room["unread"]["unread_notifications"] = json!({}));
    in_room("of threads", &|room| {
        room["unread"]["unread_thread_notifications"] = json!({"$thread": {}});
    });
    in_room("member_count", &|room| room["summary"]["m.joined_member_count"] = json!(77));
    in_room("account data m.tag", &|room| {
        drop(room["account_data"].as_object_mut().unwrap().remove("m.tag"));
    });
    in_room("receipt", &|room| room["receipts"] = json!({}));
    in_room("typing", &|room| room["typing"] = json!([]));
}

/// A client that takes one reply for read without having read it.
pub(super) async fn a_missed_reply_is_found(story: &mut Story, room_id: &str) {
    let bob = story.world.others[0].clone();
    bob.send(room_id, "what the client misses").await;
    story.world.count += 1;
    story.world.settle().await.unwrap();
    let missed = story.tell(json!({"do": "ask", "body": {}})).await;
    story.edit_store(|known| known["next"] = text(&missed["next"]).into());
    story.restart_client().await;
    bob.send(room_id, "what it hears").await;
    story.world.count += 1;
    story.settle().await.unwrap();
    let found = faults(&story.shown().await, &story.truth().await, &story.terms());
    let timeline = found.iter().any(|fault| fault.contains(" timeline"));
    let list = found.iter().any(|fault| fault.contains("the list's timeline"));
    assert!(timeline && list, "a client missed a reply, and all that is found is {found:?}");
}

fn events<'a>(room: &'a mut Value, part: &str) -> &'a mut Vec<Value> {
    room[part]["timeline"].as_array_mut().unwrap()
}
