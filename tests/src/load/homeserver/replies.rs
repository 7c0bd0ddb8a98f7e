//! What the homeserver says: text, put together and never taken apart.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::{Account, SPEAKERS, World, large, user};

/// No reply has more events than that: what is left over comes with the next one.
const MOST_EVENTS: usize = 100;

/// What has come after a token, and whether anything has.
pub(super) fn sync(account: &Account, since: usize) -> (String, bool) {
    let stream = account.stream.lock().unwrap();
    let mut rooms: BTreeMap<usize, Vec<Arc<str>>> = BTreeMap::new();
    let mut next = since;
    // A poll that was given up may have been answered meanwhile, and the next one have acknowledged the answer.
    let known = since.saturating_sub(stream.acknowledged);
    for (room, event) in stream.events.iter().skip(known).take(MOST_EVENTS) {
        rooms.entry(*room).or_default().push(Arc::clone(event));
        next += 1;
    }
    drop(stream);
    let mut joined = String::new();
    for (room, events) in rooms {
        if !joined.is_empty() {
            joined.push(',');
        }
        write!(
            joined,
            r#""{}":{{"timeline":{{"events":[{}],"limited":false,"prev_batch":"p{since}"}},"unread_notifications":{{"notification_count":{next},"highlight_count":0}}}}"#,
            room_id(room),
            events.join(","),
        )
        .unwrap();
    }
    (format!(r#"{{"next_batch":"s{next}","rooms":{{"join":{{{joined}}}}}}}"#), next > since)
}

/// All rooms of an account that shares them with others.
pub(super) fn first_sync(world: &World, number: usize, next: usize) -> String {
    let rooms: Vec<String> = rooms_of(world, number)
        .map(|room| {
            let members = &world.rooms[room];
            let mut known: Vec<usize> = members.iter().copied().take(SPEAKERS).collect();
            known.push(number);
            known.sort_unstable();
            known.dedup();
            let mut state = vec![
                state(room, "m.room.create", "", r#"{"room_version":"10"}"#),
                state(room, "m.room.name", "", &format!(r#"{{"name":"Room {room}"}}"#)),
                state(room, "m.room.power_levels", "", r#"{"users_default":0}"#),
            ];
            state.extend(known.into_iter().map(|member| {
                let content = format!(r#"{{"membership":"join","displayname":"User {member}"}}"#);
                state_of(room, "m.room.member", &user(member), &content)
            }));
            format!(
                r#""{}":{{"state":{{"events":[{}]}},"timeline":{{"events":[],"limited":true,"prev_batch":"p0"}},"summary":{{"m.joined_member_count":{}}}}}"#,
                room_id(room),
                state.join(","),
                members.len(),
            )
        })
        .collect();
    format!(r#"{{"next_batch":"s{next}","rooms":{{"join":{{{}}}}}}}"#, rooms.join(","))
}

/// The reply of `/joined_rooms`.
pub(super) fn joined_rooms(world: &World, number: usize) -> String {
    let quoted = |room: String| format!("\"{room}\"");
    let rooms: Vec<String> = match world.accounts[number].large {
        Some(large) => (0..large.rooms).map(|room| quoted(large::room_id(room))).collect(),
        None => rooms_of(world, number).map(|room| quoted(room_id(room))).collect(),
    };
    format!(r#"{{"joined_rooms":[{}]}}"#, rooms.join(","))
}

fn rooms_of(world: &World, account: usize) -> impl Iterator<Item = usize> {
    let rooms = world.rooms.iter().enumerate();
    rooms.filter(move |(_, members)| members.contains(&account)).map(|(room, _)| room)
}

/// As long as such events are, about half a KiB.
pub(super) fn message(room: usize, number: usize, sender: usize) -> Arc<str> {
    let (room, sender) = (room_id(room), user(sender));
    let body = "a sentence as people write it, ".repeat(6);
    format!(
        r#"{{"type":"m.room.message","event_id":"$load{number}","room_id":"{room}","sender":"{sender}","origin_server_ts":1700000000000,"content":{{"msgtype":"m.text","body":"{number}: {body}"}},"unsigned":{{"age":10}}}}"#
    )
    .into()
}

fn state(room: usize, event_type: &str, state_key: &str, content: &str) -> String {
    state_of(room, event_type, state_key, content)
}

fn state_of(room: usize, event_type: &str, state_key: &str, content: &str) -> String {
    let (sender, id) = (user(0), format!("${event_type}_{state_key}_{room}"));
    format!(
        r#"{{"type":"{event_type}","state_key":"{state_key}","event_id":"{id}","sender":"{sender}","origin_server_ts":1700000000000,"content":{content},"unsigned":{{}}}}"#
    )
}

fn room_id(number: usize) -> String {
    format!("!room{number:06}:load")
}
