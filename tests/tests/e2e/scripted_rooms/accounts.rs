//! Two accounts in one room: each is told what the homeserver told it.

use serde_json::{Value, json};
use tests::matchers::{assert_no_trace, messages};
use tests::scripted_homeserver::{first_sync, message, messages_in};

use super::{ROOM, state_event};
use crate::stage::Stage;

/// The homeserver has hidden a message from Bob, and shows him another with less in it. Alice has both as they are, and what she
/// has is in the same store.
#[tokio::test]
async fn a59_a61_what_is_hidden_from_one_is_not_taken_from_another() {
    let stage = Stage::set().await;
    let (homeserver, proxy, alice) = (&stage.homeserver, &stage.proxy, &stage.alice);
    let topic = state_event("$topic", "m.room.topic", &json!({"topic": "the secret topic"}));
    let mut hers = first_sync(&alice.user_id, ROOM, "a1", &["hello", "the hidden message", "bye"]);
    add(&mut hers, "state", topic);
    add(&mut hers, "timeline", erased("the erased text"));
    homeserver.on_sync(None, &hers);
    let reply = alice.sync().send().await.ok();
    assert_eq!(messages(&reply, ROOM), ["hello", "the hidden message", "bye", "the erased text"]);

    let bob = homeserver.device(&proxy.url(), "@bob:scripted", "TABLET");
    let mut his = first_sync(&bob.user_id, ROOM, "b1", &["hello", "bye"]);
    add(&mut his, "timeline", erased(""));
    homeserver.on_sync(None, &his);
    let mut chain = bob.v2();
    let first = chain.request().send().await.expect_status(200);
    homeserver.on_sync(Some("b1"), &messages_in(ROOM, "b2", &["later"]));
    chain.absorb(&first.json);
    chain
        .until("the message", |reply| messages(reply, ROOM).contains(&"later").then_some(()))
        .await;
    let anew = bob.sync().send().await.expect_status(200);
    let with_state =
        bob.sync().query("full_state", "true").since(first.json["next_batch"].as_str().unwrap());
    let with_state = with_state.send().await.expect_status(200);
    assert_eq!(messages(&anew.json, ROOM), ["hello", "bye", "", "later"]);
    for reply in [first, anew, with_state] {
        assert_no_trace(
            &reply.body_text(),
            &["the hidden message", "the secret topic", "the erased text"],
        );
    }

    let hers = alice.sync().send().await.ok();
    assert_eq!(messages(&hers, ROOM), ["hello", "the hidden message", "bye", "the erased text"]);
}

/// One event, of which not everybody is shown all.
fn erased(text: &str) -> Value {
    let mut event = message(text);
    event["event_id"] = json!("$of_somebody_erased");
    event
}

fn add(reply: &mut Value, list: &str, event: Value) {
    let events = &mut reply["rooms"]["join"][ROOM][list]["events"];
    events.as_array_mut().unwrap().push(event);
}
