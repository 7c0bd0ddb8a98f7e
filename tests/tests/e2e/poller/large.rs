//! Replies that are too large for memory: stored like others, in bounded memory, and never by halves.

use std::fmt::Write;

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::matchers::messages;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Fault, ScriptedHomeserver, messages_in};
use tests::wait::eventually;

const ROOMS: usize = 60;

/// What makes a reply of this many rooms several times as large as what stays in memory.
const PADDING: usize = 100_000;

/// A homeserver with a large first reply, and a proxy in front of it that does not run yet.
struct Scene {
    homeserver: ScriptedHomeserver,
    proxy: Proxy,
    alice: Client,
}

impl Scene {
    async fn set(first_reply: String) -> Self {
        let postgres = shared_postgres().await;
        let homeserver = ScriptedHomeserver::start().await;
        let proxy = Proxy::prepare_single(&homeserver.url(), &postgres.database().await, &[]);
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        homeserver.on_sync_raw(None, first_reply);
        Self { homeserver, proxy, alice }
    }

    async fn count(&self, table: &str) -> i64 {
        self.proxy.database().count(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// The account has everything, once, and polling goes on.
    async fn all_is_there(&self) {
        let mut chain = self.alice.v2();
        // While the first poll fails, its clients are told so.
        let first = eventually("the first poll", async || {
            let reply = chain.request().send().await;
            (reply.status == 200).then(|| reply.ok())
        })
        .await;
        chain.absorb(&first);
        for number in 0..ROOMS {
            let room_id = room_id(number);
            let told = format!("message of {room_id}");
            assert_eq!(messages(&first, &room_id), [told.as_str()], "{room_id}");
        }
        assert_eq!(first["to_device"]["events"].as_array().map(Vec::len), Some(1), "the inbox");
        self.homeserver.on_sync(Some("s1"), &messages_in(&room_id(0), "s2", &["later"]));
        let later = |reply: &Value| messages(reply, &room_id(0)).contains(&"later").then_some(());
        chain.until("the next poll", later).await;
        let told = self.count("timeline_events WHERE pos = 1").await;
        assert_eq!(told, i64::try_from(ROOMS).unwrap());
    }
}

fn room_id(number: usize) -> String {
    format!("!{number:03}:scripted")
}

/// A first reply, with `next_batch` and all else behind the rooms; `tail` is what the last room holds besides.
fn first_reply(tail: &str) -> String {
    let mut rooms = String::new();
    for number in 0..ROOMS {
        let room_id = room_id(number);
        let event = |id: &str, content: Value| {
            json!({
                "type": "m.room.message", "event_id": format!("${id}{number}"),
                "sender": "@bob:scripted", "origin_server_ts": 1, "content": content,
            })
        };
        let padding = "é".repeat(PADDING);
        let mut padded = event("state", json!({"padding": padding}));
        padded["type"] = "org.padding".into();
        padded["state_key"] = "".into();
        let mut own = event("own", json!({"membership": "join"}));
        own["type"] = "m.room.member".into();
        own["state_key"] = "@alice:scripted".into();
        let said = json!({"msgtype": "m.text", "body": format!("message of {room_id}")});
        let tail = if number + 1 == ROOMS { tail } else { "" };
        write!(
            rooms,
            r#"{}"{room_id}":{{"state":{{"events":[{own},{padded}]}},"timeline":{{"events":[{}]}}{tail}}}"#,
            if number > 0 { "," } else { "" },
            event("said", said),
        )
        .unwrap();
    }
    let inbox = json!({"events": [{"type": "m.test", "sender": "@bob:scripted", "content": {}}]});
    format!(r#"{{"rooms":{{"join":{{{rooms}}}}},"to_device":{inbox},"next_batch":"s1"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_reply_is_stored_like_a_small_one() {
    let scene = Scene::set(first_reply("")).await;
    scene.proxy.start_again().await;
    scene.all_is_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_reply_that_breaks_off_changes_nothing() {
    let scene = Scene::set(first_reply("")).await;
    scene.homeserver.next_syncs_fail(1, &Fault::BreakOff);
    scene.homeserver.next_syncs_fail(1, &Fault::TruncatedJson);
    scene.proxy.start_again().await;
    scene.all_is_there().await;
    assert_eq!(scene.count("polls WHERE pos = 1").await, 1);
}

/// What is no JSON is found in the last room, when all others have been written.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_reply_with_a_room_that_is_no_json_changes_nothing() {
    let scene = Scene::set(first_reply(r#","spoilt":nonsense"#)).await;
    scene.proxy.start_again().await;
    scene.alice.v2().request().send().await.refused(502, "M_UNKNOWN");
    eventually("the reply to be asked for again", async || {
        (scene.homeserver.seen_at("/v3/sync").len() >= 2).then_some(())
    })
    .await;
    for table in ["polls", "room_updates", "room_state", "timeline_events", "device_inbox"] {
        assert_eq!(scene.count(table).await, 0, "{table}");
    }
    scene.homeserver.on_sync_raw(None, first_reply(""));
    scene.all_is_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_batches_loses_nothing_and_doubles_nothing() {
    for mark in ["between_batches/2", "before_commit/1", "after_commit/1"] {
        let scene = Scene::set(first_reply("")).await;
        scene.proxy.kill_at(&format!("in_batches::ingest/{mark}"));
        scene.proxy.start_again().await;
        let mut asking = scene.alice.v2();
        // Whoever asks when the process dies gets no answer.
        let waiting = tokio::spawn(async move { asking.next().await });
        scene.proxy.is_killed().await;
        let stored = scene.count("room_updates").await;
        let expected = if mark.starts_with("after") { ROOMS } else { 0 };
        assert_eq!(stored, i64::try_from(expected).unwrap(), "{mark}");
        scene.proxy.start_again().await;
        waiting.await.unwrap_err();
        scene.all_is_there().await;
    }
}
