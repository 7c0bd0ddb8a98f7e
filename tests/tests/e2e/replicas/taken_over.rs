//! The process that polls for an account dies while something is asked of it.

use serde_json::{Value, json};
use tests::lab::shared_postgres;
use tests::matchers::events;
use tests::replicas::Replicas;
use tests::scripted_homeserver::{Canned, ScriptedHomeserver, first_sync, nothing_new};
use tests::wait::eventually;

use super::in_a_long_poll;

const ROOM: &str = "!room:scripted";
const PATH: &str = "/_matrix/client/v3/user/@alice:scripted/account_data/org.test";

/// The write is covered by whoever polls next, and the sync that waits for it has it.
#[tokio::test]
async fn a_write_that_a_killed_process_was_to_cover_is_covered_by_the_next() {
    let homeserver = ScriptedHomeserver::start().await;
    homeserver.on_path(PATH, Canned::json(&json!({})));
    let database = shared_postgres().await.database().await;
    let replicas = Replicas::start(&homeserver.url(), &database, 2).await;
    let alice = homeserver.device(&replicas.proxy(0).url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.sync().send().await.ok();
    let holder = replicas.holder_of(&alice.user_id).await;
    let elsewhere = replicas.at(holder + 1, &alice).on_new_connections();
    let mut chain = elsewhere.v2();
    chain.next().await;
    in_a_long_poll(&homeserver).await;

    // The poll that is to cover the write is never answered.
    let gate = homeserver.hold_syncs();
    let demanded = || {
        let polls = homeserver.seen_at("/sync").into_iter();
        // No two polls ask for the same, so a few milliseconds are none.
        let at_once = |timeout: Option<String>| {
            timeout.is_none_or(|timeout| timeout.parse::<u64>().unwrap() < 1_000)
        };
        polls.filter(|seen| seen.since().is_some() && at_once(seen.parameter("timeout"))).count()
    };
    let before = demanded();
    let written = json!({"n": 1});
    elsewhere.put(PATH).json(&written).send().await.ok();
    let waiting = tokio::spawn(chain.request().timeout(60_000).send());
    eventually("a poll for the write", async || (demanded() > before).then_some(())).await;
    assert!(!waiting.is_finished(), "it waits for the write");
    replicas.proxy(holder).kill9();
    let mut news = nothing_new("s2");
    news["account_data"] = json!({"events": [{"type": "org.test", "content": written}]});
    homeserver.on_sync(Some("s1"), &news);
    gate.open();

    // Without anybody to take over it would be answered in the end, and be empty.
    let reply = waiting.await.unwrap().ok();
    let told = |reply: &Value| {
        let all = events(&reply["account_data"]);
        all.iter().map(|event| event["content"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&reply), [written], "{reply:#}");
    assert_eq!(replicas.holder_of(&alice.user_id).await, (holder + 1) % 2);
    chain.absorb(&reply);
    assert!(told(&chain.next().await).is_empty(), "it comes once");
}
