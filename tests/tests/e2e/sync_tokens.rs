//! Tokens of the proxy at endpoints that the homeserver answers: where a sync token is meant, it is translated, and where
//! the homeserver has tokens of another family under the same name, nothing is touched.

use serde_json::{Value, json};
use tests::client::encode;
use tests::lab::Lab;
use tests::matchers::{joined, messages, timeline};
use tests::scripted_homeserver::first_sync;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn b1_messages_from_a_next_batch_go_in_both_directions() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    alice.send(&room, "before").await;
    chain
        .until_reply("the first message", |reply| messages(reply, &room).contains(&"before"))
        .await;
    let between = chain.since().to_owned();
    alice.send(&room, "after").await;
    chain
        .until_reply("the second message", |reply| messages(reply, &room).contains(&"after"))
        .await;

    let later = alice.messages_after(&room, &between, 50).send().await.ok();
    let earlier = alice.messages_before(&room, &between, 50).send().await.ok();

    assert_eq!(texts(&later), ["after"]);
    assert_eq!(texts(&earlier), ["before"]);
    assert_eq!(earlier["start"], between.as_str(), "`start` is the token that the client sent");
}

#[tokio::test]
async fn b1_messages_end_at_a_next_batch_in_both_directions() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    let mut tokens = Vec::new();
    for text in ["one", "two", "three"] {
        alice.send(&room, text).await;
        chain.until_reply("the message", |reply| messages(reply, &room).contains(&text)).await;
        tokens.push(chain.since().to_owned());
    }
    let [after_one, _, after_three] = &tokens[..] else { panic!("three messages, three tokens") };

    let back = alice.messages_before(&room, after_three, 50).query("to", after_one);
    assert_eq!(texts(&back.send().await.ok()), ["three", "two"]);
    let forth = alice.messages_after(&room, after_one, 50).query("to", after_three);
    assert_eq!(texts(&forth.send().await.ok()), ["two", "three"]);
}

/// Tokens that js-sdk (`next_batch`) and rust-sdk (`prev_batch`) send.
#[tokio::test]
async fn b1_a51_members_at_either_token_are_those_of_that_moment() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    // A young room: its timeline is its whole life, and what comes before it is nothing.
    let room = alice.create_public_room().await;
    let mut chain = alice.v2().filtered(json!({"room": {"timeline": {"limit": 50}}}));
    let young = chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let alone = chain.since().to_owned();
    let before_alone = prev_batch(&young, &room);
    bob.join(&room).await.ok();
    let reply = chain.until_reply("Bob's join", |reply| joined(reply, &room).is_object()).await;
    let together = chain.since().to_owned();
    let before_join = prev_batch(&reply, &room);

    let count = async |at: &str| {
        let reply = alice.members(&room).query("at", at).send().await.ok();
        reply["chunk"].as_array().unwrap().len()
    };
    assert_eq!(count(&alone).await, 1, "at the next_batch of before");
    assert_eq!(count(&together).await, 2, "at the next_batch of after");
    assert_eq!(count(&before_join).await, 1, "at the prev_batch before the join");
    assert_eq!(count(&before_alone).await, 1, "at the prev_batch of a complete timeline");
}

#[tokio::test]
async fn b1_relations_take_sync_tokens() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let root = alice.send(&room, "root").await;
    let mut chain = alice.v2();
    let mut tokens = Vec::new();
    for text in ["one", "two", "three"] {
        alice.send_in_thread(&room, &root, text).await;
        chain.until_reply("the message", |reply| messages(reply, &room).contains(&text)).await;
        tokens.push(chain.since().to_owned());
    }

    for version in ["v1", "unstable"] {
        let relations = |rest: &str| {
            let path = format!(
                "/_matrix/client/{version}/rooms/{}/relations/{}{rest}",
                encode(&room),
                encode(&root)
            );
            alice.get(&path)
        };
        let later = relations("").query("from", &tokens[0]).query("dir", "f").send().await.ok();
        assert_eq!(texts(&later), ["two", "three"], "{version}");
        // Backwards is the direction where none is said.
        let earlier = relations("/m.thread").query("from", &tokens[1]).send().await.ok();
        assert_eq!(texts(&earlier), ["two", "one"], "{version}");
        let bounded = relations("/m.thread/m.room.message")
            .query("from", &tokens[2])
            .query("to", &tokens[0])
            .query("dir", "b")
            .send()
            .await
            .ok();
        assert_eq!(texts(&bounded), ["three", "two"], "{version}");
        relations("").query("from", "v2_garbage").send().await.refused(400, "M_UNKNOWN");
    }

    // From a place inside one reply of the homeserver, for which it has no name.
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let cut = alice.sync().filter(&filter).send().await.ok();
    assert_eq!(messages(&cut, &room), ["two", "three"]);
    let path = format!("/_matrix/client/v1/rooms/{}/relations/{}", encode(&room), encode(&root));
    let earlier = alice
        .get(&path)
        .query("from", &prev_batch(&cut, &room))
        .query("dir", "b")
        .send()
        .await
        .ok();
    assert_eq!(texts(&earlier), ["one"]);
}

#[tokio::test]
async fn b1_events_go_on_from_a_next_batch() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let since = chain.since().to_owned();
    alice.send(&room, "after").await;

    for version in ["r0", "v3", "api/v1"] {
        let path = format!("/_matrix/client/{version}/events");
        let reply = alice.get(&path).query("from", &since).query("timeout", "1000").send().await;
        if version == "v3" && reply.status == 404 {
            continue;
        }
        assert_eq!(texts(&reply.ok()), ["after"], "{version}");
    }
    let theirs =
        lab.past_proxy(&alice).v2().next().await["next_batch"].as_str().unwrap().to_owned();
    alice.get("/_matrix/client/r0/events").query("from", &theirs).send().await.ok();
}

/// Parameters of the same names that are no sync tokens, and a body's.
#[tokio::test]
async fn b1_tokens_of_other_families_pass_as_they_are() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let ours = alice.v2().next().await["next_batch"].as_str().unwrap().to_owned();

    for path in [
        "v3/publicRooms?since=",
        "v3/notifications?from=",
        "v3/initialSync?from=",
        "v3/rooms/!room:scripted/initialSync?from=",
        "v3/rooms/!room:scripted/context/$1?from=",
        "v1/rooms/!room:scripted/threads?from=",
        "v1/rooms/!room:scripted/hierarchy?from=",
        "v1/user/mutual_rooms?from=",
        "v3/search?next_batch=",
        "unstable/org.matrix.simplified_msc3575/sync?pos=",
        "unstable/org.matrix.msc3814.v1/dehydrated_device/D/events?next_batch=",
        "unstable/io.element.msc4308/thread_subscriptions?from=",
    ] {
        let target = format!("/_matrix/client/{path}{ours}");
        alice.get(&target).send().await;
        assert!(
            homeserver.seen().iter().any(|seen| seen.target == target),
            "{target} did not arrive as it was"
        );
    }
}

/// Another user's token says nothing, at any door.
#[tokio::test]
async fn a12_b1_another_users_token_is_refused_everywhere() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.sync().send().await.ok();
    let bobs = bob.v2().next().await["next_batch"].as_str().unwrap().to_owned();

    let root = alice.send(&room, "root").await;
    let relations =
        format!("/_matrix/client/v1/rooms/{}/relations/{}", encode(&room), encode(&root));
    for request in [
        alice.sync().since(&bobs).request(),
        alice.messages_before(&room, &bobs, 5),
        alice.members(&room).query("at", &bobs),
        alice.get("/_matrix/client/v3/keys/changes").query("from", &bobs),
        alice.get("/_matrix/client/v3/events").query("from", &bobs),
        alice.get(&relations).query("from", &bobs),
    ] {
        request.send().await.refused(400, "M_UNKNOWN");
    }
}

fn prev_batch(reply: &Value, room_id: &str) -> String {
    assert!(!timeline(reply, room_id).is_empty(), "{reply:#}");
    joined(reply, room_id)["timeline"]["prev_batch"].as_str().unwrap().to_owned()
}

/// The texts on a page.
fn texts(page: &Value) -> Vec<&str> {
    let chunk = page["chunk"].as_array().unwrap();
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}
