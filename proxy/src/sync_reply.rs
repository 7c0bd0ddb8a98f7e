//! The outer shape of a reply to `GET /sync`: its rooms by section, and the events of their parts.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync>
//!
//! Lenient: what has another shape is as good as not there. `ingest` reads polls with it, `views` and `v2` what
//! auxiliary syncs tell. It must not know what an event says. Of a reply that is too large for memory, [`outline`] says where
//! everything stands.

pub(crate) mod outline;

use serde_json::value::RawValue;

use crate::json::{self, Object};

/// The sections of `rooms`.
pub(crate) fn sections(reply: &[u8]) -> Option<Object<'_>> {
    Object::read(reply)?.object("rooms")
}

/// The rooms of one section: ID and entry.
pub(crate) fn rooms<'a>(reply: &'a [u8], section: &str) -> Vec<(String, &'a RawValue)> {
    let section = sections(reply).and_then(|sections| sections.object(section));
    let rooms = section.iter().flat_map(Object::members);
    rooms.map(|(room_id, entry)| (room_id.into_owned(), entry)).collect()
}

/// The events of a part, which is `{"events": […]}`.
pub(crate) fn events(part: Option<&RawValue>) -> Vec<&RawValue> {
    part.and_then(Object::of)
        .and_then(|part| part.get("events"))
        .and_then(json::list)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_shape_is_not_there() {
        let reply = br#"{"rooms":{"join":{"!a":{"state":{"events":[1,2]}},"!b":7},"leave":[]}}"#;
        let joined = rooms(reply, "join");
        let ids: Vec<&str> = joined.iter().map(|(room_id, _)| &**room_id).collect();
        assert_eq!(ids, ["!a", "!b"]);
        let room = Object::of(joined[0].1).expect("an object");
        assert_eq!(events(room.get("state")).len(), 2);
        assert!(events(room.get("timeline")).is_empty() && events(Some(joined[1].1)).is_empty());
        assert!(rooms(reply, "leave").is_empty() && rooms(b"<html>", "join").is_empty());
    }
}
