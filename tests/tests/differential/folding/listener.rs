//! Clients: each with its own habits, filter and view.

mod filtered;

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use tests::client::Client;
use tests::matchers::numbers;
use tests::random::Random;
use tests::wait::PATIENCE;

use super::script::{END, ME, Room, Script};
use crate::filters::Filter;
use crate::model::Model;

/// How much of the truth a client knows in the end.
#[derive(Debug, Clone)]
enum Sees {
    /// Everything.
    All,
    /// The end of a timeline.
    Newest,
    /// Members as they matter.
    Lazily,
    /// Timelines of messages; of the state nothing is said.
    Messages,
    /// What this lets through.
    Filtered(Filter),
}

/// A client.
pub(super) struct Listener {
    name: &'static str,
    client: Client,
    /// What it asks for: a v2 filter, or the streams of v3.
    wishes: Value,
    is_v3: bool,
    state_after: bool,
    sees: Sees,
    /// It syncs after one poll of so many.
    seldom: u64,
    /// It sometimes goes back to what it knew long ago.
    forgets: bool,
    knows: Known,
    /// What it has kept of earlier.
    kept: Known,
}

/// A place in the stream, and the view there.
#[derive(Debug, Clone, Default)]
struct Known {
    since: Option<String>,
    model: Model,
    /// The IDs of the events of each timeline since its last gap.
    tails: BTreeMap<String, Vec<String>>,
    /// Of a v3 session: the numbers of all messages, in the order in which they came.
    messages: Vec<u64>,
}

impl Listener {
    /// One of each kind, on one device.
    pub(super) fn all(alice: &Client) -> Vec<Self> {
        let v2 = |name, timeline: Value, state: Value| Self {
            name,
            client: alice.clone(),
            wishes: json!({"room": {"timeline": timeline, "state": state}}),
            is_v3: false,
            state_after: false,
            sees: Sees::All,
            seldom: 1,
            forgets: false,
            knows: Known::default(),
            kept: Known::default(),
        };
        let wide = || v2("each poll", json!({"limit": 100}), json!({}));
        let narrow = |name, limit: u64| Self {
            sees: Sees::Newest,
            ..v2(name, json!({"limit": limit}), json!({}))
        };
        let lazy = || v2("lazily", json!({"limit": 100}), json!({"lazy_load_members": true}));
        let messages =
            || v2("messages", json!({"limit": 100, "types": ["m.room.message"]}), json!({}));
        let v3 = |name, limit: u64, lazily: bool| Self {
            is_v3: true,
            wishes: json!({
                "room_list": {}, "account_data": {}, "to_device": {},
                "room": {"room_id": "room_list", "timeline_limit": limit, "lazy_load_members": lazily},
            }),
            ..v2(name, Value::Null, Value::Null)
        };
        vec![
            wide(),
            Self { name: "seldom", seldom: 6, ..wide() },
            Self { name: "forgets", seldom: 2, forgets: true, ..wide() },
            Self { seldom: 2, ..narrow("the last one", 1) },
            Self { seldom: 5, ..narrow("the last three", 3) },
            Self { name: "state after", seldom: 3, state_after: true, ..wide() },
            Self {
                name: "state after, the last two",
                seldom: 4,
                state_after: true,
                forgets: true,
                ..narrow("", 2)
            },
            Self { sees: Sees::Lazily, seldom: 3, ..lazy() },
            Self { sees: Sees::Messages, seldom: 3, ..messages() },
            v3("v3, each poll", 100, false),
            Self { seldom: 5, forgets: true, ..v3("v3, seldom", 100, false) },
            Self { seldom: 3, sees: Sees::Newest, ..v3("v3, the last two", 2, false) },
            Self { seldom: 3, sees: Sees::Lazily, ..v3("v3, lazily", 100, true) },
        ]
    }

    /// What happens after a poll.
    pub(super) async fn syncs_sometimes(&mut self, random: &mut Random) {
        if self.forgets && random.one_in(6) {
            self.knows = self.kept.clone();
        }
        if random.one_in(self.seldom) {
            self.sync(0).await;
        }
        if random.one_in(5) {
            self.kept = self.knows.clone();
        }
    }

    /// Until the last poll has been told.
    pub(super) async fn syncs_to_the_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.knows.model.account_data.contains_key(END) {
            self.sync(1_000).await;
            assert!(Instant::now() < deadline, "{} does not come to the end", self.name);
        }
    }

    /// One request, folded into the view.
    pub(super) async fn sync(&mut self, timeout: u64) {
        let reply =
            if self.is_v3 { self.ask_v3(timeout).await } else { self.ask_v2(timeout).await };
        for heard in self.knows.model.fold(&reply) {
            let tail = self.knows.tails.entry(heard.room_id).or_default();
            if heard.limited || !heard.was_joined {
                tail.clear();
            }
            let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
            tail.extend(heard.events.iter().map(id));
        }
    }

    async fn ask_v2(&mut self, timeout: u64) -> Value {
        let mut request = self.client.sync().timeout(timeout).filter(&self.wishes);
        if let Some(since) = &self.knows.since {
            request = request.since(since);
        }
        if self.state_after {
            request = request.query("use_state_after", "true");
        }
        let reply = request.send().await.ok();
        self.knows.since = reply["next_batch"].as_str().map(str::to_owned);
        reply
    }

    /// The reply in the form of v2.
    async fn ask_v3(&mut self, timeout: u64) -> Value {
        let nothing = json!({});
        let wishes = if self.knows.since.is_some() { &nothing } else { &self.wishes };
        let mut request = self.client.v3_sync(wishes).timeout(timeout);
        if let Some(since) = &self.knows.since {
            request = request.since(since);
        }
        let reply = request.send().await.ok();
        self.knows.since = reply["next"].as_str().map(str::to_owned);
        self.knows.messages.extend(numbers(&reply["to_device"]));
        let mut as_v2 = json!({"account_data": {"events": reply["account_data"]["events"]}});
        for (room_id, told) in reply["room"]["rooms"].as_object().into_iter().flatten() {
            if told["initial"] == true {
                self.knows.model.rooms.remove(room_id);
            }
            as_v2["rooms"]["join"][room_id] = told.clone();
        }
        as_v2
    }

    /// What it knows, beside what was told.
    pub(super) fn agrees(&self, script: &Script) -> Result<(), String> {
        if let Sees::Filtered(filter) = &self.sees {
            return self.agrees_with(filter, script);
        }
        let wrong = |what: &str, knows: String, told: String| {
            Err(format!("{}: {what}: knows {knows}, was told {told}", self.name))
        };
        let model = &self.knows.model;
        if model.account_data != script.account_data {
            return wrong(
                "account data",
                format!("{:?}", model.account_data),
                format!("{:?}", script.account_data),
            );
        }
        // A session begins with the oldest message that is still held, and from there has each once, in order. One that goes
        // back does so behind its own acknowledgement.
        let first = self.knows.messages.first().copied().unwrap_or(script.messages + 1);
        let all: Vec<u64> = (first..=script.messages).collect();
        if self.is_v3 && !self.forgets && self.knows.messages != all {
            return wrong(
                "to-device messages",
                format!("{:?}", self.knows.messages),
                format!("{all:?}"),
            );
        }
        for room in &script.rooms {
            let Some(known) = model.rooms.get(&room.room_id) else {
                return wrong("rooms", String::from("nothing"), room.room_id.clone());
            };
            let (state, truth) = (self.state(known), self.true_state(room));
            if state != truth {
                return wrong("state", format!("{state:?}"), format!("{truth:?}"));
            }
            let tail = self.knows.tails.get(&room.room_id).cloned().unwrap_or_default();
            let messages =
                |kind: &str| !matches!(self.sees, Sees::Messages) || kind == "m.room.message";
            let truth: Vec<String> = room
                .tail
                .iter()
                .filter(|(_, kind)| messages(kind))
                .map(|(id, _)| id.clone())
                .collect();
            let fits = if matches!(self.sees, Sees::Newest) {
                truth.ends_with(&tail) && tail.is_empty() == truth.is_empty()
            } else {
                truth == tail
            };
            if !fits {
                return wrong("timeline", format!("{tail:?}"), format!("{truth:?}"));
            }
            if known.unread != room.unread {
                return wrong("counts", known.unread.to_string(), room.unread.to_string());
            }
            let receipts: BTreeMap<String, String> = known
                .receipts
                .iter()
                .map(|((user, _, _), event)| (user.clone(), event.clone()))
                .collect();
            if receipts != room.receipts {
                return wrong("receipts", format!("{receipts:?}"), format!("{:?}", room.receipts));
            }
            if known.account_data != room.account_data {
                return wrong(
                    "room data",
                    format!("{:?}", known.account_data),
                    format!("{:?}", room.account_data),
                );
            }
        }
        Ok(())
    }

    fn state(&self, known: &crate::model::Room) -> BTreeMap<(String, String), String> {
        let id = |event: &Value| event["event_id"].as_str().unwrap_or_default().to_owned();
        let all = known.state.iter().map(|(key, event)| (key.clone(), id(event)));
        all.filter(|(key, _)| self.judges(key)).collect()
    }

    fn true_state(&self, room: &Room) -> BTreeMap<(String, String), String> {
        room.state.clone().into_iter().filter(|(key, _)| self.judges(key)).collect()
    }

    /// Which state it must know as it is.
    fn judges(&self, key: &(String, String)) -> bool {
        match &self.sees {
            Sees::All | Sees::Newest => true,
            Sees::Lazily => key.0 != "m.room.member" || key.1 == ME,
            Sees::Messages | Sees::Filtered(_) => false,
        }
    }
}
