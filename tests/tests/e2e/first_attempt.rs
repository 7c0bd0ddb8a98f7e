//! There was a first attempt at this API, which was given up. What was wrong with it, and what its tests asked for: for
//! each, which test shows that it is right here.
//!
//! | what was wrong | here |
//! |---|---|
//! | names of fields other than documented | the tests of each stream, `typing::the_first_reply_says_who_types_now`, `room_members::by_pl_sorts_by_power_and_then_by_name` |
//! | errors without `errcode`, no `M_UNKNOWN_SYNC_SESSION` | `bad_input`, `sessions::a_session_that_was_not_used_for_long_is_unknown` |
//! | the limit in force not told | `room_members::limits_and_sorts_are_negotiated`, `to_device::a_limit_makes_pages_that_follow_at_once` |
//! | `null` for lists | [`no_reply_has_a_null`] |
//! | members and typing of rooms that the user is not in | `access` |
//! | positions of streams that were not asked for moved on | [`a_stream_that_was_not_asked_for_has_not_moved`], `to_device::a_session_that_does_not_ask_for_to_device_still_holds_the_messages` |
//! | no way to drop a stream; values overwritten by defaults; a page that stuck | `typing::null_drops_the_stream_and_asking_again_starts_it_afresh`, `sessions::parameters_stick_key_by_key`, `room_members::a_page_moves_the_stream_neither_forwards_nor_back` |
//! | acknowledgements that moved backwards | `to_device::an_acknowledgement_never_moves_backwards` |
//! | sessions that lived for ever, and their messages with them | `sessions::housekeeping_lets_go_what_expired_sessions_held`, `sessions::of_more_sessions_than_a_device_may_have_the_least_recently_used_goes`, `upkeep` |
//! | positions lost in a restart | `sessions::after_a_restart_every_token_stands_where_it_stood` |
//! | a first poll that was refused left the request hanging | [`a_first_poll_that_is_refused_ends_the_request`] |
//! | pauses between polls that grew without end | `poller::faults::c10_whatever_goes_wrong_the_same_position_is_asked_for_again`, the unit tests of `poller::backoff` |
//! | a new access token was a new device | `sessions::b2_a_new_login_of_the_same_device_keeps_its_sessions`, `token_life` |
//! | no polls after a restart until a client came | `poller::positions::after_a_restart_polling_goes_on_from_the_stored_position_without_any_client` |
//! | state in a gap was ignored | [`state_in_a_gap_counts`] |
//! | a copy of the state for every event | the store keeps what each change replaced: the store's tests `state` |
//! | who types kept by room and not by account | [`who_types_is_as_each_account_was_told`] |
//! | everybody was woken by everything | `typing::a_change_elsewhere_does_not_end_the_wait` |
//! | invites, account data, presence, receipts, device lists and key counts were dropped | the tests of the streams that tell them, and `v2_sync` |
//! | members of every membership | `room_members::the_memberships_can_be_chosen` |
//! | orders of rooms that were not known or got lost | the tests of `room_list` |
//! | polls without escaping, filter or presence | `poller::positions::polling_keeps_the_users_presence_and_timeline_in_order`, [`a_position_with_odd_characters_is_asked_for_as_it_is`] |
//! | the user's rooms computed from the beginning for each request | the store's tests `plans` |
//! | pages that moved with the room | `room_members::the_pages_stay_those_of_the_first_reply_while_members_join_rename_and_leave` |
//!
//! | what its tests asked for | here |
//! |---|---|
//! | a new user's first request makes a session and starts to poll | every test; a first reply says `[]` at once where nobody types: `typing::the_first_reply_says_who_types_now` |
//! | `{}` keeps the parameters; a waiting request is woken | `typing::a_waiting_session_hears_of_every_change` |
//! | to-device messages as they came, oldest first, at most `limit`, the rest next | `to_device::the_same_since_brings_the_same_messages_byte_for_byte`, [`many_messages_come_in_order_and_once`] |
//! | the same `since` brings the same messages | `to_device::the_same_since_brings_the_same_messages_byte_for_byte` |
//! | an old `since` after the acknowledgement brings none | [`an_old_since_brings_nothing_that_everybody_has`]; the stream is left out, and not empty |
//! | two sessions get everything, whoever acknowledges first | `to_device::two_sessions_and_a_v2_client_each_get_everything_and_the_last_to_acknowledge_empties_the_inbox` |
//! | the orders of members, and their pages, which stay as they were | `room_members` |
//! | changes of members in order of arrival, at most `limit`, the rest next | `room_members::without_a_page_later_replies_are_deltas_in_order_of_arrival`, [`more_changes_of_members_than_the_limit_follow_at_once`] |
//! | changed parameters; here `{}` keeps a stream, and `null` drops it | the unit tests of `v3::params` |
//! | tokens of others are refused | `bad_input::tokens_that_were_never_given_out_are_unknown_sessions` |

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::scripted_homeserver::{Fault, first_sync, messages_in, nothing_new, with_to_device};
use tests::wait::eventually;

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn no_reply_has_a_null() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    for body in [
        json!({
            "typing": {"room_id": room}, "to_device": {"limit": 5_000},
            "room_members": {"room_id": room, "memberships": ["ban"]},
        }),
        json!({"room_members": {"p": {"limit": 5_000}}}),
        json!({}),
    ] {
        let reply = session.ask(body).await;
        assert!(!has_null(&reply), "{reply:#}");
    }
    let nothing =
        alice.v3().ask(json!({"room_members": {"room_id": room, "memberships": []}})).await;
    assert_eq!(nothing["room_members"]["events"], json!([]));
    assert_eq!(nothing["room_members"]["count"], 0);
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_has_not_moved() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut session = alice.v3();
    session.ask(json!({"typing": {"room_id": room}})).await;
    bob.starts_typing(&room).await;
    session.until("Bob to type", |reply| reply["typing"].is_object().then_some(())).await;
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    eventually("the message", async || {
        let reply = session.lose(json!({"to_device": {}})).await;
        (numbers(&reply["to_device"]) == [1]).then_some(())
    })
    .await;
    for _ in 0..3 {
        session.ask(json!({})).await;
    }

    let reply = session.ask(json!({"to_device": {}, "room_members": {"room_id": room}})).await;

    assert_eq!(numbers(&reply["to_device"]), [1]);
    assert_eq!(events(&reply["room_members"]).len(), 2, "its first page: {reply:#}");
    assert!(reply["typing"].is_null(), "and the other goes on: {reply:#}");
}

#[tokio::test]
async fn a_first_poll_that_is_refused_ends_the_request() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let words = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "over", "soft_logout": true});
    // Whoever asks whose token it is is answered; whoever polls with it is not.
    homeserver.next_syncs_fail(1_000, &Fault::Status(401, words.clone()));
    let request = alice.v3_sync(&json!({"to_device": {}})).timeout(30_000).send();
    let waiting = tokio::spawn(request);
    eventually("the first poll", async || (!homeserver.polled().is_empty()).then_some(())).await;
    homeserver.revoke(alice, words.clone());

    let reply = waiting.await.unwrap();
    assert_eq!(reply.expect_status(401).json, words);
}

/// Synapse's own tokens have no such characters; others' may.
#[tokio::test]
async fn a_position_with_odd_characters_is_asked_for_as_it_is() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let odd = "s1&since=s0+%2B ä#?/~";
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, odd, &["one"]));
    homeserver.on_sync(Some(odd), &with_to_device(nothing_new("s2"), &[1]));
    let mut session = alice.v3();
    session.ask(json!({})).await;
    let reply = session.ask(json!({"to_device": {}})).await;
    if reply["to_device"].is_null() {
        session.until("the message", |reply| reply["to_device"].is_object().then_some(())).await;
    }
    let polls = homeserver.seen_at("/sync");
    assert!(polls.iter().all(|poll| poll.parameter("set_presence").as_deref() == Some("offline")));
}

#[tokio::test]
async fn state_in_a_gap_counts() {
    let stage = Stage::set().await;
    let mut session = two_members(&stage).await;
    let mut gap = messages_in(ROOM, "s2", &["after the gap"]);
    let room = &mut gap["rooms"]["join"][ROOM];
    room["timeline"]["limited"] = json!(true);
    room["state"]["events"] = json!([
        member("$bob-left", "@bob:scripted", "leave"),
        member("$carol-came", "@carol:scripted", "join"),
    ]);
    stage.homeserver.on_sync(Some("s1"), &gap);

    let mut told = Vec::new();
    let count = session
        .until("both changes", |reply| {
            told.extend(who(reply));
            (told.len() == 2).then(|| reply["room_members"]["count"].clone())
        })
        .await;
    told.sort();
    assert_eq!(told, [("@bob:scripted", "leave"), ("@carol:scripted", "join")].map(owned));
    assert_eq!(count, 2);
    let anew = stage.alice.v3().ask(json!({"room_members": {"room_id": ROOM}})).await;
    let mut members = who(&anew);
    members.sort();
    assert_eq!(members, [("@alice:scripted", "join"), ("@carol:scripted", "join")].map(owned));
}

#[tokio::test]
async fn more_changes_of_members_than_the_limit_follow_at_once() {
    let stage = Stage::set().await;
    let mut session = two_members(&stage).await;
    session.ask(json!({"room_members": {"p": {"limit": 2}}})).await;
    let mut poll = messages_in(ROOM, "s2", &[]);
    poll["rooms"]["join"][ROOM]["timeline"]["events"] = ["carol", "dora", "emil"]
        .map(|name| member(&format!("${name}"), &format!("@{name}:scripted"), "join"))
        .into();
    stage.homeserver.on_sync(Some("s1"), &poll);
    let before = session.clone();

    let (mut told, mut counts) = (Vec::new(), Vec::new());
    session
        .until("all three", |reply| {
            let (members, count) = (who(reply), &reply["room_members"]["count"]);
            if !members.is_empty() {
                assert!(reply["room_members"]["p"]["next"].is_null(), "changes have no pages");
                counts.push((members.len(), count.as_u64().unwrap()));
            }
            told.extend(members);
            (told.len() == 3).then_some(())
        })
        .await;
    let expected =
        ["carol", "dora", "emil"].map(|name| (format!("@{name}:scripted"), "join".to_owned()));
    assert_eq!(told, expected, "in order of arrival");
    assert_eq!(counts, [(2, 4), (1, 5)], "the list as it is after these changes");
    let reply = session.ask(json!({})).await;
    assert!(reply["room_members"].is_null(), "{reply:#}");

    // Both tokens say the same again.
    let mut again = before.clone();
    assert_eq!(who(&again.ask(json!({})).await), expected[..2]);
    assert_eq!(who(&again.ask(json!({})).await), expected[2..]);
}

#[tokio::test]
async fn who_types_is_as_each_account_was_told() {
    let stage = Stage::set().await;
    let homeserver = &stage.homeserver;
    let bob = homeserver.device(&stage.proxy.url(), "@bob:scripted", "PHONE");
    let typing = |next_batch: &str, user_ids: Value| {
        let mut reply = messages_in(ROOM, next_batch, &[]);
        reply["rooms"]["join"][ROOM]["ephemeral"]["events"] =
            json!([{"type": "m.typing", "content": {"user_ids": user_ids}}]);
        reply
    };
    // The two accounts are at different places of the homeserver's stream.
    homeserver.on_sync(None, &first_sync("@alice:scripted", ROOM, "alice 1", &["hello"]));
    let mut alices = stage.alice.v3();
    assert_eq!(typists(&alices.ask(json!({"typing": {"room_id": ROOM}})).await), Some(vec![]));
    homeserver.on_sync(None, &first_sync("@bob:scripted", ROOM, "bob 1", &["hello"]));
    let mut bobs = bob.v3();
    assert_eq!(typists(&bobs.ask(json!({"typing": {"room_id": ROOM}})).await), Some(vec![]));

    homeserver.on_sync(Some("alice 1"), &typing("alice 2", json!(["@carol:scripted"])));
    let carol = Some(vec!["@carol:scripted".to_owned()]);
    let told = alices.until("Carol to type", |reply| typists(reply).map(Some)).await;
    assert_eq!(told, carol);
    let reply = bobs.ask(json!({})).await;
    assert_eq!(typists(&reply), None, "Bob has not been told of it yet: {reply:#}");
    assert_eq!(typists(&bob.v3().ask(json!({"typing": {"room_id": ROOM}})).await), Some(vec![]));

    homeserver.on_sync(Some("alice 2"), &typing("alice 3", json!([])));
    let told = alices.until("nobody to type", |reply| typists(reply).map(Some)).await;
    assert_eq!(told, Some(vec![]));
    homeserver.on_sync(Some("bob 1"), &typing("bob 2", json!(["@carol:scripted"])));
    let told = bobs.until("Carol to type", |reply| typists(reply).map(Some)).await;
    assert_eq!(told, carol);
    let reply = alices.ask(json!({})).await;
    assert_eq!(typists(&reply), None, "for Alice that is over: {reply:#}");
}

#[tokio::test]
async fn many_messages_come_in_order_and_once() {
    let stage = Stage::set().await;
    let all: Vec<u64> = (0..300).collect();
    let first = first_sync(&stage.alice.user_id, ROOM, "s1", &["one"]);
    stage.homeserver.on_sync(None, &with_to_device(first, &all));
    let mut session = stage.alice.v3();

    let mut told = Vec::new();
    let mut reply = session.ask(json!({"to_device": {"limit": 20}})).await;
    while !reply["to_device"].is_null() {
        let page = numbers(&reply["to_device"]);
        assert_eq!(page.len(), 20);
        told.extend(page);
        reply = session.ask(json!({})).await;
    }
    assert_eq!(told, all);
}

#[tokio::test]
async fn an_old_since_brings_nothing_that_everybody_has() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let old = session.clone();
    bob.send_to_device(&alice, "m.test", json!({"n": 1})).await.ok();
    session.until("the message", |reply| reply["to_device"].is_object().then_some(())).await;
    assert_eq!(numbers(&old.lose(json!({})).await["to_device"]), [1], "not acknowledged yet");
    session.ask(json!({})).await;

    let reply = old.lose(json!({})).await;

    assert!(reply["to_device"].is_null(), "{reply:#}");
}

/// A session that has been told of Alice and Bob, and that the homeserver is asked for more at `s1`.
async fn two_members(stage: &Stage) -> tests::session::Session {
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s1", &["one"]);
    let state = first["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap();
    state.push(member("$bob-came", "@bob:scripted", "join"));
    stage.homeserver.on_sync(None, &first);
    let mut session = stage.alice.v3();
    let reply = session.ask(json!({"room_members": {"room_id": ROOM}})).await;
    assert_eq!(reply["room_members"]["count"], 2, "{reply:#}");
    session
}

/// A member event.
fn member(event_id: &str, user_id: &str, membership: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": user_id, "sender": user_id, "event_id": event_id,
        "origin_server_ts": 1_700_000_000_000_u64, "content": {"membership": membership}, "unsigned": {},
    })
}

/// User ID and membership of each member event.
fn who(reply: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events(&reply["room_members"])
        .iter()
        .map(|event| (text(&event["state_key"]), text(&event["content"]["membership"])))
        .collect()
}

fn owned((user_id, membership): (&str, &str)) -> (String, String) {
    (user_id.to_owned(), membership.to_owned())
}

/// Who types, if the reply says anything about it.
fn typists(reply: &Value) -> Option<Vec<String>> {
    let event = *events(&reply["typing"]).first()?;
    let user_ids = event["content"]["user_ids"].as_array().unwrap();
    Some(user_ids.iter().map(|user_id| user_id.as_str().unwrap().to_owned()).collect())
}
