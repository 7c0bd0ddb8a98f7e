//! The stream `typing`: who is typing in one room.
//!
//! The first reply is the list as it stands, every later one the list as it has become.

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::{Position, RoomHead, RoomNid};

use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    json::{ObjectWriter, write_string},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View, waiting::Source},
};

/// The stream.
pub(super) struct Typing;

struct InRoom {
    room_id: String,
}

/// The list of which room has been told, and as of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    room_nid: RoomNid,
    typing_pos: Position,
}

impl Stream for Typing {
    fn name(&self) -> &'static str {
        "typing"
    }

    fn number(&self) -> u64 {
        1
    }

    fn source(&self) -> Source {
        Source::Account
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(InRoom { room_id: fields.room_id("room_id")?.to_owned() }))
    }
}

impl Subscription for InRoom {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([("room_id".to_owned(), json!(self.room_id))])
    }

    fn room_ids(&self) -> Vec<&str> {
        vec![&self.room_id]
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        async move { Ok(answer(view.rooms.get(&self.room_id)?, place)) }.boxed()
    }
}

fn answer(room: &RoomHead, place: Option<&[u8]>) -> Option<Answer> {
    let here = Place { room_nid: room.room_nid, typing_pos: room.typing_pos };
    let told = place
        .and_then(Place::decode)
        .is_some_and(|told| told.room_nid == here.room_nid && told.typing_pos >= here.typing_pos);
    if told {
        return None;
    }
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    let events = reply.key("events");
    events.push(b'[');
    let mut event = ObjectWriter::new(events);
    event.raw("type", b"\"m.typing\"");
    write_string(&room.room_id, event.key("room_id"));
    event.raw("content", room.typing.as_deref().unwrap_or(b"{\"user_ids\":[]}"));
    event.end();
    events.push(b']');
    reply.end();
    Some(Answer { json, place: Some(here.encode()) })
}

impl Place {
    fn encode(self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.room_nid.0.unsigned_abs());
        put_varint(&mut place, self.typing_pos.0.unsigned_abs());
        place
    }

    fn decode(place: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(place);
        Some(Self { room_nid: RoomNid(reader.id().ok()?), typing_pos: Position(reader.id().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::Section;

    use super::*;

    fn room(nid: i64, typing: Option<&'static str>, typing_pos: i64) -> RoomHead {
        RoomHead {
            room_nid: RoomNid(nid),
            room_id: "!a:b".to_owned(),
            section: Section::Join,
            segment_pos: Position(1),
            segment_limited: false,
            members_complete: false,
            kicked: false,
            forgotten: false,
            notification_count: 0,
            highlight_count: 0,
            thread_counts: None,
            heroes: None,
            joined_member_count: None,
            invited_member_count: None,
            summary_pos: Position(0),
            stripped_state: None,
            typing: typing.map(|typing| Bytes::from_static(typing.as_bytes())),
            typing_pos: Position(typing_pos),
        }
    }

    #[track_caller]
    fn check(room: &RoomHead, told: Option<(i64, i64)>, expected: Option<&str>) {
        let place = told
            .map(|(nid, pos)| Place { room_nid: RoomNid(nid), typing_pos: Position(pos) }.encode());
        let answer = answer(room, place.as_deref());
        let users = answer.as_ref().map(|answer| {
            let reply: Value = serde_json::from_slice(&answer.json).unwrap();
            let event = &reply["events"][0];
            assert_eq!((&event["type"], &event["room_id"]), (&json!("m.typing"), &json!("!a:b")));
            event["content"]["user_ids"].to_string()
        });
        assert_eq!(users.as_deref(), expected);
        let new = answer.and_then(|answer| Place::decode(&answer.place?));
        let here = Place { room_nid: room.room_nid, typing_pos: room.typing_pos };
        assert_eq!(new, expected.map(|_| here));
    }

    #[test]
    fn the_list_is_told_first_and_when_it_changes() {
        let quiet = room(1, None, 0);
        check(&quiet, None, Some("[]"));
        check(&quiet, Some((1, 0)), None);
        let alice = room(1, Some(r#"{"user_ids":["@alice:b"]}"#), 7);
        check(&alice, None, Some(r#"["@alice:b"]"#));
        check(&alice, Some((1, 0)), Some(r#"["@alice:b"]"#));
        check(&alice, Some((1, 7)), None);
        check(&room(1, Some(r#"{"user_ids":[]}"#), 9), Some((1, 7)), Some("[]"));
    }

    #[test]
    fn another_room_begins_anew() {
        let alice = room(2, Some(r#"{"user_ids":["@alice:b"]}"#), 7);
        check(&alice, Some((1, 9)), Some(r#"["@alice:b"]"#));
        check(&room(2, None, 0), Some((1, 9)), Some("[]"));
    }
}
