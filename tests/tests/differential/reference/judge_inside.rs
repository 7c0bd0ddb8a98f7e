//! Whether what the reference client shows of the inside of a room is true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::judge::{Terms, differ, tail};
use super::truth::{TrueRoom, Truth, bare};
use crate::model::{ReceiptKey, StateKey, text};

/// What is wrong with state, timeline, counts, account data, receipts and typing.
pub(super) fn faults_inside(
    found: &mut Vec<String>,
    room_id: &str,
    client: &Value,
    room: &TrueRoom,
    truth: &Truth,
    terms: &Terms,
) {
    tail(found, "timeline", &client["inside"]["timeline"], room, truth);
    let newest = client["inside"]["timeline"].as_array().and_then(|timeline| timeline.last());
    let newest = newest.map(|event| text(&event["event_id"]));
    differ(found, "the newest event, beside a v2 client", &newest, &room.newest_by_v2);
    state(found, client, room, truth, terms);
    differ(found, "unread counts", &client["unread"]["unread_notifications"], &room.unread);
    let threads = &client["unread"]["unread_thread_notifications"];
    let threads = if threads.is_null() { &json!({}) } else { threads };
    let expected = if room.threads.is_null() { &json!({}) } else { &room.threads };
    differ(found, "unread counts of threads", threads, expected);
    for (name, expected) in &room.summary {
        differ(found, name, &client["summary"][name], expected);
    }
    for (event_type, content) in &room.account_data {
        let what = format!("account data {event_type}");
        let told = &client["account_data"][event_type];
        // Tags that were all taken away are as good as none.
        if !(told.is_null() && *content == json!({"tags": {}})) {
            differ(found, &what, told, content);
        }
    }
    let receipts = |mut receipts: BTreeMap<ReceiptKey, String>| {
        receipts
            .retain(|key, _| !terms.unseen_receipts.contains(&(room_id.to_owned(), key.clone())));
        receipts
    };
    let told = receipts(receipts_of(client));
    let expected = receipts(room.receipts.clone());
    for key in told.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        differ(found, &format!("receipt {key:?}"), &told.get(key), &expected.get(key));
    }
    if !terms.rejoined.contains(room_id) {
        let typing = client["typing"].as_array().into_iter().flatten().map(text).collect();
        differ(found, "typing", &typing, &room.typing);
    }
}

fn state(found: &mut Vec<String>, client: &Value, room: &TrueRoom, truth: &Truth, terms: &Terms) {
    let mut told: BTreeMap<StateKey, Value> = BTreeMap::new();
    for (event_type, events) in client["inside"]["state"].as_object().into_iter().flatten() {
        for (state_key, event) in events.as_object().into_iter().flatten() {
            told.insert((event_type.clone(), state_key.clone()), bare(event));
        }
    }
    let mut needed: BTreeSet<String> = room.timeline_senders(client).into_iter().collect();
    needed.insert(truth.user_id.clone());
    for key in told.keys().chain(room.state.keys()).collect::<BTreeSet<_>>() {
        // With lazy loading a client need not know of everybody; what it knows must be true.
        let is_member = key.0 == "m.room.member";
        if terms.lazy && is_member && !told.contains_key(key) && !needed.contains(&key.1) {
            continue;
        }
        differ(found, &format!("state {key:?}"), &told.get(key), &room.state.get(key));
    }
}

fn receipts_of(client: &Value) -> BTreeMap<ReceiptKey, String> {
    let mut receipts = BTreeMap::new();
    for (user_id, types) in client["receipts"].as_object().into_iter().flatten() {
        for (receipt_type, threads) in types.as_object().into_iter().flatten() {
            for (thread, event_id) in threads.as_object().into_iter().flatten() {
                let key = (user_id.clone(), receipt_type.clone(), thread.clone());
                receipts.insert(key, text(event_id));
            }
        }
    }
    receipts
}

impl TrueRoom {
    /// Who speaks in the client's timeline and is still known to the room.
    fn timeline_senders(&self, client: &Value) -> Vec<String> {
        let timeline = client["inside"]["timeline"].as_array().into_iter().flatten();
        let senders = timeline.map(|event| text(&event["sender"]));
        senders
            .filter(|sender| self.state.contains_key(&("m.room.member".to_owned(), sender.clone())))
            .collect()
    }
}
