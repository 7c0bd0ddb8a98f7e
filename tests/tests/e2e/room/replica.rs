//! What a client makes of the replies: it replays state and timeline.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::client::{Client, encode};

use super::{state, timeline, told};

/// One room as a client holds it.
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// The current state: the event ID for each type and state key.
    pub(super) state: BTreeMap<(String, String), String>,
    /// The end of the timeline.
    pub(super) timeline: Vec<String>,
    /// How often events were missing.
    pub(super) gaps: usize,
}

impl Replica {
    /// Takes over what a reply says of the room.
    pub(super) fn absorb(&mut self, reply: &Value, room_id: &str) {
        let room = told(reply, room_id);
        if room["initial"] == true {
            *self = Self::default();
        } else if room["timeline"]["limited"] == true {
            self.gaps += 1;
            self.timeline.clear();
        }
        for event in state(reply, room_id).into_iter().chain(timeline(reply, room_id)) {
            if let Some(state_key) = event["state_key"].as_str() {
                let key = (text(&event["type"]), state_key.to_owned());
                self.state.insert(key, text(&event["event_id"]));
            }
        }
        let events = timeline(reply, room_id).into_iter();
        self.timeline.extend(events.map(|event| text(&event["event_id"])));
    }

    /// Compares the state with the homeserver's own word.
    pub(super) async fn assert_current(&self, on_synapse: &Client, room_id: &str) {
        let path = format!("/_matrix/client/v3/rooms/{}/state", encode(room_id));
        let reply = on_synapse.get(&path).send().await.ok();
        let current: BTreeMap<(String, String), String> = reply
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                ((text(&event["type"]), text(&event["state_key"])), text(&event["event_id"]))
            })
            .collect();
        assert_eq!(self.state, current, "the state that the client has, and the real one");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
