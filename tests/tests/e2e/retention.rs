//! What is older than the horizon goes, as the running program does it: who was away for longer hears of a gap or begins
//! anew, and whoever was here notices nothing.

use serde_json::json;
use tests::matchers::{joined, messages};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Canned, first_sync, messages_in, with_to_device};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a13_history_past_the_horizon_goes_and_is_answered_as_a_gap() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let (mut away, mut here) = (alice.v2(), alice.v2());
    let first = away.next().await;
    let mut session = alice.v3();
    session.ask(json!({"e2ee": {}})).await;
    let old_page = joined(&first, ROOM)["timeline"]["prev_batch"].as_str().unwrap().to_owned();
    for number in 2..=4 {
        let texts: Vec<String> = (0..30).map(|text| format!("{number} {text}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (since, next) = (format!("s{}", number - 1), format!("s{number}"));
        homeserver.on_sync(Some(&since), &messages_in(ROOM, &next, &texts));
        let last = texts[29].to_owned();
        here.until_reply("the messages", |reply| messages(reply, ROOM).contains(&&*last)).await;
    }
    homeserver.is_polled_with("s4").await;

    // All but the last came long ago. One turn promises it no more, the next one lets it go.
    sql(proxy, "UPDATE polls SET stored_at = 1 WHERE pos < 4").await;
    has_its_turn(proxy).await;
    assert_eq!(proxy.database().count("SELECT retained_from FROM accounts").await, 3);
    assert_eq!(proxy.database().count("SELECT MIN(pos) FROM timeline_events").await, 1);
    has_its_turn(proxy).await;
    assert_eq!(proxy.database().count("SELECT MIN(pos) FROM timeline_events").await, 2);
    assert_eq!(proxy.database().count("SELECT MIN(pos) FROM polls").await, 3);

    let reply = away.next().await;
    assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], true, "{reply:#}");
    assert!(messages(&reply, ROOM).contains(&"4 29"));
    let refused = session.request(&json!({})).send().await;
    refused.refused(400, "M_UNKNOWN_SYNC_SESSION");
    // A token from then stands before the oldest that is known upstream.
    homeserver.on_path(
        "/_matrix/client/v3/rooms/",
        Canned::json(&json!({"chunk": [], "start": "s", "end": "e"})),
    );
    alice.messages_before(ROOM, &old_page, 5).send().await.ok();
    let asked = homeserver.seen_at("/messages");
    assert!(asked.last().unwrap().target.contains("from=s3"), "{asked:?}");

    homeserver.on_sync(Some("s4"), &messages_in(ROOM, "s5", &["five"]));
    for chain in [&mut away, &mut here] {
        let reply = chain.until_reply("the news", |reply| !messages(reply, ROOM).is_empty()).await;
        assert_eq!(messages(&reply, ROOM), ["five"], "and nothing else");
    }
}

/// A message that nobody came for is kept for the horizon, and one that somebody may come for is kept.
#[tokio::test]
async fn to_device_messages_that_nobody_comes_for_go_at_the_horizon() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    homeserver.on_sync(None, &with_to_device(first, &[1, 2]));
    // Nobody's session: it never says what it has got.
    alice.sync().send().await.ok();
    homeserver.is_polled_with("s1").await;
    let waiting = "SELECT COUNT(*) FROM device_inbox";
    assert_eq!(proxy.database().count(waiting).await, 2);
    has_its_turn(proxy).await;
    assert_eq!(proxy.database().count(waiting).await, 2, "they are young");
    sql(proxy, "UPDATE device_inbox SET stored_at = 1 WHERE seq = 1").await;
    has_its_turn(proxy).await;
    assert_eq!(proxy.database().count(waiting).await, 1);
}

/// What is two days old is kept unless the operator wants it kept for one.
#[tokio::test]
async fn the_horizon_is_the_operators() {
    for (flags, left) in [(&[][..], 2), (&["-retention", "1"], 1)] {
        let stage = Stage::set_with(flags).await;
        let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
        let first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
        homeserver.on_sync(None, &with_to_device(first, &[1, 2]));
        alice.sync().send().await.ok();
        homeserver.is_polled_with("s1").await;
        let two_days = 2 * 24 * 60 * 60 * 1000;
        let age =
            format!("UPDATE device_inbox SET stored_at = stored_at - {two_days} WHERE seq = 1");
        sql(proxy, &age).await;
        has_its_turn(proxy).await;
        let waiting = proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
        assert_eq!(waiting, left, "{flags:?}");
    }
}

/// The account's turn is due, and the program looks when it starts. An account that is written to at that very moment,
/// as where its lease is taken, is passed over, and has its turn with the next round: the next start, here.
async fn has_its_turn(proxy: &Proxy) {
    stops(proxy).await;
    sql(proxy, "UPDATE accounts SET retained_at = 0").await;
    loop {
        sql(proxy, "DELETE FROM chores").await;
        proxy.start_again().await;
        eventually("the turns to be over", async || {
            // After the turns it takes the chores up.
            let taken_up = "SELECT COUNT(*) FROM chores WHERE chore = 'sweep_bodies'";
            (proxy.database().count(taken_up).await > 0).then_some(())
        })
        .await;
        let passed_over = "SELECT COUNT(*) FROM accounts WHERE retained_at = 0";
        if proxy.database().count(passed_over).await == 0 {
            return;
        }
        stops(proxy).await;
    }
}

/// A statement that was under way when it stopped may run on, and take up a turn or a chore after what follows.
async fn stops(proxy: &Proxy) {
    proxy.stop().await;
    let left = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'syncv3'";
    eventually("its connections to end", async || {
        (proxy.database().count(left).await == 0).then_some(())
    })
    .await;
}

async fn sql(proxy: &Proxy, statement: &str) {
    proxy.database().connect().await.unwrap().batch_execute(statement).await.unwrap();
}
