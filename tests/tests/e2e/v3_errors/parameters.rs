//! The parameters of all streams, and values that they can and cannot have: read from `docs/openapi.json`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::schema::openapi;

use crate::bad_input::ROOM;

/// A parameter of a stream, as the description has it.
pub(super) struct Parameter {
    pub(super) stream: String,
    pub(super) path: Vec<String>,
    schema: Value,
}

impl Parameter {
    /// Stream and path, as an error names it.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.stream, self.path.join("."))
    }

    /// A request with this value of it, and with the room that the stream needs.
    pub(super) fn body(&self, value: &Value) -> Value {
        let mut body = json!({&self.stream: {}});
        if needs_room(&self.stream) {
            body[&self.stream]["room_id"] = json!(ROOM);
        }
        let place = self.path.iter().fold(&mut body[&self.stream], |place, key| &mut place[key]);
        *place = value.clone();
        body
    }

    /// The types that it can have.
    pub(super) fn types(&self) -> BTreeSet<String> {
        types(&self.schema)
    }

    /// What the entries of a list may be.
    pub(super) fn entries(&self) -> Option<Value> {
        alternatives(&self.schema)
            .iter()
            .find(|one| one["items"].is_object())
            .map(|list| resolved(&list["items"]))
    }

    /// Values of the right type that cannot be, as far as the description says so.
    pub(super) fn values_out_of_range(&self) -> Vec<Value> {
        let mut wrong = Vec::new();
        if let Some(minimum) = self.schema["minimum"].as_i64() {
            wrong.extend([json!(minimum - 1), json!(-1_000_000)]);
        }
        wrong.extend(bad_texts(&self.schema).into_iter().map(Value::from));
        if self.path == ["p", "since"] {
            wrong.extend([json!("nobody_minted_this"), json!("0"), json!("")]);
        }
        if let Some(entries) = self.entries() {
            wrong.extend(bad_texts(&entries).into_iter().map(|text| json!([text])));
            let lists = alternatives(&self.schema);
            if let Some(most) = lists.iter().find_map(|list| list["maxItems"].as_u64()) {
                wrong.push((0..=most).map(|n| good_entry(&entries, n)).collect());
            }
        }
        wrong
    }

    /// Values that can be: the default, what is lowered, and each that the description lists.
    pub(super) fn good_values(&self) -> Vec<Value> {
        let mut good: Vec<Value> = self.schema.get("default").cloned().into_iter().collect();
        if let Some(most) = self.schema["x-lowered-to"].as_u64() {
            good.extend([json!(most), json!(most + 1)]);
        }
        for one in alternatives(&self.schema) {
            good.extend(one["enum"].as_array().into_iter().flatten().cloned());
        }
        if self.types().contains("null") {
            good.push(Value::Null);
        }
        good
    }
}

/// One of many entries of a list.
fn good_entry(schema: &Value, n: u64) -> Value {
    if types(schema).contains("array") {
        json!(["m.room.topic", format!("{n}")])
    } else if schema["pattern"] == "^\\$." {
        json!(format!("$event{n}"))
    } else {
        json!(format!("!room{n}:scripted"))
    }
}

/// Texts that are none of those that a schema allows; none where it allows any.
fn bad_texts(schema: &Value) -> Vec<&'static str> {
    let all = alternatives(schema);
    let is_closed = |one: &Value| one["pattern"].is_string() || one["enum"].is_array();
    let texts: Vec<&Value> =
        all.iter().filter(|one| types(one).contains("string") && one["const"].is_null()).collect();
    if texts.is_empty() || !texts.into_iter().all(is_closed) {
        return Vec::new();
    }
    vec!["", "!", "not one of these", "#alias:scripted"]
}

/// All streams.
pub(super) fn streams() -> Vec<String> {
    let request = &openapi()["components"]["schemas"]["Request"]["properties"];
    request.as_object().unwrap().keys().cloned().collect()
}

fn needs_room(stream: &str) -> bool {
    ["typing", "room_members", "room", "receipts"].contains(&stream)
}

/// All parameters of all streams, those that hold others included.
pub(super) fn parameters() -> Vec<Parameter> {
    let request = openapi()["components"]["schemas"]["Request"]["properties"].clone();
    let mut found = Vec::new();
    for stream in streams() {
        add_parameters(&stream, &[], &resolved(&request[&stream]), &mut found);
    }
    found
}

fn add_parameters(stream: &str, path: &[String], schema: &Value, found: &mut Vec<Parameter>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let (path, schema) = ([path, std::slice::from_ref(key)].concat(), resolved(value));
        add_parameters(stream, &path, &schema, found);
        found.push(Parameter { stream: stream.to_owned(), path, schema });
    }
}

/// A schema with what it refers to in place of the reference.
fn resolved(schema: &Value) -> Value {
    let mut schema = schema.clone();
    while let Some(reference) = schema.as_object_mut().and_then(|object| object.remove("$ref")) {
        let page = openapi();
        let there = page.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap();
        for (key, value) in there.as_object().unwrap() {
            schema.as_object_mut().unwrap().entry(key).or_insert_with(|| value.clone());
        }
    }
    schema
}

/// A schema, or those of which it is any.
fn alternatives(schema: &Value) -> Vec<Value> {
    match schema["anyOf"].as_array() {
        Some(all) => all.iter().flat_map(|one| alternatives(&resolved(one))).collect(),
        None => vec![schema.clone()],
    }
}

/// The types that a schema allows.
pub(super) fn types(schema: &Value) -> BTreeSet<String> {
    let of_one = |one: &Value| match &one["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(one) => vec![one.clone()],
        _ => vec!["string".to_owned()],
    };
    alternatives(schema).iter().flat_map(of_one).collect()
}

/// The type of a value; an integer is no `number`.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
