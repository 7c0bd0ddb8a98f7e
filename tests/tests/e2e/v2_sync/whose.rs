//! Receipts and presence: whose they are.

use serde_json::{Value, json};
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{events, joined, messages, of_type};

#[tokio::test]
async fn a71_d1_2_a_private_receipt_is_for_its_owner_alone() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&bob).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let event_id = alice.send(&room, "read me").await;
    let (mut hers, mut his) = (alice.v2(), laptop.v2());
    hers.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    his.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    let path = format!(
        "/_matrix/client/v3/rooms/{}/receipt/m.read.private/{}",
        encode(&room),
        encode(&event_id)
    );
    bob.post(&path).json(&json!({})).send().await.ok();
    let content = his.until("his receipt", |reply| receipts(reply, &room)).await;
    assert!(content[&event_id]["m.read.private"][&bob.user_id].is_object(), "{content:#}");

    bob.send(&room, "and that is that").await;
    let mut everything = String::new();
    hers.until("the message", |reply| {
        everything.push_str(&reply.to_string());
        messages(reply, &room).contains(&"and that is that").then_some(())
    })
    .await;
    everything.push_str(&alice.fresh_sync().send().await.expect_status(200).body_text());
    tests::matchers::assert_no_trace(&everything, &["m.read.private"]);
    let fresh = laptop.fresh_sync().send().await.ok();
    assert!(receipts(&fresh, &room).unwrap()[&event_id]["m.read.private"].is_object(), "{fresh:#}");
}

/// One device is there, the other says that it is not: their user is.
#[tokio::test]
async fn d5_17_a_user_is_as_present_as_the_most_present_device() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&bob).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let (mut hers, mut away) = (alice.v2(), laptop.v2());
    hers.next().await;
    let reply = away.request().query("set_presence", "offline").send().await.ok();
    away.absorb(&reply);

    let phone = bob.on_new_connections();
    let there = tokio::spawn(async move { phone.sync().send().await.ok() });
    there.await.unwrap();
    let waiting =
        tokio::spawn(away.request().query("set_presence", "offline").timeout(20_000).send());

    hers.until("Bob to be online", |reply| (presence_of(reply, &bob)? == "online").then_some(()))
        .await;
    // And he stays so while the other goes on.
    bob.send(&room, "still here").await;
    hers.until("the message", |reply| {
        assert_ne!(presence_of(reply, &bob).as_deref(), Some("offline"), "{reply:#}");
        messages(reply, &room).contains(&"still here").then_some(())
    })
    .await;
    waiting.abort();
}

fn receipts(reply: &Value, room: &str) -> Option<Value> {
    let ephemeral = events(&joined(reply, room)["ephemeral"]);
    of_type(&ephemeral, "m.receipt").first().map(|event| event["content"].clone())
}

fn presence_of(reply: &Value, user: &Client) -> Option<String> {
    let presence = events(&reply["presence"]);
    let event = presence.into_iter().rfind(|event| event["sender"] == user.user_id.as_str())?;
    event["content"]["presence"].as_str().map(str::to_owned)
}
