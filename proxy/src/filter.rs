//! Filters, as the specification defines them: what of a sync a client wants.
//!
//! Pure: a filter is parsed, and asked about events. Unknown keys are ignored. Shapes:
//! <https://spec.matrix.org/v1.16/client-server-api/#filtering>.

mod field_paths;
mod pattern;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};

use crate::error::Error;

pub(crate) use self::field_paths::FieldPaths;
use self::pattern::Patterns;

/// Events a room where the filter names no limit, as Synapse has it.
const DEFAULT_TIMELINE_LIMIT: usize = 10;
/// The most events a room, as Synapse has it.
const MAX_TIMELINE_LIMIT: usize = 100;

/// A whole filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    /// Global account data.
    #[serde(deserialize_with = "object")]
    pub(crate) account_data: EventFilter,
    /// Presence.
    #[serde(deserialize_with = "object")]
    pub(crate) presence: EventFilter,
    /// Which fields of the events of rooms.
    pub(crate) event_fields: FieldPaths,
    /// Rooms.
    #[serde(deserialize_with = "object")]
    pub(crate) room: RoomFilter,
    /// The form of room events.
    pub(crate) event_format: EventFormat,
    /// The filter as the client wrote it; empty where it wrote none.
    #[serde(skip)]
    pub(crate) raw: String,
}

/// In which form room events are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventFormat {
    /// As clients know them.
    #[default]
    Client,
    /// As homeservers tell them each other.
    Federation,
}

/// Which rooms, and what of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoomFilter {
    rooms: Option<Vec<String>>,
    not_rooms: Vec<String>,
    /// Rooms that the user has left, in an initial sync.
    pub(crate) include_leave: bool,
    /// Timelines.
    #[serde(deserialize_with = "object")]
    pub(crate) timeline: EventFilter,
    /// State.
    #[serde(deserialize_with = "object")]
    pub(crate) state: EventFilter,
    /// Typing and receipts.
    #[serde(deserialize_with = "object")]
    pub(crate) ephemeral: EventFilter,
    /// Room account data.
    #[serde(deserialize_with = "object")]
    pub(crate) account_data: EventFilter,
}

/// Which events. Written out, it asks for the same of a homeserver in rooms that it admits.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct EventFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Patterns>,
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    not_types: Patterns,
    #[serde(skip_serializing_if = "Option::is_none")]
    senders: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_senders: Vec<String>,
    #[serde(skip_serializing)]
    rooms: Option<Vec<String>>,
    #[serde(skip_serializing)]
    not_rooms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contains_url: Option<bool>,
    /// Members only as they matter to the timeline.
    pub(crate) lazy_load_members: bool,
    /// With lazy loading: also members that the client has been told of before.
    pub(crate) include_redundant_members: bool,
    /// Unread counts of threads apart from those of the room.
    pub(crate) unread_thread_notifications: bool,
}

/// What of an event a filter looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen<'a> {
    /// Its type.
    pub(crate) event_type: &'a str,
    /// Its sender, where it has one.
    pub(crate) sender: Option<&'a str>,
    /// Whether `content.url` is a string.
    pub(crate) has_url: bool,
}

impl Filter {
    /// Reads a filter as a client wrote it.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let parsed = object(&mut reader).and_then(|filter| reader.end().map(|()| filter));
        let parsed = parsed.map(|filter: Self| Self {
            // It is JSON, so it is text.
            raw: String::from_utf8_lossy(json).into_owned(),
            ..filter
        });
        parsed.map_err(|error| {
            if error.is_data() {
                Error::BadJson(format!("Invalid filter: {error}"))
            } else {
                Error::NotJson(String::from("Invalid filter JSON"))
            }
        })
    }
}

impl RoomFilter {
    /// Whether the filter lets a room in at all.
    pub(crate) fn admits(&self, room_id: &str) -> bool {
        admits_one(self.rooms.as_deref(), &self.not_rooms, room_id)
    }
}

impl EventFilter {
    /// The newest events, so many a room, whatever they are.
    pub(crate) fn newest(limit: u64) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// One that asks for `limit` events of certain types, without any for all, and for none of others.
    pub(crate) fn of_types(limit: u64, types: Option<&[String]>, not_types: &[String]) -> Self {
        Self {
            types: types.map(|types| Patterns::from(types.to_vec())),
            not_types: Patterns::from(not_types.to_vec()),
            ..Self::newest(limit)
        }
    }

    /// Events a room.
    pub(crate) fn timeline_limit(&self) -> usize {
        let limit = self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        limit.unwrap_or(DEFAULT_TIMELINE_LIMIT).min(MAX_TIMELINE_LIMIT)
    }

    /// Whether it lets any event in, of whatever kind.
    pub(crate) fn admits_anything(&self) -> bool {
        self.types.as_ref().is_none_or(|types| !types.is_empty())
            && self.senders.as_ref().is_none_or(|senders| !senders.is_empty())
    }

    /// Whether it lets every event of a room in.
    pub(crate) fn admits_everything_in(&self, room_id: &str) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.contains_url.is_none()
            && self.admits_room(room_id)
    }

    /// Whether it lets anything of a room in.
    pub(crate) fn admits_room(&self, room_id: &str) -> bool {
        admits_one(self.rooms.as_deref(), &self.not_rooms, room_id)
    }

    /// Whether it lets an event in that has no sender: account data, typing, receipts. As in Synapse, a filter that
    /// asks for senders asks for none of these.
    pub(crate) fn admits_without_sender(&self, event_type: &str) -> bool {
        self.admits(Seen { event_type, sender: None, has_url: false })
    }

    fn admits_type(&self, event_type: &str) -> bool {
        !self.not_types.match_any(event_type)
            && self.types.as_ref().is_none_or(|types| types.match_any(event_type))
    }

    /// Whether it lets an event in.
    pub(crate) fn admits(&self, seen: Seen<'_>) -> bool {
        let sender_fits = match seen.sender {
            Some(sender) => admits_one(self.senders.as_deref(), &self.not_senders, sender),
            None => self.senders.is_none(),
        };
        sender_fits
            && self.admits_type(seen.event_type)
            && self.contains_url.is_none_or(|wanted| wanted == seen.has_url)
    }
}

/// Reads an object, and an object only: left alone, a list would pass for one.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let members = serde_json::Map::deserialize(deserializer)?;
    T::deserialize(serde_json::Value::Object(members)).map_err(D::Error::custom)
}

fn admits_one(wanted: Option<&[String]>, unwanted: &[String], one: &str) -> bool {
    !unwanted.iter().any(|other| other == one)
        && wanted.is_none_or(|wanted| wanted.iter().any(|other| other == one))
}

#[cfg(test)]
mod micro;

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
