//! The timeline of a room as a client puts it together: from syncs, and from `/messages` where a sync was `limited`.

use serde_json::Value;

use crate::client::Client;
use crate::matchers;
use crate::random::Random;

/// Everything that one client has seen of a room, oldest first.
#[derive(Debug)]
pub struct RoomHistory {
    room_id: String,
    events: Vec<Value>,
    gaps: usize,
}

impl RoomHistory {
    /// Nothing seen yet.
    pub fn of(room_id: &str) -> Self {
        Self { room_id: room_id.to_owned(), events: Vec::new(), gaps: 0 }
    }

    /// How many gaps had to be filled.
    pub const fn gaps(&self) -> usize {
        self.gaps
    }

    /// How many events have been seen.
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has been seen.
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The bodies of the messages, in the order in which a user would read them.
    pub fn bodies(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
    }

    /// The event IDs, in order.
    pub fn event_ids(&self) -> Vec<&str> {
        self.events.iter().map(|event| event["event_id"].as_str().unwrap()).collect()
    }

    /// Takes the first sync of a chain: its timeline is where this history begins.
    pub fn begin(&mut self, reply: &Value) {
        assert!(self.events.is_empty(), "a history begins once");
        self.events.extend(matchers::timeline(reply, &self.room_id).into_iter().cloned());
    }

    /// Takes an incremental sync that was asked for with `since`, and fills the gap if it left one.
    pub async fn absorb(
        &mut self,
        client: &Client,
        since: &str,
        reply: &Value,
        random: &mut Random,
    ) {
        let room = matchers::joined(reply, &self.room_id);
        if room["timeline"]["limited"] == true {
            let prev_batch = room["timeline"]["prev_batch"]
                .as_str()
                .expect("a limited timeline has a prev_batch");
            self.fill_gap(client, since, prev_batch, random).await;
        }
        self.events.extend(matchers::timeline(reply, &self.room_id).into_iter().cloned());
    }

    /// Pages back from the first sync's `prev_batch` to the beginning of the room.
    pub async fn page_to_the_beginning(
        &mut self,
        client: &Client,
        prev_batch: &str,
        random: &mut Random,
    ) {
        let mut earlier = Vec::new();
        let mut from = Some(prev_batch.to_owned());
        while let Some(token) = from {
            let page = client
                .messages_before(&self.room_id, &token, random.between(1, 30))
                .send()
                .await
                .ok();
            earlier.extend(page["chunk"].as_array().unwrap().iter().cloned());
            from = page["end"].as_str().map(str::to_owned);
        }
        earlier.reverse();
        self.events.splice(0..0, earlier);
    }

    /// Both ways that clients use: with `to`, the server ends at the old position; without it, the client stops
    /// at the first event that it knows.
    async fn fill_gap(
        &mut self,
        client: &Client,
        since: &str,
        prev_batch: &str,
        random: &mut Random,
    ) {
        self.gaps += 1;
        let to = random.coin().then_some(since);
        let mut missing: Vec<Value> = Vec::new();
        let mut from = Some(prev_batch.to_owned());
        'pages: while let Some(token) = from {
            let request = client
                .messages_before(&self.room_id, &token, random.between(1, 30))
                .maybe_query("to", to);
            let page = request.send_patiently().await.ok();
            for event in page["chunk"].as_array().unwrap() {
                if to.is_none() && self.knows(event) {
                    break 'pages;
                }
                missing.push(event.clone());
            }
            from = page["end"].as_str().map(str::to_owned);
        }
        assert!(
            !missing.is_empty(),
            "`limited` says that events are missing, but /messages has none"
        );
        self.events.extend(missing.into_iter().rev());
    }

    fn knows(&self, event: &Value) -> bool {
        self.events.iter().any(|known| known["event_id"] == event["event_id"])
    }
}
