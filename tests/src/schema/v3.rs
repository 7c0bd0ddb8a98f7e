//! What requests and replies of POST `/sync` must look like: as `docs/openapi.json` says, word for word.
//!
//! The requests count as well: a description that refuses what the server takes is as wrong as one that promises
//! what no reply has.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

use boon::{Compiler, ErrorKind, SchemaIndex, Schemas, ValidationError};
use serde_json::{Value, json};

use super::repeated;
use crate::matchers;

/// Where the description stands among the schemas.
const PAGE: &str = "https://tests.invalid/openapi.json";

/// The one endpoint in it, as a JSON pointer.
const ENDPOINT: &str = "/paths/~1_matrix~1client~1v3~1sync/post";

/// Says what is wrong with the JSON of an answer with this status; nothing if it is as it must be.
pub fn faults_of_v3_reply(status: u16, reply: &Value) -> Option<String> {
    let compiled = compiled();
    let schema = compiled.replies.get(&status).unwrap_or(&compiled.other_reply);
    let by_schema = faults(compiled, *schema, reply);
    by_schema.or_else(|| (status == 200).then(|| contradictions(reply)).flatten())
}

/// Says what the description has against a body that the server took; nothing if it allows it.
pub fn faults_of_v3_request(body: &[u8]) -> Option<String> {
    let body = match body.trim_ascii() {
        b"" => json!({}),
        text => match serde_json::from_slice(text) {
            Ok(body) => body,
            Err(error) => return Some(format!("the body is not JSON: {error}")),
        },
    };
    let compiled = compiled();
    faults(compiled, compiled.request, &body)
}

/// The description as it stands in the repository.
pub fn openapi() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
}

struct Compiled {
    all: Schemas,
    request: SchemaIndex,
    replies: HashMap<u16, SchemaIndex>,
    other_reply: SchemaIndex,
}

fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let page = openapi();
        let responses = page.pointer(&format!("{ENDPOINT}/responses")).unwrap().clone();
        let mut compiler = Compiler::new();
        compiler.add_resource(PAGE, page).unwrap();
        let mut all = Schemas::new();
        let mut compile = |place: &str| {
            let schema = format!("{PAGE}#{ENDPOINT}/{place}/content/application~1json/schema");
            compiler.compile(&schema, &mut all).unwrap_or_else(|error| panic!("{schema}: {error}"))
        };
        let request = compile("requestBody");
        let statuses = responses.as_object().unwrap().keys();
        let replies = statuses
            .filter_map(|status| status.parse().ok())
            .map(|status: u16| (status, compile(&format!("responses/{status}"))))
            .collect();
        let other_reply = compile("responses/default");
        Compiled { all, request, replies, other_reply }
    })
}

fn faults(compiled: &Compiled, schema: SchemaIndex, value: &Value) -> Option<String> {
    let error = compiled.all.validate(value, schema).err()?;
    let mut lines = String::new();
    describe(&error, "", &mut lines);
    Some(lines)
}

/// One line for each single fault: its stream, the path within it, and what is wrong there.
fn describe(error: &ValidationError<'_, '_>, around: &str, lines: &mut String) {
    let mut place = error.instance_location.to_string();
    // What is wrong with a name has no place of its own: it is said of a text that is nowhere in the value.
    let of_name = matches!(error.kind, ErrorKind::PropertyName { .. });
    if of_name {
        around.clone_into(&mut place);
    }
    if of_name || error.causes.is_empty() {
        let place = place.trim_start_matches('/');
        let (stream, path) = place.split_once('/').unwrap_or((place, ""));
        writeln!(lines, "stream `{stream}`, at `/{path}`: {}", error.kind).unwrap();
        return;
    }
    for cause in &error.causes {
        describe(cause, &place, lines);
    }
}

/// What is wrong although each part by itself is well formed.
fn contradictions(reply: &Value) -> Option<String> {
    for (room_id, room) in reply["room"]["rooms"].as_object().into_iter().flatten() {
        let timeline = matchers::events(&room["timeline"]);
        if let Some(twice) = event_twice(timeline.into_iter()) {
            return Some(format!("stream `room`: {twice} is twice in the timeline of {room_id}"));
        }
        let state = matchers::events(&room["state"]);
        if let Some(twice) = state_twice(state.into_iter()) {
            return Some(format!("stream `room`: {twice} is twice in the state of {room_id}"));
        }
    }
    for list in ["rooms", "notifications"] {
        for entry in array(&reply["room_list"][list]) {
            let room_id = &entry["room_id"];
            if let Some(twice) = event_twice(array(&entry["timeline"])) {
                return Some(format!(
                    "stream `room_list`: {twice} is twice in the timeline of {room_id}"
                ));
            }
            if let Some(twice) = state_twice(array(&entry["state_events"])) {
                return Some(format!(
                    "stream `room_list`: {twice} is twice in the state_events of {room_id}"
                ));
            }
        }
    }
    let users = |list: &str| array(&reply["e2ee"]["device_lists"][list]).map(ToString::to_string);
    let both = repeated(users("changed").chain(users("left")));
    both.map(|user| format!("stream `e2ee`: {user} has both changed and left"))
}

fn event_twice<'a>(events: impl Iterator<Item = &'a Value>) -> Option<String> {
    // Events in the federation format have no ID.
    let ids = events.map(|event| &event["event_id"]).filter(|id| !id.is_null());
    repeated(ids.map(ToString::to_string))
}

fn state_twice<'a>(events: impl Iterator<Item = &'a Value>) -> Option<String> {
    repeated(events.map(|event| format!("{} {}", event["type"], event["state_key"])))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests;
