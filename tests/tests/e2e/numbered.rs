//! Numbered messages, and what must be true of them at the other end: each arrives once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::{Client, Reply};
use tests::history::RoomHistory;
use tests::matchers::numbers;
use tests::random::Random;
use tests::session::Session;
use tests::wait::PATIENCE;

/// How many have been sent so far.
pub(crate) type Progress = Arc<AtomicUsize>;

/// Sends `count` numbered to-device messages, one after the other.
pub(crate) async fn send_to_device(from: Client, to: Client, count: usize, sent: Progress) {
    for n in 0..count {
        from.send_to_device(&to, "m.test", json!({"n": n})).await.ok();
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `count` numbered messages into a room, one after the other.
pub(crate) async fn send_to_room(from: Client, room_id: String, count: usize, sent: Progress) {
    for n in 0..count {
        from.send(&room_id, &room_text(n)).await;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads the messages to a device to their end along one session, and checks them.
pub(crate) async fn read_session(session: Session, who: &str, count: usize) {
    read_session_at(Vec::new(), session, who, count).await;
}

/// [`read_session`], with each request at the next of these servers, if there are any.
pub(crate) async fn read_session_at(
    servers: Vec<Client>,
    mut session: Session,
    who: &str,
    count: usize,
) {
    let mut got: Vec<u64> = Vec::new();
    let mut servers = servers.iter().cycle();
    let deadline = Instant::now() + PATIENCE * 4;
    while got.last() != Some(&(count as u64 - 1)) {
        assert!(Instant::now() < deadline, "{who} has {} messages and gets no more", got.len());
        if let Some(server) = servers.next() {
            session.client.clone_from(server);
        }
        let Some(reply) = answer(session.request(&json!({})).timeout(2_000).try_send().await)
        else {
            continue;
        };
        got.extend(numbers(&reply["to_device"]));
        session.absorb(&reply);
    }
    assert_each_once_in_order(who, &got, count);
}

/// Reads so many of both kinds of messages to their end along one v2 chain, and checks them.
pub(crate) async fn read_v2(
    chain: Chain,
    room_id: String,
    to_device_count: usize,
    in_room_count: usize,
) {
    read_v2_at(Vec::new(), chain, room_id, to_device_count, in_room_count).await;
}

/// [`read_v2`], with each request at the next of these servers, if there are any.
pub(crate) async fn read_v2_at(
    servers: Vec<Client>,
    mut chain: Chain,
    room_id: String,
    to_device_count: usize,
    in_room_count: usize,
) {
    let mut random = Random::seeded(5);
    let mut to_device: Vec<u64> = Vec::new();
    let mut in_room = RoomHistory::of(&room_id);
    let mut servers = servers.iter().cycle();
    let deadline = Instant::now() + PATIENCE * 4;
    let mut room_done = false;
    while !room_done || to_device.last() != Some(&(to_device_count as u64 - 1)) {
        assert!(
            Instant::now() < deadline,
            "the v2 client has {} to-device and {} room messages and gets no more",
            to_device.len(),
            in_room.len()
        );
        if let Some(server) = servers.next() {
            chain.client.clone_from(server);
        }
        let Some(reply) = answer(chain.request().timeout(2_000).try_send().await) else {
            continue;
        };
        to_device.extend(numbers(&reply["to_device"]));
        in_room.absorb(&chain.client, chain.since(), &reply, &mut random).await;
        let last = in_room.bodies().last().and_then(|text| room_number(text));
        room_done = last == Some(in_room_count as u64 - 1);
        chain.absorb(&reply);
    }
    assert_each_once_in_order("the v2 client, to-device", &to_device, to_device_count);
    let in_room: Vec<u64> = in_room.bodies().into_iter().filter_map(room_number).collect();
    assert_each_once_in_order("the v2 client, in the room", &in_room, in_room_count);
}

/// A reply, or nothing where the connection broke, in which case the client asks the same again. An answer that arrives
/// must be a good one.
fn answer(result: Result<Reply, reqwest::Error>) -> Option<Value> {
    result.ok().map(Reply::ok)
}

/// The text of the room message with this number.
pub(crate) fn room_text(n: usize) -> String {
    format!("room message {n}")
}

/// Checks that these are the numbers from 0 to `count`, each once, in order, and says where that goes wrong.
#[track_caller]
pub(crate) fn assert_each_once_in_order(who: &str, numbers: &[u64], count: usize) {
    let first_wrong = numbers.iter().zip(0_u64..).position(|(got, expected)| *got != expected);
    if let Some(place) = first_wrong {
        let around = &numbers[place.saturating_sub(3)..numbers.len().min(place + 4)];
        panic!("{who} got {} where {place} was due, in …{around:?}…", numbers[place]);
    }
    assert_eq!(numbers.len(), count, "{who} did not get them all");
}

/// The number in a text of [`room_text`].
pub(crate) fn room_number(text: &str) -> Option<u64> {
    text.strip_prefix("room message ")?.parse().ok()
}
