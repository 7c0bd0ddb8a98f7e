//! The stream of polls, and the truth of what it tells.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::random::Random;
use tests::scripted_homeserver::{nothing_new, with_to_device};

/// Whose syncs they are.
pub(super) const ME: &str = "@alice:scripted";

/// The type of the global account data that comes with the last poll.
pub(super) const END: &str = "org.test.end";

/// A homeserver's rooms and what has become of them.
pub(super) struct Script {
    random: Random,
    pub(super) rooms: Vec<Room>,
    pub(super) account_data: BTreeMap<String, Value>,
    /// How many to-device messages were sent.
    pub(super) messages: u64,
    events: u64,
}

/// A room as it truly is.
pub(super) struct Room {
    pub(super) room_id: String,
    /// The ID of each state event.
    pub(super) state: BTreeMap<(String, String), String>,
    /// The events since the last gap: ID and type.
    pub(super) tail: Vec<(String, String)>,
    pub(super) unread: Value,
    pub(super) receipts: BTreeMap<String, String>,
    pub(super) account_data: BTreeMap<String, Value>,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        let room = |number: u32| Room {
            room_id: format!("!{number}-{seed}:scripted"),
            state: BTreeMap::new(),
            tail: Vec::new(),
            unread: Value::Null,
            receipts: BTreeMap::new(),
            account_data: BTreeMap::new(),
        };
        Self {
            random: Random::seeded(seed ^ 0x5eed),
            rooms: (0..3).map(room).collect(),
            account_data: BTreeMap::new(),
            messages: 0,
            events: 0,
        }
    }

    /// The reply of this number: the first one holds every room, the last one the end.
    pub(super) fn poll(&mut self, number: u64, last: bool) -> Value {
        let mut reply = nothing_new(&format!("s{number}"));
        for at in 0..self.rooms.len() {
            if number == 0 || self.random.one_in(2) {
                let told = self.tell(at, number);
                reply["rooms"]["join"][&self.rooms[at].room_id] = told;
            }
        }
        let mut data = Vec::new();
        if self.random.one_in(4) {
            data.push((format!("org.test.{}", self.random.between(0, 2)), json!({"n": number})));
        }
        if last {
            data.push((END.to_owned(), json!({})));
        }
        reply["account_data"]["events"] = told_data(&data);
        self.account_data.extend(data);
        let sent = if self.random.one_in(3) { self.random.between(1, 3) } else { 0 };
        let numbers: Vec<u64> = (self.messages + 1..=self.messages + sent).collect();
        self.messages += sent;
        with_to_device(reply, &numbers)
    }

    /// What only the truth knows.
    pub(super) fn something_untold_happens(&mut self) {
        for at in 0..self.rooms.len() {
            let name = self.state_event("m.room.name", "");
            self.happens(at, &name);
            self.rooms[at]
                .tail
                .push((name["event_id"].as_str().unwrap().to_owned(), String::from("m.room.name")));
        }
    }

    fn tell(&mut self, at: usize, number: u64) -> Value {
        let first = number == 0;
        let gap = first || self.random.one_in(7);
        let mut state = Vec::new();
        if first {
            let mut create = self.state_event("m.room.create", "");
            create["content"] = json!({"room_version": "10", "creator": ME});
            state.push(create);
            state.push(self.state_event("m.room.member", ME));
            state.push(self.state_event("m.room.name", ""));
            for user in 0..4 {
                state.push(self.state_event("m.room.member", &format!("@user-{user}:scripted")));
            }
        } else if gap {
            for _ in 0..self.random.between(0, 3) {
                let event = self.some_state_event();
                // What changed twice in the gap is told once.
                state.retain(|other: &Value| keys(other) != keys(&event));
                state.push(event);
            }
        }
        for event in &state {
            self.happens(at, event);
        }
        if gap {
            self.rooms[at].tail.clear();
        }
        let mut timeline = Vec::new();
        for _ in 0..self.random.between(0, 6) {
            let event =
                if self.random.one_in(3) { self.some_state_event() } else { self.message() };
            self.happens(at, &event);
            self.rooms[at].tail.push((text(&event["event_id"]), text(&event["type"])));
            timeline.push(event);
        }
        let room = &mut self.rooms[at];
        let counts = self.random.between(0, 9);
        room.unread = json!({"notification_count": counts, "highlight_count": counts / 3});
        let mut ephemeral = Vec::new();
        if let (true, Some((event_id, _))) = (self.random.coin(), room.tail.last()) {
            let user_id = format!("@user-{}:scripted", self.random.between(0, 3));
            let receipt = json!({event_id: {"m.read": {&user_id: {"ts": number}}}});
            ephemeral.push(json!({"type": "m.receipt", "content": receipt}));
            room.receipts.insert(user_id, event_id.clone());
        }
        let mut data = Vec::new();
        if self.random.one_in(3) {
            data.push((
                format!("org.test.room.{}", self.random.between(0, 1)),
                json!({"n": number}),
            ));
        }
        let told = told_data(&data);
        room.account_data.extend(data);
        json!({
            "timeline": {"events": timeline, "limited": gap, "prev_batch": format!("before s{number}")},
            "state": {"events": state}, "account_data": {"events": told},
            "ephemeral": {"events": ephemeral}, "unread_notifications": room.unread, "summary": {},
        })
    }

    fn happens(&mut self, at: usize, event: &Value) {
        if event["state_key"].is_string() {
            self.rooms[at].state.insert(keys(event), text(&event["event_id"]));
        }
    }

    fn some_state_event(&mut self) -> Value {
        match self.random.between(0, 3) {
            0 => self.state_event("m.room.name", ""),
            1 => self.state_event("m.room.topic", ""),
            _ => {
                let user = self.random.between(0, 5);
                self.state_event("m.room.member", &format!("@user-{user}:scripted"))
            }
        }
    }

    fn state_event(&mut self, event_type: &str, state_key: &str) -> Value {
        let mut event = self.message();
        event["type"] = event_type.into();
        event["state_key"] = state_key.into();
        event["content"] = match event_type {
            "m.room.member" => json!({"membership": "join", "displayname": event["event_id"]}),
            "m.room.topic" => json!({"topic": event["event_id"]}),
            _ => json!({"name": event["event_id"]}),
        };
        if event_type == "m.room.member" {
            event["sender"] = state_key.into();
        }
        event
    }

    fn message(&mut self) -> Value {
        self.events += 1;
        json!({
            "type": "m.room.message", "event_id": format!("${}", self.events),
            "sender": format!("@user-{}:scripted", self.random.between(0, 3)),
            "origin_server_ts": 1_700_000_000_000_u64 + self.events,
            "content": {"msgtype": "m.text", "body": self.events.to_string()}, "unsigned": {"age": 10},
        })
    }
}

/// Type and state key.
fn keys(event: &Value) -> (String, String) {
    (text(&event["type"]), text(&event["state_key"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn told_data(data: &[(String, Value)]) -> Value {
    data.iter().map(|(name, content)| json!({"type": name, "content": content})).collect()
}
