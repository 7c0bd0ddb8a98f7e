//! What the stream tells after its first reply: the news of the rooms that it follows.

use serde_json::json;
use tests::lab::Lab;

use super::{begun, entry, named_room, named_rooms, next_page, removed, texts, told};

#[tokio::test]
async fn news_of_a_room_come_as_what_is_new() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = named_room(&alice, "old").await;
    bob.join(&room).await.ok();
    let ask = json!({"room_list": {"state_events": [["m.room.topic", ""], ["m.room.create", ""]]}});
    let (mut session, _) = begun(&alice, ask, 1).await;
    session.ask(json!({})).await;

    bob.send(&room, "hello").await;
    let reply = session
        .until("the message", |reply| {
            (texts(entry(reply, &room)) == ["hello"]).then(|| reply.clone())
        })
        .await;
    let news = entry(&reply, &room);
    assert!(news["initial"].is_null() && news["limited"].is_null(), "{news:#}");
    assert!(news["name"].is_null() && news["prev_batch"].is_null(), "{news:#}");
    assert_eq!(news["notification_count"], 1);
    assert_eq!(news["timestamp"], news["timeline"][0]["origin_server_ts"]);
    let speakers: Vec<&str> = news["state_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["state_key"].as_str().unwrap())
        .collect();
    assert_eq!(speakers, [&bob.user_id], "{news:#}");

    alice.set_state(&room, "m.room.name", "", json!({"name": "new"})).await.ok();
    let reply = session
        .until("the name", |reply| (entry(reply, &room)["name"] == "new").then(|| reply.clone()))
        .await;
    assert!(entry(&reply, &room)["avatar_url"].is_null());
    let topic = alice.set_topic(&room, "this and that").await;
    session
        .until("the topic", |reply| {
            let state = entry(reply, &room)["state_events"].as_array()?;
            state.iter().any(|event| event["event_id"] == topic.as_str()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn tags_and_direct_chats_are_news() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = named_room(&alice, "room").await;
    let (mut session, _) = begun(&alice, json!({"room_list": {}}), 1).await;
    alice.tag(&room, "u.work").await.ok();
    session
        .until("the tag", |reply| entry(reply, &room)["tags"]["u.work"].is_object().then_some(()))
        .await;
    alice.set_account_data("m.direct", &json!({"@bob:x": [room]})).await.ok();
    session
        .until("the direct chat", |reply| (entry(reply, &room)["is_dm"] == true).then_some(()))
        .await;
    alice.set_account_data("m.direct", &json!({})).await.ok();
    session.until("its end", |reply| (entry(reply, &room)["is_dm"] == false).then_some(())).await;
}

#[tokio::test]
async fn counts_fall_when_another_device_reads() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let tablet = lab.second_device(&alice).await;
    let (mut session, _) = begun(&alice, json!({"room_list": {}}), 1).await;
    let message = bob.send(&room, "unread").await;
    session
        .until("the count", |reply| (entry(reply, &room)["notification_count"] == 1).then_some(()))
        .await;
    tablet.read(&room, &message).await.ok();
    let reply = session
        .until("that it is read", |reply| {
            (entry(reply, &room)["notification_count"] == 0).then(|| reply.clone())
        })
        .await;
    assert_eq!(texts(entry(&reply, &room)), [""; 0]);
}

/// A room that is not on the page is followed only once it is told.
#[tokio::test]
async fn the_active_set_is_what_was_sent() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["a", "b", "c"]).await;
    for room in &rooms {
        bob.join(room).await.ok();
    }
    let ask = json!({"room_list": {
        "p": {"limit": 1, "sort": ["by_name"]}, "track_notifications": false,
    }});
    let (mut session, first) = begun(&alice, ask, 3).await;
    // His joins are over when this is there.
    bob.send(&rooms[0], "zero").await;
    let at_a = |text: &'static str| {
        let room = rooms[0].clone();
        move |reply: &serde_json::Value| {
            texts(entry(reply, &room)).contains(&text).then(|| reply.clone())
        }
    };
    session.until("the beginning", at_a("zero")).await;

    bob.send(&rooms[1], "not told").await;
    bob.send(&rooms[0], "one").await;
    let mut seen = Vec::new();
    session
        .until("the first room", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            at_a("one")(reply)
        })
        .await;
    assert_eq!(seen, [rooms[0].as_str()]);

    let page =
        session.ask(json!({"room_list": {"p": {"since": next_page(&first).unwrap()}}})).await;
    assert_eq!(told(&page), [&rooms[1]]);
    assert_eq!(texts(entry(&page, &rooms[1])), ["not told"]);
    bob.send(&rooms[2], "not told").await;
    bob.send(&rooms[1], "told").await;
    let mut seen = Vec::new();
    session
        .until("the second room", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            texts(entry(reply, &rooms[1])).contains(&"told").then_some(())
        })
        .await;
    assert_eq!(seen, [rooms[1].as_str()]);
}

#[tokio::test]
async fn a_room_that_is_left_comes_once_more_and_a_room_that_is_joined_again_comes_anew() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = named_room(&bob, "room").await;
    alice.join(&room).await.ok();
    let (mut session, _) = begun(&alice, json!({"room_list": {}}), 1).await;
    let before = session.next().to_owned();

    bob.send(&room, "last words").await;
    bob.kick(&room, &alice.user_id).await.ok();
    let mut timeline = Vec::new();
    let reply = session
        .until("the leave", |reply| {
            timeline
                .extend(entry(reply, &room)["timeline"].as_array().into_iter().flatten().cloned());
            (!removed(reply).is_empty()).then(|| reply.clone())
        })
        .await;
    assert_eq!((removed(&reply), told(&reply)), (vec![room.as_str()], vec![room.as_str()]));
    assert_eq!(reply["room_list"]["count"], 0);
    assert_eq!(timeline.last().unwrap()["content"]["membership"], "leave", "{timeline:#?}");
    assert!(timeline.iter().any(|event| event["content"]["body"] == "last words"));
    let quiet = session.request(&json!({})).timeout(1_000).send().await.ok();
    assert!(quiet["room_list"].is_null(), "and then no more: {quiet:#}");

    alice.join(&room).await.ok();
    let reply = session
        .until("the room", |reply| (!entry(reply, &room).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(entry(&reply, &room)["initial"], true);
    assert_eq!(entry(&reply, &room)["name"], "room");
    assert_eq!(removed(&reply), [""; 0]);

    // To whom has not heard of the leave the room comes anew as well.
    let late = alice.v3_sync(&json!({})).since(&before).send().await.ok();
    assert_eq!(entry(&late, &room)["initial"], true, "{late:#}");
    assert_eq!(removed(&late), [""; 0]);
}

#[tokio::test]
async fn a_room_that_is_joined_comes_into_the_list() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    named_rooms(&alice, &["a", "b"]).await;
    let (mut session, _) = begun(&alice, json!({"room_list": {"p": {"limit": 1}}}), 2).await;
    let room = named_room(&bob, "new").await;
    alice.join(&room).await.ok();
    let reply = session
        .until("the room", |reply| (!entry(reply, &room).is_null()).then(|| reply.clone()))
        .await;
    assert_eq!(entry(&reply, &room)["initial"], true);
    assert_eq!(reply["room_list"]["count"], 3);
    assert_eq!(next_page(&reply), None);
    bob.send(&room, "followed").await;
    session
        .until("its news", |reply| texts(entry(reply, &room)).contains(&"followed").then_some(()))
        .await;
}

#[tokio::test]
async fn typing_and_the_receipts_of_others_wake_nobody() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let message = alice.send(&room, "mine").await;
    let (mut session, _) = begun(&alice, json!({"room_list": {}}), 1).await;
    session.ask(json!({})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.starts_typing(&room).await;
    bob.read(&room, &message).await.ok();
    bob.send(&room, "this one wakes").await;
    let reply = waiting.await.unwrap().ok();
    assert_eq!(texts(entry(&reply, &room)), ["this one wakes"]);
}

#[tokio::test]
async fn an_old_since_gets_an_answer_as_good() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let (mut session, _) = begun(&alice, json!({"room_list": {}}), 1).await;
    let before = session.next().to_owned();
    let mut replies = Vec::new();
    for text in ["one", "two", "three"] {
        bob.send(&room, text).await;
        let reply = session
            .until(text, |reply| texts(entry(reply, &room)).contains(&text).then(|| reply.clone()))
            .await;
        replies.push(reply);
    }
    let again = alice.v3_sync(&json!({})).since(&before).send().await.ok();
    assert_eq!(texts(entry(&again, &room)), ["one", "two", "three"]);
    assert_eq!(again["next"], replies[2]["next"], "it leads to the same place");
}
