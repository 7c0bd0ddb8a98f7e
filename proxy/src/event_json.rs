//! Events on the way in and out: what is shared of an event, and what differs by viewer or time.
//!
//! In: `unsigned` is cut off, and `age` and `transaction_id` out of it. Out: they are put back as they
//! are for this device now. The body is the event minus `unsigned`.

use crate::json::{self, Object, ObjectWriter};

/// What goes back into an event when it is served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsigned<'a> {
    /// `unsigned` as stored.
    pub(crate) stored: Option<&'a [u8]>,
    /// `age` in milliseconds at this moment.
    pub(crate) age: Option<i64>,
    /// `transaction_id`, for the device that sent the event.
    pub(crate) transaction_id: Option<&'a str>,
    /// `redacted_because`: the redaction, of a redacted event.
    pub(crate) redacted_because: Option<&'a [u8]>,
}

/// Appends an event with its `unsigned`. The body is a JSON object without one.
pub(crate) fn write_event(body: &[u8], unsigned: Unsigned<'_>, out: &mut Vec<u8>) {
    if let Some(because) = unsigned.redacted_because {
        let stored = redacted_unsigned(unsigned.stored, because);
        let unsigned = Unsigned { stored: Some(&stored), redacted_because: None, ..unsigned };
        return write_event(body, unsigned, out);
    }
    let extra = unsigned.age.is_some() || unsigned.transaction_id.is_some();
    if !extra && unsigned.stored.is_none() {
        out.extend_from_slice(body);
        return;
    }
    let Some(open) = body.strip_suffix(b"}") else {
        // Every stored body is an object that we wrote; anything else is served as it is.
        out.extend_from_slice(body);
        return;
    };
    out.extend_from_slice(open);
    if open.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(b"\"unsigned\":");
    match unsigned.stored.and_then(|stored| stored.strip_suffix(b"}")) {
        Some(stored) if extra => {
            out.extend_from_slice(stored);
            if stored.len() > 1 {
                out.push(b',');
            }
        }
        Some(stored) => out.extend_from_slice(stored),
        None => out.push(b'{'),
    }
    if let Some(age) = unsigned.age {
        out.extend_from_slice(b"\"age\":");
        out.extend_from_slice(age.to_string().as_bytes());
        if unsigned.transaction_id.is_some() {
            out.push(b',');
        }
    }
    if let Some(transaction_id) = unsigned.transaction_id {
        out.extend_from_slice(b"\"transaction_id\":");
        crate::json::write_string(transaction_id, out);
    }
    out.extend_from_slice(b"}}");
}

/// The `unsigned` of a redacted event: what was aggregated of a content that is gone is gone too.
fn redacted_unsigned(stored: Option<&[u8]>, because: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored.map_or(0, <[u8]>::len) + because.len() + 32);
    let mut writer = ObjectWriter::new(&mut out);
    for (key, value) in stored.and_then(Object::read).iter().flat_map(Object::members) {
        if key != "m.relations" && key != "redacted_because" {
            writer.raw(&key, value.get().as_bytes());
        }
    }
    writer.raw("redacted_because", because);
    writer.end();
    out
}

/// Appends an `m.presence` event with `last_active_ago` computed for `now` (milliseconds).
pub(crate) fn write_presence(
    event: &[u8],
    last_active_ts: Option<i64>,
    now: i64,
    out: &mut Vec<u8>,
) {
    let Some(last_active_ts) = last_active_ts else { return out.extend_from_slice(event) };
    let Some((object, content)) = Object::read(event)
        .and_then(|object| object.get("content").map(|content| (object, content)))
    else {
        return out.extend_from_slice(event);
    };
    let Some(members) = Object::of(content) else { return out.extend_from_slice(event) };
    let ago = now.saturating_sub(last_active_ts).max(0);
    let mut new_content = Vec::with_capacity(content.get().len() + 32);
    let any = members.write_without(&["last_active_ago"], &mut new_content);
    new_content.pop();
    if any {
        new_content.push(b',');
    }
    new_content.extend_from_slice(format!("\"last_active_ago\":{ago}}}").as_bytes());
    object.write_replacing("content", &new_content, out);
}

/// Whether an `m.presence` event says that its sender is offline.
pub(crate) fn is_offline(event: &[u8]) -> bool {
    let content = Object::read(event).and_then(|event| event.object("content"));
    let presence = content.and_then(|content| content.get("presence"));
    presence.and_then(json::text).is_some_and(|presence| presence == "offline")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, unsigned: Unsigned<'_>, expected: &str) {
        let mut out = Vec::new();
        write_event(body.as_bytes(), unsigned, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn unsigned_is_put_together() {
        let none = Unsigned::default();
        let stored = Unsigned { stored: Some(br#"{"a":1}"#), ..none };
        let empty = Unsigned { stored: Some(b"{}"), ..none };
        check(r#"{"x":1}"#, none, r#"{"x":1}"#);
        check(r#"{"x":1}"#, stored, r#"{"x":1,"unsigned":{"a":1}}"#);
        check("{}", stored, r#"{"unsigned":{"a":1}}"#);
        check(r#"{"x":1}"#, Unsigned { age: Some(5), ..none }, r#"{"x":1,"unsigned":{"age":5}}"#);
        check(
            r#"{"x":1}"#,
            Unsigned { age: Some(5), ..stored },
            r#"{"x":1,"unsigned":{"a":1,"age":5}}"#,
        );
        check(r#"{"x":1}"#, Unsigned { age: Some(5), ..empty }, r#"{"x":1,"unsigned":{"age":5}}"#);
        check(
            r#"{"x":1}"#,
            Unsigned { age: Some(5), transaction_id: Some("t\""), ..stored },
            r#"{"x":1,"unsigned":{"a":1,"age":5,"transaction_id":"t\""}}"#,
        );
        check(
            r#"{"x":1}"#,
            Unsigned { transaction_id: Some("t"), ..none },
            r#"{"x":1,"unsigned":{"transaction_id":"t"}}"#,
        );
    }

    #[test]
    fn a76_a_redacted_event_says_why() {
        let redacted = Unsigned { redacted_because: Some(b"{\"x\":2}"), ..Unsigned::default() };
        check("{}", redacted, r#"{"unsigned":{"redacted_because":{"x":2}}}"#);
        check(
            r#"{"x":1}"#,
            Unsigned {
                stored: Some(br#"{"membership":"join","m.relations":{"m.replace":"secret"}}"#),
                age: Some(5),
                ..redacted
            },
            r#"{"x":1,"unsigned":{"membership":"join","redacted_because":{"x":2},"age":5}}"#,
        );
    }

    #[test]
    fn offline_is_told_from_the_rest() {
        assert!(is_offline(br#"{"type":"m.presence","content":{"presence":"offline"}}"#));
        assert!(!is_offline(br#"{"presence":"offline","content":{"presence":"unavailable"}}"#));
        assert!(!is_offline(b"{}"));
    }

    #[test]
    fn presence_gets_its_age() {
        let mut out = Vec::new();
        let event = br#"{"type":"m.presence","content":{"presence":"online"},"sender":"@a:b"}"#;
        write_presence(event, Some(1_000), 3_500, &mut out);
        let expected = r#"{"type":"m.presence","content":{"presence":"online","last_active_ago":2500},"sender":"@a:b"}"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);

        let mut out = Vec::new();
        let odd = br#"{"content":{"\ud800":1e400, "last_active_ago":1}}"#;
        write_presence(odd, Some(1_000), 3_500, &mut out);
        let expected = r#"{"content":{"\ud800":1e400,"last_active_ago":2500}}"#;
        assert_eq!(String::from_utf8(out).expect("text"), expected);
        let mut out = Vec::new();
        write_presence(br#"{"content":{}}"#, Some(1_000), 3_500, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            r#"{"content":{"last_active_ago":2500}}"#
        );
    }
}
