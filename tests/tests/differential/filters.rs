//! Random filters, and what they admit.

use serde_json::{Value, json};
use tests::random::Random;

use crate::scope;

/// Types that a filter of events may name.
const PATTERNS: [&str; 9] = [
    "m.room.*",
    "m.room.message",
    "m.room.member",
    "m.room.topic",
    "m.room.name",
    "m.room.encrypted",
    "m.*",
    "org.test.*",
    "m.room.power_levels",
];

/// The filter of one story.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Value);

impl Filter {
    /// The filter of the observer, who wants to know everything.
    pub(crate) fn everything() -> Self {
        Self(json!({
            "presence": {"types": []},
            "room": {"timeline": {"limit": 100, "unread_thread_notifications": true}},
        }))
    }

    /// The same, but with members as they matter.
    pub(crate) fn lazily(mut self) -> Self {
        self.0["room"]["state"]["lazy_load_members"] = true.into();
        self
    }

    /// A random one; `rooms` may be named in it.
    pub(crate) fn random(random: &mut Random, rooms: &[String]) -> Self {
        let mut timeline = json!({"limit": random.between(1, 30)});
        if random.one_in(3) {
            narrow(&mut timeline, random);
        }
        if random.coin() {
            timeline["unread_thread_notifications"] = true.into();
        }
        let mut state = json!({});
        if random.one_in(4) {
            narrow(&mut state, random);
        }
        if random.coin() {
            state["lazy_load_members"] = true.into();
            if random.one_in(3) {
                state["include_redundant_members"] = true.into();
            }
        }
        let mut filter =
            json!({"presence": {"types": []}, "room": {"timeline": timeline, "state": state}});
        match random.between(0, 9) {
            0 => filter["room"]["not_rooms"] = json!([random.pick(rooms)]),
            1 => filter["room"]["rooms"] = json!([random.pick(rooms)]),
            _ => {}
        }
        match random.between(0, 9) {
            0 => filter["room"]["ephemeral"] = json!({"types": ["m.receipt"]}),
            1 => filter["room"]["ephemeral"] = json!({"not_types": ["m.receipt"]}),
            2 => filter["room"]["ephemeral"] = json!({"types": []}),
            _ => {}
        }
        if random.one_in(6) {
            filter["account_data"] = json!({"not_types": ["org.test.one", "m.push_rules"]});
        }
        if random.one_in(6) {
            filter["room"]["account_data"] = json!({"not_types": ["m.tag"]});
        }
        if scope::LEFT_BEFORE_THE_PROXY && random.one_in(3) {
            filter["room"]["include_leave"] = true.into();
        }
        Self(filter)
    }

    /// The filter as a client sends it.
    pub(crate) const fn json(&self) -> &Value {
        &self.0
    }

    /// Whether members are loaded only as they matter to the timeline.
    pub(crate) fn lazy(&self) -> bool {
        self.0["room"]["state"]["lazy_load_members"] == true
    }

    /// Whether the joined room is told at all.
    pub(crate) fn admits_room(&self, room_id: &str) -> bool {
        let names = |list: &str| {
            self.0["room"][list].as_array().map(|list| list.iter().any(|one| one == room_id))
        };
        names("rooms").unwrap_or(true) && !names("not_rooms").unwrap_or(false)
    }

    /// Whether it names the rooms that it admits. Then Synapse tells no room account data at all, because that does not
    /// say which room it is of; the specification knows of no such exception.
    pub(crate) fn names_rooms(&self) -> bool {
        !self.0["room"]["rooms"].is_null()
    }

    /// Whether an event of this type is told in a timeline.
    pub(crate) fn admits_in_timeline(&self, event_type: &str) -> bool {
        admits(&self.0["room"]["timeline"], event_type)
    }

    /// Whether an event of this type is told as state.
    pub(crate) fn admits_as_state(&self, event_type: &str) -> bool {
        admits(&self.0["room"]["state"], event_type)
    }

    /// Whether timelines have every event.
    pub(crate) fn whole_timelines(&self) -> bool {
        let timeline = &self.0["room"]["timeline"];
        timeline["types"].is_null() && timeline["not_types"].is_null()
    }
}

fn narrow(filter: &mut Value, random: &mut Random) {
    let mut some = |most: u64| {
        let count = random.between(1, most);
        Value::from((0..count).map(|_| *random.pick(&PATTERNS)).collect::<Vec<_>>())
    };
    let (few, more) = (some(1), some(3));
    match random.between(0, 5) {
        0 => filter["types"] = json!([]),
        1 | 2 => filter["types"] = more,
        3 => {
            filter["types"] = more;
            filter["not_types"] = few;
        }
        _ => filter["not_types"] = few,
    }
}

fn admits(filter: &Value, event_type: &str) -> bool {
    let any = |list: &str| {
        let list = filter[list].as_array()?;
        Some(list.iter().filter_map(Value::as_str).any(|pattern| fits(pattern, event_type)))
    };
    any("types").unwrap_or(true) && !any("not_types").unwrap_or(false)
}

fn fits(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => event_type.starts_with(start),
        None => pattern == event_type,
    }
}
