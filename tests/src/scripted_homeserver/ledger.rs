//! A homeserver that keeps books: rooms with numbered messages, and numbered to-device messages, which it tells as a real
//! one does. Its tokens, gaps and acknowledgements follow from the books, so faults can fall anywhere, and it knows
//! exactly what everybody must have been told.
//!
//! Everything stands in one stream; a token is a place in it. A backup that is restored takes the tokens with it, and
//! keeps the messages.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::log::Seen;
use super::nothing_new;

/// The rooms of a homeserver that keeps books. Every user of it is in all of them.
pub const ROOMS: [&str; 3] = ["!one:scripted", "!two:scripted", "!three:scripted"];

/// The books.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    /// The place of the last entry, to wake those that wait for one.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Books {
    /// Which backup the tokens are from.
    epoch: u32,
    /// The place of the last entry.
    last: u64,
    /// Room messages: where each stands, its room and its number in the room.
    messages: Vec<(u64, &'static str, u64)>,
    in_room: HashMap<&'static str, u64>,
    /// The messages that wait for a device (user and device ID), and how many there have been.
    inboxes: HashMap<(String, String), Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    sent: u64,
    waiting: Vec<(u64, u64)>,
}

/// What the homeserver makes of a question.
pub(super) enum Told {
    /// This.
    News(Value),
    /// Nothing new.
    Nothing(Value),
    /// The token is from before a backup was restored.
    Refused,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { books: Mutex::default(), last: watch::channel(0).0 }
    }
}

impl Ledger {
    /// Somebody says the next number in a room.
    pub fn say(&self, room: usize) {
        let room = ROOMS[room % ROOMS.len()];
        self.enter(|books, place| {
            let number = books.in_room.entry(room).or_default();
            books.messages.push((place, room, *number));
            *number += 1;
        });
    }

    /// The next number is sent to a device.
    pub fn send_to(&self, user_id: &str, device_id: &str) {
        let device = (user_id.to_owned(), device_id.to_owned());
        self.enter(|books, place| {
            let inbox = books.inboxes.entry(device).or_default();
            inbox.waiting.push((place, inbox.sent));
            inbox.sent += 1;
        });
    }

    /// A backup of this moment is restored: no token from before is known.
    pub fn restore_backup(&self) {
        self.enter(|books, _place| books.epoch += 1);
    }

    /// How many messages have been said in a room.
    pub fn said_in(&self, room_id: &str) -> u64 {
        self.books.lock().unwrap().in_room.get(room_id).copied().unwrap_or(0)
    }

    /// How many have been sent to a device.
    pub fn sent_to(&self, user_id: &str, device_id: &str) -> u64 {
        let device = (user_id.to_owned(), device_id.to_owned());
        self.books.lock().unwrap().inboxes.get(&device).map_or(0, |inbox| inbox.sent)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// GET `/sync`. A `since` acknowledges the device's messages up to it.
    pub(super) fn sync(&self, user_id: &str, device_id: &str, seen: &Seen) -> Told {
        let mut books = self.books.lock().unwrap();
        let since = match seen.since() {
            None => None,
            Some(token) => match books.read(&token) {
                Some(place) => Some(place),
                None => return Told::Refused,
            },
        };
        let filter: Value = seen
            .parameter("filter")
            .and_then(|filter| serde_json::from_str(&filter).ok())
            .unwrap_or_default();
        let mut reply = nothing_new(&books.token(books.last));
        let mut news = since.is_none();
        for room_id in ROOMS {
            if let Some(room) = books.room(room_id, user_id, since, &filter["room"]) {
                reply["rooms"]["join"][room_id] = room;
                news = true;
            }
        }
        let device = (user_id.to_owned(), device_id.to_owned());
        if let Some(inbox) = books.inboxes.get_mut(&device) {
            inbox.waiting.retain(|(place, _number)| since.is_none_or(|since| *place > since));
            let events: Vec<Value> = inbox
                .waiting
                .iter()
                .map(|(_place, n)| json!({"type": "m.test", "sender": "@bob:scripted", "content": {"n": n}}))
                .collect();
            news |= !events.is_empty();
            reply["to_device"] = json!({"events": events});
        }
        if news { Told::News(reply) } else { Told::Nothing(reply) }
    }

    /// GET `/messages`, backwards. Positions in a room outlive a backup.
    pub(super) fn messages(&self, room_id: &str, seen: &Seen) -> Value {
        let books = self.books.lock().unwrap();
        let place = |name| seen.parameter(name).and_then(|token| place_of(&token));
        let from = place("from").unwrap_or(books.last);
        let to = place("to").unwrap_or(0);
        let limit = seen.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
        let mut chunk = Vec::new();
        let mut end = None;
        let said = books
            .messages
            .iter()
            .rev()
            .filter(|(place, room, _number)| *room == room_id && *place <= from && *place > to);
        for (place, room, number) in said {
            if chunk.len() == limit {
                end = Some(token(books.epoch, *place));
                break;
            }
            chunk.push(message(room, *number));
        }
        let start = seen.parameter("from").unwrap_or_default();
        let mut page = json!({"chunk": chunk, "start": start});
        if let Some(end) = end {
            page["end"] = json!(end);
        }
        page
    }

    fn enter(&self, entry: impl FnOnce(&mut Books, u64)) {
        let mut books = self.books.lock().unwrap();
        books.last += 1;
        let place = books.last;
        entry(&mut books, place);
        self.last.send_replace(place);
    }
}

impl Books {
    fn token(&self, place: u64) -> String {
        token(self.epoch, place)
    }

    /// The place that a token stands for, if it is from after the last backup.
    fn read(&self, token: &str) -> Option<u64> {
        let epoch = format!("s{}_", self.epoch);
        token.strip_prefix(&epoch)?.parse().ok()
    }

    /// A room in a reply, if there is anything to say of it.
    fn room(
        &self,
        room_id: &str,
        user_id: &str,
        since: Option<u64>,
        filter: &Value,
    ) -> Option<Value> {
        let names = |list: &Value| {
            let ids = list.as_array()?;
            Some(ids.iter().any(|id| id == room_id))
        };
        if names(&filter["rooms"]) == Some(false) || names(&filter["not_rooms"]) == Some(true) {
            return None;
        }
        let limit = filter["timeline"]["limit"].as_u64().unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let said: Vec<(u64, u64)> = self
            .messages
            .iter()
            .rev()
            .filter(|(_place, room, _number)| *room == room_id)
            .take_while(|(place, _room, _number)| since.is_none_or(|since| *place > since))
            .take(limit.saturating_add(1))
            .map(|(place, _room, number)| (*place, *number))
            .collect();
        if said.is_empty() && since.is_some() {
            return None;
        }
        let shown = &said[..said.len().min(limit)];
        let events: Vec<Value> =
            shown.iter().rev().map(|(_place, number)| message(room_id, *number)).collect();
        let before = shown.last().map_or(self.last, |(place, _number)| place - 1);
        let state = if since.is_some() { Vec::new() } else { state(room_id, user_id) };
        Some(json!({
            "timeline": {
                "events": events, "limited": said.len() > limit, "prev_batch": self.token(before),
            },
            "state": {"events": state}, "account_data": {"events": []}, "ephemeral": {"events": []},
            "unread_notifications": {"notification_count": 0, "highlight_count": 0}, "summary": {},
        }))
    }
}

fn token(epoch: u32, place: u64) -> String {
    format!("s{epoch}_{place}")
}

fn place_of(token: &str) -> Option<u64> {
    token.split_once('_')?.1.parse().ok()
}

fn message(room_id: &str, number: u64) -> Value {
    json!({
        "type": "m.room.message", "event_id": format!("${}_{number}", &room_id[1..room_id.len() - 9]),
        "sender": "@bob:scripted", "origin_server_ts": 1_700_000_000_000_u64 + number,
        "content": {"msgtype": "m.text", "body": format!("room message {number}"), "n": number}, "unsigned": {"age": 10},
    })
}

pub(super) fn state(room_id: &str, user_id: &str) -> Vec<Value> {
    let event = |event_type: &str, state_key: &str, content: Value| {
        json!({
            "type": event_type, "state_key": state_key, "content": content, "sender": user_id,
            "event_id": format!("${event_type}_{state_key}_{room_id}"),
            "origin_server_ts": 1_700_000_000_000_u64, "unsigned": {},
        })
    };
    vec![
        event("m.room.create", "", json!({"room_version": "10", "creator": "@bob:scripted"})),
        event("m.room.member", user_id, json!({"membership": "join"})),
        event("m.room.member", "@bob:scripted", json!({"membership": "join"})),
    ]
}
