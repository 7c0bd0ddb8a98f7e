//! matrix-js-sdk, set up as Element sets it up: lazy-loaded members, threads, short timelines, `use_state_after`.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::real_client::RealClient;

/// How many timeline events the SDK asks for.
const TIMELINE_LIMIT: usize = 8;
/// More replies than the SDK loads of a thread at once, which is 30.
const LONG_THREAD: usize = 40;

#[tokio::test]
async fn js_sdk_shows_rooms_by_name_and_loads_members_when_it_needs_them() {
    let lab = Lab::shared().await;
    let (alice, bob, carol) =
        (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    bob.set_displayname("Bob the builder").await.ok();
    let named = bob.create_room(json!({"preset": "public_chat", "name": "Named"})).await;
    let unnamed = bob.create_public_room().await;
    for room in [&named, &unnamed] {
        alice.join(room).await.ok();
    }
    carol.join(&named).await.ok();
    bob.set_topic(&named, "what it is about").await;
    for number in 1..=TIMELINE_LIMIT {
        bob.send(&named, &format!("number {number}")).await;
    }

    let mut js = js_sdk(&lab, &alice).await;
    let room = look_at(&mut js, &named).await;
    assert_eq!(room["name"], "Named");
    assert_eq!(room["topic"], "what it is about");
    assert_eq!(room["membership"], "join");
    assert_eq!(room["joined_count"], 3);
    assert_eq!(bodies(&room["messages"]), numbered(1..=TIMELINE_LIMIT));
    assert_eq!(room["members"][&carol.user_id], Value::Null, "carol has said nothing");
    assert_eq!(room["members"][&bob.user_id], "join");
    assert_eq!(look_at(&mut js, &unnamed).await["name"], "Bob the builder", "by its hero");
    let listed = js.tell(json!({"do": "rooms"})).await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed:#}");

    let room = js.tell(json!({"do": "load_members", "room_id": named})).await;
    assert_eq!(
        room["members"],
        json!({&alice.user_id: "join", &bob.user_id: "join", &carol.user_id: "join"})
    );
    let asked = log(&mut js, "/members").await;
    let asked = asked["requests"].as_array().unwrap();
    assert!(
        asked.len() == 1
            && asked[0]["status"] == 200
            && asked[0]["path"].as_str().unwrap().contains("at="),
        "{asked:#?}"
    );

    // From now on it holds all members, and keeps them up to date by itself.
    let dave = lab.user("dave").await;
    dave.join(&named).await.ok();
    carol.leave(&named).await.ok();
    see(&mut js, &named, "dave instead of carol", |room| {
        room["members"][&dave.user_id] == "join"
            && room["members"][&carol.user_id] == "leave"
            && room["joined_count"] == 3
    })
    .await;
    // The SDK always asks for the state after. A Synapse of its own accord does not know it.
    if !lab.is_past_the_proxy() {
        let forms = log(&mut js, "/sync").await["joined_rooms_in_sync"].clone();
        assert_eq!(forms["without"], 0, "{forms}");
        assert_ne!(forms["with_state_after"], 0, "{forms}");
    }
}

#[tokio::test]
async fn js_sdk_follows_invites_kicks_leaves_and_bans() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let mut js = js_sdk(&lab, &alice).await;
    let room = bob
        .create_room(json!({"preset": "private_chat", "name": "Cosy", "invite": [alice.user_id]}))
        .await;
    let membership = async |js: &mut RealClient, wanted: &str| {
        see(js, &room, wanted, |room| room["membership"] == wanted).await
    };

    assert_eq!(membership(&mut js, "invite").await["name"], "Cosy", "from the stripped state");
    js.tell(json!({"do": "join", "room_id": room})).await;
    membership(&mut js, "join").await;
    bob.send(&room, "welcome").await;
    see(&mut js, &room, "the welcome", |room| bodies(&room["messages"]) == ["welcome"]).await;

    bob.kick(&room, &alice.user_id).await.ok();
    membership(&mut js, "leave").await;
    bob.send(&room, "behind her back").await;
    bob.invite(&room, &alice.user_id).await.ok();
    membership(&mut js, "invite").await;
    js.tell(json!({"do": "join", "room_id": room})).await;
    let back = membership(&mut js, "join").await;
    assert_eq!(back["joined_count"], 2);
    bob.send(&room, "again").await;
    see(&mut js, &room, "what came after", |room| {
        bodies(&room["messages"]).last() == Some(&"again")
    })
    .await;

    bob.ban(&room, &alice.user_id).await.ok();
    membership(&mut js, "ban").await;

    let left = bob.create_room(json!({"preset": "public_chat", "name": "Left"})).await;
    js.tell(json!({"do": "join", "room_id": left})).await;
    see(&mut js, &left, "join", |room| room["membership"] == "join").await;
    js.tell(json!({"do": "leave", "room_id": left})).await;
    see(&mut js, &left, "leave", |room| room["membership"] == "leave").await;

    // Another device begins after all that. As of Synapse, it hears of the ban, and of what she left herself if it asks.
    let mut second = RealClient::js_sdk(&lab.url(), &alice.user_id, "JSSECOND").await;
    let listed = second.tell(json!({"do": "rooms"})).await;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!([&listed[0]["room_id"], &listed[0]["membership"]], [&json!(room), &json!("ban")]);
    let archive = second.tell(json!({"do": "load_left_rooms"})).await;
    assert!(archive.as_array().unwrap().contains(&json!(left)), "{archive}");
    assert_eq!(look_at(&mut second, &left).await["name"], "Left");
}

#[tokio::test]
async fn js_sdk_pages_back_without_gaps_or_duplicates_over_a_restart() {
    const BEFORE: usize = 30;
    const MISSED: usize = 25;
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    let send = async |bob: &Client, numbers: std::ops::RangeInclusive<usize>| {
        for number in numbers {
            bob.send(&room, &format!("number {number}")).await;
        }
    };
    send(&bob, 1..=BEFORE).await;

    let mut js = js_sdk(&lab, &alice).await;
    let shown = look_at(&mut js, &room).await;
    assert_eq!(bodies(&shown["messages"]), numbered(BEFORE - TIMELINE_LIMIT + 1..=BEFORE));
    let shown = page_back(&mut js, &room, 7).await;
    assert_eq!(bodies(&shown["messages"]), numbered(1..=BEFORE));

    // What is missed is longer than a timeline: the SDK starts a new one, and pages from its start to where the old one ends.
    let past_proxy = lab.past_proxy(&bob);
    lab.while_the_proxy_is_down(send(&past_proxy, BEFORE + 1..=BEFORE + MISSED)).await;
    let end = format!("number {}", BEFORE + MISSED);
    see(&mut js, &room, "the last message", |room| {
        bodies(&room["messages"]).last() == Some(&end.as_str())
    })
    .await;
    let shown = page_back(&mut js, &room, 10).await;
    assert_eq!(bodies(&shown["messages"]), numbered(1..=BEFORE + MISSED));

    // It goes on by itself.
    bob.send(&room, "after all").await;
    see(&mut js, &room, "what comes now", |room| {
        bodies(&room["messages"]).last() == Some(&"after all")
    })
    .await;
}

#[tokio::test]
async fn js_sdk_counts_threads_and_pages_in_them() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    let root = bob.send(&room, "root").await;
    for number in 1..=3 {
        bob.send_in_thread(&room, &root, &format!("number {number}")).await;
    }

    let mut js = js_sdk(&lab, &alice).await;
    see_thread(&mut js, &room, &root, "the thread", |thread| {
        bodies(&thread["replies"]) == numbered(1..=3)
            && thread["length"] == 3
            && thread["unread"] == 3
    })
    .await;
    let main = look_at(&mut js, &room).await;
    assert_eq!(bodies(&main["messages"]), ["root"], "replies stand in their thread alone");

    // Live, from both sides.
    let last = bob.send_in_thread(&room, &root, "number 4").await;
    see_thread(&mut js, &room, &root, "a reply", |thread| {
        bodies(&thread["replies"]) == numbered(1..=4) && thread["unread"] == 4
    })
    .await;
    js.tell(json!({"do": "read", "room_id": room, "event_id": last})).await;
    see_thread(&mut js, &room, &root, "nothing unread", |thread| thread["unread"] == 0).await;
    js.tell(json!({"do": "send_in_thread", "room_id": room, "root": root, "body": "number 5"}))
        .await;
    see_thread(&mut js, &room, &root, "the own reply", |thread| {
        bodies(&thread["replies"]) == numbered(1..=5) && thread["length"] == 5
    })
    .await;

    // A second device hears of the thread, when it has grown longer than the page that the SDK loads at once.
    for number in 6..=LONG_THREAD {
        bob.send_in_thread(&room, &root, &format!("number {number}")).await;
    }
    let mut second = RealClient::js_sdk(&lab.url(), &alice.user_id, "JSSECOND").await;
    second.tell(json!({"do": "load_threads", "room_id": room})).await;
    see_thread(&mut second, &room, &root, "the thread", |thread| {
        thread["loaded"] == true && thread["length"] == LONG_THREAD
    })
    .await;
    let command = json!({"do": "page_thread", "room_id": room, "root": root, "limit": 5});
    second
        .until("the whole thread", command, |thread| {
            (bodies(&thread["replies"]) == numbered(1..=LONG_THREAD)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn js_sdk_sends_once_and_hears_of_receipts_typing_tags_and_account_data() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    // With another device that syncs already, the SDK's device does not see its own transactions upstream.
    alice.v2().next().await;
    let mut js = js_sdk(&lab, &alice).await;

    for number in 1..=3 {
        let body = format!("number {number}");
        js.tell(json!({"do": "send", "room_id": room, "body": body})).await;
    }
    let shown = see(&mut js, &room, "the echoes", |room| {
        let messages = room["messages"].as_array().unwrap();
        messages.iter().all(|message| message["status"].is_null())
            && bodies(&room["messages"]) == numbered(1..=3)
    })
    .await;
    for message in shown["messages"].as_array().unwrap() {
        assert!(message["transaction_id"].is_string(), "{message:#}");
    }

    let sent = shown["messages"][2]["event_id"].as_str().unwrap();
    bob.read(&room, sent).await.ok();
    see(&mut js, &room, "bob's receipt", |room| {
        room["last_read_by"].as_array().unwrap().contains(&json!(bob.user_id))
    })
    .await;
    bob.starts_typing(&room).await;
    see(&mut js, &room, "bob typing", |room| room["typing"] == json!([bob.user_id])).await;
    let answer = bob.send(&room, "an answer").await;
    see(&mut js, &room, "the unread answer", |room| room["unread"] == 1).await;
    js.tell(json!({"do": "read", "room_id": room, "event_id": answer})).await;
    see(&mut js, &room, "nothing unread", |room| room["unread"] == 0).await;

    let mut second = RealClient::js_sdk(&lab.url(), &alice.user_id, "JSSECOND").await;
    js.tell(json!({"do": "tag", "room_id": room, "tag": "m.favourite"})).await;
    js.tell(json!({"do": "set_account_data", "type": "m.test", "content": {"n": 1}})).await;
    for device in [&mut js, &mut second] {
        see(device, &room, "the tag", |room| room["tags"] == json!(["m.favourite"])).await;
        let command = json!({"do": "account_data", "type": "m.test"});
        device.until("account data", command, |content| (content["n"] == 1).then_some(())).await;
    }
}

#[tokio::test]
async fn js_sdk_holds_the_current_state_after_gaps() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    bob.set_topic(&room, "first").await;
    let mut js = js_sdk(&lab, &alice).await;
    see(&mut js, &room, "the first topic", |room| room["topic"] == "first").await;

    // In the gap and in the timeline after it; twice; and something else in the gap alone.
    let past_proxy = lab.past_proxy(&bob);
    lab.while_the_proxy_is_down(async {
        past_proxy.set_topic(&room, "second").await;
        past_proxy.set_state(&room, "m.room.name", "", json!({"name": "In the gap"})).await.ok();
        for number in 1..=2 * TIMELINE_LIMIT {
            past_proxy.send(&room, &format!("number {number}")).await;
        }
        past_proxy.set_topic(&room, "third").await;
        past_proxy.send(&room, "between").await;
        past_proxy.set_topic(&room, "fourth").await;
    })
    .await;
    see(&mut js, &room, "the last topic", |room| room["topic"] == "fourth").await;
    assert_eq!(look_at(&mut js, &room).await["name"], "In the gap");
    // Paging back through old state does not bring it back.
    let shown = page_back(&mut js, &room, 20).await;
    assert_eq!(shown["topic"], "fourth");
    assert_eq!(shown["name"], "In the gap");
    bob.set_topic(&room, "fifth").await;
    see(&mut js, &room, "the live topic", |room| room["topic"] == "fifth").await;
}

async fn js_sdk(lab: &Lab, user: &Client) -> RealClient {
    RealClient::js_sdk(&lab.url(), &user.user_id, "JS").await
}

async fn look_at(js: &mut RealClient, room: &str) -> Value {
    js.tell(json!({"do": "room", "room_id": room})).await
}

async fn log(js: &mut RealClient, like: &str) -> Value {
    js.tell(json!({"do": "log", "like": like})).await
}

/// Waits until the client shows the room as it ought to be, and returns how it shows it.
async fn see(
    js: &mut RealClient,
    room: &str,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    js.until(what, json!({"do": "room", "room_id": room}), |room| {
        (room.is_object() && condition(room)).then(|| room.clone())
    })
    .await
}

/// [`see`] for a thread of the room.
async fn see_thread(
    js: &mut RealClient,
    room: &str,
    root: &str,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    js.until(what, json!({"do": "room", "room_id": room}), |room| {
        let threads = room["threads"].as_array()?;
        threads.iter().find(|thread| thread["root"] == root && condition(thread)).cloned()
    })
    .await
}

/// Pages back, `limit` events at a time, to the beginning of the room.
async fn page_back(js: &mut RealClient, room: &str, limit: usize) -> Value {
    js.until(
        "the beginning of the room",
        json!({"do": "page_back", "room_id": room, "limit": limit}),
        |room| (room["at_the_start"] == true).then(|| room.clone()),
    )
    .await
}

fn bodies(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().filter_map(|message| message["body"].as_str()).collect()
}

fn numbered(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("number {number}")).collect()
}
