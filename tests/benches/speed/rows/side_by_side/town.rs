//! Who lives on the homeserver: one account in many rooms that the proxy polls for, its twin that the proxy never hears of,
//! and those who made the rooms and speak in them.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tests::client::Client;
use tests::synapse::{PASSWORD, Synapse};

/// How many make rooms and speak.
const NEIGHBOURS: usize = 5;
/// How many requests to the homeserver are under way at once: it does one thing at a time, and is never idle.
const AT_ONCE: usize = 10;
/// How many messages a room has, and how many the lively ones among them.
const MESSAGES: usize = 4;
const LIVELY_MESSAGES: usize = 25;

/// Everybody, talking to the homeserver itself.
#[derive(Debug)]
pub(crate) struct Town {
    /// In all rooms. Its syncs go through the proxy, and to the homeserver where the two are compared.
    pub(crate) warm: Client,
    /// More devices of the same account.
    pub(crate) devices: Vec<Client>,
    /// A room of the warm account with a friend who is in no other.
    pub(crate) warm_pair: Pair,
    /// The same of its twin, who is in the same rooms, and whom nobody syncs through the proxy.
    pub(crate) twin_pair: Pair,
    /// How many rooms there are, but for those two.
    pub(crate) rooms: usize,
    /// How long it took to make all this.
    pub(crate) took: Duration,
}

/// Two in a room.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Is in all the other rooms too.
    pub(crate) busy: Client,
    /// Is in this room alone.
    pub(crate) friend: Client,
    pub(crate) room_id: String,
}

impl Town {
    /// Makes it, with so many rooms, and so many devices of the warm account besides its first.
    pub(crate) async fn populate(synapse: &Synapse, rooms: usize, devices: usize) -> Self {
        let begun = Instant::now();
        let mut neighbours = Vec::new();
        for number in 0..NEIGHBOURS {
            neighbours.push(user(synapse, &format!("neighbour{number}")).await);
        }
        let (warm, twin) = (user(synapse, "warm").await, user(synapse, "twin").await);
        stream::iter(0..rooms)
            .map(|number| furnish(number, &neighbours, [&warm, &twin]))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<()>>()
            .await;
        let warm_pair = pair(synapse, &warm, "friend-of-warm").await;
        let twin_pair = pair(synapse, &twin, "friend-of-twin").await;
        let mut more = Vec::new();
        for number in 0..devices {
            more.push(log_in(synapse, "warm", &format!("DEVICE{number}")).await);
        }
        Self { warm, devices: more, warm_pair, twin_pair, rooms, took: begun.elapsed() }
    }
}

async fn pair(synapse: &Synapse, busy: &Client, friend: &str) -> Pair {
    let friend = user(synapse, friend).await;
    let room_id = busy.create_room(json!({"preset": "public_chat", "name": "The two of us"})).await;
    friend.join(&room_id).await.ok();
    Pair { busy: busy.clone(), friend, room_id }
}

/// Makes one room: most have a name, a topic and a picture, every third is encrypted, every tenth is lively.
async fn furnish(number: usize, neighbours: &[Client], guests: [&Client; 2]) {
    let host = &neighbours[number % NEIGHBOURS];
    let other = &neighbours[(number + 1) % NEIGHBOURS];
    let is_encrypted = number.is_multiple_of(3);
    let mut state = vec![json!({
        "type": "m.room.avatar", "state_key": "", "content": {"url": format!("mxc://test.local/picture{number}")},
    })];
    if is_encrypted {
        let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        state.push(json!({"type": "m.room.encryption", "state_key": "", "content": content}));
    }
    let mut room = json!({
        "preset": "public_chat", "topic": format!("What there is to say of {number}"), "initial_state": state,
    });
    if !number.is_multiple_of(4) {
        room["name"] = format!("Room {number}").into();
    }
    let room_id = host.create_room(room).await;
    other.join(&room_id).await.ok();
    for guest in guests {
        guest.join(&room_id).await.ok();
    }
    let messages = if number.is_multiple_of(10) { LIVELY_MESSAGES } else { MESSAGES };
    for message in 0..messages {
        let speaker = if message % 2 == 0 { host } else { other };
        let (event_type, content) = said(number, message, is_encrypted);
        speaker.send_event(&room_id, event_type, content).await.ok();
    }
}

/// A message, or what looks like an encrypted one.
fn said(room: usize, message: usize, is_encrypted: bool) -> (&'static str, Value) {
    if is_encrypted {
        let content = json!({
            "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "A".repeat(300),
            "session_id": format!("session of room {room}"), "device_id": "FIRST", "sender_key": "k",
        });
        return ("m.room.encrypted", content);
    }
    let body = format!("Message {message} of room {room}: a sentence as people write it");
    ("m.room.message", json!({"msgtype": "m.text", "body": body}))
}

async fn user(synapse: &Synapse, localpart: &str) -> Client {
    synapse.register(localpart).await;
    log_in(synapse, localpart, "FIRST").await
}

async fn log_in(synapse: &Synapse, localpart: &str, device_id: &str) -> Client {
    Client::login(&synapse.url(), localpart, PASSWORD, device_id).await
}
