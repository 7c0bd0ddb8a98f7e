//! The v3 stream `account_data`: account data of the account and of its rooms.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{content_of, events, of_type};
use tests::scripted_homeserver::first_sync;
use tests::session::Session;

use crate::quiet::{says_nothing, settled, waits};
use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn the_first_reply_is_all_there_is() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (tagged, left) = (alice.create_public_room().await, alice.create_public_room().await);
    alice.create_public_room().await;
    alice.set_account_data("com.example", &json!({"n": 1})).await.ok();
    alice.tag(&tagged, "m.favourite").await.ok();
    alice.set_room_account_data(&tagged, "com.example", &json!({"n": 2})).await.ok();
    alice.tag(&left, "m.favourite").await.ok();
    alice.leave(&left).await.ok();

    let reply = alice.v3().ask(json!({"account_data": {}})).await;
    let global = events(&reply["account_data"]);
    assert_eq!(content_of(&global, "com.example"), &json!({"n": 1}));
    let rules = &of_type(&global, "m.push_rules")[0]["content"]["global"];
    assert!(rules["override"].is_array(), "{reply:#}");
    let rooms = reply["account_data"]["rooms"].as_object().unwrap();
    assert_eq!(rooms.keys().collect::<Vec<_>>(), [&tagged], "that of rooms that she is in");
    assert!(of_room(&reply, &tagged, "m.tag")["tags"]["m.favourite"].is_object());
    assert_eq!(of_room(&reply, &tagged, "com.example"), &json!({"n": 2}));
}

#[tokio::test]
async fn a_waiting_session_hears_of_what_changes_and_of_nothing_else() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut session = alice.v3();
    session.ask(json!({"account_data": {}})).await;
    settled(&mut session).await;

    let waiting = waits(&session);
    bob.send(&room, "a message wakes nobody who asked for account data alone").await;
    bob.starts_typing(&room).await;
    let invited = bob.create_public_room().await;
    bob.invite(&invited, &alice.user_id).await.ok();
    alice.set_account_data("com.example", &json!({"n": 1})).await.ok();
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    let expected = json!({"events": [{"type": "com.example", "content": {"n": 1}}]});
    assert_eq!(reply["account_data"], expected);

    let waiting = waits(&session);
    bob.send(&room, "nor does this one").await;
    alice.tag(&room, "u.test").await.ok();
    let reply = waiting.await.unwrap().ok();
    assert_eq!(of_room(&reply, &room, "m.tag"), &json!({"tags": {"u.test": {"order": 0.5}}}));
    assert!(reply["account_data"]["events"].is_null(), "an empty part is left out: {reply:#}");
}

#[tokio::test]
async fn of_many_changes_the_last_is_told() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let mut session = alice.v3();
    session.ask(json!({"account_data": {}})).await;
    settled(&mut session).await;
    for n in 0..3 {
        alice.set_account_data("com.example", &json!({"n": n})).await.ok();
    }
    alice.set_account_data("com.other", &json!({})).await.ok();

    let reply = session.ask(json!({})).await;

    let expected = json!([
        {"type": "com.example", "content": {"n": 2}},
        {"type": "com.other", "content": {}},
    ]);
    assert_eq!(reply["account_data"]["events"], expected);
}

#[tokio::test]
async fn rooms_can_be_left_out_and_turned_on_and_off() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (one, two) = (alice.create_public_room().await, alice.create_public_room().await);
    alice.tag(&one, "u.one").await.ok();
    alice.tag(&two, "u.two").await.ok();
    let mut session = alice.v3();
    let reply = session.ask(json!({"account_data": {"rooms": false}})).await;
    assert!(reply["account_data"]["rooms"].is_null(), "{reply:#}");
    settled(&mut session).await;

    let waiting = waits(&session);
    alice.tag(&one, "u.more").await.ok();
    alice.set_account_data("com.example", &json!({"n": 1})).await.ok();
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    assert_eq!(events(&reply["account_data"]).len(), 1, "the first thing to say: {reply:#}");
    assert!(reply["account_data"]["rooms"].is_null(), "{reply:#}");

    let on = session.ask(json!({"account_data": {"rooms": true}})).await;
    assert!(on["account_data"]["events"].is_null(), "that is known: {on:#}");
    assert_eq!(on["account_data"]["rooms"].as_object().unwrap().len(), 2);
    assert!(of_room(&on, &one, "m.tag")["tags"]["u.more"].is_object());
    assert!(of_room(&on, &two, "m.tag")["tags"]["u.two"].is_object());
    alice.tag(&two, "u.more").await.ok();
    let changed = session.ask(json!({})).await;
    assert_eq!(changed["account_data"]["rooms"].as_object().unwrap().len(), 1);

    let off = session.ask(json!({"account_data": {"rooms": false}})).await;
    assert!(says_nothing(&off), "{off:#}");
    alice.tag(&two, "u.again").await.ok();
    let reply = session.ask(json!({})).await;
    assert!(says_nothing(&reply), "{reply:#}");
    let on = session.ask(json!({"account_data": {"rooms": true}})).await;
    assert_eq!(on["account_data"]["rooms"].as_object().unwrap().len(), 2, "all of it again");
}

/// What was set during an earlier stay is of no use to a client that has not got it.
#[tokio::test]
async fn a_room_that_is_joined_again_brings_all_of_its_account_data() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    alice.tag(&room, "u.test").await.ok();
    alice.set_room_account_data(&room, "com.example", &json!({"n": 1})).await.ok();
    alice.sync().send().await.ok();
    alice.leave(&room).await.ok();
    let mut session = alice.v3();
    let first = session.ask(json!({"account_data": {}})).await;
    assert_eq!(first["account_data"]["rooms"], json!({}));

    alice.join(&room).await.ok();

    let reply = session.ask(json!({})).await;
    assert!(of_room(&reply, &room, "m.tag")["tags"]["u.test"].is_object(), "{reply:#}");
    assert_eq!(of_room(&reply, &room, "com.example"), &json!({"n": 1}));
    settled(&mut session).await;
}

/// Nobody reads what is in it, so everything goes through as it came.
#[tokio::test]
async fn account_data_is_told_byte_for_byte() {
    const GLOBAL: &str = r#"{"type":"com.example","content":{"n":1.10,"s":"\ud800","e":1e400}}"#;
    const OF_ROOM: &str =
        r#"{"type":"com.example","content":{"big":123456789012345678901234567890}}"#;
    let stage = Stage::set().await;
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s1", &["hello"]);
    first["account_data"]["events"] = json!(["GLOBAL"]);
    first["rooms"]["join"][ROOM]["account_data"]["events"] = json!(["OF_ROOM"]);
    let text = first.to_string().replace("\"GLOBAL\"", GLOBAL).replace("\"OF_ROOM\"", OF_ROOM);
    stage.homeserver.on_sync_raw(None, text);

    let body = json!({"account_data": {}});
    let reply = stage.alice.v3_sync(&body).send().await.expect_status(200).body_text();

    let expected =
        format!(r#""account_data":{{"events":[{GLOBAL}],"rooms":{{"{ROOM}":[{OF_ROOM}]}}}}"#);
    assert!(reply.contains(&expected), "{reply}");
}

#[tokio::test]
async fn an_old_since_is_replayed_and_sessions_know_nothing_of_each_other() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let (mut one, mut other) = (alice.v3(), alice.v3());
    for session in [&mut one, &mut other] {
        session.ask(json!({"account_data": {}, "to_device": {}})).await;
        settled(session).await;
    }
    let old = one.clone();
    alice.set_account_data("com.example", &json!({"n": 1})).await.ok();
    alice.tag(&room, "u.test").await.ok();

    let reply = one.ask(json!({})).await;
    assert!(reply["account_data"]["rooms"][&room].is_array(), "{reply:#}");
    assert_eq!(old.lose(json!({})).await["account_data"], reply["account_data"]);
    assert_eq!(other.ask(json!({})).await["account_data"], reply["account_data"]);
    assert!(says_nothing(&one.ask(json!({})).await));

    one.ask(json!({"account_data": null})).await;
    let anew = one.ask(json!({"account_data": {}})).await;
    let fresh = alice.v3().ask(json!({"account_data": {}})).await;
    assert_eq!(anew["account_data"], fresh["account_data"], "as in a new session");
}

#[tokio::test]
async fn what_changes_while_the_proxy_is_away_is_told() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut session = alice.v3();
    session.ask(json!({"account_data": {"rooms": false}})).await;
    settled(&mut session).await;
    let direct = lab.past_proxy(&alice);

    lab.while_the_proxy_is_down(async {
        direct.set_account_data("com.example", &json!({"n": 1})).await.ok();
        direct.tag(&room, "u.test").await.ok();
    })
    .await;

    let reply = until_told(&mut session, "com.example").await;
    assert_eq!(content_of(&events(&reply["account_data"]), "com.example"), &json!({"n": 1}));
    assert!(reply["account_data"]["rooms"].is_null(), "the parameters are still known: {reply:#}");
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    for (wrong, names) in [
        (json!({"rooms": "yes"}), "account_data.rooms"),
        (json!({"rooms": null}), "account_data.rooms"),
        (json!({"rooms": 1}), "account_data.rooms"),
        (json!(true), "account_data"),
        (json!([]), "account_data"),
    ] {
        let reply = alice.v3_sync(&json!({"account_data": wrong})).send().await;
        let error = reply.refused(400, "M_BAD_JSON");
        assert!(error["error"].as_str().unwrap().starts_with(names), "{error}");
    }
    let reply = alice.v3().ask(json!({"account_data": {"unknown": 5}})).await;
    assert!(reply["account_data"]["events"].is_array(), "keys that nobody knows are ignored");
}

/// The content of a room's account data, `null` where the reply has none.
fn of_room<'a>(reply: &'a Value, room_id: &str, event_type: &str) -> &'a Value {
    let told: Vec<&Value> =
        reply["account_data"]["rooms"][room_id].as_array().into_iter().flatten().collect();
    content_of(&told, event_type)
}

async fn until_told(session: &mut Session, event_type: &str) -> Value {
    let told = |reply: &Value| {
        let global = events(&reply["account_data"]);
        (!of_type(&global, event_type).is_empty()).then(|| reply.clone())
    };
    session.until("the account data", told).await
}
