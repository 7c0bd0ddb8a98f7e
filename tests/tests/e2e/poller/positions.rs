//! What is asked for, and from where: the first poll, restarts, gaps.

use std::time::Duration;

use serde_json::{Value, json};
use tests::matchers::{joined, messages, section, sections_of, timeline, typing};
use tests::scripted_homeserver::{Canned, Fault, first_sync, message, messages_in};
use tests::wait::eventually;

use super::ROOM;
use crate::stage::Stage;

#[tokio::test]
async fn c10_a111_clients_that_come_together_share_the_first_poll_and_one_that_leaves_does_not_end_it()
 {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let gate = homeserver.hold_syncs();
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));

    let impatient = tokio::spawn(alice.on_new_connections().sync().send());
    eventually("the first poll", async || (!homeserver.polled().is_empty()).then_some(())).await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled(), "nobody can have answered yet");
    let patient = [
        tokio::spawn(alice.on_new_connections().sync().send()),
        tokio::spawn(alice.on_new_connections().sync().timeout(10_000).send()),
        tokio::spawn(
            alice.on_new_connections().v3_sync(&json!({"typing": {"room_id": ROOM}})).send(),
        ),
    ];
    // All have asked who Alice is, or have been told from memory, once the proxy has taken their connections; the gate
    // may open at any time, because the first poll is one poll whoever waits for it.
    gate.open();

    let [one, two, v3] = patient;
    for reply in [one.await.unwrap().ok(), two.await.unwrap().ok()] {
        assert_eq!(messages(&reply, ROOM), ["hello"]);
    }
    assert!(v3.await.unwrap().ok()["typing"].is_object());
    let first_polls = homeserver.polled().into_iter().filter(Option::is_none).count();
    assert_eq!(first_polls, 1, "the homeserver was asked for everything more than once");
}

#[tokio::test]
async fn after_a_restart_polling_goes_on_from_the_stored_position_without_any_client() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    let mut chain = alice.v2();
    chain
        .until("both messages", |reply| messages(reply, ROOM).contains(&"two").then_some(()))
        .await;
    homeserver.is_polled_with("s2").await;

    proxy.kill9();
    let before = homeserver.polled().len();
    proxy.start_again().await;
    eventually("a poll", async || (homeserver.polled().len() > before).then_some(())).await;

    assert_eq!(homeserver.polled()[before].as_deref(), Some("s2"));
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));
    let reply =
        chain.until_reply("the third message", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["three"]);
}

#[tokio::test]
async fn polling_keeps_the_users_presence_and_timeline_in_order() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;

    let first = &homeserver.seen_at("/sync")[0];
    let filter: Value =
        serde_json::from_str(&first.parameter("filter").expect("the poll has a filter")).unwrap();
    assert_eq!(filter["room"]["state"]["lazy_load_members"], true, "{filter}");
    assert_eq!(filter["room"]["timeline"]["unread_thread_notifications"], true, "{filter}");
    assert!(first.header("authorization").is_some(), "the token goes in the header");
    assert!(!first.target.contains(&alice.access_token), "and never into a URL: {}", first.target);
}

#[tokio::test]
async fn a50_a_gap_upstream_is_a_gap_for_the_client() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one", "two"]));
    let mut chain = alice.v2();
    chain.next().await;
    let before = chain.since().to_owned();
    let mut gap = messages_in(ROOM, "s2", &["nine", "ten"]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    gap["rooms"]["join"][ROOM]["timeline"]["prev_batch"] = json!("before_nine");
    homeserver.on_sync(Some("s1"), &gap);
    homeserver.on_path(
        "/_matrix/client/v3/rooms/!room%3Ascripted/messages",
        Canned::json(&json!({"chunk": [message("eight")], "start": "before_nine"})),
    );
    homeserver.on_path(
        "/_matrix/client/v3/rooms/!room:scripted/messages",
        Canned::json(&json!({"chunk": [message("eight")], "start": "before_nine"})),
    );
    homeserver.on_path(
        "/_matrix/client/v3/rooms/%21room%3Ascripted/messages",
        Canned::json(&json!({"chunk": [message("eight")], "start": "before_nine"})),
    );
    chain.until("the gap", |reply| joined(reply, ROOM).is_object().then_some(())).await;

    for reply in [alice.sync().since(&before).send().await.ok(), alice.sync().send().await.ok()] {
        assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], true);
        assert_eq!(
            messages(&reply, ROOM),
            ["nine", "ten"],
            "nothing from before a gap stands beside what follows it"
        );
        assert_eq!(timeline(&reply, ROOM).len(), 2);
        let prev_batch = joined(&reply, ROOM)["timeline"]["prev_batch"].as_str().unwrap();
        let page = alice.messages_before(ROOM, prev_batch, 10).send().await.ok();
        assert_eq!(page["start"], prev_batch, "`start` is what the client sent");
        assert_eq!(page["chunk"][0]["content"]["body"], "eight");
    }
    let asked = homeserver.seen_at("/messages");
    assert!(
        asked.iter().all(|seen| seen.parameter("from").as_deref() == Some("before_nine")),
        "{asked:#?}"
    );
}

#[tokio::test]
async fn a_homeserver_that_hangs_at_the_first_poll_holds_up_only_its_own_account() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.next_syncs_fail(1, &Fault::Hang);
    let stuck = tokio::spawn(alice.sync().send());
    eventually("the hanging poll", async || (homeserver.faults_left() == 0).then_some(())).await;

    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "TABLET");
    homeserver.on_sync(None, &first_sync(&bob.user_id, ROOM, "s1", &["not stuck"]));
    let reply = bob.sync().send().await.ok();

    assert_eq!(messages(&reply, ROOM), ["not stuck"]);
    assert!(!stuck.is_finished());
    stuck.abort();
}

/// What a homeserver shows of a device, its address and program, is the client's and not ours.
#[tokio::test]
async fn polls_are_made_in_the_name_of_the_client() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));

    let request = alice.sync().request().header("User-Agent", "Element of a test");
    request.header("X-Forwarded-For", "192.0.2.7").send().await.ok();
    homeserver.is_polled_with("s1").await;

    for poll in homeserver.seen_at("/sync") {
        assert_eq!(poll.header("user-agent").as_deref(), Some("Element of a test"));
        assert_eq!(poll.header("x-forwarded-for").as_deref(), Some("192.0.2.7, 127.0.0.1"));
    }
}

/// What was believed of it when the process began does not bring it back.
#[tokio::test]
async fn a_room_that_vanished_while_somebody_typed_there_stays_gone() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let joined_rooms = "/_matrix/client/v3/joined_rooms";
    homeserver.on_path(joined_rooms, Canned::json(&json!({"joined_rooms": [ROOM]})));
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    first["rooms"]["join"][ROOM]["ephemeral"]["events"] =
        json!([{"type": "m.typing", "content": {"user_ids": ["@bob:scripted"]}}]);
    homeserver.on_sync(None, &first);
    let mut chain = alice.v2();
    let told = chain.next().await;
    assert_eq!(typing(&told, ROOM), Some(vec!["@bob:scripted"]));

    proxy.stop().await;
    homeserver.on_path(joined_rooms, Canned::json(&json!({"joined_rooms": []})));
    proxy.start_again().await;
    chain.until_reply("the leave", |reply| section(reply, "leave", ROOM).is_object()).await;
    // Longer than who typed is believed to type.
    tokio::time::sleep(Duration::from_secs(33)).await;

    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, ROOM), [""; 0]);
    let later = chain.next().await;
    assert_eq!(sections_of(&later, ROOM), [""; 0]);
}
