//! Replies to syncs: whatever comes, it is refused whole, or all that it says is stored or quarantined.

use std::collections::HashSet;

use ::tests::fuzz::{check, corpus, json as some_json};
use serde_json::value::RawValue;
use store::{Event, Poll, StateBlock};

use super::*;
use crate::{
    event_json::{Unsigned, write_event},
    redaction::RULES,
    views::EventFields,
};

pub(super) const ASKED: Asked<'_> = Asked {
    user_id: "@me:x",
    device_nid: DeviceNid(1),
    since: None,
    received_at: 1_700_000_000_000,
};

#[test]
fn sync_reply() {
    let seeds = corpus("sync_reply");
    check("sync_reply", |choices| {
        let reply = some_json(choices, &seeds);
        choices.note("reply", &String::from_utf8_lossy(&reply));
        let light = light_poll(&reply, ASKED);
        match main_poll(&reply, ASKED) {
            Ok(poll) => {
                let text = std::str::from_utf8(&reply).expect("what is not text is refused");
                assert_eq!(light.expect("the same envelope").next_batch, poll.next_batch);
                assert!(!poll.next_batch.is_empty());
                can_be_stored(&poll);
                everything_is_accounted_for(text, &poll);
                for event in all_events(&poll) {
                    is_unchanged(text, event);
                }
            }
            Err(ReplyError::NotUtf8) => assert!(std::str::from_utf8(&reply).is_err()),
            Err(ReplyError::NotAnObject(_)) => {
                let object: Result<Object<'_>, _> = serde_json::from_slice(&reply);
                assert!(object.is_err());
            }
            Err(ReplyError::Malformed(error)) => panic!("only large replies are scanned: {error}"),
            Err(ReplyError::NoNextBatch) => {
                let reply = Object::read(&reply).expect("an object");
                let told = reply.get("next_batch").and_then(json::text);
                assert!(told.is_none_or(|told| told.is_empty() || told.contains('\0')));
            }
        }
    });
}

fn all_events(poll: &Poll) -> impl Iterator<Item = &Event> {
    poll.rooms.iter().flat_map(|room| {
        let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) = &room.state;
        room.timeline.iter().chain(state)
    })
}

/// Nothing is in it that Postgres cannot hold, or cannot have as a key.
fn can_be_stored(poll: &Poll) {
    let mut keys: Vec<&str> = Vec::new();
    let mut texts: Vec<&str> = vec![&poll.next_batch];
    keys.extend(poll.account_data.iter().map(|data| &*data.event_type));
    keys.extend(poll.presence.iter().map(|update| &*update.user_id));
    keys.extend(poll.device_lists_changed.iter().chain(&poll.device_lists_left).map(|id| &**id));
    for room in &poll.rooms {
        keys.push(&room.room_id);
        keys.extend(room.account_data.iter().map(|data| &*data.event_type));
        texts.extend(room.prev_batch.as_deref());
        for receipt in &room.receipts {
            let parts =
                [&receipt.user_id, &receipt.receipt_type, &receipt.thread_id, &receipt.event_id];
            assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= 2_000);
            keys.extend(parts.map(String::as_str));
        }
    }
    for event in all_events(poll) {
        keys.extend([&*event.event_id, &*event.event_type]);
        keys.extend(event.state_key.as_deref());
        keys.extend(event.transaction_id.as_deref());
        keys.extend(event.copies.iter().map(String::as_str));
        texts.extend(event.membership.as_deref());
        texts.extend(event.displayname.as_deref());
    }
    assert!(keys.iter().all(|key| is_key(key)), "{keys:?}");
    assert!(!texts.iter().any(|text| text.contains('\0')), "{texts:?}");
    assert!(poll.quarantined.iter().all(|(reason, _)| !reason.contains('\0')));
}

/// Counts what the reply holds, and what has become of it.
fn everything_is_accounted_for(text: &str, poll: &Poll) {
    let reply = Object::parse(text).expect("an object");
    let mut held = events(reply.get("account_data")).len() + events(reply.get("presence")).len();
    let mut rooms_seen = HashSet::new();
    for name in ["join", "leave", "invite", "knock"] {
        let section = reply.object("rooms").and_then(|rooms| rooms.object(name));
        for (key, raw) in section.into_iter().flat_map(|section| section.0) {
            let room = Object::of(raw);
            let room_id = json::text(key).filter(|room_id| is_key(room_id));
            let (Some(room), Some(room_id)) = (room, room_id) else {
                held += 1;
                continue;
            };
            let after =
                room.get("state_after").or_else(|| room.get("org.matrix.msc4222.state_after"));
            // Of a room that is listed twice the later entry counts; to the state after the end of a membership that
            // end is added.
            if !rooms_seen.insert(room_id.into_owned()) || (name == "leave" && after.is_some()) {
                return;
            }
            let state = after.or_else(|| room.get("state"));
            held += [state, room.get("timeline"), room.get("account_data")]
                .map(|part| events(part).len())
                .iter()
                .sum::<usize>();
        }
    }
    let stored = poll.account_data.len()
        + poll.presence.len()
        + all_events(poll).count()
        + poll.rooms.iter().map(|room| room.account_data.len()).sum::<usize>();
    let of_receipts = |reason: &str| reason.starts_with("receipts");
    let quarantined = poll.quarantined.iter().filter(|(reason, _)| !of_receipts(reason)).count();
    assert_eq!(stored + quarantined, held, "{:?}", poll.quarantined);
}

/// An event is carried byte for byte, and comes out again as it went in.
fn is_unchanged(reply: &str, event: &Event) {
    let body = std::str::from_utf8(&event.body).expect("text");
    let object = Object::parse(body).expect("an object");
    assert!(object.get("unsigned").is_none());
    for (key, value) in &object.0 {
        assert!(reply.contains(key.get()) && reply.contains(value.get()), "{body}");
    }
    let fields = EventFields::read(&event.body);
    assert_eq!(fields.event_id, event.event_id);
    assert_eq!(fields.event_type, event.event_type);
    assert_eq!(fields.state_key, event.state_key);
    let mut served = Vec::new();
    let unsigned = Unsigned {
        stored: event.unsigned.as_deref(),
        age: Some(5),
        transaction_id: Some("t\"1"),
        redacted_because: None,
    };
    write_event(&event.body, unsigned, &mut served);
    let served = Object::read(&served).expect("an event").write_apart();
    assert_eq!(served, event.body);
}

impl Object<'_> {
    /// The object without its `unsigned`.
    fn write_apart(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_without(&["unsigned"], &mut out);
        out
    }
}

#[test]
fn one_event() {
    let seeds = corpus("event");
    check("one_event", |choices| {
        let raw = some_json(choices, &seeds);
        choices.note("event", &String::from_utf8_lossy(&raw));
        EventFields::read(&raw);
        let Ok(raw) = serde_json::from_slice::<&RawValue>(&raw) else { return };
        if let Ok(event) = event::parse(raw, ASKED.received_at) {
            is_unchanged(raw.get(), &event);
        }
        if let Ok(event) = parse_event(raw, ASKED.received_at) {
            let body = Object::read(&event.body).expect("an object");
            assert!(["room_id", "age", "prev_content"].iter().all(|key| body.get(key).is_none()));
        }
    });
}

/// A redaction leaves an event that says no more than before, and what is redacted twice is what was redacted once.
#[test]
fn redactions() {
    let seeds = corpus("event");
    let create = |version: &str| {
        format!(r#"{{"type":"m.room.create","content":{{"room_version":{version}}}}}"#)
    };
    let creates = ["\"1\"", "\"8\"", "\"10\"", "\"11\"", "\"12\"", "\"x\"", "5"].map(create);
    check("redactions", |choices| {
        let body = some_json(choices, &seeds);
        choices.note("event", &String::from_utf8_lossy(&body));
        let create = choices.pick(&creates).as_bytes();
        let create = if choices.one_in(8) { None } else { Some(create) };
        if let Some(target) = (RULES.target)(create, &body) {
            assert!(is_key(&target));
        }
        if let Some(pruned) = (RULES.prune)(create, &body) {
            let object = Object::read(&pruned).expect("an object");
            assert!(pruned.len() <= body.len() + 200, "{}", pruned.len());
            if let Some(event) = Object::read(&body) {
                for key in ["event_id", "type", "state_key", "sender"] {
                    assert_eq!(
                        object.get(key).map(RawValue::get),
                        event.get(key).map(RawValue::get)
                    );
                }
                assert_eq!((RULES.prune)(create, &pruned).as_deref(), Some(&*pruned));
            }
        }
        let Some(unsigned) = Object::read(&body).and_then(|event| event.object("unsigned")) else {
            return;
        };
        let kept = crate::redaction::without_strays(&unsigned);
        let copies = crate::redaction::copies(&Object::read(&kept).expect("an object"));
        let redacted: HashSet<String> = copies.into_iter().filter(|_| choices.one_in(2)).collect();
        choices.note("redacted", &redacted);
        if let Some(rest) = (RULES.without_copies)(&kept, &redacted) {
            assert!(Object::read(&rest).is_some());
            assert!((RULES.without_copies)(&rest, &redacted).is_none_or(|again| again == rest));
        }
    });
}
