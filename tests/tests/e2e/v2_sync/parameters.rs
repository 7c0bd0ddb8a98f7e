//! What a request may say, in which form, and what each parameter does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, members_in_state, messages, of_type, section};

#[tokio::test]
async fn a3_a4_d2_1_a_token_opens_the_same_stream_from_header_and_query() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let token = alice.access_token.clone();
    let in_query = |since: &str| {
        let request = alice.sync().since(since).timeout(10_000).query("access_token", &token);
        request.request().without_token().send()
    };
    let in_header = alice.sync().send().await.ok();
    assert!(joined(&in_header, &room).is_object(), "{in_header:#}");
    let since = in_header["next_batch"].as_str().unwrap();
    alice.send(&room, "for both").await;

    let by_query = in_query(since).await.ok();
    let by_header = alice.sync().since(since).timeout(10_000).send().await.ok();

    assert_eq!(messages(&by_query, &room), ["for both"]);
    assert_eq!(messages(&by_header, &room), ["for both"]);
    // What one has acknowledged, the other has: it is one stream.
    let next = by_header["next_batch"].as_str().unwrap();
    assert!(joined(&in_query(next).await.ok(), &room).is_null());
}

/// Not for Synapse itself: the log is the proxy's.
#[tokio::test]
async fn a4_a_token_in_the_query_is_in_no_log_and_ends_like_any_other() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let token = alice.access_token.clone();
    let sync = || alice.sync().query("access_token", &token).request().without_token().send();
    sync().await.ok();
    let room = alice.create_public_room().await;
    let state = format!("/_matrix/client/v3/rooms/{room}/state");
    alice.get(&state).query("access_token", &token).without_token().send().await.ok();

    let log = lab.proxy.log_tail();
    assert!(log.contains("/_matrix/client/v3/sync") && !log.contains(&token), "{log}");

    let logout = alice.post("/_matrix/client/v3/logout").query("access_token", &token);
    logout.without_token().json(&json!({})).send().await.ok();
    sync().await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a9_from_is_told_to_be_a_mistake() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    let reply = alice.sync().query("from", "x").send().await.refused(400, "M_UNKNOWN");
    assert!(reply["error"].as_str().unwrap().contains("since"), "{reply}");

    // What breaks caches makes no other question of this one.
    let first = alice.sync().query("_cacheBuster", "1").send().await.ok();
    let since = first["next_batch"].as_str().unwrap();
    alice.send(&alice.create_public_room().await, "hello").await;
    for buster in ["2", "3"] {
        let request = alice.sync().since(since).timeout(10_000).query("_cacheBuster", buster);
        assert!(request.send().await.ok()["rooms"]["join"].is_object(), "with {buster}");
    }
}

#[tokio::test]
async fn a11_a_timeout_beyond_all_bounds_is_cut_and_not_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;

    let request = chain.request().timeout(1_000_000_000_000);
    let (reply, _event) = tokio::join!(request.send(), alice.send(&room, "hello"));
    chain.absorb(&reply.ok());
}

#[tokio::test]
async fn a14_d1_8_full_state_is_everything_but_old_messages() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let named = json!({"preset": "public_chat", "name": "A name, so that there are no heroes"});
    let (room, unchanged) = (alice.create_room(named).await, alice.create_public_room().await);
    bob.join(&room).await.ok();
    alice.set_topic(&room, "an old topic").await;
    alice.send(&room, "before").await;
    alice.set_account_data("org.example.settings", &json!({"dark": true})).await.ok();
    let invited_to = bob.create_room(json!({"invite": [alice.user_id]})).await;
    let mut chain = alice.v2();
    chain
        .until_reply("the invite", |reply| section(reply, "invite", &invited_to).is_object())
        .await;
    alice.send(&room, "after").await;

    let started = Instant::now();
    let request = chain.request().query("full_state", "true").timeout(30_000);
    let reply = request.send().await.ok();

    assert!(started.elapsed() < Duration::from_secs(10), "it waited {:?}", started.elapsed());
    assert_eq!(messages(&reply, &room), ["after"], "the timeline begins at the since");
    assert_eq!(joined(&reply, &room)["timeline"]["limited"], false);
    for room in [&room, &unchanged] {
        let state = events(&joined(&reply, room)["state"]);
        for event_type in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
            assert!(
                !content_of(&state, event_type).is_null(),
                "{event_type} of {room}: {state:#?}"
            );
        }
    }
    let state = events(&joined(&reply, &room)["state"]);
    assert_eq!(content_of(&state, "m.room.topic")["topic"], "an old topic");
    assert_eq!(of_type(&state, "m.room.member").len(), 2, "{state:#?}");
    let settings = content_of(&events(&reply["account_data"]), "org.example.settings").clone();
    assert_eq!(settings, json!({"dark": true}), "{reply:#}");

    let lazy = json!({"room": {"state": {"lazy_load_members": true}}});
    let request = chain.request().query("full_state", "true").filter(&lazy);
    let reply = request.send().await.ok();
    let members = members_in_state(&reply, &room);
    assert_eq!(members, [alice.user_id.as_str()], "lazy loading counts here too");
}

#[tokio::test]
async fn a17_d2_3_a_filter_from_before_the_proxy_is_known_by_its_id() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    alice.send(&room, "one").await;
    alice.send(&room, "two").await;
    let filter = json!({"room": {"timeline": {"limit": 1}}});
    let filter_id = lab.past_proxy(&alice).upload_filter(&filter).await;

    for _ in 0..2 {
        let reply = alice.sync().filter_id(&filter_id).send().await.ok();
        assert_eq!(messages(&reply, &room), ["two"]);
    }
    let other = lab.user("other").await;
    other.sync().filter_id(&filter_id).send().await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a17_a_filter_of_the_wrong_shape_is_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    for filter in [
        json!({"room": {"timeline": {"limit": "many"}}}),
        json!({"room": {"timeline": {"types": "m.room.message"}}}),
        json!({"presence": []}),
        json!({"room": {"rooms": "all"}}),
    ] {
        let reply = alice.sync().filter(&filter).send().await;
        assert_eq!(reply.status, 400, "{filter}: {}", reply.body_text());
        assert!(reply.json["errcode"].is_string(), "{}", reply.body_text());
    }
}

#[tokio::test]
async fn d2_6_every_answer_has_a_next_batch() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    alice.create_public_room().await;
    let first = alice.sync().send().await.ok();
    let since = first["next_batch"].as_str().unwrap();
    let without_rooms = json!({"room": {"rooms": []}});

    let requests = [
        alice.sync().since(since),
        alice.sync().since(since).timeout(300),
        alice.sync().filter(&without_rooms),
        alice.sync().since(since).filter(&without_rooms),
        alice.sync().since(since).query("full_state", "true"),
        alice.sync().query("use_state_after", "true"),
    ];
    for request in requests {
        let reply: Value = request.send().await.ok();
        assert!(reply["next_batch"].is_string(), "{reply:#}");
    }
}
