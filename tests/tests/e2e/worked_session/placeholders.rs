//! Names for what differs from one time to the next: IDs, tokens and times.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tests::client::Client;

/// The names given so far. What has none yet gets the next one of its kind.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    given: HashMap<String, String>,
    counts: HashMap<&'static str, u32>,
}

impl Placeholders {
    /// A user has this name, and so has the display name that Synapse made of the user ID.
    pub(super) fn user(&mut self, user: &Client, name: &str) {
        let localpart = user.user_id.trim_start_matches('@').split(':').next().unwrap();
        self.given.insert(localpart.to_owned(), name.to_owned());
        self.given.insert(user.user_id.clone(), format!("@{name}:example.org"));
    }

    /// A room has this name.
    pub(super) fn room(&mut self, room_id: &str, name: &str) {
        let name = name.to_lowercase().replace(' ', "_");
        self.given.insert(room_id.to_owned(), format!("!{name}:example.org"));
    }

    /// The name of a session's token.
    pub(super) fn token(&mut self, token: &str) -> String {
        self.name(token, "v3_")
    }

    /// A value with names for all that differs.
    pub(super) fn of(&mut self, value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                // Room IDs are keys, and come in another order each time: only their names have one that stays.
                let named: Map<String, Value> =
                    object.iter().map(|(key, value)| (self.text("", key), value.clone())).collect();
                let is_reply = object.contains_key("next") && !object.contains_key("sort");
                named
                    .into_iter()
                    .map(|(key, value)| {
                        let kind = if is_reply && key == "next" { "session" } else { &key };
                        let value = self.member(kind, &value);
                        (key, value)
                    })
                    .collect()
            }
            Value::Array(list) => list.iter().map(|value| self.of(value)).collect(),
            Value::String(text) => json!(self.text("", text)),
            other => other.clone(),
        }
    }

    fn member(&mut self, key: &str, value: &Value) -> Value {
        match (key, value) {
            ("origin_server_ts" | "timestamp", Value::Number(_)) => json!(1_700_000_000_000_u64),
            ("age", Value::Number(_)) => json!(100),
            (_, Value::String(text)) => json!(self.text(key, text)),
            _ => self.of(value),
        }
    }

    fn text(&mut self, key: &str, text: &str) -> String {
        match key {
            "session" => self.token(text),
            "next" => self.name(text, "page_"),
            "since" => self.given.get(text).cloned().unwrap_or_else(|| text.to_owned()),
            "prev_batch" => self.name(text, "back_"),
            _ if text.starts_with('$') => self.name(text, "$event_"),
            _ => self.given.get(text).cloned().unwrap_or_else(|| text.to_owned()),
        }
    }

    fn name(&mut self, text: &str, kind: &'static str) -> String {
        if let Some(name) = self.given.get(text) {
            return name.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let name = format!("{kind}{count}");
        self.given.insert(text.to_owned(), name.clone());
        name
    }
}
