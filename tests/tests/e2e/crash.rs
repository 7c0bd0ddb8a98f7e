//! kill -9, five times, in the middle of everything: each message arrives exactly once along every client's chain, in order.

use std::sync::atomic::Ordering;

use serde_json::json;
use tests::lab::Lab;
use tests::matchers::joined;
use tests::wait::{PATIENCE, eventually_within};

use crate::numbered::{Progress, read_session, read_v2, send_to_device, send_to_room};

const TO_DEVICE: usize = 1_000;
const IN_ROOM: usize = 500;
const CRASHES: usize = 5;

#[tokio::test]
async fn every_message_arrives_exactly_once_whatever_is_killed() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut v2 = alice.v2();
    v2.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let (mut one, mut two) = (alice.v3(), alice.v3());
    one.ask(json!({"to_device": {}})).await;
    two.ask(json!({"to_device": {"limit": 7}})).await;

    // The senders talk to Synapse, which is not killed; only readers go through the proxy.
    let (to_device_sent, in_room_sent) = (Progress::default(), Progress::default());
    let to_device = tokio::spawn(send_to_device(
        bob.on_new_connections(),
        lab.past_proxy(&alice),
        TO_DEVICE,
        to_device_sent.clone(),
    ));
    let in_room = tokio::spawn(send_to_room(
        bob.on_new_connections(),
        room.clone(),
        IN_ROOM,
        in_room_sent.clone(),
    ));

    let readers = [
        tokio::spawn(read_session(one, "the first session", TO_DEVICE)),
        tokio::spawn(read_session(two, "the second session", TO_DEVICE)),
        tokio::spawn(read_v2(v2, room, TO_DEVICE, IN_ROOM)),
    ];

    // Each crash comes when another share of each kind has been sent, so that all five are in the middle.
    for crash in 1..=CRASHES {
        let due = |total: usize, sent: &Progress| {
            sent.load(Ordering::Relaxed) >= total * crash / (CRASHES + 1)
        };
        eventually_within(PATIENCE * 3, "the next share of messages", async || {
            (due(TO_DEVICE, &to_device_sent) || due(IN_ROOM, &in_room_sent)).then_some(())
        })
        .await;
        lab.proxy.crash_and_restart().await;
    }
    to_device.await.unwrap();
    in_room.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}
