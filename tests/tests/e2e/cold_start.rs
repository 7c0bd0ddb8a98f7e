//! First syncs of accounts that are large, or of rooms that are not complete yet.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tests::client::encode;
use tests::matchers::{joined, members_in_state, messages};
use tests::scripted_homeserver::{Canned, Gate, first_sync, messages_in, nothing_new};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// A homeserver that joins a large room shows it, at once, to those who load members lazily, as our polls do; the members
/// themselves it tells when it has them. Not with Synapse, which does so with rooms of other servers only.
#[tokio::test]
async fn a83_a_room_whose_members_are_not_known_yet_is_told_at_once_to_those_who_load_lazily() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let gate = Gate::closed();
    let members = ["@alice:scripted", "@bob:scripted", "@carol:scripted"];
    let all = json!({"chunk": members.map(member)});
    homeserver.on_path(
        "/_matrix/client/v3/rooms/%21room%3Ascripted/members",
        Canned::bytes(200, " ").then(all.to_string()).held_by(&gate),
    );
    homeserver.on_sync(None, &nothing_new("s1"));
    let lazy = json!({"room": {"state": {"lazy_load_members": true}}});
    let (mut lazy, mut eager) = (alice.v2().filtered(lazy), alice.on_new_connections().v2());
    lazy.next().await;
    eager.next().await;

    let mut room = first_sync(&alice.user_id, ROOM, "s2", &["hello"]);
    let state = room["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap();
    state.push(member("@bob:scripted"));
    homeserver.on_sync(Some("s1"), &room);
    let waiting = tokio::spawn(eager.request().timeout(30_000).send());
    let reply = lazy.until_reply("the room", |reply| joined(reply, ROOM).is_object()).await;
    assert_eq!(messages(&reply, ROOM), ["hello"]);
    eventually("the question for the members", async || {
        (!homeserver.seen_at("/members").is_empty()).then_some(())
    })
    .await;
    assert!(!waiting.is_finished(), "whoever needs all members waits for them");

    // Meanwhile the room goes on for those who load lazily.
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["onwards"]));
    lazy.until_reply("the next message", |reply| messages(reply, ROOM) == ["onwards"]).await;

    gate.open();
    let reply = waiting.await.unwrap().ok();
    assert_eq!(members_in_state(&reply, ROOM), members);
}

#[tokio::test]
async fn a83_a_speaker_whom_the_homeserver_does_not_name_does_not_hold_up_those_who_load_lazily() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let gate = Gate::closed();
    homeserver.on_path(
        "/_matrix/client/v3/rooms/%21room%3Ascripted/members",
        Canned::bytes(200, " ").then("{}").held_by(&gate),
    );
    // Bob speaks, but nothing says who he is.
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));

    let lazy = json!({"room": {"state": {"lazy_load_members": true}}});
    let asked = Instant::now();
    let reply = alice.sync().filter(&lazy).send().await.ok();

    assert_eq!(messages(&reply, ROOM), ["hello"]);
    assert!(asked.elapsed() < Duration::from_secs(40), "it took {:?}", asked.elapsed());
    assert_eq!(homeserver.seen_at("/members").len(), 1);
}

#[tokio::test]
async fn a111_d5_9_the_first_sync_of_a_large_account_is_streamed_in_little_memory() {
    const ROOMS: usize = 800;
    const MIB: usize = 1024 * 1024;
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &a_large_account(ROOMS));
    let lazy = json!({"room": {"state": {"lazy_load_members": true}}}).to_string();
    alice.sync().query("filter", &lazy).send().await.expect_status(200);
    // The first poll itself needs memory; only a new process shows what answering takes.
    proxy.crash_and_restart().await;
    alice.sync().filter(&json!({"room": {"rooms": []}})).send().await.ok();
    let before = proxy.peak_memory_kib();

    let url = format!("{}/_matrix/client/v3/sync?filter={}", proxy.url(), encode(&lazy));
    let request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    let request = request.bearer_auth(&alice.access_token);
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut length = 0;
    while let Some(piece) = body.next().await {
        length += piece.unwrap().len();
    }

    assert!(length > 60 * MIB, "the answer is large: {length} bytes");
    let grown = proxy.peak_memory_kib() - before;
    assert!(
        grown < 32 * 1024,
        "the proxy grew by {grown} KiB for an answer of {} KiB",
        length / 1024
    );
}

#[tokio::test]
async fn a111_the_beginning_of_a_first_sync_goes_out_before_any_room_is_read() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    // The room is not read before its members are known.
    let gate = Gate::closed();
    let members = json!({"chunk": [member(&alice.user_id)]});
    homeserver.on_path(
        "/_matrix/client/v3/rooms/%21room%3Ascripted/members",
        Canned::bytes(200, " ").then(members.to_string()).held_by(&gate),
    );
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));

    let url = format!("{}/_matrix/client/v3/sync", proxy.url());
    let request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    let reply = request.bearer_auth(&alice.access_token).send().await.unwrap();
    let mut body = reply.bytes_stream();
    let mut text = body.next().await.unwrap().unwrap().to_vec();
    assert!(text.starts_with(br#"{"next_batch":"#), "{}", String::from_utf8_lossy(&text));
    assert!(!String::from_utf8_lossy(&text).contains(ROOM));

    gate.open();
    while let Some(piece) = body.next().await {
        text.extend(piece.unwrap());
    }
    let reply: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(messages(&reply, ROOM), ["hello"]);
}

/// The initial sync of an account whose rooms have long messages in them.
fn a_large_account(rooms: usize) -> Value {
    let mut reply = nothing_new("s1");
    for room in 0..rooms {
        let room_id = format!("!room{room}:scripted");
        let texts: Vec<String> =
            (0..5).map(|n| format!("{room} {n} {}", "long message ".repeat(1_250))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut entry = messages_in(&room_id, "s1", &texts)["rooms"]["join"][&room_id].take();
        for (n, event) in
            entry["timeline"]["events"].as_array_mut().into_iter().flatten().enumerate()
        {
            event["event_id"] = json!(format!("$in_{room}_{n}"));
        }
        reply["rooms"]["join"][&room_id] = entry;
    }
    reply
}

fn member(user_id: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": user_id, "sender": user_id,
        "event_id": format!("$member_{user_id}"), "origin_server_ts": 1_700_000_000_000_u64,
        "content": {"membership": "join"}, "unsigned": {},
    })
}
