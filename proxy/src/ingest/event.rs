//! One event of a room: what of it is shared, what is this account's. Pure; it knows nothing of the room around it.

use bytes::Bytes;
use serde_json::value::RawValue;
use store::Event;

use super::is_key;
use crate::{
    json::{self, Object},
    redaction,
};

/// Why an event cannot be taken.
pub(super) type Reason = &'static str;

/// What the old format of client events repeats at the top.
const REPEATED: [&str; 8] = [
    "room_id",
    "age",
    "user_id",
    "prev_content",
    "replaces_state",
    "redacted_because",
    "invite_room_state",
    "knock_room_state",
];

/// How many redactions of redactions of … are read.
const MAX_REDACTIONS: u32 = 4;

/// Splits an event of a sync for storing.
pub(super) fn parse(raw: &RawValue, received_at: i64) -> Result<Event, Reason> {
    parse_redacted(raw, received_at, MAX_REDACTIONS)
}

/// Splits an event that came by another endpoint. Those name the room in each event, and on some homeservers
/// repeat fields at the top in the manner of old: without those they are the events that sync tells.
pub(crate) fn parse_elsewhere(raw: &RawValue, received_at: i64) -> Result<Event, Reason> {
    parse_bare(raw, received_at, MAX_REDACTIONS)
}

fn parse_bare(raw: &RawValue, received_at: i64, redactions: u32) -> Result<Event, Reason> {
    const NO_OBJECT: Reason = "an event that is not an object";
    let mut bare = Vec::with_capacity(raw.get().len());
    Object::of(raw).ok_or(NO_OBJECT)?.write_without(&REPEATED, &mut bare);
    let bare = serde_json::from_slice(&bare).map_err(|_| NO_OBJECT)?;
    parse_redacted(bare, received_at, redactions)
}

fn parse_redacted(raw: &RawValue, received_at: i64, redactions: u32) -> Result<Event, Reason> {
    let event = Object::of(raw).ok_or("an event that is not an object")?;
    let key = |name: &str| event.get(name).and_then(json::text).filter(|text| is_key(text));
    let event_id = key("event_id").ok_or("an event without a usable ID")?;
    let event_type = key("type").ok_or("an event without a usable type")?;
    let state_key = match event.get("state_key") {
        None => None,
        Some(_) => Some(key("state_key").ok_or("an event without a usable state key")?),
    };
    let mut body = Vec::with_capacity(raw.get().len());
    event.write_without(&["unsigned"], &mut body);
    let unsigned = event.object("unsigned");
    let (membership, displayname) = match (&*event_type, &state_key) {
        ("m.room.member", Some(_)) => member(&event),
        _ => (None, None),
    };
    Ok(Event {
        event_id: event_id.into_owned(),
        event_type: event_type.into_owned(),
        state_key: state_key.map(std::borrow::Cow::into_owned),
        membership,
        displayname,
        body: body.into(),
        unsigned: unsigned.as_ref().and_then(kept_unsigned),
        bare_unsigned: unsigned.as_ref().and_then(bare_unsigned),
        copies: unsigned.as_ref().map(copies).unwrap_or_default(),
        redacted_because: unsigned
            .as_ref()
            .filter(|_| redactions > 0)
            .and_then(|unsigned| unsigned.get("redacted_because"))
            .and_then(|raw| parse_bare(raw, received_at, redactions - 1).ok())
            .map(Box::new),
        age_ts: unsigned
            .as_ref()
            .and_then(|unsigned| unsigned.get("age"))
            .and_then(json::integer)
            .map(|age| received_at.saturating_sub(age)),
        transaction_id: unsigned
            .as_ref()
            .and_then(|unsigned| unsigned.get("transaction_id"))
            .and_then(json::text)
            .filter(|id| is_key(id))
            .map(std::borrow::Cow::into_owned),
    })
}

/// Whether this is a join whose previous membership, as upstream tells it, was not join.
pub(super) fn joins_anew(raw: &RawValue) -> bool {
    let Some(unsigned) = Object::of(raw).and_then(|event| event.object("unsigned")) else {
        return false;
    };
    // Where the previous membership is not told, nothing says that it was another one.
    unsigned
        .get("prev_content")
        .and_then(Object::of)
        .and_then(|content| content.get("membership"))
        .and_then(json::text)
        .is_some_and(|membership| membership != "join")
}

fn member(event: &Object<'_>) -> (Option<String>, Option<String>) {
    let Some(content) = event.object("content") else { return (None, None) };
    let field = |name: &str| {
        let text = content.get(name).and_then(json::text)?;
        // Postgres' text cannot hold a NUL; the body keeps it.
        Some(text.replace('\0', ""))
    };
    (field("membership"), field("displayname"))
}

/// What is kept apart; and stripped state, which has no IDs to find it by when it is redacted.
const APART: [&str; 5] =
    ["age", "transaction_id", "redacted_because", "invite_room_state", "knock_room_state"];

/// What goes into a timeline. Content of a replaced event whose ID is not told is left out: it could not be
/// found when that event is redacted.
fn kept_unsigned(unsigned: &Object<'_>) -> Option<Bytes> {
    let mut dropped = APART.to_vec();
    if unsigned.get("replaces_state").and_then(json::text).is_none_or(|id| !is_key(&id)) {
        dropped.push("prev_content");
    }
    let mut kept = Vec::new();
    let any = unsigned.write_without(&dropped, &mut kept);
    if unsigned.get("m.relations").is_some() {
        let whole = serde_json::from_slice::<&RawValue>(&kept).ok()?;
        return Some(redaction::without_strays(&Object::of(whole)?).into());
    }
    any.then(|| kept.into())
}

/// What goes with the state, where clients need no content of other events.
fn bare_unsigned(unsigned: &Object<'_>) -> Option<Bytes> {
    let copies = ["prev_content", "prev_sender", "m.relations"];
    let mut kept = Vec::new();
    let any = unsigned.write_without(&[&APART[..], &copies].concat(), &mut kept);
    any.then(|| kept.into())
}

fn copies(unsigned: &Object<'_>) -> Vec<String> {
    let mut copies = redaction::copies(unsigned);
    copies.retain(|event_id| is_key(event_id));
    copies
}
