//! The v3 stream `room_list`: the rooms of the account in order, in pages and then as changes.

mod borders;
mod changes;
mod entries;
mod errors;
mod filters;
mod notifications;
mod order;
mod pages;
mod parameters;
mod scripted;
mod spaces;

use serde_json::{Value, json};
use tests::client::Client;
use tests::matchers::bodies;
use tests::session::Session;
use tests::wait::eventually;

/// The IDs of the rooms in a list of entries.
fn ids(list: &Value) -> Vec<&str> {
    let entries = list.as_array().unwrap_or_else(|| panic!("a list of rooms: {list}"));
    entries.iter().map(|entry| entry["room_id"].as_str().unwrap()).collect()
}

/// The IDs of the rooms that a reply tells.
fn told(reply: &Value) -> Vec<&str> {
    match &reply["room_list"] {
        Value::Null => Vec::new(),
        list => ids(&list["rooms"]),
    }
}

/// What a reply tells of a room; `null` if nothing.
fn entry<'a>(reply: &'a Value, room: &str) -> &'a Value {
    find(&reply["room_list"]["rooms"], room)
}

/// What a reply notifies of in a room; `null` if nothing.
fn notification<'a>(reply: &'a Value, room: &str) -> &'a Value {
    find(&reply["room_list"]["notifications"], room)
}

fn find<'a>(list: &'a Value, room: &str) -> &'a Value {
    let mut entries = list.as_array().into_iter().flatten();
    entries.find(|entry| entry["room_id"] == room).unwrap_or(&Value::Null)
}

/// The texts of an entry's timeline.
fn texts(entry: &Value) -> Vec<&str> {
    bodies(&entry["timeline"].as_array().into_iter().flatten().collect::<Vec<_>>())
}

/// The IDs of rooms that a reply removes.
fn removed(reply: &Value) -> Vec<&str> {
    let ids = reply["room_list"]["removed"].as_array().into_iter().flatten();
    ids.map(|room_id| room_id.as_str().unwrap()).collect()
}

/// The token of the next page.
fn next_page(reply: &Value) -> Option<String> {
    reply["room_list"]["p"]["next"].as_str().map(str::to_owned)
}

/// A room with a name, which anybody may join.
async fn named_room(client: &Client, name: &str) -> String {
    client.create_room(json!({"preset": "public_chat", "name": name})).await
}

/// Rooms with these names, the first of them the oldest.
async fn named_rooms(client: &Client, names: &[&str]) -> Vec<String> {
    let mut rooms = Vec::new();
    for name in names {
        rooms.push(named_room(client, name).await);
    }
    rooms
}

/// A session that has its first reply, in which there are so many rooms altogether.
async fn begun(client: &Client, body: Value, count: usize) -> (Session, Value) {
    eventually("the rooms", async || {
        let mut session = client.v3();
        let reply = session.ask(body.clone()).await;
        (reply["room_list"]["count"] == count).then_some((session, reply))
    })
    .await
}

/// Waits until the proxy has this message as the last one of a room.
async fn arrived(client: &Client, room: &str, text: &str) {
    eventually(text, async || {
        let reply = client.v3().ask(json!({"room_list": {"p": {"limit": 1000}}})).await;
        (texts(entry(&reply, room)) == [text]).then_some(())
    })
    .await;
}
