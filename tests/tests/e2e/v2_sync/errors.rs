//! What is wrong with a request, and what the answer is: as Synapse answers, where the specification is silent.

use serde_json::json;
use tests::lab::Lab;
use tests::scripted_homeserver::{Canned, ScriptedHomeserver, messages_in, nothing_new};

#[tokio::test]
async fn a5_without_a_token_or_with_one_nobody_knows_there_is_no_sync() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    alice.sync().request().without_token().send().await.refused(401, "M_MISSING_TOKEN");
    let reply = alice.sync().request().token("nobody_gave_me_this").send().await;
    let from_synapse = lab.past_proxy(&alice).whoami_with("nobody_gave_me_this").await;
    assert_eq!(
        reply.body_text(),
        from_synapse.body_text(),
        "the homeserver's own words come through"
    );
    reply.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a4_a_token_may_be_in_the_query_but_not_in_both_places() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let token = alice.access_token.clone();

    alice.sync().query("access_token", &token).request().without_token().send().await.ok();
    alice.sync().query("access_token", &token).send().await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a11_a15_a17_parameters_of_the_wrong_kind_are_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    for (name, value) in [
        ("timeout", "abc"),
        ("timeout", "-1"),
        ("timeout", "1.5"),
        ("full_state", "maybe"),
        ("set_presence", "bogus"),
        ("filter", "99999"),
        ("filter", "abc"),
    ] {
        alice.sync().query(name, value).send().await.refused(400, "M_INVALID_PARAM");
    }
    alice.sync().query("filter", "{bad json").send().await.refused(400, "M_NOT_JSON");
    let wrong_shape = json!({"room": []}).to_string();
    assert_eq!(alice.sync().query("filter", &wrong_shape).send().await.status, 400);
}

#[tokio::test]
async fn a12_a_since_that_was_never_given_out_is_refused() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let genuine = alice.v2().next().await["next_batch"].as_str().unwrap().to_owned();

    for since in ["v2_garbage", &format!("{genuine}_and_more")] {
        let reply = alice.sync().since(since).send().await;
        assert_eq!(reply.status, 400, "since={since}: {}", reply.body_text());
        assert!(reply.json["errcode"].is_string(), "{}", reply.body_text());
    }
}

#[tokio::test]
async fn a9_unknown_parameters_are_ignored() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    alice.sync().query("_cacheBuster", "12345").send().await.ok();
}

#[tokio::test]
async fn a2_a8_every_answer_may_be_read_by_a_page_from_anywhere() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;

    let good = alice.sync().send().await.expect_status(200);
    let bad = alice.sync().query("timeout", "abc").send().await.expect_status(400);
    let unknown = alice.sync().request().without_token().send().await.expect_status(401);
    for reply in [good, bad, unknown] {
        assert_eq!(
            reply.header_values("access-control-allow-origin"),
            ["*"],
            "{}",
            reply.body_text()
        );
        assert_eq!(
            reply.header_values("content-type"),
            ["application/json"],
            "{}",
            reply.body_text()
        );
    }

    let preflight = alice
        .request(reqwest::Method::OPTIONS, "/_matrix/client/v3/sync")
        .without_token()
        .send()
        .await;
    assert!(preflight.status == 200 || preflight.status == 204, "it answered {}", preflight.status);
    assert_eq!(preflight.header_values("access-control-allow-origin"), ["*"]);
    let allowed = preflight.header_values("access-control-allow-headers").join(", ").to_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
}

/// The fixture itself sees to it that no test passes on a reply of the wrong shape; here it is given some.
#[tokio::test]
async fn d3_every_sync_reply_is_held_against_the_schemas() {
    let homeserver = ScriptedHomeserver::start().await;
    let alice = homeserver.device(&homeserver.url(), "@alice:scripted", "PHONE");
    let check = async |status: u16, body: &str, passes: bool| {
        homeserver.on_path("/_matrix/client/v3/sync", Canned::bytes(status, body.to_owned()));
        let alice = alice.on_new_connections();
        let sent = tokio::spawn(async move { alice.sync().send().await.status }).await;
        assert_eq!(sent.is_ok(), passes, "{status} {body}");
    };
    check(200, &nothing_new("s1").to_string(), true).await;
    check(200, &messages_in("!room:scripted", "s1", &["hello"]).to_string(), true).await;
    check(200, r#"{"next_batch": "s1"}"#, false).await;
    check(200, "no JSON", false).await;
    check(400, r#"{"errcode": "M_UNKNOWN", "error": "no such since"}"#, true).await;
    check(400, r#"{"error": "no such since"}"#, false).await;
    check(502, "<html>", false).await;
}
