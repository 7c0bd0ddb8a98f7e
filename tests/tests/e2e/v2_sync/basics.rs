//! Initial and incremental syncs, waiting, tokens.

use std::time::{Duration, Instant};

use tests::lab::Lab;
use tests::matchers::{joined, messages, rooms_in};

#[tokio::test]
async fn a47_the_initial_sync_has_the_joined_rooms_and_the_next_one_only_what_is_new() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (busy, quiet) = (alice.create_public_room().await, alice.create_public_room().await);
    alice.send(&busy, "before").await;

    let mut chain = alice.v2();
    let initial = chain.next().await;
    assert_eq!(messages(&initial, &busy), ["before"]);
    assert!(joined(&initial, &quiet)["timeline"]["events"].is_array(), "{initial:#}");

    alice.send(&busy, "after").await;
    let incremental =
        chain.until_reply("the new message", |reply| !messages(reply, &busy).is_empty()).await;
    assert_eq!(messages(&incremental, &busy), ["after"]);
    assert_eq!(rooms_in(&incremental, "join"), [&busy], "an unchanged room is left out");
}

#[tokio::test]
async fn a48_a_joined_room_has_every_part_even_if_it_is_empty() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;

    let initial = alice.v2().next().await;

    let entry = joined(&initial, &room);
    for list in ["timeline", "state", "ephemeral", "account_data"] {
        assert!(entry[list]["events"].is_array(), "`{list}` is missing in {entry:#}");
    }
    assert!(
        entry["timeline"]["limited"].is_boolean() && entry["timeline"]["prev_batch"].is_string(),
        "{entry:#}"
    );
    assert_eq!(entry["unread_notifications"]["notification_count"], 0);
    assert_eq!(entry["unread_notifications"]["highlight_count"], 0);
    assert!(entry["summary"].is_object(), "{entry:#}");
}

#[tokio::test]
async fn a49_events_come_in_the_client_format_without_a_room_id() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let event_id = alice.send(&room, "hello").await;

    let initial = alice.v2().next().await;

    let timeline = joined(&initial, &room)["timeline"]["events"].as_array().unwrap();
    let message = timeline
        .iter()
        .find(|event| event["event_id"] == event_id.as_str())
        .expect("the message came");
    assert_eq!(message["type"], "m.room.message");
    assert_eq!(message["sender"], alice.user_id.as_str());
    assert!(
        message["origin_server_ts"].is_u64() && message["unsigned"]["age"].is_i64(),
        "{message:#}"
    );
    assert!(message["room_id"].is_null() && message["state_key"].is_null(), "{message:#}");
}

#[tokio::test]
async fn a11_a42_a_waiting_sync_returns_as_soon_as_something_happens() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("Bob's join", |reply| joined(reply, &room).is_object()).await;
    chain.until("quiet", |reply| reply["rooms"].is_null().then_some(())).await;

    let started = Instant::now();
    let request = chain.request().timeout(30_000);
    let (reply, _event_id) = tokio::join!(request.send(), bob.send(&room, "wake up"));

    assert_eq!(messages(&reply.ok(), &room), ["wake up"]);
    assert!(started.elapsed() < Duration::from_secs(15), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn a11_d2_5_a_sync_with_nothing_to_say_waits_for_its_timeout_and_no_longer() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2();
    chain.next().await;
    chain.until("quiet", |reply| reply["presence"].is_null().then_some(())).await;

    let started = Instant::now();
    let reply = chain.request().timeout(2_000).send().await.ok();

    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(1_900) && waited < Duration::from_secs(12),
        "it waited {waited:?}"
    );
    assert!(
        reply["rooms"].is_null() && reply["account_data"].is_null() && reply["to_device"].is_null(),
        "{reply:#}"
    );
    assert!(reply["device_one_time_keys_count"].is_object(), "{reply:#}");
    assert!(reply["device_unused_fallback_key_types"].is_array(), "{reply:#}");
}

/// Stricter than Synapse, whose positions move with what happens to others.
#[tokio::test]
async fn an_idle_answer_has_the_same_position_as_the_question() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2();
    chain.next().await;
    chain.until("quiet", |reply| reply["presence"].is_null().then_some(())).await;

    let reply = chain.request().timeout(500).send().await.ok();

    assert_eq!(reply["next_batch"], chain.since());
}

#[tokio::test]
async fn a11_without_a_timeout_a_sync_returns_at_once() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut chain = alice.v2();
    chain.next().await;
    chain.until("quiet", |reply| reply["presence"].is_null().then_some(())).await;

    let started = Instant::now();
    let reply = chain.next().await;

    assert!(reply["rooms"].is_null(), "{reply:#}");
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn a109_the_initial_sync_never_waits() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    let started = Instant::now();
    let reply = alice.sync().timeout(60_000).send().await.ok();

    assert!(reply["next_batch"].is_string(), "{reply:#}");
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn an_older_since_gives_everything_after_it_again() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;
    let old = chain.since().to_owned();
    for text in ["one", "two", "three"] {
        alice.send(&room, text).await;
        chain.until_reply(text, |reply| messages(reply, &room).contains(&text)).await;
    }

    let replayed = alice.sync().since(&old).send().await.ok();

    assert_eq!(messages(&replayed, &room), ["one", "two", "three"]);
}

#[tokio::test]
async fn a1_d2_2_both_paths_serve_the_same_stream() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let initial = alice.sync_at("r0").send().await.ok();
    assert!(joined(&initial, &room).is_object(), "{initial:#}");
    let since = initial["next_batch"].as_str().unwrap();
    alice.send(&room, "on both").await;

    for version in ["r0", "v3"] {
        let reply = alice.sync_at(version).since(since).timeout(10_000).send().await.ok();
        assert_eq!(messages(&reply, &room), ["on both"], "under {version}");
    }
}

#[tokio::test]
async fn a45_what_a_client_has_written_is_in_its_next_sync() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.next().await;

    for round in 0..20 {
        let text = format!("message {round}");
        alice.send(&room, &text).await;
        assert_eq!(messages(&chain.next().await, &room), [text.as_str()], "in round {round}");
    }
}

#[tokio::test]
async fn a14_d1_8_d2_5_full_state_brings_every_room_at_once() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (first, second) = (alice.create_public_room().await, alice.create_public_room().await);
    let mut chain = alice.v2();
    chain.next().await;
    chain.until("quiet", |reply| reply["rooms"].is_null().then_some(())).await;

    let started = Instant::now();
    let reply = chain.request().query("full_state", "true").timeout(30_000).send().await.ok();

    assert!(started.elapsed() < Duration::from_secs(15), "it waited {:?}", started.elapsed());
    for room in [&first, &second] {
        assert!(
            tests::matchers::state(&reply, room, "m.room.create", "").is_some(),
            "the state of {room} is not in {reply:#}"
        );
    }
}
