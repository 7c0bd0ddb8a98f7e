//! Whether what the reference client shows is true.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde_json::{Value, json};

use super::judge_inside::faults_inside;
use super::truth::{TrueRoom, Truth, bare};
use crate::model::{ReceiptKey, StateKey, text};

/// What the session asked for, and what need not agree.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// Whether every page of the list was read.
    pub(super) whole: bool,
    /// Whether members come only as they matter.
    pub(super) lazy: bool,
    /// Whether the session began anew in between: messages to the device that were not acknowledged come once more.
    pub(super) began_anew: bool,
    /// Rooms that the user left and came back to.
    pub(super) rejoined: BTreeSet<String>,
    /// Receipts from a time when the user was not in the room.
    pub(super) unseen_receipts: BTreeSet<(String, ReceiptKey)>,
}

/// What is wrong with what the client shows.
pub(super) fn faults(shown: &Value, truth: &Truth, terms: &Terms) -> Vec<String> {
    let mut found = Vec::new();
    the_list(&mut found, shown, truth, terms);
    for (room_id, room) in &truth.rooms {
        let client = &shown["rooms"][room_id];
        if client["listed"] == true {
            let mut in_room = Vec::new();
            the_entry(&mut in_room, client, room, truth);
            faults_inside(&mut in_room, room_id, client, room, truth, terms);
            found.extend(in_room.into_iter().map(|what| format!("{room_id}: {what}")));
        }
    }
    let invites = shown["invites"].as_object().into_iter().flatten();
    let invites: BTreeSet<&str> = invites.map(|(room_id, _)| room_id.as_str()).collect();
    let expected = truth.invites.keys().map(String::as_str).collect();
    differ(&mut found, "invites", &invites, &expected);
    let by_v2 = truth.invited_by_v2.iter().map(String::as_str).collect();
    differ(&mut found, "invites, beside a v2 client", &invites, &by_v2);
    for (room_id, stripped) in &truth.invites {
        let told = &shown["invites"][room_id];
        let events = ["invite_state", "knock_state"].map(|name| &told[name]["events"]);
        let events = events.into_iter().filter_map(Value::as_array).flatten();
        let mut told: Vec<(StateKey, String)> = events
            .map(|event| {
                ((text(&event["type"]), text(&event["state_key"])), bare(event).to_string())
            })
            .collect();
        told.sort();
        let stripped = stripped.iter();
        let expected: Vec<(StateKey, String)> =
            stripped.map(|(key, event)| (key.clone(), bare(event).to_string())).collect();
        differ(&mut found, &format!("stripped state of {room_id}"), &told, &expected);
    }
    for (event_type, content) in &truth.account_data {
        let what = format!("account data {event_type}");
        differ(&mut found, &what, &shown["account_data"][event_type], content);
    }
    let more = shown["account_data"].as_object().into_iter().flatten();
    for (event_type, _content) in more.filter(|(name, _)| !truth.account_data.contains_key(*name)) {
        found.push(format!("account data {event_type}: there is none"));
    }
    messages(&mut found, shown, truth, terms);
    let counts = &shown["e2ee"]["device_one_time_keys_count"];
    differ(&mut found, "one-time keys", counts, &truth.key_counts);
    let fallback = &shown["e2ee"]["device_unused_fallback_key_types"];
    differ(&mut found, "fallback keys", fallback, &truth.fallback_keys);
    found
}

fn the_list(found: &mut Vec<String>, shown: &Value, truth: &Truth, terms: &Terms) {
    let list = shown["list"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut list: Vec<&str> = list.collect();
    let mut expected = truth.in_order();
    if !terms.whole {
        for stray in list.iter().filter(|room_id| !truth.rooms.contains_key(**room_id)) {
            found.push(format!("{stray} is on the list, but the user is not in it"));
        }
        expected.retain(|room_id| list.contains(room_id));
    }
    if !truth.ignored.is_empty() {
        list.sort_unstable();
        expected.sort_unstable();
    }
    differ(found, "the list", &list, &expected);
    differ(found, "the length of the list", &shown["count"], &json!(truth.rooms.len()));
}

/// What the list shows of a room.
fn the_entry(found: &mut Vec<String>, client: &Value, room: &TrueRoom, truth: &Truth) {
    let entry = &client["entry"];
    let summary = |name: &str| room.summary.get(name).cloned().unwrap_or_else(|| json!(0));
    for (name, expected) in [
        ("name", json!(room.name)),
        ("avatar_url", room.avatar_url()),
        ("timestamp", json!(room.timestamp())),
        ("joined_count", summary("m.joined_member_count")),
        ("invited_count", summary("m.invited_member_count")),
        ("notification_count", json!(room.count("notification_count"))),
        ("highlight_count", json!(room.count("highlight_count"))),
        ("is_dm", json!(room.is_dm)),
        ("tags", room.tags.clone()),
    ] {
        if name != "timestamp" || truth.ignored.is_empty() {
            differ(found, name, &entry[name], &expected);
        }
    }
    let heroes = entry["heroes"].as_array().into_iter().flatten();
    let heroes: BTreeSet<String> = heroes.map(|hero| text(&hero["user_id"])).collect();
    differ(found, "heroes", &heroes, &room.heroes);
    for event_type in ["m.room.topic", "m.room.encryption"] {
        let told = &client["outside"]["state"][event_type][""];
        let expected = room.state.get(&(event_type.to_owned(), String::new()));
        let expected = expected.unwrap_or(&Value::Null);
        differ(found, &format!("the list's {event_type}"), &bare(told), expected);
    }
    tail(found, "the list's timeline", &client["outside"]["timeline"], room, truth);
}

/// Whether a timeline is the end of the room's: as Synapse tells it afresh, or as somebody heard it.
pub(super) fn tail(
    found: &mut Vec<String>,
    what: &str,
    told: &Value,
    room: &TrueRoom,
    truth: &Truth,
) {
    let told = told.as_array().into_iter().flatten().map(bare);
    let told: Vec<Value> =
        told.filter(|event| !truth.ignored.contains(&text(&event["sender"]))).collect();
    let fresh: Vec<String> = room.timeline.iter().map(id).collect();
    let ids: Vec<String> = told.iter().map(id).collect();
    if ids.is_empty() && !fresh.is_empty() {
        found.push(format!("{what} is empty"));
    }
    if !(ends(&fresh, &ids, room.whole) || ends(&room.heard, &ids, true)) {
        let (told, fresh) = (described(&told), described(&room.timeline));
        found.push(format!("{what}: {told:?} instead of {fresh:?}, heard were {:?}", room.heard));
    }
    for event in &told {
        let expected = room.timeline.iter().find(|known| id(known) == id(event));
        if let Some(expected) = expected.filter(|expected| *expected != event) {
            found.push(format!("{what}: {event} instead of {expected}"));
        }
    }
}

/// Whether these are the last ones; of a list that is not `whole`, as far as it goes.
fn ends(list: &[String], these: &[String], whole: bool) -> bool {
    let common = these.len().min(list.len());
    (these.len() == common || !whole)
        && list[list.len() - common..] == these[these.len() - common..]
}

fn id(event: &Value) -> String {
    text(&event["event_id"])
}

/// Events by type and ID, for those who read what is wrong.
fn described(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", text(&event["type"]), id(event))).collect()
}

fn messages(found: &mut Vec<String>, shown: &Value, truth: &Truth, terms: &Terms) {
    let told = shown["to_device"].as_array().into_iter().flatten();
    let mut numbers: Vec<u64> = told.filter_map(|event| event["content"]["n"].as_u64()).collect();
    if terms.began_anew {
        let mut known = BTreeSet::new();
        numbers.retain(|number| known.insert(*number));
    }
    differ(found, "to-device messages", &numbers, &truth.to_device);
}

pub(super) fn differ<T: PartialEq + Debug>(
    found: &mut Vec<String>,
    what: &str,
    told: &T,
    expected: &T,
) {
    if told != expected {
        found.push(format!("{what}: {told:?} instead of {expected:?}"));
    }
}
