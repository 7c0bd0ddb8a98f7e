//! Receipts, and the unread counts that go down with them.

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{events, joined, messages, of_type};

#[tokio::test]
async fn a70_an_edu_has_the_receipts_that_are_new_and_an_initial_sync_has_all() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let carol = lab.user("carol").await;
    carol.join(&room).await.ok();
    let (one, two) = (alice.send(&room, "one").await, alice.send(&room, "two").await);
    let mut chain = alice.v2();
    chain.next().await;

    for (reader, event_id) in [(&bob, &one), (&carol, &one), (&bob, &two)] {
        reader.read(&room, event_id).await.ok();
        let edu = until_receipt(&mut chain, &room, event_id, reader).await;
        assert_eq!(edu["content"].as_object().unwrap().len(), 1, "only what is new comes: {edu:#}");
        assert_eq!(edu["content"][event_id]["m.read"].as_object().unwrap().len(), 1, "{edu:#}");
        assert!(edu["room_id"].is_null(), "the room is known from where it stands: {edu:#}");
    }

    let initial = alice.fresh_sync().send().await.ok();
    let edus = receipts(&initial, &room);
    assert_eq!(edus.len(), 1, "one event for all of them: {edus:#?}");
    let content = &edus[0]["content"];
    assert!(content[&two]["m.read"][&bob.user_id].is_object(), "{content:#}");
    assert!(content[&one]["m.read"][&carol.user_id].is_object(), "{content:#}");
    assert!(content[&one]["m.read"][&bob.user_id].is_null(), "Bob has read on: {content:#}");
}

#[tokio::test]
async fn a70_of_a_threaded_and_an_unthreaded_receipt_in_one_place_the_unthreaded_is_told() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let root = alice.send(&room, "root").await;
    let reply_id =
        alice.send_event(&room, "m.room.message", in_thread(&root, "reply")).await.event_id();
    let mut chain = alice.v2();
    let mut his = bob.v2();
    chain.next().await;
    his.next().await;
    let before = chain.since().to_owned();

    bob.read(&room, &reply_id).await.ok();
    read_in_thread(&bob, &room, &reply_id, &root).await;
    until_receipt(&mut chain, &room, &reply_id, &bob).await;
    // What is sent after both shows that both have arrived.
    bob.send(&room, "read it").await;
    chain
        .until("the message", |reply| messages(reply, &room).contains(&"read it").then_some(()))
        .await;
    his.until("the message", |reply| messages(reply, &room).contains(&"read it").then_some(()))
        .await;

    for request in [alice.fresh_sync(), alice.sync().since(&before), bob.fresh_sync()] {
        let reply = request.send().await.ok();
        let edus = receipts(&reply, &room);
        let told: Vec<&Value> = edus
            .iter()
            .map(|edu| &edu["content"][&reply_id]["m.read"][&bob.user_id])
            .filter(|receipt| receipt.is_object() && receipt["thread_id"].is_null())
            .collect();
        assert_eq!(told.len(), 1, "{edus:#?}");
    }
}

#[tokio::test]
async fn a71_a_private_receipt_is_its_owners_alone() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let laptop = lab.second_device(&bob).await;
    let (secret, public) = (alice.send(&room, "one").await, alice.send(&room, "two").await);
    let (mut hers, mut his, mut on_laptop) = (alice.v2(), bob.v2(), laptop.v2());
    for chain in [&mut hers, &mut his, &mut on_laptop] {
        chain
            .until("the messages", |reply| messages(reply, &room).contains(&"two").then_some(()))
            .await;
    }

    let action = format!("receipt/m.read.private/{}", encode(&secret));
    bob.post(&in_room(&room, &action)).json(&json!({})).send().await.ok();
    for chain in [&mut his, &mut on_laptop] {
        chain
            .until("the own private receipt", |reply| {
                let edus = receipts(reply, &room);
                let receipt = &edus.first()?["content"][&secret]["m.read.private"][&bob.user_id];
                receipt["ts"].is_u64().then_some(())
            })
            .await;
    }
    let initial = bob.fresh_sync().send().await.ok();
    assert!(initial.to_string().contains("m.read.private"), "{initial:#}");

    // Alice hears of the public one, and never of the private one before it.
    bob.read(&room, &public).await.ok();
    hers.until("the public receipt", |reply| {
        assert!(!reply.to_string().contains("m.read.private"), "{reply:#}");
        let edus = receipts(reply, &room);
        edus.first()?["content"][&public]["m.read"][&bob.user_id].is_object().then_some(())
    })
    .await;
    let initial = alice.fresh_sync().send().await.ok();
    assert!(!initial.to_string().contains("m.read.private"), "{initial:#}");
}

#[tokio::test]
async fn a73_a74_a34_threads_are_counted_apart_for_those_who_ask() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut chain = bob.v2();
    chain.until("the room", |reply| joined(reply, &room).is_object().then_some(())).await;
    let before = chain.since().to_owned();
    let root = alice.send(&room, "root").await;
    let call = |text: &str| format!("{text} {}!", bob.user_id);
    alice.send_event(&room, "m.room.message", in_thread(&root, "quiet")).await.event_id();
    let reply_id =
        alice.send_event(&room, "m.room.message", in_thread(&root, &call("hey"))).await.event_id();
    let last = alice.send(&room, &call("hello")).await;
    let arrived = chain
        .until_reply("the last", |reply| messages(reply, &room).contains(&&*call("hello")))
        .await;
    assert_eq!(counts(&arrived, &room), [4, 2], "they come with the event that they count");

    let apart = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    // In any other place the parameter means nothing.
    let elsewhere = json!({
        "unread_thread_notifications": true,
        "room": {"state": {"unread_thread_notifications": true}},
    });
    let asked = async |filter: &Value| {
        let request = bob.sync().since(&before).timeout(a_new_timeout()).filter(filter);
        let reply = request.send().await.ok();
        (counts(&reply, &room), joined(&reply, &room)["unread_thread_notifications"].clone())
    };
    let thread = |notifications: u64, highlights: u64| json!({&root: {"notification_count": notifications, "highlight_count": highlights}});
    assert_eq!(asked(&json!({})).await, ([4, 2], Value::Null));
    assert_eq!(asked(&elsewhere).await, ([4, 2], Value::Null));
    assert_eq!(asked(&apart).await, ([2, 1], thread(2, 1)));
    let initial = bob.fresh_sync().filter(&apart).send().await.ok();
    assert_eq!(joined(&initial, &room)["unread_thread_notifications"], thread(2, 1));

    // A thread that has been read is absent, and with it the whole object.
    read_in_thread(&bob, &room, &reply_id, &root).await;
    until_receipt(&mut chain, &room, &reply_id, &bob).await;
    assert_eq!(asked(&apart).await, ([2, 1], Value::Null));
    assert_eq!(asked(&json!({})).await, ([2, 1], Value::Null));
    bob.read(&room, &last).await.ok();
    until_receipt(&mut chain, &room, &last, &bob).await;
    assert_eq!(asked(&apart).await, ([0, 0], Value::Null));
}

#[tokio::test]
async fn a75_the_count_is_in_the_answer_that_brings_the_event() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut chain = alice.v2();
    chain.until("the room", |reply| joined(reply, &room).is_object().then_some(())).await;

    for n in 1..=10 {
        let text = format!("message {n}");
        bob.send(&room, &text).await;
        let reply =
            chain.until_reply(&text, |reply| messages(reply, &room).contains(&&*text)).await;
        assert_eq!(counts(&reply, &room), [n, 0], "{reply:#}");
    }
}

/// A timeout that no request has had before: Synapse answers a question that it has heard from its memory.
fn a_new_timeout() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

async fn until_receipt(chain: &mut Chain, room: &str, event_id: &str, reader: &Client) -> Value {
    chain
        .until("the receipt", |reply| {
            let edus = receipts(reply, room);
            let found = edus
                .into_iter()
                .find(|edu| edu["content"][event_id]["m.read"][&reader.user_id].is_object());
            found.cloned()
        })
        .await
}

fn receipts<'a>(reply: &'a Value, room: &str) -> Vec<&'a Value> {
    of_type(&events(&joined(reply, room)["ephemeral"]), "m.receipt")
}

/// Notifications and highlights of a room.
fn counts(reply: &Value, room: &str) -> [u64; 2] {
    let unread = &joined(reply, room)["unread_notifications"];
    ["notification_count", "highlight_count"]
        .map(|name| unread[name].as_u64().unwrap_or_else(|| panic!("no {name}: {reply:#}")))
}

fn in_thread(root: &str, body: &str) -> Value {
    json!({
        "msgtype": "m.text", "body": body,
        "m.relates_to": {"rel_type": "m.thread", "event_id": root},
    })
}

async fn read_in_thread(reader: &Client, room: &str, event_id: &str, thread_id: &str) {
    let path = in_room(room, &format!("receipt/m.read/{}", encode(event_id)));
    reader.post(&path).json(&json!({"thread_id": thread_id})).send().await.ok();
}

fn in_room(room: &str, action: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{action}", encode(room))
}
