//! Looking into sync replies. Indexing a JSON value by a name that is not there gives `null`, which these build on.

use serde_json::Value;

/// A joined room of a v2 reply; `null` if the reply does not mention it as joined.
pub fn joined<'a>(reply: &'a Value, room_id: &str) -> &'a Value {
    section(reply, "join", room_id)
}

/// A room in one of the sections `join`, `invite`, `knock` and `leave` of a v2 reply.
pub fn section<'a>(reply: &'a Value, name: &str, room_id: &str) -> &'a Value {
    &reply["rooms"][name][room_id]
}

/// The room IDs in a section of a v2 reply.
pub fn rooms_in<'a>(reply: &'a Value, name: &str) -> Vec<&'a str> {
    reply["rooms"][name]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(room_id, _room)| room_id.as_str())
        .collect()
}

/// The sections of a v2 reply that list the room.
pub fn sections_of<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a str> {
    let sections = reply["rooms"].as_object().into_iter().flatten();
    sections
        .filter(|(_name, rooms)| !rooms[room_id].is_null())
        .map(|(name, _rooms)| name.as_str())
        .collect()
}

/// The events of a list such as `timeline`, `state`, `to_device`; empty where there is none.
pub fn events(list: &Value) -> Vec<&Value> {
    list["events"].as_array().into_iter().flatten().collect()
}

/// The timeline of a joined room.
pub fn timeline<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a Value> {
    events(&joined(reply, room_id)["timeline"])
}

/// The messages in the timeline of a joined room, by their text.
pub fn messages<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a str> {
    bodies(&timeline(reply, room_id))
}

/// The texts of those events that have one.
pub fn bodies<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// The types of events.
pub fn types<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// The events of one type.
pub fn of_type<'a>(events: &[&'a Value], event_type: &str) -> Vec<&'a Value> {
    events.iter().copied().filter(|event| event["type"] == event_type).collect()
}

/// The content of the first event of a type, `null` where there is none.
pub fn content_of<'a>(events: &[&'a Value], event_type: &str) -> &'a Value {
    of_type(events, event_type).first().map_or(&Value::Null, |event| &event["content"])
}

/// The state that a joined room's reply brings for a type and state key.
pub fn state<'a>(
    reply: &'a Value,
    room_id: &str,
    event_type: &str,
    state_key: &str,
) -> Option<&'a Value> {
    find_state(&events(&joined(reply, room_id)["state"]), event_type, state_key)
}

/// The event of a type and state key among events.
pub fn find_state<'a>(
    events: &[&'a Value],
    event_type: &str,
    state_key: &str,
) -> Option<&'a Value> {
    events
        .iter()
        .copied()
        .find(|event| event["type"] == event_type && event["state_key"] == state_key)
}

/// The users whose membership a joined room's state brings, sorted.
pub fn members_in_state<'a>(reply: &'a Value, room_id: &str) -> Vec<&'a str> {
    let members = of_type(&events(&joined(reply, room_id)["state"]), "m.room.member");
    let mut users: Vec<&str> =
        members.iter().filter_map(|event| event["state_key"].as_str()).collect();
    users.sort_unstable();
    users
}

/// Who types in a joined room, if the reply says anything about it.
pub fn typing<'a>(reply: &'a Value, room_id: &str) -> Option<Vec<&'a str>> {
    let ephemeral = events(&joined(reply, room_id)["ephemeral"]);
    let event = of_type(&ephemeral, "m.typing").first().copied()?;
    Some(event["content"]["user_ids"].as_array()?.iter().filter_map(Value::as_str).collect())
}

/// The numbers `n` in the content of to-device messages: how tests mark an order.
pub fn numbers(to_device: &Value) -> Vec<u64> {
    events(to_device).iter().filter_map(|event| event["content"]["n"].as_u64()).collect()
}

/// Checks that text does not occur anywhere in a reply.
#[track_caller]
pub fn assert_no_trace(reply: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!reply.contains(secret), "`{secret}` leaks in {reply}");
    }
}
