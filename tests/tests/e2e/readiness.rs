//! `/health` and `/ready`: whether the process answers, and whether it can do its work.

use serde_json::{Value, json};
use tests::client::Client;
use tests::paths;
use tests::postgres::Postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Canned, Fault, ScriptedHomeserver, nothing_new};
use tests::wait::eventually;

/// Asks until the proxy is ready, or not.
async fn until_ready(watcher: &Client, ready: bool) -> Value {
    eventually(&format!("/ready to say {ready}"), async || {
        let reply = watcher.get("/ready").send().await;
        assert_eq!(reply.status == 200, reply.json["ready"] == true, "{}", reply.body_text());
        (reply.json["ready"] == ready).then_some(reply.json)
    })
    .await
}

#[tokio::test]
async fn it_is_ready_as_long_as_the_database_answers() {
    let postgres = Postgres::start().await;
    let homeserver = ScriptedHomeserver::start().await;
    let place = format!("127.0.0.1:{}", paths::free_port());
    let database = postgres.database().await;
    postgres.stop();
    let proxy = Proxy::prepare(&homeserver.url(), &database, &["-metrics", &place]);
    proxy.start_again().await;
    let watcher = Client::anonymous(&format!("http://{place}"));

    let reason = until_ready(&watcher, false).await["reason"].take();
    assert_eq!(reason, "the database is not there yet, or being migrated");
    watcher.get("/health").send().await.expect_status(200);
    watcher.get("/metrics").send().await.expect_status(200);

    postgres.start_again().await;
    until_ready(&watcher, true).await;

    // The homeserver's outages are told, and change nothing.
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &nothing_new("s1"));
    alice.sync().send().await.ok();
    homeserver.next_syncs_fail(1_000, &Fault::Status(502, json!({})));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    eventually("the homeserver to be away", async || {
        let reply = watcher.get("/ready").send().await;
        (reply.ok() == json!({"ready": true, "homeserver": "away"})).then_some(())
    })
    .await;

    postgres.stop();
    let reason = until_ready(&watcher, false).await["reason"].take();
    assert_eq!(reason, "the database does not answer");
    watcher.get("/health").send().await.expect_status(200);
    postgres.start_again().await;
    until_ready(&watcher, true).await;

    watcher.post("/ready").send().await.expect_status(405);
    watcher.get("/_matrix/client/v3/sync").send().await.expect_status(404);
}

#[tokio::test]
async fn for_clients_these_paths_are_the_homeservers() {
    let stage = crate::stage::Stage::set().await;
    for path in ["/metrics", "/health", "/ready"] {
        stage.homeserver.on_path(path, Canned::bytes(418, "the homeserver's own"));
        let reply = stage.alice.get(path).send().await.expect_status(418);
        assert_eq!(reply.body_text(), "the homeserver's own");
    }
}
