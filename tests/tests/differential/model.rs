//! What a client knows: its replies folded together, as a client's accumulator does it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::matchers::{events, numbers};

/// The sections of a reply. Where Synapse lists a room in two of them, in the section `leave` and in the one that
/// came of it afterwards, the later one counts; we list a room once.
const SECTIONS: [&str; 4] = ["leave", "join", "knock", "invite"];

/// Everything that a client knows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    pub(crate) rooms: BTreeMap<String, Room>,
    pub(crate) account_data: BTreeMap<String, Value>,
    pub(crate) key_counts: Value,
    pub(crate) fallback_keys: Value,
    /// The last verdict about each user's device list: whether it changed, or left.
    pub(crate) device_lists: BTreeMap<String, bool>,
    /// The numbers of the to-device messages, in the order of arrival, each once.
    pub(crate) to_device: Vec<u64>,
}

/// A room.
#[derive(Debug, Default, Clone)]
pub(crate) struct Room {
    pub(crate) section: &'static str,
    /// Whether the user was ever in it, as far as this client knows.
    pub(crate) joined_once: bool,
    pub(crate) stripped: BTreeMap<StateKey, Value>,
    pub(crate) state: BTreeMap<StateKey, Value>,
    /// The last event of the timeline so far.
    pub(crate) newest: Option<String>,
    pub(crate) account_data: BTreeMap<String, Value>,
    pub(crate) receipts: BTreeMap<ReceiptKey, String>,
    pub(crate) typing: BTreeSet<String>,
    pub(crate) unread: Value,
    pub(crate) threads: Value,
    pub(crate) summary: BTreeMap<String, Value>,
}

/// A type and a state key.
pub(crate) type StateKey = (String, String);
/// A user, a type of receipt, and a thread or nothing.
pub(crate) type ReceiptKey = (String, String, String);

/// What one reply said of one room's timeline.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) room_id: String,
    pub(crate) section: &'static str,
    pub(crate) limited: bool,
    pub(crate) events: Vec<Value>,
    /// Whether the client was in the room already, as far as it knew.
    pub(crate) was_joined: bool,
    /// The last event that it knew.
    pub(crate) newest_before: Option<String>,
}

impl Model {
    /// Takes a reply, and returns what it said of timelines.
    pub(crate) fn fold(&mut self, reply: &Value) -> Vec<Heard> {
        let mut heard = Vec::new();
        for section in SECTIONS {
            for (room_id, told) in reply["rooms"][section].as_object().into_iter().flatten() {
                let room = self.rooms.entry(room_id.clone()).or_default();
                heard.extend(room.fold(section, room_id, told));
            }
        }
        for event in events(&reply["account_data"]) {
            self.account_data.insert(text(&event["type"]), event["content"].clone());
        }
        // Synapse may list a user in both: whose devices changed before the last shared room was left.
        for (list, changed) in [("changed", true), ("left", false)] {
            for user in reply["device_lists"][list].as_array().into_iter().flatten() {
                self.device_lists.insert(text(user), changed);
            }
        }
        for number in numbers(&reply["to_device"]) {
            // A message that was not acknowledged comes again.
            if !self.to_device.contains(&number) {
                self.to_device.push(number);
            }
        }
        self.key_counts = reply["device_one_time_keys_count"].clone();
        self.fallback_keys = reply["device_unused_fallback_key_types"].clone();
        heard
    }

    /// The rooms in a section.
    pub(crate) fn in_section(&self, section: &str) -> BTreeSet<&str> {
        let rooms = self.rooms.iter().filter(|(_id, room)| room.section == section);
        rooms.map(|(room_id, _room)| room_id.as_str()).collect()
    }

    /// Where a room is, if it was ever heard of.
    pub(crate) fn section_of(&self, room_id: &str) -> &'static str {
        self.rooms.get(room_id).map_or("", |room| room.section)
    }
}

impl Room {
    fn fold(&mut self, section: &'static str, room_id: &str, told: &Value) -> Option<Heard> {
        let was_joined = self.section == "join";
        self.section = section;
        self.joined_once |= section == "join";
        if section == "invite" || section == "knock" {
            let stripped = &told[format!("{section}_state").as_str()];
            self.stripped = events(stripped).into_iter().map(keyed).collect();
            return None;
        }
        self.stripped.clear();
        let timeline: Vec<Value> = events(&told["timeline"]).into_iter().cloned().collect();
        let heard = Heard {
            room_id: room_id.to_owned(),
            section,
            limited: told["timeline"]["limited"] == true,
            was_joined,
            newest_before: self.newest.clone(),
            events: timeline,
        };
        self.fold_state(told, &heard.events);
        if let Some(last) = heard.events.last() {
            self.newest = Some(text(&last["event_id"]));
        }
        for event in events(&told["account_data"]) {
            self.account_data.insert(text(&event["type"]), event["content"].clone());
        }
        for event in events(&told["ephemeral"]) {
            self.fold_ephemeral(event);
        }
        if section == "join" {
            self.unread = told["unread_notifications"].clone();
            self.threads = told["unread_thread_notifications"].clone();
            for (name, value) in told["summary"].as_object().into_iter().flatten() {
                self.summary.insert(name.clone(), value.clone());
            }
        }
        Some(heard)
    }

    /// State is as of the start of the timeline, which then changes it; or, under another name, as of its end.
    fn fold_state(&mut self, told: &Value, timeline: &[Value]) {
        let after = ["state_after", "org.matrix.msc4222.state_after"];
        if let Some(state_after) =
            after.iter().map(|name| &told[*name]).find(|list| list.is_object())
        {
            self.state.extend(events(state_after).into_iter().map(keyed));
            return;
        }
        self.state.extend(events(&told["state"]).into_iter().map(keyed));
        let states = timeline.iter().filter(|event| event["state_key"].is_string());
        self.state.extend(states.map(keyed));
    }

    fn fold_ephemeral(&mut self, event: &Value) {
        if event["type"] == "m.typing" {
            let users = event["content"]["user_ids"].as_array().into_iter().flatten();
            self.typing = users.map(text).collect();
            return;
        }
        for (event_id, types) in event["content"].as_object().into_iter().flatten() {
            for (receipt_type, users) in types.as_object().into_iter().flatten() {
                for (user_id, data) in users.as_object().into_iter().flatten() {
                    let thread = data["thread_id"].as_str().unwrap_or_default().to_owned();
                    self.receipts
                        .insert((user_id.clone(), receipt_type.clone(), thread), event_id.clone());
                }
            }
        }
    }
}

/// An event under its type and state key, without what depends on when and how it was told.
fn keyed(event: &Value) -> (StateKey, Value) {
    let mut bare = event.clone();
    bare.as_object_mut().unwrap().remove("unsigned");
    ((text(&event["type"]), text(&event["state_key"])), bare)
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
