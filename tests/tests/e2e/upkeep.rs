//! What incremental syncs of the homeserver do not tell, and an initial one does.

use serde_json::{Value, json};
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, messages, of_type, section, sections_of};
use tests::wait::eventually;

/// The users whose receipts a reply tells in a room.
fn readers(reply: &Value, room_id: &str) -> Vec<String> {
    let ephemeral = events(&joined(reply, room_id)["ephemeral"]);
    let mut readers: Vec<String> = of_type(&ephemeral, "m.receipt")
        .iter()
        .flat_map(|edu| edu["content"].as_object().unwrap().values())
        .flat_map(|by_type| by_type["m.read"].as_object().into_iter().flatten())
        .map(|(user_id, _data)| user_id.clone())
        .collect();
    readers.sort_unstable();
    readers
}

#[tokio::test]
async fn a55_c5_a_newly_joined_room_gets_the_receipts_and_account_data_that_were_there() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    bob.set_room_account_data(&room, "m.test", &json!({"kept": true})).await.ok();
    bob.leave(&room).await.ok();
    let event = alice.send(&room, "read by Alice").await;
    alice.read(&room, &event).await.ok();
    // All that lies behind Bob's first sync, and his since is beyond it.
    let mut chain = bob.v2();
    chain.next().await;
    let other = bob.create_public_room().await;
    chain.until_reply("another room", |reply| joined(reply, &other).is_object()).await;
    let away = chain.since().to_owned();

    bob.join(&room).await.ok();
    chain.until("Alice's receipt", |reply| (!readers(reply, &room).is_empty()).then_some(())).await;

    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(readers(&fresh, &room), [alice.user_id.as_str()]);
    let data = events(&joined(&fresh, &room)["account_data"]);
    assert_eq!(content_of(&data, "m.test")["kept"], true);
    let again = bob.sync().since(&away).send().await.ok();
    assert_eq!(
        readers(&again, &room),
        [alice.user_id.as_str()],
        "an answer follows from since and now"
    );
}

#[tokio::test]
async fn c5_what_a_new_room_held_survives_a_crash_of_the_proxy() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    let event = alice.send(&room, "read by Alice").await;
    alice.read(&room, &event).await.ok();
    bob.v2().next().await;
    lab.proxy.kill9();
    lab.past_proxy(&bob).join(&room).await.ok();
    lab.proxy.start_again().await;
    let joins = bob.v2().until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    assert!(joins.is_object());
    lab.proxy.crash_and_restart().await;

    eventually("Alice's receipt", async || {
        let fresh = bob.fresh_sync().request().send_patiently().await.ok();
        (readers(&fresh, &room) == [alice.user_id.as_str()]).then_some(())
    })
    .await;
}

async fn delete_room(admin: &Client, room_id: &str) {
    let path = format!("/_synapse/admin/v2/rooms/{}", encode(room_id));
    let body = json!({"purge": true, "force_purge": true});
    let id =
        admin.request(reqwest::Method::DELETE, &path).json(&body).send().await.text("delete_id");
    eventually("the deletion", async || {
        let path = format!("/_synapse/admin/v2/rooms/delete_status/{id}");
        let status = admin.get(&path).send().await.ok();
        assert_ne!(status["status"], "failed", "{status}");
        (status["status"] == "complete").then_some(())
    })
    .await;
}

#[tokio::test]
async fn c5_a_room_that_an_administrator_deletes_does_not_stay_as_a_ghost() {
    let lab = Lab::with_own_proxy().await;
    let admin = lab.administrator().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let (doomed, kept) = (bob.create_public_room().await, bob.create_public_room().await);
    for room in [&doomed, &kept] {
        alice.join(room).await.ok();
    }
    let mut chain = alice.v2();
    chain.next().await;

    lab.proxy.stop().await;
    delete_room(&admin, &doomed).await;
    lab.proxy.start_again().await;

    chain.until_reply("the leave", |reply| section(reply, "leave", &doomed).is_object()).await;
    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &doomed), [""; 0]);
    assert_eq!(sections_of(&fresh, &kept), ["join"]);
}

#[tokio::test]
async fn a96_a_room_that_was_left_while_the_proxy_was_away_is_told_as_left() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let (left, kicked_from) = (alice.create_public_room().await, alice.create_public_room().await);
    for room in [&left, &kicked_from] {
        bob.join(room).await.ok();
    }
    let mut chain = bob.v2();
    chain.next().await;
    let before = chain.since().to_owned();

    lab.proxy.kill9();
    lab.past_proxy(&bob).leave(&left).await.ok();
    lab.past_proxy(&alice).kick(&kicked_from, &bob.user_id).await.ok();
    lab.past_proxy(&alice).send(&left, "behind his back").await;
    lab.proxy.start_again().await;

    let mut told = std::collections::BTreeSet::new();
    chain
        .until("both leaves", |reply| {
            for room in [&left, &kicked_from] {
                if section(reply, "leave", room).is_object() {
                    told.insert(room.clone());
                }
            }
            (told.len() == 2).then_some(())
        })
        .await;
    let reply = bob.sync().since(&before).send().await.ok();
    assert_eq!(sections_of(&reply, &left), ["leave"]);
    assert_eq!(sections_of(&reply, &kicked_from), ["leave"]);
    assert!(!reply.to_string().contains("behind his back"), "{reply:#}");
    let fresh = bob.fresh_sync().send().await.ok();
    assert_eq!(sections_of(&fresh, &left), [""; 0]);
    assert_eq!(sections_of(&fresh, &kicked_from), ["leave"], "a kick is always told");
    assert!(messages(&fresh, &left).is_empty());
}

#[tokio::test]
async fn a81_c5_who_was_unignored_while_the_proxy_was_away_is_seen_with_what_was_missed() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = bob.create_public_room().await;
    alice.join(&room).await.ok();
    let list = |users: Value| json!({"ignored_users": users});
    let ignoring = list(json!({&bob.user_id: {}}));
    alice.set_account_data("m.ignored_user_list", &ignoring).await.ok();
    let mut chain = alice.v2();
    chain.next().await;
    bob.send(&room, "missed").await;
    let seen = bob.set_topic(&room, "state is told").await;
    chain.until("the topic", |reply| reply.to_string().contains(&seen).then_some(())).await;

    lab.proxy.kill9();
    let nobody = list(json!({}));
    lab.past_proxy(&alice).set_account_data("m.ignored_user_list", &nobody).await.ok();
    lab.proxy.start_again().await;

    eventually("what was missed", async || {
        let fresh = alice.fresh_sync().request().send_patiently().await.ok();
        (messages(&fresh, &room) == ["missed"]).then_some(())
    })
    .await;
}
