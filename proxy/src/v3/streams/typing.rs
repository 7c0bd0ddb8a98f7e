//! The stream `typing`: who is typing in one room.
//!
//! The first reply is the list as it stands, every later one the list as it has become. Only the latest list is kept:
//! one that is newer than the moment of a reply is told with the next, but a first reply never goes without.

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::{Position, RoomHead, RoomNid};

use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    json::{ObjectWriter, write_string},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View},
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

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.typing_pos)
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
        async move { Ok(answer(view.rooms.get(&self.room_id)?, place, view.now)) }.boxed()
    }
}

fn answer(room: &RoomHead, place: Option<&[u8]>, now: Position) -> Option<Answer> {
    let here = Place { room_nid: room.room_nid, typing_pos: room.typing_pos };
    let told = place.and_then(Place::decode).filter(|told| told.room_nid == here.room_nid);
    // What is newer than `now` has its turn in a moment: whoever waits is woken by its poll.
    if told.is_some_and(|told| told.typing_pos >= here.typing_pos || here.typing_pos > now) {
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
    Some(Answer::says(json, Some(here.encode())))
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
            recency: 0,
        }
    }

    #[track_caller]
    fn check(room: &RoomHead, told: Option<(i64, i64)>, expected: Option<&str>) {
        check_at(Position(9), room, told, expected);
    }

    #[track_caller]
    fn check_at(now: Position, room: &RoomHead, told: Option<(i64, i64)>, expected: Option<&str>) {
        let place = told
            .map(|(nid, pos)| Place { room_nid: RoomNid(nid), typing_pos: Position(pos) }.encode());
        let answer = answer(room, place.as_deref(), now);
        let users = answer.as_ref().map(|answer| {
            let reply: Value = serde_json::from_slice(answer.json.as_ref().unwrap()).unwrap();
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
    fn a_list_newer_than_the_reply_waits_for_the_next_but_a_first_reply_is_never_without() {
        let alice = room(1, Some(r#"{"user_ids":["@alice:b"]}"#), 7);
        check_at(Position(6), &alice, Some((1, 3)), None);
        check_at(Position(7), &alice, Some((1, 3)), Some(r#"["@alice:b"]"#));
        check_at(Position(6), &alice, None, Some(r#"["@alice:b"]"#));
        check_at(Position(6), &alice, Some((2, 3)), Some(r#"["@alice:b"]"#));
    }

    #[test]
    fn another_room_begins_anew() {
        let alice = room(2, Some(r#"{"user_ids":["@alice:b"]}"#), 7);
        check(&alice, Some((1, 9)), Some(r#"["@alice:b"]"#));
        check(&room(2, None, 0), Some((1, 9)), Some("[]"));
    }
}
