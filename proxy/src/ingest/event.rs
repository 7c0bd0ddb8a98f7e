//! One event of a room: what of it is shared, what is this account's.

use bytes::Bytes;
use serde_json::value::RawValue;
use store::Event;

use super::{is_key, object};
use crate::json::{self, Object};

/// Why an event cannot be taken.
pub(super) type Reason = &'static str;

/// Splits an event for storing.
pub(crate) fn parse(raw: &RawValue, received_at: i64) -> Result<Event, Reason> {
    let event = object(raw).ok_or("an event that is not an object")?;
    let key = |name: &str| event.get(name).and_then(json::text).filter(|text| is_key(text));
    let event_id = key("event_id").ok_or("an event without a usable ID")?;
    let event_type = key("type").ok_or("an event without a usable type")?;
    let state_key = match event.get("state_key") {
        None => None,
        Some(_) => Some(key("state_key").ok_or("an event without a usable state key")?),
    };
    let mut body = Vec::with_capacity(raw.get().len());
    event.write_without(&["unsigned"], &mut body);
    let unsigned = event.get("unsigned").and_then(object);
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
    let Some(unsigned) = object(raw).and_then(|event| event.get("unsigned")).and_then(object)
    else {
        return false;
    };
    // Where the previous membership is not told, nothing says that it was another one.
    unsigned
        .get("prev_content")
        .and_then(object)
        .and_then(|content| content.get("membership"))
        .and_then(json::text)
        .is_some_and(|membership| membership != "join")
}

fn member(event: &Object<'_>) -> (Option<String>, Option<String>) {
    let Some(content) = event.get("content").and_then(object) else { return (None, None) };
    let field = |name: &str| {
        let text = content.get(name).and_then(json::text)?;
        // Postgres' text cannot hold a NUL; the body keeps it.
        Some(text.replace('\0', ""))
    };
    (field("membership"), field("displayname"))
}

fn kept_unsigned(unsigned: &Object<'_>) -> Option<Bytes> {
    let mut kept = Vec::new();
    let any = unsigned.write_without(&["age", "transaction_id"], &mut kept);
    any.then(|| kept.into())
}
