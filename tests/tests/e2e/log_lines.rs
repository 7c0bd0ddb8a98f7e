//! What the log says: little while all is well, and of each request whose it was.

use serde_json::{Value, json};
use tests::scripted_homeserver::{first_sync, messages_in};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

/// How many lines a proxy may say of a start, of one account's first poll, and of a device that comes.
const FEW: usize = 16;

#[tokio::test]
async fn a_busy_session_is_not_logged() {
    let stage = Stage::set_with(&["-log-level", "info"]).await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s0", &["hello"]));
    let mut chain = alice.v2();
    chain.next().await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": ROOM, "timeline_limit": 10}})).await;
    let begun = stage.proxy.log_lines().len();
    for number in 0..50 {
        let (since, next) = (format!("s{number}"), format!("s{}", number + 1));
        let text = format!("message {number}");
        homeserver.on_sync(Some(&since), &messages_in(ROOM, &next, &[&text]));
        chain.until_reply(&text, |reply| reply.to_string().contains(&text)).await;
        session.until(&text, |reply| reply.to_string().contains(&text).then_some(())).await;
        alice.whoami().await.ok();
        alice.get("/_matrix/client/v3/no/such/path").send().await;
    }
    let lines = stage.proxy.log_lines();
    // A fresh database has a line for each migration, once.
    let migrated = lines.iter().filter(|line| line.contains("migrated")).count();
    assert!(begun - migrated <= FEW, "the start is told in few lines:\n{}", lines.join("\n"));
    assert_eq!(lines.len(), begun, "nothing is said of requests:\n{}", lines.join("\n"));
}

#[tokio::test]
async fn json_lines_say_whose_request_it_was() {
    let stage = Stage::set_with(&["-log-format", "json", "-log-level", "info,proxy=debug"]).await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["hello"]));
    let reply = alice.sync().query("odd", "never in the log").send().await.expect_status(200);
    let request_id = reply.header_values("x-request-id")[0].to_owned();

    let line = eventually("the line of the request", async || {
        let lines = stage.proxy.log_lines();
        let lines = lines.iter().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
        });
        lines.into_iter().find(|line| {
            line["spans"][0]["request_id"] == *request_id
                && line["fields"]["message"] == "request answered"
        })
    })
    .await;
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(line["fields"]["status"], 200);
    assert!(line["fields"]["took"].is_string(), "{line:#}");
    let request = &line["spans"][0];
    assert_eq!(request["name"], "request");
    assert_eq!(request["method"], "GET");
    assert_eq!(request["path"], "/_matrix/client/v3/sync");
    assert_eq!(request["kind"], "v2_initial");
    assert_eq!(request["user_id"], alice.user_id);
    assert_eq!(request["device_id"], alice.device_id);

    let log = stage.proxy.log_lines().join("\n");
    tests::matchers::assert_no_trace(
        &log,
        &[&alice.access_token, "never in the log", "never%20in"],
    );
    let poll =
        stage.proxy.log_lines().into_iter().find(|line| line.contains("first poll received"));
    let poll: Value = serde_json::from_str(&poll.unwrap()).unwrap();
    assert_eq!(poll["spans"][0]["name"], "poller");
    assert_eq!(poll["spans"][0]["user_id"], alice.user_id);
}
