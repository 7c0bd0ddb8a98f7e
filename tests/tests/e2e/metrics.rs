//! `/metrics`: what is counted, how it is written, and what never stands in it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::Client;
use tests::exposition::Exposition;
use tests::matchers::{assert_no_trace, messages};
use tests::paths;
use tests::scripted_homeserver::{Fault, first_sync, messages_in, nothing_new, with_to_device};
use tests::wait::{eventually, look_away};

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// A stage whose proxy is watched, and who watches it.
async fn watched() -> (Stage, Client) {
    let place = format!("127.0.0.1:{}", paths::free_port());
    let stage = Stage::set_with(&["-metrics", &place]).await;
    (stage, Client::anonymous(&format!("http://{place}")))
}

async fn scrape(watcher: &Client) -> Exposition {
    let reply = watcher.get("/metrics").send().await.expect_status(200);
    let kind = reply.header_values("content-type");
    assert_eq!(kind, ["application/openmetrics-text; version=1.0.0; charset=utf-8"]);
    Exposition::read(&reply.body_text())
}

/// Scrapes until a series has a value.
async fn until(watcher: &Client, series: &str, value: f64) -> Exposition {
    eventually(&format!("{series} to be {value}"), async || {
        let exposed = scrape(watcher).await;
        ((exposed.value(series) - value).abs() < 1e-9).then_some(exposed)
    })
    .await
}

#[track_caller]
fn check(exposed: &Exposition, series: &str, expected: f64) {
    let found = exposed.value(series);
    assert!((found - expected).abs() < 1e-9, "{series} is {found}, not {expected}");
}

/// Counted when the program starts, and once a minute from then on.
#[tokio::test]
async fn the_backlog_is_what_waits_for_clients() {
    let (stage, watcher) = watched().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    check(&scrape(&watcher).await, "syncv3_to_device_backlog", 0.0);
    let first = first_sync(&alice.user_id, ROOM, "s1", &["one"]);
    homeserver.on_sync(None, &with_to_device(first, &[1, 2]));
    homeserver.on_sync(Some("s1"), &nothing_new("s1"));
    // Nobody's session: it never says what it has got.
    alice.sync().send().await.ok();
    stage.proxy.stop().await;
    stage.proxy.start_again().await;
    until(&watcher, "syncv3_to_device_backlog", 2.0).await;
}

#[tokio::test]
async fn the_values_follow_what_happens() {
    let (stage, watcher) = watched().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let exposed = scrape(&watcher).await;
    check(&exposed, r#"syncv3_requests_total{kind="v2_initial",status="2xx"}"#, 0.0);
    check(&exposed, "syncv3_accounts", 0.0);

    let first = first_sync(&alice.user_id, ROOM, "s1", &["one", "two"]);
    homeserver.on_sync(None, &with_to_device(first, &[1, 2]));
    let mut chain = alice.v2();
    chain.next().await;
    let waiting = tokio::spawn(chain.request().timeout(60_000).send());
    let exposed = until(&watcher, r#"syncv3_waiting_requests{api="v2"}"#, 1.0).await;
    check(&exposed, r#"syncv3_polls_total{kind="first",outcome="stored"}"#, 1.0);
    check(&exposed, r#"syncv3_poll_store_seconds_count{kind="first"}"#, 1.0);
    check(&exposed, r#"syncv3_poll_reply_bytes_count{kind="first"}"#, 1.0);
    check(&exposed, "syncv3_poll_events_sum", 2.0);
    check(&exposed, "syncv3_poll_rooms_sum", 1.0);
    check(&exposed, r#"syncv3_requests_total{kind="v2_initial",status="2xx"}"#, 1.0);
    check(&exposed, r#"syncv3_answer_seconds_count{kind="v2_initial"}"#, 1.0);
    check(&exposed, r#"syncv3_pollers{activity="polling"}"#, 1.0);
    check(&exposed, "syncv3_accounts", 1.0);
    check(&exposed, "syncv3_devices", 1.0);
    check(&exposed, "syncv3_homeserver_answers", 1.0);
    assert!(exposed.value("syncv3_client_connections") >= 1.0);
    assert!(exposed.value("syncv3_database_connections_open") >= 1.0);
    check(&exposed, "syncv3_database_connections_max", 16.0);

    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["three"]));
    assert_eq!(messages(&waiting.await.unwrap().ok(), ROOM), ["three"]);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let quiet = tokio::spawn(session.request(&json!({})).timeout(60_000).send());
    let exposed = until(&watcher, r#"syncv3_waiting_requests{api="v3"}"#, 1.0).await;
    check(&exposed, r#"syncv3_waiting_requests{api="v2"}"#, 0.0);
    check(&exposed, r#"syncv3_requests_total{kind="v2_incremental",status="2xx"}"#, 1.0);
    check(&exposed, r#"syncv3_requests_total{kind="v3_first",status="2xx"}"#, 1.0);
    check(&exposed, r#"syncv3_cache_lookups_total{cache="tokens",result="miss"}"#, 1.0);
    assert!(exposed.value(r#"syncv3_cache_lookups_total{cache="tokens",result="hit"}"#) >= 3.0);
    assert!(
        exposed.value(r#"syncv3_upstream_requests_total{call="whoami",outcome="granted"}"#) >= 1.0
    );
    quiet.abort();

    alice.get("/_matrix/client/v3/sync").token("nobody's").send().await.expect_status(401);
    let exposed = scrape(&watcher).await;
    check(&exposed, r#"syncv3_requests_total{kind="v2_initial",status="4xx"}"#, 1.0);
    check(&exposed, r#"syncv3_errors_total{error="unknown_token"}"#, 1.0);
    assert!(
        exposed.value(r#"syncv3_upstream_requests_total{call="whoami",outcome="refused"}"#) >= 1.0
    );
    assert!(exposed.value("process_resident_memory_bytes") > 1e6);
    assert!(exposed.value("process_open_fds") > 3.0);
}

#[tokio::test]
async fn a_homeserver_that_fails_is_seen() {
    let (stage, watcher) = watched().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &nothing_new("s1"));
    alice.sync().send().await.ok();
    homeserver.next_syncs_fail(1_000, &Fault::Status(502, json!({})));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    let failed = r#"syncv3_polls_total{kind="main",outcome="failed"}"#;
    let exposed = eventually("a poll to fail", async || {
        let exposed = scrape(&watcher).await;
        (exposed.value(failed) >= 1.0).then_some(exposed)
    })
    .await;
    check(&exposed, r#"syncv3_pollers{activity="failing"}"#, 1.0);
    check(&exposed, "syncv3_homeserver_answers", 0.0);
    eventually("the age of the last success to grow", async || {
        let exposed = scrape(&watcher).await;
        (exposed.value("syncv3_poll_oldest_success_seconds") > 1.0).then_some(())
    })
    .await;
}

/// Nobody but its user or the homeserver's operator can mend that: it is no lag to be woken for.
#[tokio::test]
async fn a_user_whom_the_homeserver_serves_no_sync_is_seen_and_does_not_lag() {
    let (stage, watcher) = watched().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &nothing_new("s1"));
    alice.sync().send().await.ok();
    let words = json!({"errcode": "M_CONSENT_NOT_GIVEN", "error": "agree first"});
    homeserver.next_syncs_fail(1, &Fault::Status(403, words));
    homeserver.on_sync(Some("s1"), &nothing_new("s2"));
    let turned_away = r#"syncv3_pollers{activity="turned_away"}"#;
    until(&watcher, turned_away, 1.0).await;

    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let exposed = scrape(&watcher).await;
        check(&exposed, turned_away, 1.0);
        check(&exposed, "syncv3_poll_oldest_success_seconds", 0.0);
        look_away().await;
    }
    // The next try comes ten seconds after the first.
    until(&watcher, turned_away, 0.0).await;
}

#[tokio::test]
async fn odd_requests_add_no_series_and_no_secret() {
    let (stage, watcher) = watched().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    alice.sync().send().await.ok();
    alice.v3().ask(json!({"room": {"room_id": ROOM}})).await;
    eventually("the sizes of tables", async || {
        let exposed = scrape(&watcher).await;
        exposed.series().contains(r#"syncv3_table_bytes{table="accounts"}"#).then_some(())
    })
    .await;
    odd_requests(alice, 0).await;
    let before: BTreeSet<String> =
        scrape(&watcher).await.series().into_iter().map(str::to_owned).collect();

    for number in 1..=100 {
        odd_requests(alice, number).await;
    }
    let reply = watcher.get("/metrics").send().await;
    let after = Exposition::read(&reply.body_text());
    let after: BTreeSet<String> = after.series().into_iter().map(str::to_owned).collect();
    assert_eq!(before, after);
    let secrets = [&*alice.access_token, &*alice.user_id, &*alice.device_id, ROOM, "odd"];
    assert_no_trace(&reply.body_text(), &secrets);
}

/// Requests that differ in everything that a client chooses.
async fn odd_requests(alice: &Client, number: u32) {
    let paths = [
        format!("/_matrix/client/v3/odd{number}/path"),
        format!("/_matrix/client/v3/rooms/!odd{number}:x/messages"),
        format!("/_synapse/admin/odd{number}"),
        format!("/_matrix/client/v3/sync?since=odd{number}"),
    ];
    for path in paths {
        alice.get(&path).send().await;
    }
    let token = format!("odd-token-{number}");
    alice.get("/_matrix/client/v3/sync").token(&token).send().await.expect_status(401);
}

/// The table in docs/operations.md names every metric, with its type, and no other.
#[tokio::test]
async fn every_metric_is_documented() {
    let (stage, watcher) = watched().await;
    stage.homeserver.on_sync(None, &nothing_new("s1"));
    // What has labels that are not known beforehand is there once it has a value.
    let nobody = stage.alice.get("/_matrix/client/v3/sync").token("nobody's").send().await;
    nobody.expect_status(401);
    let exposed = eventually("the sizes of tables", async || {
        let exposed = scrape(&watcher).await;
        exposed.families.contains_key("syncv3_table_bytes").then_some(exposed)
    })
    .await;
    let served: BTreeSet<(String, String)> =
        exposed.families.iter().map(|(name, family)| (name.clone(), family.kind.clone())).collect();
    let page = std::fs::read_to_string(paths::repository().join("docs/operations.md")).unwrap();
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let kind = cells.next()?;
        let is_metric = name.starts_with("syncv3_") || name.starts_with("process_");
        is_metric.then(|| {
            let name = match kind {
                "counter" => name.strip_suffix("_total").unwrap(),
                "info" => name.strip_suffix("_info").unwrap(),
                _ => name,
            };
            (name.to_owned(), kind.to_owned())
        })
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), served);
}
