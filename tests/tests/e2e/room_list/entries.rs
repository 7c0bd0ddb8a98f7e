//! What an entry tells of a room.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::bodies;
use tests::wait::eventually;

use super::{begun, entry, named_room, texts};

#[tokio::test]
async fn a_room_comes_whole() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = named_room(&alice, "The room").await;
    alice.set_state(&room, "m.room.avatar", "", json!({"url": "mxc://a/b"})).await.ok();
    bob.join(&room).await.ok();
    alice.tag(&room, "m.favourite").await.ok();
    bob.send(&room, "before").await;
    let last = bob.send(&room, "last").await;
    let ask = json!({"room_list": {"state_events": [
        ["m.room.avatar", ""], ["m.room.create", "*"], ["m.room.topic", ""],
    ]}});

    let reply = eventually("all of it", async || {
        let reply = alice.v3().ask(ask.clone()).await;
        let entry = entry(&reply, &room);
        let all = texts(entry) == ["last"] && entry["tags"]["m.favourite"].is_object();
        (all && entry["joined_count"] == 2).then_some(reply)
    })
    .await;

    let entry = entry(&reply, &room);
    assert_eq!(entry["initial"], true);
    assert_eq!((&entry["name"], &entry["avatar_url"]), (&json!("The room"), &json!("mxc://a/b")));
    assert_eq!((&entry["joined_count"], &entry["invited_count"]), (&json!(2), &json!(0)));
    assert_eq!((&entry["notification_count"], &entry["highlight_count"]), (&json!(2), &json!(0)));
    assert_eq!(entry["is_dm"], false);
    assert!(entry["heroes"].is_null() && entry["limited"].is_null(), "{entry:#}");
    let event = &entry["timeline"][0];
    assert_eq!(event["event_id"], last.as_str());
    assert!(event["room_id"].is_null(), "the room is named around it: {event:#}");
    assert_eq!(entry["timestamp"], event["origin_server_ts"]);
    let state: Vec<(&str, &str)> = entry["state_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["state_key"].as_str().unwrap()))
        .collect();
    let asked =
        [("m.room.avatar", ""), ("m.room.create", ""), ("m.room.member", bob.user_id.as_str())];
    assert_eq!(state, asked, "what was asked for and is there, and who speaks");

    let from = entry["prev_batch"].as_str().unwrap();
    let older = alice.messages_before(&room, from, 1).send().await.ok();
    assert_eq!(bodies(&[&older["chunk"][0]]), ["before"], "the page before the timeline");
}

#[tokio::test]
async fn a_room_without_a_name_is_called_after_its_heroes() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    bob.set_displayname("Bob the Hero").await.ok();
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();

    let heroes = json!([{
        "user_id": bob.user_id, "displayname": "Bob the Hero", "avatar_url": null,
    }]);
    let reply = eventually("the hero", async || {
        let reply = alice.v3().ask(json!({"room_list": {}})).await;
        (entry(&reply, &room)["heroes"] == heroes).then_some(reply)
    })
    .await;
    let entry = entry(&reply, &room);
    assert_eq!((&entry["name"], &entry["avatar_url"]), (&json!("Bob the Hero"), &Value::Null));
    let members = entry["state_events"].as_array().unwrap();
    assert!(members.iter().any(|event| event["state_key"] == bob.user_id.as_str()), "{entry:#}");
}

#[tokio::test]
async fn members_can_be_done_without() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = named_room(&alice, "The room").await;
    let ask = json!({"room_list": {"lazy_load_members": false}});
    let (_, reply) = begun(&alice, ask, 1).await;
    let entry = entry(&reply, &room);
    assert_eq!(entry["timeline"].as_array().unwrap().len(), 1, "{entry:#}");
    assert!(entry["state_events"].is_null(), "{entry:#}");
}

/// The proxy hides what an ignored user sent before.
#[tokio::test]
async fn ignored_users_are_not_shown() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    alice.send(&room, "mine").await;
    bob.send(&room, "his").await;
    eventually("his message", async || {
        let reply = alice.v3().ask(json!({"room_list": {}})).await;
        (texts(entry(&reply, &room)) == ["his"]).then_some(())
    })
    .await;
    let ignored = json!({"ignored_users": {bob.user_id.as_str(): {}}});
    alice.set_account_data("m.ignored_user_list", &ignored).await.ok();
    eventually("that it is gone", async || {
        let reply = alice.v3().ask(json!({"room_list": {}})).await;
        (texts(entry(&reply, &room)) == ["mine"]).then_some(())
    })
    .await;
}
