//! The stream `account_data`: the account data of the account and of its rooms, as the homeserver told it.
//! <https://spec.matrix.org/v1.16/client-server-api/#client-config>
//!
//! The first reply is all that there is, later ones are what changed. A room that is joined brings all of its own,
//! whenever that changed: the client may not have it.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::{Position, RoomAccountData};

use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    json::{ObjectWriter, write_list},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View},
};

/// The stream.
pub(super) struct AccountData;

/// The stream as a session asks for it.
struct Data {
    /// That of rooms as well.
    rooms: bool,
}

/// What has been told: everything up to a poll, and that of rooms or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pos: Position,
    rooms: bool,
}

/// What there is to tell; `None` of what need not be mentioned.
#[derive(Default)]
struct Told {
    events: Option<Vec<(String, Bytes)>>,
    rooms: Option<Vec<RoomAccountData>>,
}

impl Stream for AccountData {
    fn name(&self) -> &'static str {
        "account_data"
    }

    fn number(&self) -> u64 {
        7
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(Data { rooms: fields.flag("rooms", true)? }))
    }
}

impl Subscription for Data {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([("rooms".to_owned(), json!(self.rooms))])
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        self.answer_from(view, place.and_then(Place::decode)).boxed()
    }
}

impl Data {
    async fn answer_from(
        &self,
        view: &View<'_>,
        place: Option<Place>,
    ) -> Result<Option<Answer>, Error> {
        let pos = place.map_or(view.now, |place| place.pos.max(view.now));
        let here = Place { pos, rooms: self.rooms };
        if place == Some(here) {
            return Ok(None);
        }
        let told = Told {
            events: self.global(view, place).await?,
            rooms: if self.rooms { of_rooms(view, place).await? } else { None },
        };
        Ok(Some(if told.is_nothing() {
            Answer::nothing_until(here.encode())
        } else {
            Answer::says(told.write(), Some(here.encode()))
        }))
    }

    async fn global(
        &self,
        view: &View<'_>,
        place: Option<Place>,
    ) -> Result<Option<Vec<(String, Bytes)>>, Error> {
        let since = place.map_or(Position(0), |place| place.pos);
        let account_id = view.account().account_id;
        let events = view.store().global_account_data(account_id, since, view.now).await?;
        Ok(Some(events).filter(|events| place.is_none() || !events.is_empty()))
    }
}

/// The account data of rooms: what changed, if the client has been told of it before.
async fn of_rooms(
    view: &View<'_>,
    place: Option<Place>,
) -> Result<Option<Vec<RoomAccountData>>, Error> {
    let account_id = view.account().account_id;
    match place.filter(|place| place.rooms) {
        None => Ok(Some(view.store().account_data_of_joined_rooms(account_id, view.now).await?)),
        Some(place) => {
            let since = view.retained(place.pos)?;
            let changes =
                view.store().room_account_data_changes(account_id, since, view.now).await?;
            Ok(Some(changes).filter(|changes| !changes.is_empty()))
        }
    }
}

impl Told {
    fn is_nothing(&self) -> bool {
        self.events.is_none() && self.rooms.is_none()
    }

    fn write(&self) -> Vec<u8> {
        let event = |event: &Bytes, out: &mut Vec<u8>| out.extend_from_slice(event);
        let mut json = Vec::new();
        let mut reply = ObjectWriter::new(&mut json);
        if let Some(events) = &self.events {
            write_list(events.iter().map(|(_, event)| event), reply.key("events"), event);
        }
        if let Some(rooms) = &self.rooms {
            let mut by_room = ObjectWriter::new(reply.key("rooms"));
            for room in rooms {
                write_list(&room.events, by_room.key(&room.room_id), event);
            }
            by_room.end();
        }
        reply.end();
        json
    }
}

impl Place {
    fn encode(self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.pos.0.unsigned_abs());
        put_varint(&mut place, u64::from(self.rooms));
        place
    }

    fn decode(place: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(place);
        Some(Self { pos: Position(reader.id().ok()?), rooms: reader.varint().ok()? == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip() {
        for (pos, rooms) in [(0, true), (300, false), (i64::MAX, true)] {
            let place = Place { pos: Position(pos), rooms };
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert_eq!(Place::decode(&[5]), None);
    }

    #[track_caller]
    fn check(events: Option<&[&'static str]>, rooms: Option<&[(&str, &'static str)]>, json: &str) {
        let told = Told {
            events: events.map(|events| {
                {
                    events
                        .iter()
                        .map(|event| ("t".to_owned(), Bytes::from_static(event.as_bytes())))
                }
                .collect()
            }),
            rooms: rooms.map(|rooms| {
                rooms
                    .iter()
                    .map(|(room_id, event)| RoomAccountData {
                        room_id: (*room_id).to_owned(),
                        events: vec![Bytes::from_static(event.as_bytes())],
                    })
                    .collect()
            }),
        };
        assert_eq!(String::from_utf8(told.write()).unwrap(), json);
    }

    #[test]
    fn events_are_told_byte_for_byte() {
        check(Some(&[]), Some(&[]), r#"{"events":[],"rooms":{}}"#);
        check(
            Some(&[r#"{"a": 1.10}"#, r#"{"b":"\ud800"}"#]),
            None,
            r#"{"events":[{"a": 1.10},{"b":"\ud800"}]}"#,
        );
        check(
            None,
            Some(&[("!a:b", "{}"), ("!c:b", "5")]),
            r#"{"rooms":{"!a:b":[{}],"!c:b":[5]}}"#,
        );
    }
}
