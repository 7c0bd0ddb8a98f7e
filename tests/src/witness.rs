//! A client that checks every message, while whatever may go wrong goes wrong.
//!
//! A witness syncs for as long as it is let. Of each room, and of its device's to-device messages, it must see every number
//! once and in order; where a timeline has a gap it fills it from `/messages`, as clients do. What it cannot forgive it
//! writes down in its [`Testimony`]; errors of the server it forgives for fifteen seconds after their cause is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::matchers::{joined, numbers};
use crate::random::Random;

/// How long an error may outlast its cause.
pub const GRACE: Duration = Duration::from_secs(15);

/// How long one sync waits, in milliseconds.
const LONG_POLL: u64 = 3_000;

/// How long a client that met an error waits.
const PAUSE: Duration = Duration::from_millis(200);

/// Since when nothing is wrong; `None` while something is.
pub type Calm = Arc<Mutex<Option<Instant>>>;

/// Which sync a witness speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `GET /sync`.
    V2,
    /// `POST /sync`.
    V3,
}

/// How a witness behaves besides syncing.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Once in so many requests it goes away before the answer is there, and comes back; 0 is never.
    pub vanishes: u64,
    /// Once in so many it asks again what it has asked before; 0 is never.
    pub replays: u64,
}

/// What a witness has seen.
#[derive(Debug, Default)]
pub struct Testimony {
    /// What must not have happened.
    pub violations: Vec<String>,
    /// The number that is due next, by room.
    pub rooms: HashMap<String, u64>,
    /// The number of the to-device message that is due next.
    pub to_device: u64,
    /// How many messages were checked.
    pub checked: u64,
    /// Requests, and those of them that ended in an error, before their answer, or were repetitions.
    pub requests: u64,
    /// See `requests`.
    pub errors: u64,
    /// See `requests`.
    pub vanished: u64,
    /// See `requests`.
    pub replayed: u64,
    /// Gaps that were filled.
    pub gaps: u64,
    /// The longest that an error came after its cause was gone, and what it was.
    pub longest_error: (Duration, String),
    /// When the last good answer came.
    pub last_good: Option<Instant>,
}

/// One client with one chain or session.
#[derive(Debug)]
pub struct Witness {
    client: Client,
    version: Version,
    habits: Habits,
    room_ids: Vec<String>,
    random: Random,
    calm: Calm,
    testimony: Arc<Mutex<Testimony>>,
    /// What the next request sends.
    since: Option<String>,
    /// What an earlier one sent, and what was due then.
    earlier: Option<(String, HashMap<String, u64>)>,
}

/// A room's part of a reply.
struct Told<'a> {
    numbers: Vec<u64>,
    /// Events before these may be missing.
    gap: bool,
    prev_batch: Option<&'a str>,
}

impl Witness {
    /// A witness of these rooms who has seen nothing yet.
    pub fn new(
        client: &Client,
        version: Version,
        habits: Habits,
        room_ids: &[String],
        calm: &Calm,
        seed: u64,
    ) -> Self {
        Self {
            client: client.on_new_connections(),
            version,
            habits,
            room_ids: room_ids.to_vec(),
            random: Random::seeded(seed),
            calm: Arc::clone(calm),
            testimony: Arc::default(),
            since: None,
            earlier: None,
        }
    }

    /// What it has seen so far, for as long as it goes on.
    pub fn testimony(&self) -> Arc<Mutex<Testimony>> {
        Arc::clone(&self.testimony)
    }

    /// Who it is, for reports.
    pub fn name(&self) -> String {
        format!("{:?} of {} {}", self.version, self.client.user_id, self.client.device_id)
    }

    /// Syncs once, and for certain.
    pub async fn begins(&mut self) {
        while self.since.is_none() {
            self.sync(LONG_POLL).await;
        }
    }

    /// Sends its first `since`: before that, v2 is nobody's session, and holds no message back that others acknowledge.
    pub async fn settles(&mut self) {
        let before = self.locked().last_good;
        while self.version == Version::V2 && self.locked().last_good == before {
            self.sync(0).await;
        }
    }

    /// Syncs until its task is aborted.
    pub async fn goes_on(mut self) {
        loop {
            if self.habits.vanishes > 0 && self.random.one_in(self.habits.vanishes) {
                self.vanish().await;
            }
            if self.habits.replays > 0 && self.random.one_in(self.habits.replays) {
                self.replay().await;
            }
            self.sync(LONG_POLL).await;
        }
    }

    async fn sync(&mut self, timeout: u64) {
        let Some(reply) = self.ask(self.since.as_deref(), timeout).await else {
            tokio::time::sleep(PAUSE).await;
            return;
        };
        for room_id in self.room_ids.clone() {
            if let Some(told) = self.told_of(&reply, &room_id) {
                self.see(&room_id, told).await;
            }
        }
        let to_device = numbers(&reply["to_device"]);
        let name = self.name();
        let mut testimony = self.locked();
        for number in to_device {
            let due = testimony.to_device;
            if number != due {
                testimony.violations.push(format!(
                    "{name} got to-device message {number} where {due} was due, with since={:?}",
                    self.since
                ));
            }
            testimony.to_device = number + 1;
            testimony.checked += 1;
        }
        let due = testimony.rooms.clone();
        drop(testimony);
        let key = if self.version == Version::V2 { "next_batch" } else { "next" };
        let next = reply[key].as_str().map(str::to_owned);
        // v2 keeps one of long ago for a while; a v3 client has the last two.
        if let Some(next) = &next
            && (self.version == Version::V3 || self.earlier.is_none() || self.random.one_in(40))
        {
            self.earlier = Some((next.clone(), due));
        }
        self.since = next;
    }

    /// Asks, and is gone before the answer is there, or in the middle of it.
    async fn vanish(&mut self) {
        let patience = Duration::from_millis(self.random.between(0, 150));
        let request = self.request(self.since.as_deref(), LONG_POLL);
        let _gone = tokio::time::timeout(patience, request).await;
        self.locked().vanished += 1;
    }

    /// Asks what it has asked before: the answer begins where that one did.
    async fn replay(&mut self) {
        let Some((since, due)) = self.earlier.clone() else { return };
        let Some(reply) = self.ask(Some(&since), 0).await else { return };
        let name = self.name();
        let mut found = Vec::new();
        for (room_id, due) in due {
            let Some(told) = self.told_of(&reply, &room_id) else { continue };
            let from = told.numbers.iter().position(|number| *number >= due).unwrap_or_default();
            let numbers = if told.gap { &told.numbers[from..] } else { &told.numbers[..] };
            let begins = numbers.first().is_none_or(|first| *first == due || told.gap);
            if !begins || !numbers.is_sorted_by(|a, b| *b == a + 1) {
                found.push(format!(
                    "{name} asked again with since={since} and was told {:?} of {room_id} (gap: {}) where {due} was due",
                    told.numbers, told.gap
                ));
            }
        }
        let mut testimony = self.locked();
        testimony.violations.extend(found);
        testimony.replayed += 1;
    }

    fn told_of<'a>(&self, reply: &'a Value, room_id: &str) -> Option<Told<'a>> {
        let room = match self.version {
            Version::V2 => joined(reply, room_id),
            Version::V3 => &reply["room"]["rooms"][room_id],
        };
        let timeline = room.get("timeline")?;
        Some(Told {
            numbers: messages(&timeline["events"]),
            gap: timeline["limited"] == true || room["initial"] == true,
            prev_batch: timeline["prev_batch"].as_str(),
        })
    }

    /// Takes a room's news, and fetches what a gap left out.
    async fn see(&mut self, room_id: &str, told: Told<'_>) {
        let due = self.locked().rooms.get(room_id).copied();
        let mut numbers = told.numbers;
        if let (true, Some(due)) = (told.gap, due) {
            // What comes again after a gap is known by its event ID.
            numbers.retain(|number| *number >= due);
            if numbers.first().is_none_or(|first| *first > due)
                && let Some(prev_batch) = told.prev_batch
            {
                let mut missing = self.fill(room_id, due, prev_batch).await;
                missing.retain(|number| numbers.first().is_none_or(|first| number < first));
                numbers.splice(0..0, missing);
            }
        }
        let name = self.name();
        let mut testimony = self.locked();
        let mut due = due.or_else(|| numbers.first().copied()).unwrap_or_default();
        for number in numbers {
            if number != due {
                testimony.violations.push(format!(
                    "{name} got message {number} of {room_id} where {due} was due (gap: {}), with since={:?}",
                    told.gap, self.since
                ));
            }
            due = number + 1;
            testimony.checked += 1;
        }
        testimony.rooms.insert(room_id.to_owned(), due);
    }

    /// The numbers from `due` on that stand before a token, oldest first.
    async fn fill(&mut self, room_id: &str, due: u64, prev_batch: &str) -> Vec<u64> {
        self.locked().gaps += 1;
        let mut missing: Vec<u64> = Vec::new();
        let mut from = prev_batch.to_owned();
        loop {
            let page = self.client.messages_before(room_id, &from, 50).try_send().await;
            let Some(page) = self.good(page).filter(|page| page["chunk"].is_array()) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let numbers = messages(&page["chunk"]);
            missing.extend(numbers.iter().filter(|number| **number >= due));
            let reached = numbers.iter().any(|number| *number <= due);
            match page["end"].as_str() {
                Some(end) if !reached => end.clone_into(&mut from),
                _ => break,
            }
        }
        missing.reverse();
        missing
    }

    async fn ask(&self, since: Option<&str>, timeout: u64) -> Option<Value> {
        let reply = self.request(since, timeout).await;
        self.good(reply)
    }

    async fn request(&self, since: Option<&str>, timeout: u64) -> Result<Reply, reqwest::Error> {
        match self.version {
            Version::V2 => {
                let request = self.client.sync().timeout(timeout);
                match since {
                    Some(since) => request.since(since).try_send().await,
                    None => request.try_send().await,
                }
            }
            Version::V3 => match since {
                Some(since) => {
                    let request = self.client.v3_sync(&json!({})).since(since);
                    request.timeout(timeout).try_send().await
                }
                None => self.client.v3_sync(&self.first()).try_send().await,
            },
        }
    }

    fn first(&self) -> Value {
        json!({"to_device": {"limit": 7}, "room": {"room_id": self.room_ids, "timeline_limit": 20}})
    }

    /// A good answer, or nothing, which is forgiven while something is wrong.
    fn good(&self, reply: Result<Reply, reqwest::Error>) -> Option<Value> {
        let now = Instant::now();
        let mut testimony = self.locked();
        testimony.requests += 1;
        let wrong = match reply {
            Ok(reply) if reply.status == 200 && reply.json.is_object() => {
                testimony.last_good = Some(now);
                return Some(reply.json);
            }
            Ok(reply) if reply.status == 200 || reply.status == 429 || reply.status >= 500 => {
                format!("{} {}", reply.status, String::from_utf8_lossy(&reply.raw))
            }
            Ok(reply) => {
                let words = String::from_utf8_lossy(&reply.raw);
                let told = format!("{} was refused: {} {words}", self.name(), reply.status);
                testimony.violations.push(told.clone());
                told
            }
            Err(error) => format!("{error:?}"),
        };
        testimony.errors += 1;
        if let Some(since) = *self.calm.lock().unwrap() {
            let late = now.saturating_duration_since(since);
            if late > testimony.longest_error.0 {
                testimony.longest_error = (late, wrong);
            }
        }
        None
    }

    fn locked(&self) -> MutexGuard<'_, Testimony> {
        self.testimony.lock().unwrap()
    }
}

/// The numbers of the messages among events, as they stand.
fn messages(events: &Value) -> Vec<u64> {
    let events = events.as_array().into_iter().flatten();
    events
        .filter(|event| event["type"] == "m.room.message")
        .filter_map(|event| event["content"]["n"].as_u64())
        .collect()
}
