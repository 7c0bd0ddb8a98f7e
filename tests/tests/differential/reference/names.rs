//! The name of a room, by the algorithm of the specification, from what v2 tells:
//! <https://spec.matrix.org/v1.16/client-server-api/#calculating-the-display-name-for-a-room>.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{StateKey, text};

/// The name, and whom it is made of where the room has none of its own.
pub(super) fn name_of(
    state: &BTreeMap<StateKey, Value>,
    summary: &BTreeMap<String, Value>,
    user_id: &str,
) -> (String, BTreeSet<String>) {
    let given = |event_type: &str, key: &str| {
        let event = state.get(&(event_type.to_owned(), String::new()))?;
        Some(text(&event["content"][key])).filter(|name| !name.is_empty())
    };
    if let Some(name) = given("m.room.name", "name") {
        return (name, BTreeSet::new());
    }
    if let Some(alias) = given("m.room.canonical_alias", "alias") {
        return (alias, BTreeSet::new());
    }
    let heroes = summary.get("m.heroes").and_then(Value::as_array);
    let heroes: Vec<String> =
        heroes.into_iter().flatten().map(text).filter(|hero| hero != user_id).collect();
    let count = |name: &str| summary.get(name).and_then(Value::as_u64).unwrap_or(0);
    let people = count("m.joined_member_count") + count("m.invited_member_count");
    let plain: Vec<String> = heroes.iter().map(|hero| shown(state, hero)).collect();
    let apart = |(hero, name): (&String, &String)| {
        let alike = plain.iter().filter(|other| *other == name).count();
        if alike > 1 { format!("{name} ({hero})") } else { name.clone() }
    };
    let names: Vec<String> = heroes.iter().zip(&plain).map(apart).collect();
    let others = people.saturating_sub(1).saturating_sub(heroes.len() as u64);
    let list = listed(&names, others);
    let name = match (people > 1, names.is_empty()) {
        (true, true) => format!("{people} people"),
        (true, false) => list,
        (false, true) => "Empty room".to_owned(),
        (false, false) => format!("Empty room (was {list})"),
    };
    (name, heroes.into_iter().collect())
}

/// What a member is called.
fn shown(state: &BTreeMap<StateKey, Value>, user_id: &str) -> String {
    let member = |user_id: &str| state.get(&("m.room.member".to_owned(), user_id.to_owned()));
    let name = |event: &Value| text(&event["content"]["displayname"]);
    let name = member(user_id).map(name).unwrap_or_default();
    if name.is_empty() { user_id.to_owned() } else { name }
}

fn listed(names: &[String], others: u64) -> String {
    let others = match others {
        0 => None,
        1 => Some("1 other".to_owned()),
        more => Some(format!("{more} others")),
    };
    let parts: Vec<&str> = names.iter().map(String::as_str).chain(others.as_deref()).collect();
    match parts.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
