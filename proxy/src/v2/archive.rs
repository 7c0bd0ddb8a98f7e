//! Rooms that the user left before the account was known here, for who asks for them with `include_leave`.
//!
//! Polls do not ask for left rooms, and what was forgotten by another way than through us is not told either. So
//! upstream is asked when a client wants them. What the store has of a left room is told from there; of other
//! rooms upstream's own answer goes out as it is, its `prev_batch` included, which `/messages` takes to upstream.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use store::{RoomHead, RoomNid, RoomOutline, Section};

use crate::{
    auth::Requester,
    auxiliary,
    error::{Error, causes},
    filter::{EventFormat, Filter},
    json::{self, Object, ObjectWriter},
    state::State,
    sync_reply,
    views::EventFields,
};

/// Which left rooms there are: as little of each as will do. Their create events are needed below.
const LIST: &str = r#"{"event_format":"FORMAT","presence":{"types":[]},"account_data":{"types":[]},"room":{"include_leave":true,"timeline":{"limit":1,"types":["m.room.member"]},"state":{"types":["m.room.create"]},"ephemeral":{"types":[]},"account_data":{"types":[]}}}"#;

/// What upstream says of left rooms.
#[derive(Debug, Default)]
pub(super) struct Archive {
    /// The left rooms that upstream lists; `None` where it was not asked, or did not answer.
    listed: Option<HashSet<String>>,
    /// Those that the store does not have: ID and entry.
    pub(super) rooms: Vec<(String, String)>,
}

impl Archive {
    /// Asks upstream for the left rooms, where the filter wants them. Without an answer those that the store has
    /// must do.
    pub(super) async fn fetch(
        state: &State,
        requester: &Requester,
        filter: &Filter,
        known: &[RoomOutline],
    ) -> Self {
        if !filter.room.include_leave {
            return Self::default();
        }
        match try_fetch(state, requester, filter, known).await {
            Ok(archive) => archive,
            Err(error) => {
                tracing::warn!(error = %causes(&error), "only left rooms that are stored are listed");
                Self::default()
            }
        }
    }

    /// Whether a room that the store has is told. A left one that upstream does not list was forgotten.
    pub(super) fn admits(&self, room: &RoomHead) -> bool {
        room.section != Section::Leave
            || self.listed.as_ref().is_none_or(|listed| listed.contains(&room.room_id))
    }
}

async fn try_fetch(
    state: &State,
    requester: &Requester,
    filter: &Filter,
    known: &[RoomOutline],
) -> Result<Archive, Error> {
    let token = &requester.access_token;
    let format = match filter.event_format {
        EventFormat::Client => "client",
        EventFormat::Federation => "federation",
    };
    let list = auxiliary::sync_with_state(state, token, &LIST.replace("FORMAT", format)).await?;
    let list: HashMap<String, &RawValue> = sync_reply::rooms(&list, "leave").into_iter().collect();
    let listed: HashSet<String> = list.keys().cloned().collect();
    let room_ids: Vec<&str> = listed.iter().map(String::as_str).collect();
    let numbers = state.store.room_nids(&room_ids).await?;
    let known: HashSet<RoomNid> = known.iter().map(|room| room.room_nid).collect();
    let is_known =
        |room_id: &str| numbers.get(room_id).is_some_and(|number| known.contains(number));
    let unknown: Vec<&str> = room_ids
        .into_iter()
        .filter(|room_id| !is_known(room_id) && filter.room.admits(room_id))
        .collect();
    let mut rooms = Vec::new();
    if !unknown.is_empty() {
        let asked = narrowed(&filter.raw, &unknown);
        let reply = auxiliary::sync_with_state(state, token, &asked).await?;
        rooms = sync_reply::rooms(&reply, "leave")
            .into_iter()
            .filter(|(room_id, _)| unknown.contains(&room_id.as_str()))
            .map(|(room_id, entry)| {
                let create = list.get(&room_id).and_then(|entry| create_event(entry));
                let create = create.filter(|create| {
                    let create = EventFields::read(create.get().as_bytes());
                    let state = &filter.room.state;
                    state.admits_room(&room_id) && state.admits(create.seen())
                });
                let mended = create.and_then(|create| with_create_event(entry, create));
                (room_id, mended.unwrap_or_else(|| entry.get().to_owned()))
            })
            .collect();
    }
    Ok(Archive { listed: Some(listed), rooms })
}

/// The events of a part of a room.
fn events<'a>(entry: &'a RawValue, part: &str) -> Vec<&'a RawValue> {
    Object::of(entry).map(|entry| sync_reply::events(entry.get(part))).unwrap_or_default()
}

fn create_event(entry: &RawValue) -> Option<&RawValue> {
    let mut all = events(entry, "state").into_iter().chain(events(entry, "timeline"));
    all.find(|raw| {
        let event = EventFields::read(raw.get().as_bytes());
        event.event_type == "m.room.create" && event.state_key.is_some()
    })
}

/// A room with its create event. Synapse leaves it out of a sync for certain rooms if it does not name its room
/// itself, as in room version 12. `None` where it is there.
fn with_create_event(entry: &RawValue, create: &RawValue) -> Option<String> {
    if create_event(entry).is_some() {
        return None;
    }
    let state = std::iter::once(create).chain(events(entry, "state"));
    let mut new_state = Vec::with_capacity(entry.get().len());
    let mut object = ObjectWriter::new(&mut new_state);
    json::write_list(state, object.key("events"), |event, out| {
        out.extend_from_slice(event.get().as_bytes());
    });
    object.end();
    let parsed = Object::of(entry)?;
    let mut out = Vec::with_capacity(entry.get().len() + create.get().len());
    parsed.write_replacing("state", &new_state, &mut out);
    // It was put together from text.
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The client's filter, for these rooms only, and nothing beside rooms.
fn narrowed(raw: &str, room_ids: &[&str]) -> String {
    let nothing = br#"{"types":[]}"#;
    let parsed = Object::parse(raw).ok();
    let mut out = Vec::with_capacity(raw.len() + 256);
    let mut filter = ObjectWriter::new(&mut out);
    for (name, value) in parsed.iter().flat_map(Object::members) {
        if !["room", "presence", "account_data"].contains(&&*name) {
            filter.raw(&name, value.get().as_bytes());
        }
    }
    filter.raw("presence", nothing);
    filter.raw("account_data", nothing);
    let mut room = ObjectWriter::new(filter.key("room"));
    let parsed = parsed.as_ref().and_then(|filter| filter.object("room"));
    for (name, value) in parsed.iter().flat_map(Object::members) {
        if !["rooms", "not_rooms", "include_leave"].contains(&&*name) {
            room.raw(&name, value.get().as_bytes());
        }
    }
    room.raw("include_leave", b"true");
    room.raw("rooms", json::strings(room_ids).as_bytes());
    room.end();
    filter.end();
    // It was put together from text.
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_narrowed_to_rooms() {
        let check = |raw: &str, expected: &str| assert_eq!(narrowed(raw, &["!a:x"]), expected);
        let nothing = r#""presence":{"types":[]},"account_data":{"types":[]}"#;
        let rooms = r#""include_leave":true,"rooms":["!a:x"]"#;
        check("", &format!(r#"{{{nothing},"room":{{{rooms}}}}}"#));
        check(
            r#"{"event_format":"federation","presence":{},"room":{"include_leave":true,"not_rooms":[],"timeline":{"limit":3}}}"#,
            &format!(
                r#"{{"event_format":"federation",{nothing},"room":{{"timeline":{{"limit":3}},{rooms}}}}}"#
            ),
        );
    }
}
