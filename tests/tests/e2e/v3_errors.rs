//! The error table of `docs/v3-api.md`, row by row.
//!
//! | row | test |
//! |---|---|
//! | no access token | `bad_input::without_a_good_token_in_the_header_nobody_is_let_in`, with `?access_token=` |
//! | a token that the homeserver does not know | there too; with `soft_logout`: `the_homeservers_401_comes_in_its_own_words` |
//! | `since` never minted, or altered | `bad_input::tokens_that_were_never_given_out_are_unknown_sessions` |
//! | `since` of another user or device | `sessions::a_since_is_good_for_its_own_device_only` |
//! | the session has expired | `sessions::a_session_that_was_not_used_for_long_is_unknown` |
//! | the body is not JSON | `bad_input::a_body_that_is_not_json_is_refused` |
//! | JSON of the wrong shape | `each_parameter_of_the_wrong_type_is_refused_by_name` and the two after it |
//! | a value that cannot be | `each_parameter_out_of_range_is_refused_by_name`; `timeout`: `bad_input::a_value_out_of_range_is_refused_by_name` |
//! | a room that the user is not in | `access`; among others: `one_foreign_room_is_enough_to_be_refused` |
//! | the body is too large | `bad_input::a_body_that_is_too_large_is_refused` |
//! | the session's parameters would take too much | `parameters_that_take_too_much_are_refused_and_change_nothing` |
//! | the homeserver is away, nothing stored | `bad_input::c10_an_upstream_out_of_reach_is_an_error_until_there_is_something_stored` |
//! | the homeserver is away, members asked for | `members_that_cannot_be_fetched_are_a_502_and_change_nothing` |
//! | 504 instead of 502 | only as a unit of `proxy::error`: the proxy gives the homeserver a minute |
//! | the database is away | `restart::a8_with_the_database_away_the_error_has_its_form` |
//!
//! What a parameter may be is read from `docs/openapi.json`: a parameter that is described is tested here.

mod parameters;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::scripted_homeserver::{Canned, first_sync};
use tests::wait::eventually;

use self::parameters::{Parameter, parameters, streams, type_of, types};
use crate::bad_input::{Bench, ROOM};
use crate::stage::Stage;

/// Where the user is not, whether or not there is such a room.
const ELSEWHERE: &str = "!elsewhere:scripted";

#[tokio::test]
async fn each_parameter_of_the_wrong_type_is_refused_by_name() {
    let bench = Bench::set_up().await;
    let samples =
        [json!(null), json!(true), json!(5), json!(1.5), json!("x"), json!([]), json!({})];
    let mut refused = 0;
    for parameter in parameters() {
        let good = parameter.types();
        for wrong in samples.iter().filter(|sample| !good.contains(type_of(sample))) {
            bench.refuses(&parameter, wrong, "M_BAD_JSON").await;
            refused += 1;
        }
        let Some(entries) = parameter.entries() else { continue };
        for wrong in samples.iter().filter(|sample| !types(&entries).contains(type_of(sample))) {
            bench.refuses(&parameter, &json!([wrong]), "M_BAD_JSON").await;
            refused += 1;
        }
    }
    assert!(refused > 150, "only {refused} wrong types: the table itself is broken");
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn a_stream_that_is_no_object_is_refused_by_name() {
    let bench = Bench::set_up().await;
    for stream in streams() {
        for wrong in [json!(true), json!(5), json!("x"), json!([])] {
            let reply = bench.session.request(&json!({&stream: wrong})).send().await;
            names(&reply.refused(400, "M_BAD_JSON"), &stream);
        }
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn a_stream_without_its_room_and_a_pair_that_is_none_are_of_the_wrong_shape() {
    let bench = Bench::set_up().await;
    for parameter in parameters().iter().filter(|parameter| parameter.path == ["room_id"]) {
        let reply = bench.session.request(&json!({&parameter.stream: {}})).send().await;
        names(&reply.refused(400, "M_BAD_JSON"), &parameter.name());
    }
    for wrong in [json!([[]]), json!([["m.room.topic"]]), json!([["a", "b", "c"]]), json!([[1, 2]])]
    {
        let body = json!({"room_list": {"state_events": wrong}});
        let reply = bench.session.request(&body).send().await;
        names(&reply.refused(400, "M_BAD_JSON"), "room_list.state_events");
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn each_parameter_out_of_range_is_refused_by_name() {
    let bench = Bench::set_up().await;
    let mut refused = BTreeSet::new();
    for parameter in parameters() {
        for wrong in parameter.values_out_of_range() {
            bench.refuses(&parameter, &wrong, "M_INVALID_PARAM").await;
            refused.insert(parameter.name());
        }
    }
    assert!(refused.len() >= 17, "the table itself is broken, it has only {refused:?}");
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn what_needs_another_parameter_is_refused_without_it() {
    let bench = Bench::set_up().await;
    for stream in ["room", "receipts"] {
        for list in [json!({}), json!({"room_list": null})] {
            let mut body = list;
            body[stream] = json!({"room_id": "room_list"});
            let reply = bench.session.request(&body).send().await;
            names(&reply.refused(400, "M_INVALID_PARAM"), &format!("{stream}.room_id"));
        }
    }
    let body = json!({"room_list": {"p": {"sort": ["by_name", "by_space_order"]}}});
    let reply = bench.session.request(&body).send().await;
    names(&reply.refused(400, "M_INVALID_PARAM"), "room_list.p.sort");
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn one_foreign_room_is_enough_to_be_refused() {
    let bench = Bench::set_up().await;
    for body in [
        json!({"typing": {"room_id": ELSEWHERE}}),
        json!({"room_members": {"room_id": ELSEWHERE}}),
        json!({"room": {"room_id": ELSEWHERE}}),
        json!({"room": {"room_id": [ROOM, ELSEWHERE]}}),
        json!({"receipts": {"room_id": ELSEWHERE}}),
        json!({"receipts": {"room_id": [ROOM, ELSEWHERE]}}),
        json!({"room_list": {"spaces": [ELSEWHERE]}}),
        json!({"room_list": {}, "typing": {"room_id": ELSEWHERE}}),
    ] {
        let mut body = body;
        body["to_device"] = json!({"limit": 50});
        let reply = bench.session.request(&body).send().await;
        names(&reply.refused(403, "M_FORBIDDEN"), ELSEWHERE);
    }
    bench.nothing_has_changed().await;
}

#[tokio::test]
async fn what_the_description_allows_is_taken() {
    let bench = Bench::set_up().await;
    for parameter in parameters() {
        for good in parameter.good_values() {
            let body = parameter.body(&good);
            let reply = bench.session.client.v3_sync(&body).send().await;
            assert_eq!(reply.status, 200, "{body}: {}", reply.body_text());
        }
    }
}

#[tokio::test]
async fn parameters_that_take_too_much_are_refused_and_change_nothing() {
    let bench = Bench::set_up().await;
    let of_size = |bytes: usize| json!({"to_device": {"limit": 50}, "room_list": {"state_events": [["x".repeat(bytes), ""]]}});
    let reply = bench.session.request(&of_size(300_000)).send().await;
    names(&reply.refused(413, "M_TOO_LARGE"), "262144 bytes");
    let body = of_size(300_000);
    let reply = bench.session.client.v3_sync(&body).send().await;
    names(&reply.refused(413, "M_TOO_LARGE"), "262144 bytes");
    bench.nothing_has_changed().await;
}

/// However a client changes its parameters, its session takes no more than a MiB.
#[tokio::test]
async fn a_session_never_takes_much() {
    let bench = Bench::set_up().await;
    let mut session = bench.session.clone();
    let mut before = session.clone();
    for n in 0..8 {
        let padding = "x".repeat(200_000 + n);
        before = session.clone();
        session.ask(json!({"room_list": {"state_events": [[padding, ""]]}})).await;
    }
    let sizes = "SELECT SUM(OCTET_LENGTH(params))::BIGINT FROM session_params";
    let kept = bench.database().count(sizes).await;
    assert!((400_000..=512 * 1024).contains(&kept), "{kept}");
    session.ask(json!({})).await;
    before.lose(json!({})).await;
    bench.session.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
}

#[tokio::test]
async fn the_homeservers_401_comes_in_its_own_words() {
    for soft_logout in [true, false] {
        let mut bench = Bench::set_up().await;
        let client = &bench.session.client;
        let words = json!({
            "errcode": "M_UNKNOWN_TOKEN", "error": "time for a refresh", "soft_logout": soft_logout, "more": [1],
        });
        bench.homeserver.revoke(client, words.clone());

        let reply = eventually("the token to be refused", async || {
            let body = json!({"to_device": {"limit": 50}});
            // Asked without a since, a request that is still let in changes nothing of this session.
            let reply = client.v3_sync(&body).send().await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert_eq!(reply.refused(401, "M_UNKNOWN_TOKEN"), words);
        let refused = bench.session.request(&json!({"to_device": {"limit": 50}})).send().await;
        refused.refused(401, "M_UNKNOWN_TOKEN");

        // The refusal is remembered for a minute: the device goes on with another token.
        bench.session.client = client.renewed();
        bench.homeserver.allow(&bench.session.client);
        bench.nothing_has_changed().await;
    }
}

#[tokio::test]
async fn members_that_cannot_be_fetched_are_a_502_and_change_nothing() {
    let Stage { homeserver, alice, proxy: _proxy } = Stage::set().await;
    // Lazy loading has shown one member of two.
    let mut first = first_sync(&alice.user_id, ROOM, "s1", &["hello"]);
    first["rooms"]["join"][ROOM]["summary"] = json!({"m.joined_member_count": 2});
    homeserver.on_sync(None, &first);
    let members = format!("/_matrix/client/v3/rooms/{}/members", tests::client::encode(ROOM));
    for down in [Canned::bytes(502, "<html>down</html>"), Canned::bytes(503, "{}")] {
        homeserver.on_path(&members, down);
        let mut session = alice.v3();
        session.ask(json!({"to_device": {"limit": 1}})).await;

        let body = json!({"to_device": {"limit": 2}, "room_members": {"room_id": ROOM}});
        session.request(&body).send().await.refused(502, "M_UNKNOWN");

        let reply = session.lose(json!({})).await;
        assert_eq!(reply, json!({"next": session.next()}), "the session asks for nothing more");
    }
}

#[tokio::test]
async fn a_browser_may_send_what_the_endpoint_takes() {
    let Stage { alice, homeserver, proxy: _proxy } = Stage::set().await;
    let preflight = alice
        .request(reqwest::Method::OPTIONS, "/_matrix/client/v3/sync?since=x&timeout=0")
        .without_token()
        .header("Origin", "https://app.example.org")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type")
        .send()
        .await;

    assert!(matches!(preflight.status, 200 | 204), "it answered {}", preflight.status);
    assert_eq!(preflight.header_values("access-control-allow-origin"), ["*"]);
    let methods = preflight.header_values("access-control-allow-methods").join(", ");
    assert!(methods.contains("POST"), "{methods}");
    let headers = preflight.header_values("access-control-allow-headers").join(", ").to_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
    assert!(homeserver.seen().iter().all(|seen| seen.method != "OPTIONS"), "it is ours to answer");
}

/// Checks that the error's text names what is wrong.
#[track_caller]
fn names(error: &Value, name: &str) {
    let text = error["error"].as_str().unwrap();
    assert!(text.contains(name), "the error does not name `{name}`: {text}");
}

impl Bench {
    /// Sends one value of a parameter, beside a change that would show if it were kept.
    async fn refuses(&self, parameter: &Parameter, value: &Value, errcode: &str) {
        let mut body = parameter.body(value);
        if parameter.stream != "to_device" {
            body["to_device"] = json!({"limit": 50});
        }
        let reply = self.session.request(&body).send().await;
        assert_eq!(reply.status, 400, "{body} was answered {}", reply.body_text());
        names(&reply.refused(400, errcode), &parameter.name());
    }
}
