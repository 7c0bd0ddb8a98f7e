//! Filters, beside a slow and plain reading of the same JSON.

use ::tests::fuzz::{check, corpus, json};
use serde_json::{Value, json as value};

use super::*;

const TYPES: [&str; 6] = ["m.room.message", "m.room.member", "m.presence", "m.tag", "", "*"];
const USERS: [&str; 3] = ["@a:x", "@spam:example.com", ""];
const ROOMS: [&str; 3] = ["!a:example.org", "!b:example.org", "!other"];

#[test]
fn v2_filter() {
    let seeds = corpus("filter");
    check("v2_filter", |choices| {
        let bytes = json(choices, &seeds);
        choices.note("filter", &String::from_utf8_lossy(&bytes));
        let filter = match Filter::parse(&bytes) {
            Ok(filter) => filter,
            Err(error) => {
                let text = error.to_string();
                return assert_eq!(error.into_response().status(), 400, "{text}");
            }
        };
        assert_eq!(filter.raw.as_bytes(), bytes);
        let again = Filter::parse(filter.raw.as_bytes()).expect("the same JSON");
        assert_eq!(format!("{again:?}"), format!("{filter:?}"));
        let plain: Value = serde_json::from_slice(&bytes).expect("what is a filter is JSON");
        let room = &plain["room"];
        for room_id in ROOMS {
            let wanted = one_of(&room["rooms"], room_id).unwrap_or(true);
            let unwanted = one_of(&room["not_rooms"], room_id).unwrap_or(false);
            assert_eq!(filter.room.admits(room_id), wanted && !unwanted, "{room_id}");
        }
        agrees(&filter.account_data, &plain["account_data"]);
        agrees(&filter.presence, &plain["presence"]);
        agrees(&filter.room.timeline, &room["timeline"]);
        agrees(&filter.room.state, &room["state"]);
        agrees(&filter.room.ephemeral, &room["ephemeral"]);
        agrees(&filter.room.account_data, &room["account_data"]);
    });
}

fn agrees(filter: &EventFilter, plain: &Value) {
    let limit = plain["limit"].as_u64().unwrap_or(10).min(100);
    assert_eq!(filter.timeline_limit() as u64, limit);
    let whole = value!({"room": {"timeline": filter}}).to_string();
    let written = Filter::parse(whole.as_bytes()).expect("what we wrote").room.timeline;
    for event_type in TYPES {
        for sender in USERS.into_iter().map(Some).chain([None]) {
            for has_url in [false, true] {
                let seen = Seen { event_type, sender, has_url };
                let admitted = filter.admits(seen);
                assert_eq!(admitted, plainly_admitted(plain, seen), "{seen:?}");
                assert_eq!(written.admits(seen), admitted, "written and read: {seen:?}");
                assert!(!admitted || filter.admits_anything());
                let of_everything = filter.admits_everything_in(ROOMS[0]);
                assert!(!of_everything || (admitted && filter.admits_room(ROOMS[0])));
            }
        }
        let without_sender = Seen { event_type, sender: None, has_url: false };
        assert_eq!(filter.admits_without_sender(event_type), filter.admits(without_sender));
    }
}

/// What is unwanted wins; what is wanted is everything unless there is a list of it.
fn plainly_admitted(plain: &Value, seen: Seen<'_>) -> bool {
    let matches = |list: &Value| {
        Some(list.as_array()?.iter().filter_map(Value::as_str).any(|it| glob(it, seen.event_type)))
    };
    let (wanted, unwanted) = match seen.sender {
        Some(sender) => (one_of(&plain["senders"], sender), one_of(&plain["not_senders"], sender)),
        None => (plain["senders"].is_array().then_some(false), None),
    };
    matches(&plain["not_types"]) != Some(true)
        && matches(&plain["types"]) != Some(false)
        && unwanted != Some(true)
        && wanted != Some(false)
        && plain["contains_url"].as_bool().is_none_or(|wanted| wanted == seen.has_url)
}

/// `None` if there is no list.
fn one_of(list: &Value, text: &str) -> Option<bool> {
    Some(list.as_array()?.iter().any(|one| one == text))
}

/// Whether the pattern matches, by trying each length of the text for each wildcard, shortest first.
fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Which beginnings of the text the pattern so far matches.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for character in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match character {
                '*' => reached[..=at].contains(&true),
                plain => at > 0 && reached[at - 1] && text[at - 1] == plain,
            };
        }
        reached = next;
    }
    reached[text.len()]
}

/// Choosing fields twice is choosing them once, and nothing is told that was not there.
#[test]
fn event_fields() {
    let (filters, events) = (corpus("filter"), corpus("event"));
    check("event_fields", |choices| {
        let Ok(filter) = Filter::parse(&json(choices, &filters)) else { return };
        let event = json(choices, &events);
        choices.note("fields", &filter.event_fields);
        choices.note("event", &String::from_utf8_lossy(&event));
        let written = |event: &[u8]| {
            let mut out = Vec::new();
            filter.event_fields.write(event, &mut out);
            out
        };
        let once = written(&event);
        assert_eq!(written(&once), once);
        if let Some(object) = crate::json::Object::read(&event) {
            let told = crate::json::Object::read(&once).expect("an object");
            for (key, _) in &told.0 {
                assert!(object.0.iter().any(|(known, _)| known.get() == key.get()));
            }
        }
    });
}
