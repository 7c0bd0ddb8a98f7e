//! What a reply must look like: every GET `/sync` that a test sends is held against `tests/schemas`, and every POST `/sync`
//! against `docs/openapi.json` (see `v3`), without being asked to.
//!
//! The schemas of GET `/sync` are our own, written from the specification's. They are stricter than it where we promise
//! more: see the comments in them. What a schema cannot say stands in `contradictions`.

mod v3;

use std::collections::HashSet;
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

pub use self::v3::{faults_of_v3_reply, faults_of_v3_request, openapi};
use crate::matchers;

/// Says what is wrong with the JSON of a GET `/sync` that was answered 200; nothing if it is as it must be.
pub fn faults_of_sync(reply: &Value) -> Option<String> {
    let schemas = schemas();
    let by_schema = schemas.all.validate(reply, schemas.sync).err().map(|error| error.to_string());
    by_schema.or_else(|| contradictions(reply))
}

/// Says what is wrong with the JSON of a refusal with this status; nothing if it is as it must be.
pub fn faults_of_error(status: u16, reply: &Value) -> Option<String> {
    let schemas = schemas();
    let by_schema = schemas.all.validate(reply, schemas.error).err().map(|error| error.to_string());
    let limited = status == 429 && reply["retry_after_ms"].is_null();
    by_schema.or_else(|| limited.then(|| "a 429 has no retry_after_ms".to_owned()))
}

struct Compiled {
    all: Schemas,
    sync: SchemaIndex,
    error: SchemaIndex,
}

fn schemas() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let mut all = Schemas::new();
        let mut compile = |text: &str| {
            let schema: Value = serde_json::from_str(text).unwrap();
            let id = schema["$id"].as_str().unwrap().to_owned();
            let mut compiler = Compiler::new();
            compiler.add_resource(&id, schema).unwrap();
            compiler.compile(&id, &mut all).unwrap()
        };
        let sync = compile(include_str!("../schemas/sync_response.json"));
        let error = compile(include_str!("../schemas/error.json"));
        Compiled { all, sync, error }
    })
}

/// What is wrong although each part by itself is well formed.
fn contradictions(reply: &Value) -> Option<String> {
    let mut listed = HashSet::new();
    for name in ["join", "invite", "knock", "leave"] {
        for (room_id, room) in reply["rooms"][name].as_object().into_iter().flatten() {
            if !listed.insert(room_id) {
                return Some(format!("{room_id} is in two sections"));
            }
            let timeline = matchers::events(&room["timeline"]);
            if let Some(twice) =
                repeated(timeline.iter().map(|event| event["event_id"].to_string()))
            {
                return Some(format!("{twice} is twice in the timeline of {room_id}"));
            }
            for kind in ["state", "state_after", "org.matrix.msc4222.state_after"] {
                let state = matchers::events(&room[kind]);
                let keys =
                    state.iter().map(|event| format!("{} {}", event["type"], event["state_key"]));
                if let Some(twice) = repeated(keys) {
                    return Some(format!("{twice} is twice in the {kind} of {room_id}"));
                }
            }
        }
    }
    let users = |list: &str| reply["device_lists"][list].as_array().into_iter().flatten();
    let both = repeated(users("changed").chain(users("left")).map(ToString::to_string));
    both.map(|user| format!("{user} has both changed and left in device_lists"))
}

fn repeated(values: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    values.into_iter().find(|value| !seen.insert(value.clone()))
}

#[cfg(test)]
mod tests;
