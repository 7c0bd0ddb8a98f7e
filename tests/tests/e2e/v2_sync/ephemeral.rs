//! What passes by: typing, receipts, presence, unread counts.

use serde_json::json;
use tests::client::encode;
use tests::lab::Lab;
use tests::matchers::{events, joined, messages, of_type, typing};

#[tokio::test]
async fn a69_typing_starts_and_stops() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut chain = alice.v2();
    chain.next().await;

    bob.starts_typing(&room).await;
    let who =
        chain.until("Bob to type", |reply| typing(reply, &room).map(|who| who.join(" "))).await;
    assert_eq!(who, bob.user_id);
    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(
        typing(&fresh, &room),
        Some(vec![bob.user_id.as_str()]),
        "an initial sync says so too"
    );

    bob.stops_typing(&room).await;
    let who =
        chain.until("Bob to stop", |reply| typing(reply, &room).map(|who| who.join(" "))).await;
    assert_eq!(who, "", "an empty list says that nobody types");
}

#[tokio::test]
async fn a69_typing_ends_by_itself_and_stays_in_its_room() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let other = alice.create_public_room().await;
    bob.join(&other).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("Bob's join", |reply| joined(reply, &other).is_object()).await;
    let before = chain.since().to_owned();

    let path =
        format!("/_matrix/client/v3/rooms/{}/typing/{}", encode(&room), encode(&bob.user_id));
    let body = json!({"typing": true, "timeout": 2_000});
    bob.put(&path).json(&body).send().await.ok();
    let mut told: Vec<(bool, String)> = Vec::new();
    chain
        .until("Bob to have typed", |reply| {
            for (in_room, room) in [(true, &room), (false, &other)] {
                let edus = events(&joined(reply, room)["ephemeral"]);
                assert!(edus.iter().all(|edu| edu["room_id"].is_null()), "{edus:#?}");
                told.extend(typing(reply, room).map(|who| (in_room, who.join(" "))));
            }
            (told.last() == Some(&(true, String::new()))).then_some(())
        })
        .await;
    assert_eq!(told, [(true, bob.user_id.clone()), (true, String::new())]);

    let late = alice.sync().since(&before).send().await.ok();
    assert_eq!(typing(&late, &room), Some(vec![]), "who was away hears the end");
    let fresh = alice.fresh_sync().send().await.ok();
    assert_eq!(typing(&fresh, &room).unwrap_or_default(), [""; 0], "nobody types any more");
    assert_eq!(typing(&fresh, &other).unwrap_or_default(), [""; 0]);
}

#[tokio::test]
async fn a70_receipts_come_with_their_event_and_time() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let event_id = alice.send(&room, "read me").await;
    let mut chain = alice.v2();
    chain.next().await;

    bob.read(&room, &event_id).await.ok();
    let content = chain
        .until("the receipt", |reply| {
            let ephemeral = events(&joined(reply, &room)["ephemeral"]);
            of_type(&ephemeral, "m.receipt").first().map(|event| event["content"].clone())
        })
        .await;

    assert!(content[&event_id]["m.read"][&bob.user_id]["ts"].is_u64(), "{content:#}");
    let fresh = alice.fresh_sync().send().await.ok();
    let receipts = of_type(&events(&joined(&fresh, &room)["ephemeral"]), "m.receipt")[0];
    assert!(
        receipts["content"][&event_id]["m.read"][&bob.user_id].is_object(),
        "an initial sync has it too: {receipts:#}"
    );
}

#[tokio::test]
async fn a73_a75_unread_counts_come_with_the_message_and_go_with_the_receipt() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let mut chain = alice.v2();
    chain.next().await;

    let event_id = bob.send(&room, "one for the counter").await;
    let reply = chain.until_reply("the message", |reply| !messages(reply, &room).is_empty()).await;
    assert_eq!(joined(&reply, &room)["unread_notifications"]["notification_count"], 1);

    alice.read(&room, &event_id).await.ok();
    let reply =
        chain.until_reply("the own receipt", |reply| joined(reply, &room).is_object()).await;
    assert_eq!(joined(&reply, &room)["unread_notifications"]["notification_count"], 0);
}

/// Not for Synapse itself: there is no proxy to restart.
#[tokio::test]
async fn d1_2_typing_that_ended_while_the_proxy_was_away_has_ended() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.next().await;
    bob.starts_typing(&room).await;
    chain
        .until("Bob to type", |reply| {
            typing(reply, &room).filter(|who| !who.is_empty()).map(|_| ())
        })
        .await;

    lab.proxy.stop().await;
    bob.stops_typing(&room).await;
    lab.proxy.start_again().await;

    let who = chain
        .until("Bob to have stopped", |reply| typing(reply, &room).map(|who| who.join(" ")))
        .await;
    assert_eq!(who, "");
    let fresh = alice.fresh_sync().send().await.ok();
    assert!(typing(&fresh, &room).is_none_or(|who| who.is_empty()), "{fresh:#}");
}
