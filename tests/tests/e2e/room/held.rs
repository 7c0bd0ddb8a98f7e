//! `earliest_timeline_event_ids`: what the client holds is not told again.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::find_state;

use super::{has_heard, ids, messages, state, timeline, told, until_message};

/// A room with the messages 0 to 19, and the topic set before each of them that divides by five. Gives the IDs.
async fn a_long_room(alice: &Client) -> (String, Vec<String>) {
    let room = alice.create_public_room().await;
    // So that all that follows is stored, and nothing has to be looked for upstream.
    alice.v3().ask(json!({"room": {"room_id": room}})).await;
    let mut sent = Vec::new();
    for n in 0..20 {
        if n % 5 == 0 {
            alice.set_topic(&room, &format!("topic {n}")).await;
        }
        sent.push(alice.send(&room, &n.to_string()).await);
    }
    has_heard(alice, &room, &sent[19]).await;
    (room, sent)
}

fn topic<'a>(reply: &'a Value, room: &str) -> &'a Value {
    find_state(&state(reply, room), "m.room.topic", "")
        .map_or(&Value::Null, |event| &event["content"]["topic"])
}

#[tokio::test]
async fn a_longer_timeline_comes_without_its_end() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (room, sent) = a_long_room(&alice).await;
    let mut session = alice.v3();
    let first = session.ask(json!({"room": {"room_id": room, "timeline_limit": 3}})).await;
    assert_eq!(messages(&first, &room), ["17", "18", "19"]);

    let longer = json!({"timeline_limit": 6, "earliest_timeline_event_ids": [sent[17]]});
    let reply = session.ask(json!({"room": longer})).await;

    let entry = told(&reply, &room);
    assert_eq!(entry["initial"], true);
    assert_eq!(entry["state"]["state_before"], sent[17].as_str());
    let (ids_told, expected) = (ids(&timeline(&reply, &room)), &sent[15..17]);
    assert_eq!(ids_told[ids_told.len() - 2..], *expected, "up to the event, and not it");
    assert_eq!(entry["timeline"]["limited"], true);
    assert_eq!(topic(&reply, &room), "topic 10", "as it was at the start of the timeline");
    alice.send(&room, "onwards").await;
    let reply = until_message(&mut session, &room, "onwards").await;
    assert_eq!(messages(&reply, &room), ["onwards"]);
    assert!(told(&reply, &room)["state"].is_null());
}

#[tokio::test]
async fn where_nothing_is_left_state_and_token_are_those_before_the_event() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (room, sent) = a_long_room(&alice).await;
    for (limit, held) in [(3, 12), (3, 17), (0, 12), (1, 7)] {
        for lazy in [true, false] {
            let params = json!({"room_id": room, "timeline_limit": limit, "lazy_load_members": lazy,
                "earliest_timeline_event_ids": [sent[held]]});
            let reply = alice.v3().ask(json!({"room": params})).await;

            let entry = told(&reply, &room);
            assert_eq!(timeline(&reply, &room).len(), 0, "{params}");
            assert_eq!(entry["state"]["state_before"], sent[held].as_str());
            assert_eq!(topic(&reply, &room), &format!("topic {}", held / 5 * 5), "{params}");
            let own = find_state(&state(&reply, &room), "m.room.member", &alice.user_id);
            assert!(own.is_some(), "the user's own membership is there");
            assert_eq!(entry["timeline"]["limited"], true);
            let prev_batch = entry["timeline"]["prev_batch"].as_str().unwrap();
            let page = alice.messages_before(&room, prev_batch, 1).send().await.ok();
            assert_eq!(page["chunk"][0]["event_id"], sent[held - 1].as_str(), "{params}");
        }
    }
}

#[tokio::test]
async fn other_events_have_no_effect() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (room, sent) = a_long_room(&alice).await;
    let elsewhere = alice.create_public_room().await;
    let other = alice.send(&elsewhere, "elsewhere").await;
    for held in [json!(["$unknown"]), json!([other]), json!([])] {
        let params = json!({"room_id": room, "timeline_limit": 2,
            "earliest_timeline_event_ids": held});
        let reply = alice.v3().ask(json!({"room": params})).await;
        assert_eq!(ids(&timeline(&reply, &room)), sent[18..], "{held}");
        assert!(told(&reply, &room)["state"]["state_before"].is_null(), "{held}");
    }
    let both = json!({"room_id": [room, elsewhere], "timeline_limit": 4,
        "earliest_timeline_event_ids": [other, sent[18]]});
    let reply = alice.v3().ask(json!({"room": both})).await;
    assert_eq!(messages(&reply, &room), ["16", "17"]);
    assert_eq!(messages(&reply, &elsewhere), [] as [&str; 0]);
    assert!(!timeline(&reply, &elsewhere).is_empty(), "what came before the message");
    assert_eq!(told(&reply, &elsewhere)["state"]["state_before"], other.as_str());
}
