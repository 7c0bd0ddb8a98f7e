//! Which rooms are direct: global account data
//! [`m.direct`](https://spec.matrix.org/v1.16/client-server-api/#mdirect), read leniently. Pure.

use std::collections::HashSet;

use store::Position;

use crate::json::{self, Object};

/// The rooms that `m.direct` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DirectRooms {
    rooms: HashSet<Box<str>>,
    /// The poll that said so.
    pub(super) pos: Position,
}

impl DirectRooms {
    /// Where there never was an `m.direct`.
    pub(super) fn none() -> Self {
        Self { rooms: HashSet::new(), pos: Position(0) }
    }

    /// Reads the whole account data event, which a poll brought: lists of room IDs by user.
    pub(super) fn read(event: &[u8], pos: Position) -> Self {
        let mut rooms = HashSet::new();
        let users = Object::read(event).and_then(|event| event.object("content"));
        for (_, list) in users.iter().flat_map(|users| &users.0) {
            let room_ids = json::list(list).unwrap_or_default().into_iter().filter_map(json::text);
            rooms.extend(room_ids.map(|room_id| Box::from(&*room_id)));
        }
        Self { rooms, pos }
    }

    /// Whether a room is direct.
    pub(super) fn contains(&self, room_id: &str) -> bool {
        self.rooms.contains(room_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_counts() {
        let check = |event: &str, expected: &[&str]| {
            let rooms = expected.iter().map(|&room_id| Box::from(room_id)).collect();
            let expected = DirectRooms { rooms, pos: Position(3) };
            assert_eq!(DirectRooms::read(event.as_bytes(), Position(3)), expected, "{event}");
        };
        check(r#"{"content":{"@a:x":["!1","!2"],"@b:x":["!2","!3"]}}"#, &["!1", "!2", "!3"]);
        check(r#"{"content":{"@a:x":["!\u0031",5,null,"\ud800"],"@b:x":"!2"}}"#, &["!1"]);
        check(r#"{"content":{"\ud800":["!1"]}}"#, &["!1"]);
        check(r#"{"content":{}}"#, &[]);
        check(r#"{"content":[]}"#, &[]);
        check("x", &[]);
    }
}
