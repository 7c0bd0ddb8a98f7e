//! A room that comes anew: as in an initial `GET /sync`.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, find_state, joined, of_type, types};
use tests::wait::eventually;

use super::replica::Replica;
use super::{ids, messages, rooms, sorted, state, timeline, told, two_in_a_room, until_message};

/// A room with a past: more events than a timeline, state in between, receipts, account data.
async fn a_room_with_a_past(lab: &Lab) -> (Client, Client, String) {
    let (alice, bob, room) = two_in_a_room(lab).await;
    for n in 0..15 {
        alice.send(&room, &format!("early {n}")).await;
    }
    alice.set_topic(&room, "in the middle").await;
    let read = bob.send(&room, "Bob's").await;
    for n in 0..15 {
        alice.send(&room, &format!("late {n}")).await;
    }
    bob.read(&room, &read).await.ok();
    alice.tag(&room, "u.test").await.ok();
    (alice, bob, room)
}

#[tokio::test]
async fn the_first_reply_is_that_of_an_initial_v2_sync() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = a_room_with_a_past(&lab).await;
    eventually("receipt and tag", async || {
        let reply = alice.v3().ask(json!({"room": {"room_id": room}})).await.to_string();
        (reply.contains("m.receipt") && reply.contains("u.test")).then_some(())
    })
    .await;

    for (params, filter) in [
        (json!({}), json!({"limit": 20})),
        (json!({"timeline_limit": 5}), json!({"limit": 5})),
        (json!({"timeline_limit": 100}), json!({"limit": 100})),
        (json!({"timeline_limit": 0}), json!({"limit": 0})),
        (json!({"types": ["m.room.t*"]}), json!({"limit": 20, "types": ["m.room.t*"]})),
        (
            json!({"not_types": ["*message", "m.room.topic"], "timeline_limit": 3}),
            json!({"limit": 3, "not_types": ["*message", "m.room.topic"]}),
        ),
    ] {
        for lazy in [true, false] {
            let mut request = json!({"room_id": room, "lazy_load_members": lazy});
            request.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
            let reply = alice.v3().ask(json!({"room": request})).await;
            let (mut timeline_filter, mut state_filter) = (filter.clone(), filter.clone());
            timeline_filter["unread_thread_notifications"] = json!(true);
            state_filter["lazy_load_members"] = json!(lazy);
            let filter = json!({"room": {"timeline": timeline_filter, "state": state_filter}});
            let v2 = alice.sync().filter(&filter).send().await.ok();

            let (ours, theirs) = (told(&reply, &room), joined(&v2, &room));
            assert_eq!(ours["initial"], true);
            let context = format!("{params}, lazy: {lazy}");
            assert_eq!(
                ids(&timeline(&reply, &room)),
                ids(&events(&theirs["timeline"])),
                "{context}"
            );
            assert_eq!(ours["timeline"]["limited"], theirs["timeline"]["limited"], "{context}");
            assert!(ours["timeline"]["prev_batch"].is_string(), "{context}");
            assert_eq!(
                sorted(&state(&reply, &room)),
                sorted(&events(&theirs["state"])),
                "{context}"
            );
            for same in ["ephemeral", "account_data", "unread_notifications"] {
                assert_eq!(ours[same], theirs[same], "{same}, {context}");
            }
            if lazy {
                assert_eq!(ours["summary"], theirs["summary"], "{context}");
            }
            assert_eq!(ours["summary"]["m.joined_member_count"], 2, "{context}");
            for event in state(&reply, &room).into_iter().chain(timeline(&reply, &room)) {
                // Synapse itself names the room in the creation of one of version 12.
                let named = event["type"] != "m.room.create" && !event["room_id"].is_null();
                assert!(!named, "the room is named around: {event:#}");
            }
        }
    }
}

#[tokio::test]
async fn state_and_timeline_replay_to_the_current_state() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = a_room_with_a_past(&lab).await;
    for limit in [0, 1, 10, 18, 100] {
        let params = json!({"room_id": room, "lazy_load_members": false, "timeline_limit": limit});
        let reply = alice.v3().ask(json!({"room": params})).await;
        let mut replica = Replica::default();
        replica.absorb(&reply, &room);
        assert!(replica.timeline.len() <= limit);
        replica.assert_current(&lab.past_proxy(&alice), &room).await;
    }
    let params = json!({"room_id": room, "timeline_limit": 3});
    let reply = alice.v3().ask(json!({"room": params})).await;
    let topic = find_state(&state(&reply, &room), "m.room.topic", "").cloned();
    assert_eq!(topic.unwrap()["content"]["topic"], "in the middle");
}

#[tokio::test]
async fn prev_batch_goes_back_from_the_start() {
    let lab = Lab::shared().await;
    let (alice, _bob, room) = two_in_a_room(&lab).await;
    for n in 0..9 {
        alice.send(&room, &n.to_string()).await;
    }
    for limit in [0_u64, 1, 4] {
        let params = json!({"room_id": room, "timeline_limit": limit});
        let reply = alice.v3().ask(json!({"room": params})).await;
        let prev_batch = told(&reply, &room)["timeline"]["prev_batch"].as_str().unwrap();
        let page = alice.messages_before(&room, prev_batch, 3).send().await.ok();
        let page = page["chunk"].as_array().unwrap().iter();
        let texts: Vec<&str> = page.filter_map(|event| event["content"]["body"].as_str()).collect();
        let newest = 8 - limit;
        let expected: Vec<String> = (0..3).map(|n| (newest - n).to_string()).collect();
        assert_eq!(texts, expected, "with a limit of {limit}");
    }
}

#[tokio::test]
async fn several_rooms_come_at_once_and_each_once() {
    let lab = Lab::shared().await;
    let (alice, bob, one) = two_in_a_room(&lab).await;
    let mut names = vec![one];
    for n in 0..11 {
        let room = alice.create_public_room().await;
        alice.send(&room, &format!("room {n}")).await;
        names.push(room);
    }
    let (last, twice) = (names[11].clone(), [names.clone(), names.clone()].concat());
    bob.join(&last).await.ok();
    let mut session = alice.v3();
    let reply = session.ask(json!({"room": {"room_id": twice}})).await;
    let mut told_rooms = rooms(&reply);
    told_rooms.sort_unstable();
    names.sort_unstable();
    assert_eq!(told_rooms, names);
    assert!(told_rooms.iter().all(|room| told(&reply, room)["initial"] == true));

    let old = session.clone();
    bob.send(&last, "in one of them").await;
    let reply = until_message(&mut session, &last, "in one of them").await;
    assert_eq!(rooms(&reply), [&last]);
    assert!(told(&reply, &last)["initial"].is_null());

    let again = old.lose(json!({})).await;
    assert_eq!(rooms(&again), [&last], "an older token knows the same rooms");
    let both = session.ask(json!({"room": {"room_id": []}})).await;
    assert_eq!(rooms(&both), [] as [&str; 0], "no rooms, nothing to say");
    let reply = session.ask(json!({"room": {"room_id": [last]}})).await;
    assert_eq!(told(&reply, &last)["initial"], true, "it had been dropped");
}

#[tokio::test]
async fn events_come_in_the_federation_format_on_request() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    bob.send(&room, "first").await;
    let mut session = alice.v3();
    let params = json!({"room_id": room, "event_format": "federation", "timeline_limit": 3});
    let first = session.ask(json!({"room": params})).await;
    bob.send(&room, "then").await;
    let then = until_message(&mut session, &room, "then").await;

    for event in [&first, &then]
        .iter()
        .flat_map(|reply| state(reply, &room).into_iter().chain(timeline(reply, &room)))
    {
        for field in ["event_id", "prev_events", "auth_events", "depth", "hashes", "signatures"] {
            assert!(!event[field].is_null(), "no `{field}` in {event:#}");
        }
    }
    assert!(types(&state(&first, &room)).contains(&"m.room.create"));
    let plain = session.ask(json!({"room": {"event_format": "client"}})).await;
    assert_eq!(told(&plain, &room)["initial"], true, "another format: the room comes anew");
    assert!(timeline(&plain, &room).iter().all(|event| event["depth"].is_null()));
}

#[tokio::test]
async fn ignored_users_are_not_in_timelines() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    bob.send(&room, "Bob's").await;
    alice.send(&room, "Alice's").await;
    let request = json!({"room": {"room_id": room}});
    let reply = alice.v3().ask(request.clone()).await;
    assert_eq!(messages(&reply, &room), ["Bob's", "Alice's"]);

    let list = json!({"ignored_users": {&bob.user_id: {}}});
    alice.set_account_data("m.ignored_user_list", &list).await.ok();
    let reply = alice.v3().ask(request).await;

    assert_eq!(messages(&reply, &room), ["Alice's"]);
    let all: Vec<&Value> =
        state(&reply, &room).into_iter().chain(timeline(&reply, &room)).collect();
    let members = of_type(&all, "m.room.member");
    assert!(members.iter().any(|event| event["state_key"] == bob.user_id.as_str()));
}
