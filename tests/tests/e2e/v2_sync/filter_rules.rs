//! What each part of a filter does, rule by rule. The first tests of filters are in `filters.rs`.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{
    bodies, content_of, events, find_state, joined, messages, numbers, of_type, rooms_in, section,
    sections_of, state, timeline, types,
};

#[tokio::test]
async fn a19_with_a_limit_of_nought_everything_is_in_the_state() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    alice.set_topic(&room, "the topic").await;
    bob.join(&room).await.ok();
    let nothing = json!({"room": {"timeline": {"limit": 0}}});
    let mut chain = bob.v2().filtered(nothing);

    let initial = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(timeline(&initial, &room), [&Value::Null; 0]);
    assert_eq!(joined(&initial, &room)["timeline"]["limited"], true);
    let topic = state(&initial, &room, "m.room.topic", "").expect("the topic is state");
    assert_eq!(topic["content"]["topic"], "the topic");
    assert!(state(&initial, &room, "m.room.member", &bob.user_id).is_some(), "{initial:#}");

    bob.leave(&room).await.ok();
    let with_left = json!({"room": {"timeline": {"limit": 0}, "include_leave": true}});
    let reply = bob.fresh_sync().filter(&with_left).send().await.ok();
    let left = section(&reply, "leave", &room);
    assert_eq!(events(&left["timeline"]), [&Value::Null; 0]);
    let own = find_state(&events(&left["state"]), "m.room.member", &bob.user_id)
        .expect("the own leave is in the state")
        .clone();
    assert_eq!(own["content"]["membership"], "leave");
}

/// Not for Synapse, which leaves the room out.
#[tokio::test]
async fn a19_with_a_limit_of_nought_a_leave_is_told_all_the_same() {
    let lab = Lab::shared().await;
    let (_alice, bob, room) = lab.two_in_a_room().await;
    let mut chain = bob.v2().filtered(json!({"room": {"timeline": {"limit": 0}}}));
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    bob.leave(&room).await.ok();
    let left =
        chain.until_reply("the leave", |reply| section(reply, "leave", &room).is_object()).await;
    let left = section(&left, "leave", &room);
    assert_eq!(events(&left["timeline"]), [&Value::Null; 0]);
    let own = find_state(&events(&left["state"]), "m.room.member", &bob.user_id)
        .expect("the own leave is in the state")
        .clone();
    assert_eq!(own["content"]["membership"], "leave");
}

/// Not for Synapse, which knows `*` at the end alone.
#[tokio::test]
async fn a21_a_wildcard_stands_anywhere() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for event_type in ["com.example.one", "com.other.one", "com.example.two"] {
        alice.send_event(&room, event_type, json!({"body": event_type})).await.event_id();
    }

    for (types, expected) in [
        (json!(["com.example.*"]), vec!["com.example.one", "com.example.two"]),
        (json!(["*.one"]), vec!["com.example.one", "com.other.one"]),
        (json!(["com.*.two"]), vec!["com.example.two"]),
        (json!(["c*m.o*e"]), vec!["com.other.one"]),
        (json!(["com.example"]), vec![]),
    ] {
        let filter = json!({"room": {"timeline": {"types": types}}});
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(messages(&reply, &room), expected, "with the types {types}");
    }
}

#[tokio::test]
async fn a22_a_refused_sender_stays_refused_and_an_empty_list_blocks_all() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    alice.send(&room, "hers").await;
    bob.send(&room, "his").await;
    let mut chain = alice.v2();
    chain.until_reply("both", |reply| messages(reply, &room).contains(&"his")).await;

    for (filter, expected) in [
        (
            json!({"senders": [alice.user_id, bob.user_id], "not_senders": [bob.user_id]}),
            vec!["hers"],
        ),
        (json!({"senders": []}), vec![]),
        (json!({"not_senders": []}), vec!["hers", "his"]),
        (json!({"senders": [bob.user_id.to_uppercase()]}), vec![]),
    ] {
        let reply = alice.sync().filter(&json!({"room": {"timeline": filter}})).send().await.ok();
        assert_eq!(messages(&reply, &room), expected, "with the filter {filter}");
    }
}

/// Stricter than Synapse, which does not look at the rooms of `account_data`.
#[tokio::test]
async fn a23_each_part_of_a_room_has_rooms_of_its_own() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (one, other) = (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&one, &other] {
        alice.set_topic(room, "a topic").await;
        alice.tag(room, "u.tagged").await.ok();
        alice.send(room, "hello").await;
    }
    let parts = |reply: &Value, room: &str| {
        let entry = joined(reply, room);
        [
            !events(&entry["timeline"]).is_empty(),
            !events(&entry["state"]).is_empty(),
            !events(&entry["account_data"]).is_empty(),
        ]
    };

    for (place, part) in ["timeline", "state", "account_data"].into_iter().enumerate() {
        // A short timeline leaves something for the state.
        let mut filter = json!({"room": {"timeline": {"limit": 1}}});
        filter["room"][part]["rooms"] = json!([one]);
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(parts(&reply, &one), [true; 3], "{part}: {reply:#}");
        let mut expected = [true; 3];
        expected[place] = false;
        assert_eq!(parts(&reply, &other), expected, "{part}: {reply:#}");

        filter["room"][part] = json!({"limit": 1, "rooms": [one, other], "not_rooms": [other]});
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(parts(&reply, &other), expected, "{part}: {reply:#}");
    }
}

#[tokio::test]
async fn a22_a30_who_asks_for_senders_gets_nothing_that_nobody_sent() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let event_id = alice.send(&room, "read me").await;
    bob.read(&room, &event_id).await.ok();
    alice.tag(&room, "u.tagged").await.ok();
    let mut chain = alice.v2();
    chain
        .until("the receipt", |reply| {
            let ephemeral = events(&joined(reply, &room)["ephemeral"]);
            (!of_type(&ephemeral, "m.receipt").is_empty()).then_some(())
        })
        .await;

    for (filter, expected) in [
        (json!({"senders": [alice.user_id, bob.user_id]}), 0),
        (json!({"not_senders": [alice.user_id, bob.user_id]}), 1),
    ] {
        let both = json!({"room": {"account_data": filter, "ephemeral": filter}});
        let reply = alice.fresh_sync().filter(&both).send().await.ok();
        for part in ["account_data", "ephemeral"] {
            let told = events(&joined(&reply, &room)[part]);
            assert_eq!(told.len(), expected, "{part} with the filter {filter}");
        }
    }
}

#[tokio::test]
async fn a23_the_rooms_of_a_filter_say_nothing_of_invites() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_room(json!({"invite": [bob.user_id]})).await;

    let filter = json!({"room": {"rooms": ["!another:test.local"]}});
    let mut chain = bob.v2().filtered(filter);

    chain.until_reply("the invite", |reply| section(reply, "invite", &room).is_object()).await;
}

#[tokio::test]
async fn a24_with_no_rooms_everything_else_comes_and_wakes() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let filter = json!({"room": {"rooms": []}});
    let mut chain = alice.v2().filtered(filter.clone());
    let initial = chain.next().await;
    // Synapse lists an excluded room all the same, with nothing in it but its m.room.create.
    assert_eq!(messages(&initial, &room), [""; 0], "{initial:#}");
    assert!(initial["device_one_time_keys_count"].is_object(), "{initial:#}");
    assert!(!events(&initial["account_data"]).is_empty(), "{initial:#}");

    bob.send(&room, "this is for those who read rooms").await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    let mut rooms = Vec::new();
    chain
        .until("the message to the device", |reply| {
            rooms.extend(rooms_in(reply, "join").into_iter().map(str::to_owned));
            (numbers(&reply["to_device"]) == [1]).then_some(())
        })
        .await;
    alice.set_account_data("com.example.settings", &json!({"n": 2})).await.ok();
    chain
        .until("the account data", |reply| {
            rooms.extend(rooms_in(reply, "join").into_iter().map(str::to_owned));
            let content =
                content_of(&events(&reply["account_data"]), "com.example.settings").clone();
            (content == json!({"n": 2})).then_some(())
        })
        .await;
    assert_eq!(rooms, [""; 0], "none of it lists a room");
}

#[tokio::test]
async fn a25_contains_url_looks_for_a_text_in_the_content() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for content in [
        json!({"body": "text", "msgtype": "m.text"}),
        json!({"body": "picture", "msgtype": "m.image", "url": "mxc://test.local/picture"}),
        json!({"body": "no text", "msgtype": "m.image", "url": 5}),
        json!({"body": "deeper", "msgtype": "m.image", "info": {"url": "mxc://test.local/small"}}),
    ] {
        alice.send_event(&room, "m.room.message", content).await.event_id();
    }

    for (filter, expected) in [
        (json!({"contains_url": true}), vec!["picture"]),
        (json!({"contains_url": false}), vec!["text", "no text", "deeper"]),
        (json!({}), vec!["text", "picture", "no text", "deeper"]),
    ] {
        let filter = json!({"room": {"timeline": filter}});
        let reply = alice.sync().filter(&filter).send().await.ok();
        assert_eq!(messages(&reply, &room), expected, "with the filter {filter}");
    }
    let filter = json!({"room": {"state": {"contains_url": true}, "timeline": {"limit": 1}}});
    let reply = alice.sync().filter(&filter).send().await.ok();
    assert!(events(&joined(&reply, &room)["state"]).is_empty(), "{reply:#}");
}

#[tokio::test]
async fn a26_event_fields_choose_what_of_an_event_comes() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let content =
        json!({"body": "hello", "m.dotted": {"deep": 1, "other": 2}, "msgtype": "m.text"});
    alice.send_event(&room, "m.room.message", content).await.event_id();
    let filter = json!({
        "event_fields": ["type", "content.body", r"content.m\.dotted.deep", "content.nowhere"],
        "room": {"timeline": {"limit": 1}},
    });

    for request in
        [alice.sync().filter(&filter), alice.sync().filter_id(&alice.upload_filter(&filter).await)]
    {
        let reply = request.of_any_shape("events are cut on purpose").send().await.ok();
        let expected = json!({
            "type": "m.room.message", "content": {"body": "hello", "m.dotted": {"deep": 1}},
        });
        assert_eq!(timeline(&reply, &room), [&expected]);
        let state = events(&joined(&reply, &room)["state"]);
        let create = of_type(&state, "m.room.create")[0];
        assert_eq!(create["sender"], Value::Null, "state is cut too: {create:#}");
        assert!(!events(&reply["account_data"]).is_empty());
        for event in events(&reply["account_data"]) {
            assert!(event["content"].is_object(), "other events come whole: {event:#}");
        }
    }
    let all = json!({"event_fields": [], "room": {"timeline": {"limit": 1}}});
    let reply = alice.sync().filter(&all).send().await.ok();
    assert_eq!(timeline(&reply, &room)[0]["sender"], alice.user_id.as_str());
    let wrong = json!({"event_fields": "type"});
    assert_eq!(alice.sync().filter(&wrong).send().await.status, 400);
}

#[tokio::test]
async fn a28_presence_is_filtered_by_type_and_sender() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let carol = lab.user("carol").await;
    carol.join(&room).await.ok();
    for user in [&bob, &carol] {
        user.set_presence("online", "here").await.ok();
    }
    let mut chain = alice.v2();
    let mut seen = Vec::new();
    chain
        .until("the presence of both", |reply| {
            seen.extend(present(reply));
            (seen.contains(&bob.user_id) && seen.contains(&carol.user_id)).then_some(())
        })
        .await;

    let among = async |filter: Value| {
        let reply = alice.fresh_sync().filter(&json!({"presence": filter})).send().await.ok();
        let mut present = present(&reply);
        present.retain(|user_id| *user_id != alice.user_id);
        present
    };
    assert_eq!(among(json!({"senders": [bob.user_id]})).await, [bob.user_id.as_str()]);
    assert_eq!(among(json!({"not_senders": [bob.user_id]})).await, [carol.user_id.as_str()]);
    assert_eq!(among(json!({"types": ["m.presence"]})).await.len(), 2);
    assert_eq!(among(json!({"types": ["m.other"]})).await, [""; 0]);
    assert_eq!(among(json!({"not_types": ["m.presence"]})).await, [""; 0]);
    assert_eq!(among(json!({"types": []})).await, [""; 0]);
    assert_eq!(among(json!({"senders": []})).await, [""; 0]);
}

#[tokio::test]
async fn a29_account_data_is_filtered_by_type_in_both_places() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    for event_type in ["com.example.one", "com.example.two"] {
        alice.set_account_data(event_type, &json!({"global": true})).await.ok();
        alice.set_room_account_data(&room, event_type, &json!({"global": false})).await.ok();
    }

    for (filter, expected) in [
        (json!({"types": ["com.example.one"]}), vec!["com.example.one"]),
        (
            json!({"types": ["com.example.*"], "not_types": ["com.example.two"]}),
            vec!["com.example.one"],
        ),
        (json!({"types": ["com.example.*"]}), vec!["com.example.one", "com.example.two"]),
        (json!({"types": []}), vec![]),
    ] {
        let both = json!({"account_data": filter, "room": {"account_data": filter}});
        let reply = alice.sync().filter(&both).send().await.ok();
        let mut global = types(&events(&reply["account_data"])).clone();
        let mut of_room = types(&events(&joined(&reply, &room)["account_data"])).clone();
        global.sort_unstable();
        of_room.sort_unstable();
        assert_eq!(global, expected, "globally with the filter {filter}");
        assert_eq!(of_room, expected, "in the room with the filter {filter}");
    }
}

#[tokio::test]
async fn a30_ephemeral_events_that_are_filtered_out_neither_wake_nor_list_their_room() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let event_id = alice.send(&room, "read me").await;
    let other_device = lab.second_device(&alice).await;
    let mut open = other_device.v2();
    open.next().await;
    let no_presence = json!({"types": []});
    let mut deaf =
        alice.v2().filtered(json!({"presence": no_presence, "room": {"ephemeral": {"types": []}}}));
    let mut typing_only = alice.v2().filtered(
        json!({"presence": no_presence, "room": {"ephemeral": {"not_types": ["m.receipt"]}}}),
    );
    for chain in [&mut deaf, &mut typing_only] {
        chain.next().await;
        chain.until("quiet", |reply| reply["rooms"].is_null().then_some(())).await;
    }

    let waiting = tokio::spawn(deaf.request().timeout(30_000).send());
    let waiting_for_typing = tokio::spawn(typing_only.request().timeout(30_000).send());
    bob.read(&room, &event_id).await.ok();
    open.until("the receipt", |reply| {
        let ephemeral = events(&joined(reply, &room)["ephemeral"]);
        (!of_type(&ephemeral, "m.receipt").is_empty()).then_some(())
    })
    .await;
    bob.starts_typing(&room).await;
    let reply = waiting_for_typing.await.unwrap().ok();
    let ephemeral = events(&joined(&reply, &room)["ephemeral"]);
    assert_eq!(types(&ephemeral), ["m.typing"], "the receipt is neither told nor waits: {reply:#}");

    // The topic shows that the deaf one has waited through all of it.
    alice.set_topic(&room, "heard").await;
    let reply = waiting.await.unwrap().ok();
    assert_eq!(types(&timeline(&reply, &room)), ["m.room.topic"], "{reply:#}");
    assert!(events(&joined(&reply, &room)["ephemeral"]).is_empty(), "{reply:#}");
}

#[tokio::test]
async fn a32_lazy_loading_is_true_or_false_and_nothing_else() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    for value in [json!("true"), json!(1), json!({})] {
        for parameter in ["lazy_load_members", "include_redundant_members"] {
            let filter = json!({"room": {"state": {parameter: value}}});
            let reply = alice.sync().filter(&filter).send().await;
            assert_eq!(reply.status, 400, "{filter}: {}", reply.body_text());
        }
    }
    // Elsewhere than in `room.state` it means nothing.
    let room = alice.create_public_room().await;
    let bob = lab.user("bob").await;
    bob.join(&room).await.ok();
    alice.send(&room, "the last word").await;
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| messages(reply, &room).contains(&"the last word")).await;
    let filter = json!({"room": {"timeline": {"limit": 1, "lazy_load_members": true}}});
    let reply = alice.sync().filter(&filter).send().await.ok();
    assert!(
        state(&reply, &room, "m.room.member", &bob.user_id).is_some(),
        "Bob did not speak, but members are not loaded lazily: {reply:#}"
    );
}

#[tokio::test]
async fn a35_state_that_the_timeline_hides_comes_in_the_state() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let messages_only = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let mut chain = alice.v2().filtered(messages_only.clone());
    chain.next().await;
    let before = chain.since().to_owned();

    alice.send(&room, "first").await;
    alice.set_topic(&room, "in the middle").await;
    alice.send(&room, "last").await;
    chain.until_reply("the last", |reply| messages(reply, &room).contains(&"last")).await;

    let reply = alice.sync().since(&before).filter(&messages_only).send().await.ok();
    assert_eq!(messages(&reply, &room), ["first", "last"]);
    let topic = state(&reply, &room, "m.room.topic", "").expect("the hidden topic is state");
    assert_eq!(topic["content"]["topic"], "in the middle");
}

/// Not for Synapse, which leaves a room out whose timeline is empty, whatever its state.
#[tokio::test]
async fn a35_a37_state_that_the_timeline_hides_comes_even_with_an_empty_timeline() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let messages_only = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let initial = alice.sync().filter(&messages_only).send().await.ok();
    let since = initial["next_batch"].as_str().unwrap();

    alice.set_topic(&room, "at the end").await;
    let reply = alice.sync().since(since).filter(&messages_only).timeout(10_000).send().await.ok();
    assert_eq!(timeline(&reply, &room), [&Value::Null; 0]);
    let topic = state(&reply, &room, "m.room.topic", "").expect("the hidden topic is state");
    assert_eq!(topic["content"]["topic"], "at the end");

    // Neither filter lets it in: it comes nowhere, and with nothing else the room is left out.
    let names_only = json!({"room": {
        "timeline": {"types": ["m.room.message"]}, "state": {"types": ["m.room.name"]},
    }});
    let reply = alice.sync().since(since).filter(&names_only).send().await.ok();
    assert_eq!(sections_of(&reply, &room), [""; 0], "{reply:#}");
}

#[tokio::test]
async fn a36_what_a_filter_has_beyond_the_specification_is_ignored() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.send(&room, "hello").await;

    let filter = json!({
        "com.example.new": {"types": []},
        "room": {
            "com.example.new": true,
            "timeline": {"limit": 1, "com.example.new": [1, 2]},
            "state": {"com.example.new": null},
        },
        "presence": {"com.example.new": 1.5},
    });
    let reply = alice.sync().filter(&filter).send().await.ok();

    assert_eq!(messages(&reply, &room), ["hello"]);
}

#[tokio::test]
async fn a37_a_room_with_nothing_left_is_left_out() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    alice.set_state(&room, "com.example.state", "", json!({"n": 1})).await.ok();
    let mut open = alice.v2();
    open.next().await;
    let filter = json!({
        "presence": {"types": []},
        "room": {
            "timeline": {"types": []}, "state": {"types": ["com.example.state"]},
            "ephemeral": {"types": []}, "account_data": {"types": []},
        },
    });
    let mut chain = alice.v2().filtered(filter);
    let initial = chain.next().await;
    assert_eq!(types(&events(&joined(&initial, &room)["state"])), ["com.example.state"]);

    bob.rename_in(&room, "Boris").await.ok();
    alice.tag(&room, "u.work").await.ok();
    bob.send(&room, "all has been said").await;
    open.until("the message", |reply| {
        bodies(&timeline(reply, &room)).contains(&"all has been said").then_some(())
    })
    .await;

    let reply = chain.next().await;
    assert!(reply["rooms"].is_null(), "{reply:#}");
}

/// The users whose presence a reply tells.
fn present(reply: &Value) -> Vec<String> {
    events(&reply["presence"])
        .iter()
        .filter_map(|event| event["sender"].as_str().map(str::to_owned))
        .collect()
}
