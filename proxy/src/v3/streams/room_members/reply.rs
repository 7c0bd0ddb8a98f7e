//! The reply of the stream, written.

use super::{Members, list::Sort};
use crate::{
    event_json::{Unsigned, write_event},
    json::{Object, ObjectWriter, write_list, write_string},
};

/// A member event as it is to be told.
pub(super) struct MemberEvent<'a> {
    pub(super) body: &'a [u8],
    pub(super) unsigned: Option<&'a [u8]>,
    pub(super) redacted_because: Option<&'a [u8]>,
}

/// What a reply says beside its events.
pub(super) struct Frame<'a> {
    /// The order of the list.
    pub(super) sort: Sort,
    /// The token of the next page.
    pub(super) next: Option<&'a str>,
    /// The length of the whole list.
    pub(super) count: usize,
}

impl Members {
    /// Writes a reply.
    pub(super) fn write<'e>(
        &self,
        frame: &Frame<'_>,
        events: impl IntoIterator<Item = MemberEvent<'e>>,
    ) -> Vec<u8> {
        let mut json = Vec::new();
        let mut reply = ObjectWriter::new(&mut json);
        let mut page = ObjectWriter::new(reply.key("p"));
        page.raw("limit", self.limit.to_string().as_bytes());
        write_string(frame.sort.name(), page.key("sort"));
        if let Some(next) = frame.next {
            write_string(next, page.key("next"));
        }
        page.end();
        write_list(events, reply.key("events"), |event, out| {
            write_member(&self.room_id, &event, out);
        });
        reply.raw("count", frame.count.to_string().as_bytes());
        reply.end();
        json
    }
}

/// Writes an event with its `room_id`, which events have or lack depending on how upstream told them.
fn write_member(room_id: &str, event: &MemberEvent<'_>, out: &mut Vec<u8>) {
    let unsigned = Unsigned {
        stored: event.unsigned,
        redacted_because: event.redacted_because,
        ..Unsigned::default()
    };
    match (Object::read(event.body), event.body.strip_prefix(b"{")) {
        (Some(object), Some(rest)) if object.get("room_id").is_none() => {
            let mut body = b"{\"room_id\":".to_vec();
            write_string(room_id, &mut body);
            if !object.0.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(rest);
            write_event(&body, unsigned, out);
        }
        _ => write_event(event.body, unsigned, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, unsigned: Option<&str>, expected: &str) {
        let unsigned = unsigned.map(str::as_bytes);
        let event = MemberEvent { body: body.as_bytes(), unsigned, redacted_because: None };
        let mut out = Vec::new();
        write_member("!a:b", &event, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn events_have_their_room() {
        check(r#"{"type":"x"}"#, None, r#"{"room_id":"!a:b","type":"x"}"#);
        check(r#"{"room_id":"!a:b","type":"x"}"#, None, r#"{"room_id":"!a:b","type":"x"}"#);
        check("{}", None, r#"{"room_id":"!a:b"}"#);
        check(
            r#"{"content":{"room_id":"!c:d"},"n":1.10}"#,
            Some(r#"{"prev_content":{}}"#),
            r#"{"room_id":"!a:b","content":{"room_id":"!c:d"},"n":1.10,"unsigned":{"prev_content":{}}}"#,
        );
    }
}
