//! What a client of GET `/sync` is told of rooms when the homeserver says what Synapse cannot be made to say at will.

mod accounts;
mod forks;
mod order;
mod quiet;
mod worked_example;

use serde_json::{Value, json};
use tests::scripted_homeserver::nothing_new;

/// The room of most of these tests.
const ROOM: &str = "!room:scripted";

/// A sync reply with these events in the room's timeline.
fn timeline_of(next_batch: &str, events: &[Value]) -> Value {
    let mut reply = nothing_new(next_batch);
    reply["rooms"]["join"][ROOM] = json!({
        "timeline": {"events": events, "limited": false, "prev_batch": format!("before {next_batch}")},
        "state": {"events": []}, "account_data": {"events": []}, "ephemeral": {"events": []},
        "unread_notifications": {"notification_count": 0, "highlight_count": 0}, "summary": {},
    });
    reply
}

/// A state event with an ID of its own.
fn state_event(event_id: &str, event_type: &str, content: &Value) -> Value {
    json!({
        "type": event_type, "state_key": "", "event_id": event_id, "sender": "@alice:scripted",
        "origin_server_ts": 1_700_000_000_000_u64, "content": content, "unsigned": {"age": 10},
    })
}

/// The IDs of events.
fn ids(events: &[&Value]) -> Vec<String> {
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}
