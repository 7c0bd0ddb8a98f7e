//! The power levels of a room, read as leniently as servers do.
//!
//! <https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels>; creators of rooms of version
//! 12 and later stand above every number: <https://spec.matrix.org/v1.16/rooms/v12/>.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use crate::json::{self, Object};

/// What somebody may do in a room. `Infinite` is above every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Power {
    Level(i64),
    Infinite,
}

/// The power levels of a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PowerLevels {
    users: HashMap<String, i64>,
    users_default: i64,
    /// Those above every number.
    creators: HashSet<String>,
}

impl PowerLevels {
    /// From the events `m.room.create` and `m.room.power_levels`, as far as the room has them.
    pub(super) fn read(create: Option<&[u8]>, power_levels: Option<&[u8]>) -> Self {
        let mut levels = power_levels.and_then(levels).unwrap_or_default();
        if let Some(creation) = create.and_then(creation) {
            if creation.above_all {
                levels.creators = creation.creators;
            } else if power_levels.is_none() {
                // Without the event the creator has level 100, and everybody else 0.
                levels.users = creation.creators.into_iter().map(|user| (user, 100)).collect();
            }
        }
        levels
    }

    /// The power of a user.
    pub(super) fn of(&self, user_id: &str) -> Power {
        if self.creators.contains(user_id) {
            return Power::Infinite;
        }
        Power::Level(self.users.get(user_id).copied().unwrap_or(self.users_default))
    }
}

struct Creation {
    creators: HashSet<String>,
    above_all: bool,
}

fn creation(event: &[u8]) -> Option<Creation> {
    let event = Object::read(event)?;
    let content = event.object("content")?;
    let text = |raw: &RawValue| json::text(raw).map(std::borrow::Cow::into_owned);
    let sender = event.get("sender").and_then(text);
    let version = content.get("room_version").and_then(text).unwrap_or_else(|| "1".to_owned());
    // Versions with other names are experiments: they say no more than that they are not 12.
    let number: Option<u32> = version.parse().ok();
    let above_all = number.is_some_and(|number| number >= 12);
    let mut creators: HashSet<String> = match number {
        // Up to version 10 the creator is named by the content, and need not be the sender.
        Some(..=10) => content.get("creator").and_then(text).or(sender),
        _ => sender,
    }
    .into_iter()
    .collect();
    if above_all {
        let more = content.get("additional_creators").and_then(json::value::<Vec<String>>);
        creators.extend(more.unwrap_or_default());
    }
    Some(Creation { creators, above_all })
}

fn levels(event: &[u8]) -> Option<PowerLevels> {
    let event = Object::read(event)?;
    let content = event.object("content")?;
    let users = content.object("users");
    Some(PowerLevels {
        users: users
            .iter()
            .flat_map(Object::members)
            .filter_map(|(user_id, value)| Some((user_id.into_owned(), level(value)?)))
            .collect(),
        users_default: content.get("users_default").and_then(level).unwrap_or(0),
        creators: HashSet::new(),
    })
}

/// A level; in old rooms also as a string, with spaces and a sign.
fn level(raw: &RawValue) -> Option<i64> {
    json::integer(raw).or_else(|| json::text(raw)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(create: Option<&str>, levels: Option<&str>, expected: &[(&str, i64)]) {
        let levels = PowerLevels::read(create.map(str::as_bytes), levels.map(str::as_bytes));
        for (user_id, expected) in expected {
            let power = match levels.of(user_id) {
                Power::Level(level) => level,
                Power::Infinite => i64::MAX,
            };
            assert_eq!(power, *expected, "{user_id}");
        }
    }

    const V1: &str = r#"{"sender":"@s:x","content":{"creator":"@c:x"}}"#;
    const V11: &str = r#"{"sender":"@s:x","content":{"room_version":"11","creator":"@c:x"}}"#;
    const V12: &str =
        r#"{"sender":"@s:x","content":{"room_version":"12","additional_creators":["@t:x"]}}"#;

    #[test]
    fn levels_are_read() {
        let levels = r#"{"content":{"users":{"@a:x":100,"@b:x":-5},"users_default":10}}"#;
        check(Some(V11), Some(levels), &[("@a:x", 100), ("@b:x", -5), ("@s:x", 10)]);
    }

    #[test]
    fn odd_levels_are_read_leniently() {
        let levels = r#"{"content":{"users":{
            "@a:x":"100","@b:x":" +50 ","@c:x":1e1,"@d:x":null,"@e:x":"x","@f:x":1.5,"\u0040g:x":7
        },"users_default":"3"}}"#;
        check(
            Some(V11),
            Some(levels),
            &[
                ("@a:x", 100),
                ("@b:x", 50),
                ("@c:x", 10),
                ("@d:x", 3),
                ("@e:x", 3),
                ("@f:x", 3),
                ("@g:x", 7),
            ],
        );
        check(Some(V11), Some(r#"{"content":{"users":[]}}"#), &[("@s:x", 0)]);
        check(Some(V11), Some(r#"{"content":5}"#), &[("@s:x", 0)]);
        check(Some(V11), Some("{}"), &[("@s:x", 0)]);
    }

    #[test]
    fn without_levels_the_creator_has_100() {
        check(Some(V1), None, &[("@c:x", 100), ("@s:x", 0), ("@a:x", 0)]);
        check(Some(V11), None, &[("@s:x", 100), ("@c:x", 0)]);
        check(Some(V1), Some(r#"{"content":{}}"#), &[("@c:x", 0)]);
        check(None, None, &[("@a:x", 0)]);
    }

    #[test]
    fn creators_of_version_12_are_above_every_number() {
        let levels = r#"{"content":{"users":{"@a:x":9007199254740991}}}"#;
        for levels in [None, Some(levels)] {
            check(Some(V12), levels, &[("@s:x", i64::MAX), ("@t:x", i64::MAX), ("@c:x", 0)]);
        }
        assert!(Power::Infinite > Power::Level(i64::MAX));
    }
}
