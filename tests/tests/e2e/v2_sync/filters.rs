//! Filters, by ID and inline.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{joined, messages, rooms_in, timeline, types};

#[tokio::test]
async fn a19_the_timeline_limit_counts() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;

    for (limit, expected) in [(1, vec!["five"]), (3, vec!["three", "four", "five"])] {
        let reply =
            alice.sync().filter(&json!({"room": {"timeline": {"limit": limit}}})).send().await.ok();
        assert_eq!(messages(&reply, &room), expected);
        assert_eq!(joined(&reply, &room)["timeline"]["limited"], true);
    }
}

#[tokio::test]
async fn a17_d2_3_a_filter_by_id_does_what_the_same_filter_does_inline() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let filter_id = alice.upload_filter(&filter).await;

    let reply = alice.sync().filter_id(&filter_id).send().await.ok();

    assert_eq!(messages(&reply, &room), ["four", "five"]);
}

#[tokio::test]
async fn a17_d2_3_two_users_with_the_same_filter_id_each_have_their_own_filter() {
    let lab = Lab::shared().await;
    let ((alice, hers), (bob, his)) =
        (a_room_with_five_messages(&lab).await, a_room_with_five_messages(&lab).await);
    let one = alice.upload_filter(&json!({"room": {"timeline": {"limit": 1}}})).await;
    let other = bob.upload_filter(&json!({"room": {"timeline": {"limit": 4}}})).await;
    assert_eq!(
        one, other,
        "Synapse numbers the filters of each user; if it no longer does, this test tests nothing"
    );

    assert_eq!(messages(&alice.sync().filter_id(&one).send().await.ok(), &hers).len(), 1);
    assert_eq!(messages(&bob.sync().filter_id(&other).send().await.ok(), &his).len(), 4);
}

#[tokio::test]
async fn a_token_does_not_depend_on_the_filter() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;
    let first = alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).send().await.ok();
    alice.send(&room, "six").await;

    let since = first["next_batch"].as_str().unwrap();
    let reply = alice
        .sync()
        .since(since)
        .timeout(10_000)
        .filter(&json!({"room": {"timeline": {"limit": 20}}}))
        .send()
        .await
        .ok();

    assert_eq!(messages(&reply, &room), ["six"]);
}

#[tokio::test]
async fn a21_types_choose_and_not_types_refuse() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;
    alice.send_event(&room, "com.example.other", json!({"body": "other"})).await.event_id();

    for (filter, expected) in [
        (json!({"types": ["com.example.other"]}), vec!["other"]),
        (json!({"types": ["com.example.*"]}), vec!["other"]),
        (json!({"not_types": ["com.example.other"]}), vec!["one", "two", "three", "four", "five"]),
        (
            json!({"types": ["m.room.message", "com.example.*"], "not_types": ["m.room.*"]}),
            vec!["other"],
        ),
        (json!({"types": []}), vec![]),
    ] {
        let reply = alice.sync().filter(&timeline_filter(&filter)).send().await.ok();
        assert_eq!(messages(&reply, &room), expected, "with the filter {filter}");
    }
}

#[tokio::test]
async fn a22_senders_choose_and_not_senders_refuse() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;
    let bob = lab.user("bob").await;
    bob.join(&room).await.ok();
    bob.send(&room, "from Bob").await;
    let mut chain = alice.v2();
    chain.until_reply("Bob's message", |reply| messages(reply, &room).contains(&"from Bob")).await;

    for (filter, expected) in [
        (json!({"senders": [bob.user_id]}), vec!["from Bob"]),
        (json!({"not_senders": [bob.user_id]}), vec!["one", "two", "three", "four", "five"]),
    ] {
        let reply = alice.sync().filter(&timeline_filter(&filter)).send().await.ok();
        assert_eq!(messages(&reply, &room), expected, "with the filter {filter}");
    }
}

#[tokio::test]
async fn the_limit_applies_to_what_passes_the_filter() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.send_event(&room, "com.example.rare", json!({"body": "rare"})).await.event_id();
    for n in 0..12 {
        alice.send(&room, &format!("filler {n}")).await;
    }

    let filter = json!({"room": {"timeline": {"limit": 1, "types": ["com.example.rare"]}}});
    let reply = alice.sync().filter(&filter).send().await.ok();

    assert_eq!(messages(&reply, &room), ["rare"]);
}

#[tokio::test]
async fn a23_rooms_choose_and_not_rooms_refuse() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (one, other) = (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&one, &other] {
        alice.send(room, "hello").await;
    }

    for (filter, expected) in [
        (json!({"rooms": [one]}), vec![&one]),
        (json!({"not_rooms": [one]}), vec![&other]),
        (json!({"rooms": [one, other], "not_rooms": [other]}), vec![&one]),
        (json!({"rooms": []}), vec![]),
    ] {
        let reply = alice.sync().filter(&json!({"room": filter})).send().await.ok();
        // Synapse lists an excluded room all the same, with nothing in it but its m.room.create.
        let mut rooms = rooms_in(&reply, "join");
        rooms.retain(|room| !messages(&reply, room).is_empty());
        assert_eq!(rooms, expected, "with the filter {filter}");
    }
}

#[tokio::test]
async fn a35_a_filter_for_state_leaves_the_timeline_alone_and_the_other_way_round() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;

    let no_state = json!({"room": {"state": {"types": []}, "timeline": {"limit": 2}}});
    let reply = alice.sync().filter(&no_state).send().await.ok();
    assert_eq!(joined(&reply, &room)["state"]["events"], json!([]));
    assert_eq!(messages(&reply, &room), ["four", "five"]);

    let only_names = json!({"room": {"state": {"types": ["m.room.join_rules"]}, "timeline": {"types": ["m.room.message"]}}});
    let reply = alice.sync().filter(&only_names).send().await.ok();
    let state: Vec<&Value> =
        joined(&reply, &room)["state"]["events"].as_array().unwrap().iter().collect();
    assert_eq!(types(&state), ["m.room.join_rules"]);
    assert_eq!(types(&timeline(&reply, &room)), ["m.room.message"; 5]);
}

#[tokio::test]
async fn a28_a29_account_data_and_presence_can_be_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    alice.set_account_data("com.example.settings", &json!({"dark": true})).await.ok();

    let filter = json!({"account_data": {"types": []}, "presence": {"types": []}});
    let reply = alice.sync().filter(&filter).send().await.ok();

    assert!(
        reply["account_data"].is_null() || reply["account_data"]["events"] == json!([]),
        "{reply:#}"
    );
    assert!(reply["presence"].is_null() || reply["presence"]["events"] == json!([]), "{reply:#}");
}

#[tokio::test]
async fn what_a_filter_hides_does_not_wake_a_waiting_sync() {
    let lab = Lab::shared().await;
    let (alice, room) = a_room_with_five_messages(&lab).await;
    let hide_messages = json!({
        "room": {"timeline": {"not_types": ["m.room.message"]}, "ephemeral": {"types": []}},
        "presence": {"types": []},
    });
    let mut chain = alice.v2().filtered(hide_messages);
    chain.next().await;
    chain.until("quiet", |reply| reply["rooms"].is_null().then_some(())).await;

    let waiting = tokio::spawn(chain.request().timeout(30_000).send());
    alice.send(&room, "hidden").await;
    alice.set_topic(&room, "visible").await;
    let reply = waiting.await.unwrap().ok();

    assert_eq!(
        types(&timeline(&reply, &room)),
        ["m.room.topic"],
        "the hidden message alone must not end the wait: {reply:#}"
    );
}

async fn a_room_with_five_messages(lab: &Lab) -> (Client, String) {
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for text in ["one", "two", "three", "four", "five"] {
        alice.send(&room, text).await;
    }
    (alice, room)
}

fn timeline_filter(filter: &Value) -> Value {
    let mut filter = filter.clone();
    filter["limit"] = json!(50);
    json!({"room": {"timeline": filter}})
}
