//! What is true at a quiet point: what Synapse says to a client that looks afresh, and what those heard who listened all
//! along.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tests::client::Client;
use tests::matchers::events;

use super::names::name_of;
use crate::filters::Filter;
use crate::model::{Model, ReceiptKey, Room, StateKey, text};
use crate::world::World;

/// How many events of a timeline are looked at.
const DEPTH: u64 = 100;

/// The account as it is.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) user_id: String,
    pub(super) rooms: BTreeMap<String, TrueRoom>,
    /// The stripped state of invites and knocks.
    pub(super) invites: BTreeMap<String, BTreeMap<StateKey, Value>>,
    pub(super) account_data: BTreeMap<String, Value>,
    /// As the device was told that shares them with the client.
    pub(super) key_counts: Value,
    pub(super) fallback_keys: Value,
    /// The numbers of the messages that were sent to the device.
    pub(super) to_device: Vec<u64>,
    /// Invites and knocks as a v2 client heard of them that listened to the proxy all along.
    pub(super) invited_by_v2: BTreeSet<String>,
    /// Whom the user ever ignored. Then what the last event of a room is depends on when one asks.
    pub(super) ignored: BTreeSet<String>,
}

/// A joined room as it is.
#[derive(Debug)]
pub(super) struct TrueRoom {
    pub(super) name: String,
    pub(super) heroes: BTreeSet<String>,
    pub(super) is_dm: bool,
    pub(super) tags: Value,
    /// Every event without what depends on when it is told.
    pub(super) state: BTreeMap<StateKey, Value>,
    /// The newest events.
    pub(super) timeline: Vec<Value>,
    /// The IDs of all events as somebody heard them who listened all along, in order. Asked afresh, Synapse hides
    /// members from before the user came who are not members any more.
    pub(super) heard: Vec<String>,
    /// The last event as a v2 client heard it that listened to the proxy all along; none if it is not in the room.
    pub(super) newest_by_v2: Option<String>,
    /// Whether the room begins with the timeline.
    pub(super) whole: bool,
    pub(super) account_data: BTreeMap<String, Value>,
    pub(super) receipts: BTreeMap<ReceiptKey, String>,
    pub(super) typing: BTreeSet<String>,
    pub(super) unread: Value,
    pub(super) threads: Value,
    pub(super) summary: BTreeMap<String, Value>,
}

impl Truth {
    /// Looks at Synapse, and at what those know who listened.
    pub(super) async fn look(world: &World) -> Self {
        let client = &world.direct.client;
        // On the device of the reference client.
        let listener = &world.proxied.model;
        let everybody = look(client, false).await;
        // Only who loads members lazily is told a summary.
        let lazily = look(client, true).await;
        let (mut all, mut summaries) = (Model::default(), Model::default());
        all.fold(&everybody);
        summaries.fold(&lazily);
        let direct = all.account_data.get("m.direct").cloned().unwrap_or_default();
        let mut truth = Self {
            user_id: client.user_id.clone(),
            rooms: BTreeMap::new(),
            invites: BTreeMap::new(),
            account_data: all.account_data.clone(),
            key_counts: listener.key_counts.clone(),
            fallback_keys: listener.fallback_keys.clone(),
            to_device: world.to_device.clone(),
            invited_by_v2: ["invite", "knock"]
                .into_iter()
                .flat_map(|section| listener.in_section(section))
                .map(str::to_owned)
                .collect(),
            ignored: world.truth.ignored().clone(),
        };
        for (room_id, room) in &all.rooms {
            match room.section {
                "join" => {
                    let told = &everybody["rooms"]["join"][room_id]["timeline"];
                    let summary = summaries.rooms[room_id].summary.clone();
                    let is_dm = is_named(&direct, room_id);
                    let mut room = TrueRoom::new(room, told, summary, is_dm, &client.user_id);
                    room.timeline.retain(|event| !truth.ignored.contains(&text(&event["sender"])));
                    let heard = world.truth.shown(room_id, &Filter::everything());
                    room.heard = heard.into_iter().map(str::to_owned).collect();
                    let by_v2 = listener.rooms.get(room_id);
                    let by_v2 = by_v2.filter(|room| room.section == "join");
                    room.newest_by_v2 = by_v2.and_then(|room| room.newest.clone());
                    truth.rooms.insert(room_id.clone(), room);
                }
                "invite" | "knock" => {
                    truth.invites.insert(room_id.clone(), room.stripped.clone());
                }
                _ => {}
            }
        }
        truth
    }

    /// The rooms as the list sorts them: by the time of the last event, the latest first, and then by room ID.
    pub(super) fn in_order(&self) -> Vec<&str> {
        let mut rooms: Vec<(&String, &TrueRoom)> = self.rooms.iter().collect();
        rooms.sort_by_key(|(room_id, room)| (std::cmp::Reverse(room.timestamp()), *room_id));
        rooms.into_iter().map(|(room_id, _room)| room_id.as_str()).collect()
    }
}

impl TrueRoom {
    fn new(
        room: &Room,
        told: &Value,
        summary: BTreeMap<String, Value>,
        is_dm: bool,
        user_id: &str,
    ) -> Self {
        let (name, heroes) = name_of(&room.state, &summary, user_id);
        let tags = room.account_data.get("m.tag").map(|content| content["tags"].clone());
        Self {
            name,
            heroes,
            is_dm,
            tags: tags.filter(Value::is_object).unwrap_or_else(|| json!({})),
            state: room.state.iter().map(|(key, event)| (key.clone(), bare(event))).collect(),
            timeline: events(told).into_iter().map(bare).collect(),
            heard: Vec::new(),
            newest_by_v2: None,
            whole: told["limited"] != true,
            account_data: room.account_data.clone(),
            receipts: room.receipts.clone(),
            typing: room.typing.clone(),
            unread: room.unread.clone(),
            threads: room.threads.clone(),
            summary,
        }
    }

    /// When the last event was sent.
    pub(super) fn timestamp(&self) -> i64 {
        self.timeline.last().and_then(|event| event["origin_server_ts"].as_i64()).unwrap_or(0)
    }

    /// A count with that of each thread.
    pub(super) fn count(&self, name: &str) -> u64 {
        let threads = self.threads.as_object().into_iter().flatten().map(|(_root, counts)| counts);
        threads.chain([&self.unread]).filter_map(|counts| counts[name].as_u64()).sum()
    }

    /// The `url` of the avatar.
    pub(super) fn avatar_url(&self) -> Value {
        let avatar = self.state.get(&("m.room.avatar".to_owned(), String::new()));
        avatar.map_or(Value::Null, |event| event["content"]["url"].clone())
    }
}

async fn look(client: &Client, lazily: bool) -> Value {
    let filter = json!({
        "presence": {"types": []},
        "room": {
            "timeline": {"limit": DEPTH, "unread_thread_notifications": true},
            "state": {"lazy_load_members": lazily},
        },
    });
    let look = client.fresh_sync().filter(&filter).query("set_presence", "offline");
    look.of_any_shape("it is Synapse's, which the tests do not judge").send().await.ok()
}

/// Whether `m.direct` names the room.
fn is_named(direct: &Value, room_id: &str) -> bool {
    let users = direct.as_object().into_iter().flatten();
    users.filter_map(|(_user, rooms)| rooms.as_array()).flatten().any(|room| room == room_id)
}

/// An event without what depends on when and how it was told.
pub(super) fn bare(event: &Value) -> Value {
    let mut bare = event.clone();
    if let Some(fields) = bare.as_object_mut() {
        for name in ["unsigned", "room_id", "age", "user_id", "replaces_state", "prev_content"] {
            fields.remove(name);
        }
    }
    bare
}
