//! Endpoints near to sync that pass as they are: what the client says, and what the homeserver answers.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tests::client::Client;
use tests::scripted_homeserver::Canned;

use super::raw_request;
use crate::stage::Stage;

#[tokio::test]
async fn b1_7_the_older_initial_syncs_pass() {
    let stage = Stage::set().await;
    let answer = json!({"end": "s1_2", "rooms": [], "presence": []});
    passes(&stage, Method::GET, "/_matrix/client/r0/initialSync?limit=1", &Value::Null, &answer)
        .await;
    let room = "/_matrix/client/v3/rooms/!room%3Ascripted/initialSync?limit=2";
    let answer =
        json!({"room_id": "!room:scripted", "messages": {"start": "t1", "end": "s1", "chunk": []}});
    passes(&stage, Method::GET, room, &Value::Null, &answer).await;
}

/// They have tokens of their own families, which only look like a sync's by their parameter's name.
#[tokio::test]
async fn b1_10_dehydrated_devices_and_thread_subscriptions_pass() {
    let stage = Stage::set().await;
    let events = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/DEVICE/events";
    let body = json!({"next_batch": "d3_17"});
    let answer = json!({"events": [], "next_batch": "d3_18"});
    passes(&stage, Method::POST, events, &body, &answer).await;
    let subscriptions =
        "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?dir=b&from=5&to=9";
    passes(&stage, Method::GET, subscriptions, &Value::Null, &json!({"end": "4"})).await;
}

#[tokio::test]
async fn b2_2_discovery_points_to_the_proxy() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let answer = json!({
        "m.homeserver": {"base_url": homeserver.url()},
        "org.example.rtc": [{"type": "sfu", "url": "https://rtc.example"}],
    });
    homeserver.on_path("/.well-known/matrix/client", Canned::json(&answer));

    let reply = Client::anonymous(&proxy.url()).get("/.well-known/matrix/client").send().await;

    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
    assert_eq!(reply.header_values("cache-control"), ["no-store"], "it repeats the request's Host");
    let reply = reply.ok();
    let base_url = reply["m.homeserver"]["base_url"].as_str().unwrap();
    assert_eq!(base_url.trim_end_matches('/'), proxy.url());
    assert_eq!(reply["org.example.rtc"], answer["org.example.rtc"], "the rest stays");
}

#[tokio::test]
async fn b2_5_whoami_passes() {
    let stage = Stage::set().await;
    let answer =
        json!({"user_id": "@alice:scripted", "device_id": "PHONE", "org.example.extra": 1});
    passes(&stage, Method::GET, "/_matrix/client/v3/account/whoami", &Value::Null, &answer).await;
}

#[tokio::test]
async fn b2_7_the_metadata_of_an_authentication_service_passes() {
    let stage = Stage::set().await;
    let answer =
        json!({"issuer": "https://auth.example/", "token_endpoint": "https://auth.example/token"});
    for target in [
        "/_matrix/client/v1/auth_metadata",
        "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
        "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer",
    ] {
        passes(&stage, Method::GET, target, &Value::Null, &answer).await;
    }
}

/// The browser follows the redirect; a proxy that did so would log itself in.
#[tokio::test]
async fn b2_12_a_redirect_to_single_sign_on_is_the_clients_to_follow() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let elsewhere = format!("{}/elsewhere?redirectUrl=app%3A%2F%2Fdone", homeserver.url());
    let redirect = Canned::bytes(302, "").header("location", &elsewhere);
    homeserver.on_path("/_matrix/client/v3/login/sso/redirect", redirect);

    let target = "/_matrix/client/v3/login/sso/redirect/idp?redirectUrl=app%3A%2F%2Fdone";
    let reply = raw_request(proxy, "GET", target, &[]).await;

    assert!(reply.starts_with("HTTP/1.1 302"), "{reply}");
    assert!(reply.contains(&elsewhere), "{reply}");
    assert!(homeserver.seen_at("/elsewhere").is_empty(), "the proxy followed the redirect");
    assert_eq!(homeserver.seen_at("/sso/")[0].target, target);
}

#[tokio::test]
async fn b2_13_other_ways_to_log_in_pass() {
    let stage = Stage::set().await;
    let token = json!({"login_token": "l1", "expires_in_ms": 1_000});
    let challenge = json!({"auth": {"type": "m.login.password", "session": "s"}});
    passes(&stage, Method::POST, "/_matrix/client/v1/login/get_token", &challenge, &token).await;
    let flows = json!({"flows": [{"type": "m.login.token", "get_login_token": true}]});
    passes(&stage, Method::GET, "/_matrix/client/v3/login", &Value::Null, &flows).await;
    let rendezvous = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
    passes(
        &stage,
        Method::POST,
        rendezvous,
        &json!({"data": "x"}),
        &json!({"url": "https://x.example/1"}),
    )
    .await;
}

#[tokio::test]
async fn b3_9_a_device_is_renamed() {
    let stage = Stage::set().await;
    let device = "/_matrix/client/v3/devices/PHONE";
    passes(&stage, Method::PUT, device, &json!({"display_name": "The phone"}), &json!({})).await;
}

/// Checks that a request arrives as it was sent, and that its answer comes back byte for byte.
async fn passes(stage: &Stage, method: Method, target: &str, body: &Value, answer: &Value) {
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    // Spaces show that nobody has written the answer anew.
    let text = format!("{answer:#}");
    let canned = Canned::bytes(200, text.clone()).header("content-type", "application/json");
    homeserver.on_path(target, canned);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = alice.request(method.clone(), path);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        request = request.query(name, value);
    }
    let sent: Bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let reply = request.bytes(sent.clone()).send().await.expect_status(200);

    assert_eq!(reply.body_text(), text, "the answer to {target}");
    let seen = homeserver.seen().into_iter().rfind(|seen| seen.target == target);
    let seen = seen.unwrap_or_else(|| panic!("{target} did not arrive as it was sent"));
    assert_eq!(seen.method, method.as_str());
    let digest = ring::digest::digest(&ring::digest::SHA256, &sent);
    assert_eq!(seen.body_digest, digest.as_ref(), "the body sent to {target}");
}
