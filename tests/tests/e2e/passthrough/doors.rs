//! What a proxy must see, and what it must not let pass: logins, logouts, administration, syncs in disguise.

use serde_json::json;
use tests::client::Client;
use tests::lab::{Lab, shared_postgres};
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Canned, first_sync};

use super::{raw_request, targets};
use crate::stage::Stage;

#[tokio::test]
async fn a_login_points_the_client_to_the_proxy() {
    let stage = Stage::set().await;
    let (homeserver, proxy) = (&stage.homeserver, &stage.proxy);
    let answer = json!({
        "user_id": "@alice:scripted", "access_token": "t", "device_id": "D",
        "well_known": {"m.homeserver": {"base_url": homeserver.url()}, "m.identity_server": {"base_url": "https://id.example"}},
    });
    homeserver.on_path("/_matrix/client/v3/login", Canned::json(&answer));
    homeserver.on_path("/_matrix/client/v3/register", Canned::json(&answer));
    let nobody = Client::anonymous(&proxy.url());

    for path in ["/_matrix/client/v3/login", "/_matrix/client/v3/register"] {
        let reply = nobody.post(path).json(&json!({"type": "m.login.password"})).send().await.ok();
        let base_url = reply["well_known"]["m.homeserver"]["base_url"].as_str().unwrap();
        assert_eq!(base_url.trim_end_matches('/'), proxy.url(), "from {path}");
        assert_eq!(
            reply["well_known"]["m.identity_server"]["base_url"], "https://id.example",
            "the rest stays"
        );
        assert_eq!((&reply["access_token"], &reply["device_id"]), (&json!("t"), &json!("D")));
    }
}

#[tokio::test]
async fn an_error_at_login_comes_through_as_it_is() {
    let lab = Lab::shared().await;
    let nobody = Client::anonymous(&lab.url());

    let body = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "nobody"}, "password": "wrong"});
    nobody.post("/_matrix/client/v3/login").json(&body).send().await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_logout_is_effective_at_once() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    for device in [&alice, &laptop] {
        device.sync().send().await.ok();
        device.v3().ask(json!({"to_device": {}})).await;
    }

    alice.logout().await.ok();
    alice.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    alice.v3_sync(&json!({})).send().await.refused(401, "M_UNKNOWN_TOKEN");
    laptop.sync().send().await.ok();

    laptop.post("/_matrix/client/v3/logout/all").json(&json!({})).send().await.ok();
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    laptop.v3_sync(&json!({})).send().await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn administration_and_federation_are_not_passed_on_unless_asked_for() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let paths = [
        "/_synapse/admin/v1/server_version",
        "/_matrix/federation/v1/version",
        "/_matrix/key/v2/server",
    ];
    for path in paths {
        homeserver.on_path(path, Canned::json(&json!({"passed": "on"})));
        alice.get(path).send().await.refused(404, "M_UNRECOGNIZED");
    }
    // The same in other spellings of the path.
    for path in [
        "/_synapse//admin/v1/server_version",
        "/%5Fsynapse/admin/v1/server_version",
        "/x/../_synapse/admin/v1/server_version",
    ] {
        let reply = raw_request(proxy, "GET", path, &[]).await;
        assert!(!reply.contains("passed"), "{path}: {reply}");
    }
    let arrived: Vec<String> = targets(homeserver)
        .into_iter()
        .filter(|target| target.contains("admin") || target.contains("federation"))
        .collect();
    assert_eq!(arrived, [""; 0]);

    let postgres = shared_postgres().await;
    let open = Proxy::start_with(
        &homeserver.url(),
        &postgres.database().await,
        &["-forward-admin", "-forward-federation"],
    )
    .await;
    for path in &paths[..2] {
        assert_eq!(alice.at(&open.url()).get(path).send().await.ok(), json!({"passed": "on"}));
    }
}

/// `-server` leads back to the proxy, by whatever way: the second lap is the last.
#[tokio::test]
async fn a_request_that_has_been_here_before_goes_no_further() {
    let stage = Stage::set().await;
    let path = "/_matrix/client/v3/profile/@alice:scripted";
    let of_a_proxy = stage.alice.whoami().await.ok();
    assert!(of_a_proxy["user_id"].is_string());
    let sent = stage.homeserver.seen_at("/whoami");
    let mark = sent.last().and_then(|seen| seen.header("x-syncv3-hop")).expect("it is marked");

    let again = stage.alice.get(path).header("X-Syncv3-Hop", &mark).send().await;
    again.refused(508, "M_UNKNOWN");
    let sync = stage.alice.get("/_matrix/client/v3/sync").header("X-Syncv3-Hop", &mark);
    sync.send().await.refused(508, "M_UNKNOWN");
    assert!(stage.homeserver.seen_at(path).is_empty());
}

#[tokio::test]
async fn a1_no_sync_reaches_the_homeserver_in_disguise() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, "!room:scripted", "s1", &["hello"]));
    let authorization = format!("Bearer {}", alice.access_token);

    for target in [
        "/_matrix/client/unstable/sync",
        "/_matrix/client/v3//sync",
        "/_matrix/client/v3/sync/",
        "/_matrix/client/v3/%73ync",
        "/_matrix//client/v3/sync",
        "/_matrix/client/r0/../v3/sync",
    ] {
        let reply = raw_request(proxy, "GET", target, &[("Authorization", &authorization)]).await;
        assert!(
            !reply.contains("\"next_batch\":\"s1\""),
            "{target} went around the proxy: {reply}"
        );
    }
    let disguised: Vec<String> = targets(homeserver)
        .into_iter()
        .filter(|target| target.to_lowercase().contains("/sync") || target.contains("%73ync"))
        .filter(|target| !target.starts_with("/_matrix/client/v3/sync?"))
        .collect();
    assert_eq!(disguised, [""; 0]);
}
