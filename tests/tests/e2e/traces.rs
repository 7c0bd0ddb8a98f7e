//! Traces for OpenTelemetry: what a collector is told, and what its absence costs.

use serde_json::json;
use tests::collector::Collector;
use tests::scripted_homeserver::{first_sync, messages_in};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a_sync_leaves_its_trace() {
    let collector = Collector::start().await;
    let stage = Stage::set_with(&["-otlp", &collector.url(), "-log-level", "info"]).await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    alice.sync().query("odd", "never-in-a-trace").send().await.expect_status(200);
    alice.v3().ask(json!({"to_device": {}})).await;
    // What was not delivered yet is when the process ends.
    stage.proxy.stop().await;

    for name in ["syncv3", "request", "poll", "ingest", "upstream", "store", "ingest::ingest"] {
        assert!(collector.has(name), "no span is called {name}: {:?}", collector.paths());
    }
    assert!(collector.has(&alice.user_id) && collector.has("v2_initial"));
    assert!(!collector.has(&alice.access_token) && !collector.has("never-in-a-trace"));
    assert!(collector.paths().iter().all(|path| path == "/v1/traces"), "{:?}", collector.paths());
}

#[tokio::test]
async fn without_a_sample_nothing_is_sent() {
    let collector = Collector::start().await;
    let flags = ["-otlp", &collector.url(), "-otlp-sample", "0"];
    let stage = Stage::set_with(&flags).await;
    stage.homeserver.on_sync(None, &first_sync(&stage.alice.user_id, ROOM, "s1", &["hello"]));
    stage.alice.sync().send().await.ok();
    stage.proxy.stop().await;
    assert_eq!(collector.paths(), [""; 0]);
}

#[tokio::test]
async fn a_collector_that_refuses_is_told_of_once() {
    let collector = Collector::answering(503).await;
    let stage = Stage::set_with(&["-otlp", &collector.url(), "-log-level", "info"]).await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s0", &["hello"]));
    let mut chain = alice.v2();
    chain.next().await;
    let mut number = 0;
    eventually("three deliveries to be refused", async || {
        let (since, next) = (format!("s{number}"), format!("s{}", number + 1));
        number += 1;
        let text = format!("message {number}");
        homeserver.on_sync(Some(&since), &messages_in(ROOM, &next, &[&text]));
        chain.until_reply(&text, |reply| reply.to_string().contains(&text)).await;
        (collector.paths().len() >= 3).then_some(())
    })
    .await;
    let lines = stage.proxy.log_lines();
    let told = lines.iter().filter(|line| line.contains("traces cannot be delivered")).count();
    assert_eq!(told, 1, "{}", lines.join("\n"));
}
