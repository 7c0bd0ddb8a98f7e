//! The order of events is the homeserver's, and after a gap it is whole again.

use serde_json::{Value, json};
use tests::matchers::{joined, messages};
use tests::scripted_homeserver::{first_sync, message, messages_in};

use super::{ROOM, timeline_of};
use crate::stage::Stage;

/// Clocks differ, and an event of another server may be hours late. What counts is when the homeserver told it.
#[tokio::test]
async fn a60_d5_11_events_come_in_the_order_in_which_they_were_told() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    let since = chain.since().to_owned();
    homeserver.on_sync(Some("s1"), &timeline_of("s2", &[at("two", 9_000), at("three", 5_000)]));
    homeserver.on_sync(Some("s2"), &timeline_of("s3", &[at("late", 1_000)]));
    homeserver.on_sync(Some("s3"), &timeline_of("s4", &[at("four", 8_000)]));
    let mut told: Vec<String> = Vec::new();
    chain
        .until("the last one", |reply| {
            told.extend(messages(reply, ROOM).iter().map(|&text| text.to_owned()));
            told.contains(&"four".to_owned()).then_some(())
        })
        .await;

    assert_eq!(told, ["two", "three", "late", "four"]);
    let again = alice.sync().since(&since).send().await.ok();
    assert_eq!(messages(&again, ROOM), ["two", "three", "late", "four"]);
    let anew = alice.sync().send().await.ok();
    assert_eq!(messages(&anew, ROOM), ["one", "two", "three", "late", "four"]);
}

/// A gap can be shorter than the limit, as when another server was away: it is where the homeserver says so, for every `since`
/// before it and for none after it.
#[tokio::test]
async fn a50_a_gap_is_there_for_those_before_it_alone() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    let mut chain = alice.v2();
    chain.until("both", |reply| messages(reply, ROOM).contains(&"two").then_some(())).await;
    homeserver.is_polled_with("s2").await;
    let before = chain.since().to_owned();
    let mut gap = messages_in(ROOM, "s3", &["nine"]);
    gap["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(true);
    homeserver.on_sync(Some("s2"), &gap);
    chain.until("the gap", |reply| messages(reply, ROOM).contains(&"nine").then_some(())).await;
    let behind = chain.since().to_owned();
    homeserver.on_sync(Some("s3"), &messages_in(ROOM, "s4", &["ten"]));
    chain.until("the end", |reply| messages(reply, ROOM).contains(&"ten").then_some(())).await;

    for (request, texts, limited) in [
        (alice.sync().since(&before), vec!["nine", "ten"], true),
        (alice.sync(), vec!["nine", "ten"], true),
        (alice.sync().since(&behind), vec!["ten"], false),
    ] {
        let reply = request.send().await.ok();
        assert_eq!(messages(&reply, ROOM), texts);
        assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], limited, "{texts:?}");
    }
}

fn at(text: &str, ts: u64) -> Value {
    let mut event = message(text);
    event["origin_server_ts"] = json!(ts);
    event
}
