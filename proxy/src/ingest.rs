//! From a homeserver's answer to `GET /sync` to one write of the store.
//!
//! Reads the envelope, carries everything else as raw bytes. One bad event or room is quarantined and
//! never spoils the rest; only an answer that is no sync reply at all is refused, so that a retry can
//! mend it. Pure: it knows neither the network nor the database. The shapes are those of
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync>.

mod event;
mod large;
mod room;

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use bytes::Bytes;
use serde_json::value::RawValue;
use store::{AccountData, DeviceNid, DeviceUpdate, LightPoll, Poll, PresenceUpdate, Section};

pub(crate) use self::event::parse_elsewhere as parse_event;
pub(crate) use self::large::{LargePoll, PartError};
use crate::{
    json::{self, Object},
    sync_reply::{events, outline::Malformed},
};

/// Identifiers are at most 255 bytes by the specification. What is used as a key of the database may
/// be somewhat longer than that, for servers that do not check, and no more.
const MAX_KEY_BYTES: usize = 800;

/// The sections of `rooms`. Of a room that two of them list, the later one counts: an invite follows the leave that it
/// comes with.
const SECTIONS: [(Section, &str); 4] = [
    (Section::Join, "join"),
    (Section::Leave, "leave"),
    (Section::Invite, "invite"),
    (Section::Knock, "knock"),
];

/// Why an answer cannot be taken for a sync reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplyError {
    /// It is no UTF-8.
    #[error("the reply is not UTF-8")]
    NotUtf8,
    /// It is no JSON object.
    #[error("the reply is not a JSON object")]
    NotAnObject(#[source] serde_json::Error),
    /// It breaks off, or is no JSON between its parts.
    #[error("the reply is not a whole JSON object")]
    Malformed(#[from] Malformed),
    /// It has no `next_batch`.
    #[error("the reply has no `next_batch`")]
    NoNextBatch,
}

/// Whose poll it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The user.
    pub(crate) user_id: &'a str,
    /// The device whose token asked.
    pub(crate) device_nid: DeviceNid,
    /// The since it was asked with.
    pub(crate) since: Option<&'a str>,
    /// When the reply was received, in milliseconds.
    pub(crate) received_at: i64,
}

/// Reads the reply to a main poll.
pub(crate) fn main_poll(reply: &[u8], asked: Asked<'_>) -> Result<Poll, ReplyError> {
    let reply = envelope(reply)?;
    let mut poll = Poll {
        asked_since: asked.since.map(str::to_owned),
        next_batch: next_batch(&reply)?,
        received_at: asked.received_at,
        device: Some(device_update(&reply, asked.device_nid)),
        ..Poll::default()
    };
    for event in events(reply.get("account_data")) {
        match account_data(event) {
            Some(data) => poll.account_data.push(data),
            None => quarantine(&mut poll, "account data without a usable type", event),
        }
    }
    for event in events(reply.get("presence")) {
        match presence(event, asked.received_at) {
            Some(update) => poll.presence.push(update),
            None => quarantine(&mut poll, "presence without a usable sender", event),
        }
    }
    if let Some(lists) = reply.object("device_lists") {
        poll.device_lists_changed = user_ids(lists.get("changed"));
        poll.device_lists_left = user_ids(lists.get("left"));
    }
    let mut seen = HashMap::new();
    if let Some(rooms) = reply.object("rooms") {
        for (section, name) in SECTIONS {
            for (key, raw) in rooms.object(name).into_iter().flat_map(|section| section.0) {
                match json::text(key) {
                    Some(room_id) => {
                        add_room(&mut poll, &mut seen, asked, section, &room_id, raw);
                    }
                    None => quarantine(&mut poll, "a room ID that is no text", raw),
                }
            }
        }
    }
    Ok(poll)
}

/// Reads the reply to a light poll: only the device's own part counts.
pub(crate) fn light_poll(reply: &[u8], asked: Asked<'_>) -> Result<LightPoll, ReplyError> {
    let reply = envelope(reply)?;
    Ok(LightPoll {
        asked_since: asked.since.map(str::to_owned),
        next_batch: next_batch(&reply)?,
        received_at: asked.received_at,
        device: device_update(&reply, asked.device_nid),
    })
}

fn envelope(reply: &[u8]) -> Result<Object<'_>, ReplyError> {
    let text = std::str::from_utf8(reply).map_err(|_| ReplyError::NotUtf8)?;
    Object::parse(text).map_err(ReplyError::NotAnObject)
}

fn next_batch(reply: &Object<'_>) -> Result<String, ReplyError> {
    reply
        .get("next_batch")
        .and_then(json::text)
        .filter(|token| !token.is_empty() && !token.contains('\0'))
        .map(Cow::into_owned)
        .ok_or(ReplyError::NoNextBatch)
}

fn device_update(reply: &Object<'_>, device_nid: DeviceNid) -> DeviceUpdate {
    // The unstable name is what servers before v1.2 of the specification say.
    let fallback = reply
        .get("device_unused_fallback_key_types")
        .or_else(|| reply.get("org.matrix.msc2732.device_unused_fallback_key_types"));
    DeviceUpdate {
        device_nid,
        to_device: events(reply.get("to_device")).into_iter().map(bytes).collect(),
        one_time_keys_count: reply
            .get("device_one_time_keys_count")
            .filter(|raw| Object::of(raw).is_some())
            .map(bytes),
        unused_fallback_key_types: fallback.filter(|raw| raw.get().starts_with('[')).map(bytes),
    }
}

fn add_room(
    poll: &mut Poll,
    seen: &mut HashMap<String, usize>,
    asked: Asked<'_>,
    section: Section,
    room_id: &str,
    raw: &RawValue,
) {
    if !is_key(room_id) {
        return quarantine(poll, "a room ID that cannot be a key", raw);
    }
    let mut rejected = Vec::new();
    match room::parse(room_id, section, raw, asked, &mut rejected) {
        Some(room) => match seen.entry(room.room_id.clone()) {
            Entry::Occupied(place) => poll.rooms[*place.get()] = room,
            Entry::Vacant(place) => {
                place.insert(poll.rooms.len());
                poll.rooms.push(room);
            }
        },
        None => quarantine(poll, "a room that is not an object", raw),
    }
    for (reason, piece) in rejected {
        quarantine(poll, &format!("{reason} in {room_id}"), piece);
    }
}

fn quarantine(poll: &mut Poll, reason: &str, piece: &RawValue) {
    tracing::warn!(reason, bytes = piece.get().len(), "quarantined a piece of a sync reply");
    poll.quarantined.push((reason.to_owned(), bytes(piece)));
}

fn account_data(raw: &RawValue) -> Option<AccountData> {
    let event_type =
        Object::of(raw)?.get("type").and_then(json::text).filter(|name| is_key(name))?;
    Some(AccountData { event_type: event_type.into_owned(), event: bytes(raw) })
}

fn presence(raw: &RawValue, received_at: i64) -> Option<PresenceUpdate> {
    let event = Object::of(raw)?;
    let user_id = event.get("sender").and_then(json::text).filter(|user| is_key(user))?;
    let content = event.object("content")?;
    let ago = content.get("last_active_ago").and_then(json::integer);
    let mut without_ago = Vec::new();
    content.write_without(&["last_active_ago"], &mut without_ago);
    let mut stored = Vec::with_capacity(raw.get().len());
    event.write_replacing("content", &without_ago, &mut stored);
    Some(PresenceUpdate {
        user_id: user_id.into_owned(),
        event: stored.into(),
        last_active_ts: ago.map(|ago| received_at.saturating_sub(ago)),
    })
}

fn user_ids(raw: Option<&RawValue>) -> Vec<String> {
    let users = raw.and_then(json::list).unwrap_or_default();
    users
        .into_iter()
        .filter_map(json::text)
        .filter(|user| is_key(user))
        .map(Cow::into_owned)
        .collect()
}

fn bytes(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// Whether a text can be a key of the database: no NUL, which Postgres cannot hold, and not too long
/// for an index.
pub(crate) fn is_key(text: &str) -> bool {
    text.len() <= MAX_KEY_BYTES && !text.contains('\0')
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
pub(crate) mod micro;

#[cfg(test)]
mod tests;
