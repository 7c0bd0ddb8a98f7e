//! Every kind of bad v3 request gets its error, and changes nothing: neither parameters nor acknowledgements.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::shared_postgres;
use tests::matchers::numbers;
use tests::paths;
use tests::postgres::Database;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Fault, ScriptedHomeserver, first_sync, with_to_device};
use tests::session::Session;

/// The room that the user is in.
pub(crate) const ROOM: &str = "!room:scripted";

/// Bodies that are not JSON at all.
const NOT_JSON: [&[u8]; 6] = [
    b"{",
    b"hello",
    b"{\"typing\":}",
    b"{} {}",
    b"{'typing': null}",
    b"{\"typing\": \"\xff\xfe\"}",
];

/// Bodies that are JSON of the wrong shape, and what the error must name: the stream and the field.
fn wrong_shapes() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!([]), &[]),
        (json!("typing"), &[]),
        (json!(7), &[]),
        (json!({"typing": []}), &["typing"]),
        (json!({"typing": "!a:b"}), &["typing"]),
        (json!({"typing": {"room_id": 5}}), &["typing", "room_id"]),
        (json!({"to_device": 3}), &["to_device"]),
        (json!({"to_device": {"limit": "ten"}}), &["to_device", "limit"]),
        (json!({"to_device": {"limit": 1.5}}), &["to_device", "limit"]),
        (json!({"room_members": []}), &["room_members"]),
        (json!({"room_members": {"room_id": {}}}), &["room_members", "room_id"]),
        (json!({"room_members": {"room_id": ROOM, "p": []}}), &["room_members", "p"]),
        (
            json!({"room_members": {"room_id": ROOM, "p": {"limit": "x"}}}),
            &["room_members", "limit"],
        ),
        (json!({"room_members": {"room_id": ROOM, "p": {"sort": 1}}}), &["room_members", "sort"]),
        (json!({"room_members": {"room_id": ROOM, "p": {"since": 1}}}), &["room_members", "since"]),
        (
            json!({"room_members": {"room_id": ROOM, "memberships": "join"}}),
            &["room_members", "memberships"],
        ),
        (
            json!({"room_members": {"room_id": ROOM, "memberships": [1]}}),
            &["room_members", "memberships"],
        ),
    ]
}

/// Values out of range, and what the error must name.
fn out_of_range() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"to_device": {"limit": -1}}), "limit"),
        (json!({"room_members": {"room_id": ROOM, "p": {"limit": -1}}}), "limit"),
        (json!({"room_members": {"room_id": ROOM, "p": {"since": "nobody_minted_this"}}}), "since"),
        (json!({"typing": {"room_id": "not a room"}}), "room_id"),
        (json!({"typing": {"room_id": ""}}), "room_id"),
        (json!({"room_members": {"room_id": "#alias:test.local"}}), "room_id"),
    ]
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let bench = Bench::set_up().await;
    for body in NOT_JSON {
        let reply =
            bench.session.client.v3_sync_bytes(body).since(bench.session.next()).send().await;
        reply.refused(400, "M_NOT_JSON");
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn json_of_the_wrong_shape_is_refused_by_stream_and_field() {
    let bench = Bench::set_up().await;
    for (body, names) in wrong_shapes() {
        let error = bench.session.request(&body).send().await.refused(400, "M_BAD_JSON");
        for name in names {
            assert!(
                error["error"].as_str().unwrap().contains(name),
                "the error for {body} does not name `{name}`: {error}"
            );
        }
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn a_value_out_of_range_is_refused_by_name() {
    let bench = Bench::set_up().await;
    for (body, name) in out_of_range() {
        let error = bench.session.request(&body).send().await.refused(400, "M_INVALID_PARAM");
        assert!(
            error["error"].as_str().unwrap().contains(name),
            "the error for {body} does not name `{name}`: {error}"
        );
    }
    for timeout in ["abc", "-1", "1.5", ""] {
        let reply = bench.session.request(&json!({})).query("timeout", timeout).send().await;
        let error = reply.refused(400, "M_INVALID_PARAM");
        assert!(error["error"].as_str().unwrap().contains("timeout"), "{error}");
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn one_bad_stream_refuses_the_whole_request() {
    let bench = Bench::set_up().await;

    let half_good = json!({"to_device": {"limit": 50}, "typing": {"room_id": 5}});
    bench.session.request(&half_good).send().await.refused(400, "M_BAD_JSON");

    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn a_room_the_user_is_not_in_changes_nothing_either() {
    let bench = Bench::set_up().await;

    let body = json!({"to_device": {"limit": 50}, "typing": {"room_id": "!elsewhere:scripted"}});
    bench.session.request(&body).send().await.refused(403, "M_FORBIDDEN");

    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn tokens_that_were_never_given_out_are_unknown_sessions() {
    let bench = Bench::set_up().await;
    let genuine = bench.session.next().to_owned();
    let shortened = &genuine[..genuine.len() - 1];
    let mut altered = genuine.clone();
    let last = altered.pop().unwrap();
    altered.push(if last == 'A' { 'B' } else { 'A' });
    let v2_token =
        bench.session.client.v2().next().await["next_batch"].as_str().unwrap().to_owned();

    for since in ["1", "garbage", "s72594_4483_1934", shortened, &altered, &v2_token] {
        let reply = bench.session.client.v3_sync(&json!({})).since(since).send().await;
        let error = reply.refused(400, "M_UNKNOWN_SYNC_SESSION");
        assert_eq!(error["error"], "Session unknown or expired", "for since={since}");
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn without_a_good_token_in_the_header_nobody_is_let_in() {
    let bench = Bench::set_up().await;
    let token = bench.session.client.access_token.clone();
    let request = || bench.session.request(&json!({"to_device": {"limit": 50}}));

    request().request().without_token().send().await.refused(401, "M_MISSING_TOKEN");
    request()
        .query("access_token", &token)
        .request()
        .without_token()
        .send()
        .await
        .refused(401, "M_MISSING_TOKEN");
    let basic = request().request().without_token().header("Authorization", "Basic dXNlcjpwYXNz");
    basic.send().await.refused(401, "M_MISSING_TOKEN");
    request().request().token("nobody_gave_me_this").send().await.refused(401, "M_UNKNOWN_TOKEN");

    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let bench = Bench::set_up().await;
    let huge = json!({"to_device": {"limit": 50}, "padding": "x".repeat(2 * 1024 * 1024)});

    bench.session.request(&huge).send().await.refused(413, "M_TOO_LARGE");

    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn what_a_newer_client_might_send_is_accepted() {
    let bench = Bench::set_up().await;

    bench.session.lose(json!({"a_stream_of_the_future": {"limit": "soon"}})).await;
    let empty_body =
        bench.session.client.v3_sync_bytes(b"").since(bench.session.next()).send().await;
    assert!(empty_body.ok()["next"].is_string(), "an empty body is an empty object");
}

#[tokio::test]
async fn a_limit_that_is_too_high_is_lowered_and_said_so() {
    let bench = Bench::set_up().await;

    let reply = bench.session.lose(json!({"to_device": {"limit": 50_000}})).await;

    assert_eq!(reply["to_device"]["limit"], 1_000);
}

#[tokio::test]
async fn errors_come_with_what_browsers_need() {
    let bench = Bench::set_up().await;

    let reply = bench.session.client.v3_sync_bytes(b"{").send().await.expect_status(400);

    assert_eq!(reply.header_values("access-control-allow-origin"), ["*"]);
    assert_eq!(reply.header_values("content-type"), ["application/json"]);
}

#[tokio::test]
async fn c10_an_upstream_out_of_reach_is_an_error_until_there_is_something_stored() {
    let postgres = shared_postgres().await;
    let nobody_listens = format!("http://127.0.0.1:{}", paths::free_port());
    let proxy = Proxy::start(&nobody_listens, &postgres.database().await).await;
    let stranger = Client::with_token(&proxy.url(), "@alice:scripted", "PHONE", "token");
    for reply in [stranger.v3_sync(&json!({})).send().await, stranger.sync().send().await] {
        assert!(
            matches!(reply.status, 502 | 504),
            "it answered {}: {}",
            reply.status,
            reply.body_text()
        );
        assert_eq!(reply.json["errcode"], "M_UNKNOWN");
    }

    let bench = Bench::set_up().await;
    bench.homeserver.next_syncs_fail(
        1_000,
        &Fault::Status(502, json!({"errcode": "M_UNKNOWN", "error": "down"})),
    );
    let reply = bench.session.lose(json!({})).await;
    assert_eq!(numbers(&reply["to_device"]), [1], "what is stored is served");
    bench.session.client.v3().ask(json!({"to_device": {}})).await;
}

/// A session with a limit of one and three messages waiting, of which it has been told one and acknowledged none.
pub(crate) struct Bench {
    pub(crate) homeserver: ScriptedHomeserver,
    proxy: Proxy,
    pub(crate) session: Session,
}

impl Bench {
    /// Alice has had the first message, and the session stands behind it.
    pub(crate) async fn set_up() -> Self {
        let postgres = shared_postgres().await;
        let homeserver = ScriptedHomeserver::start().await;
        let proxy = Proxy::start(&homeserver.url(), &postgres.database().await).await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        let first = first_sync(&alice.user_id, ROOM, "s1", &["hello"]);
        homeserver.on_sync(None, &with_to_device(first, &[0, 1, 2]));
        let mut session = alice.v3();
        let reply = session.ask(json!({"to_device": {"limit": 1}})).await;
        assert_eq!(numbers(&reply["to_device"]), [0]);
        Self { homeserver, proxy, session }
    }

    /// What the proxy stores.
    pub(crate) const fn database(&self) -> &Database {
        self.proxy.database()
    }

    /// All messages are still there, and the limit is still one.
    pub(crate) async fn nothing_has_changed(&self) {
        let stored = self.proxy.database().count("SELECT COUNT(*) FROM device_inbox").await;
        assert_eq!(stored, 3, "a refused request has acknowledged something");
        let next = self.session.lose(json!({})).await;
        assert_eq!(
            numbers(&next["to_device"]),
            [1],
            "a refused request has changed the parameters"
        );
        assert_eq!(next.as_object().unwrap().len(), 2, "no stream has come to it: {next:#}");
    }
}
