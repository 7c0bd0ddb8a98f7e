//! kill -9, five times, in the middle of everything: each message arrives exactly once along every client's chain, in order.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Reply;
use tests::history::RoomHistory;
use tests::lab::Lab;
use tests::matchers::{joined, numbers};
use tests::random::Random;
use tests::session::Session;
use tests::wait::{PATIENCE, eventually_within};

use crate::numbered::{
    Progress, assert_each_once_in_order, room_number, send_to_device, send_to_room,
};

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
        tokio::spawn(read_session(one, "the first session")),
        tokio::spawn(read_session(two, "the second session")),
        tokio::spawn(read_v2(v2, room)),
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

/// Reads a session to its end.
async fn read_session(mut session: Session, who: &str) {
    let mut got: Vec<u64> = Vec::new();
    let deadline = Instant::now() + PATIENCE * 4;
    while got.last() != Some(&(TO_DEVICE as u64 - 1)) {
        assert!(Instant::now() < deadline, "{who} has {} messages and gets no more", got.len());
        let Some(reply) = answer(session.request(&json!({})).timeout(2_000).try_send().await)
        else {
            continue;
        };
        got.extend(numbers(&reply["to_device"]));
        session.absorb(&reply);
    }
    assert_each_once_in_order(who, &got, TO_DEVICE);
}

/// Reads both kinds of messages to their end along one v2 chain.
async fn read_v2(mut chain: Chain, room_id: String) {
    let mut random = Random::seeded(5);
    let mut to_device: Vec<u64> = Vec::new();
    let mut in_room = RoomHistory::of(&room_id);
    let deadline = Instant::now() + PATIENCE * 4;
    let mut room_done = false;
    while !room_done || to_device.last() != Some(&(TO_DEVICE as u64 - 1)) {
        assert!(
            Instant::now() < deadline,
            "the v2 client has {} to-device and {} room messages and gets no more",
            to_device.len(),
            in_room.len()
        );
        let Some(reply) = answer(chain.request().timeout(2_000).try_send().await) else {
            continue;
        };
        to_device.extend(numbers(&reply["to_device"]));
        in_room.absorb(&chain.client, chain.since(), &reply, &mut random).await;
        room_done =
            in_room.bodies().last().and_then(|text| room_number(text)) == Some(IN_ROOM as u64 - 1);
        chain.absorb(&reply);
    }
    assert_each_once_in_order("the v2 client, to-device", &to_device, TO_DEVICE);
    let in_room: Vec<u64> = in_room.bodies().into_iter().filter_map(room_number).collect();
    assert_each_once_in_order("the v2 client, in the room", &in_room, IN_ROOM);
}

/// A reply, or nothing where the connection broke, in which case the client asks the same again. An answer that arrives
/// must be a good one.
fn answer(result: Result<Reply, reqwest::Error>) -> Option<Value> {
    result.ok().map(Reply::ok)
}
