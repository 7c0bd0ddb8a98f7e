//! The stream `receipts`: who has read what, in the rooms that the client follows.
//!
//! The first reply of a room is all of its receipts, later ones are those that changed.

use std::collections::{BTreeSet, HashMap};

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use store::{Position, RoomHead, RoomNid, StoredReceipt};

use super::{
    Answer, Stream, Subscription,
    followed::{Followed, Told},
};
use crate::{
    error::Error,
    json::ObjectWriter,
    room_json,
    token::{Reader, TokenError, put_varint},
    v3::{
        fields::Fields,
        page_token::PageTokens,
        sets::{SetId, Sets},
        view::View,
    },
};

/// The stream.
pub(super) struct Receipts;

/// The stream as a session asks for it.
struct InRooms(Followed);

/// How far a session has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Up to here.
    pos: Position,
    /// Of these rooms.
    told: Told,
}

impl Stream for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn number(&self) -> u64 {
        8
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(InRooms(Followed::read(fields)?)))
    }

    fn sets(&self, place: &[u8]) -> Vec<SetId> {
        Place::decode(place).and_then(|place| place.told.set()).into_iter().collect()
    }

    fn told(&self, place: &[u8], sets: &Sets) -> Result<Vec<RoomNid>, Error> {
        let Some(place) = Place::decode(place) else { return Ok(Vec::new()) };
        Ok(place.told.rooms(sets)?.into_iter().collect())
    }
}

impl Subscription for InRooms {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([self.0.sticky()])
    }

    fn room_ids(&self) -> Vec<&str> {
        self.0.named()
    }

    fn follows_room_list(&self) -> bool {
        self.0.is_room_list()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        self.answer_from(view, place.and_then(Place::decode)).boxed()
    }
}

impl InRooms {
    async fn answer_from(
        &self,
        view: &View<'_>,
        place: Option<Place>,
    ) -> Result<Option<Answer>, Error> {
        let (since, told) = match &place {
            Some(place) => (view.retained(place.pos)?, place.told.rooms(view.sets)?),
            None => (Position(0), BTreeSet::new()),
        };
        // A room that the user has left has no receipts, and is not in the next place.
        let followed = self.0.rooms(view, &told).await?;
        let joined = self.0.joined(view, &followed).await?;
        let wanted: Vec<(RoomNid, Position)> = joined
            .iter()
            .map(|head| head.room_nid)
            .map(|room| (room, if told.contains(&room) { since } else { Position(0) }))
            .filter(|(_, since)| *since < view.now)
            .collect();
        let found = match wanted.as_slice() {
            [] => HashMap::new(),
            wanted => view.store().receipts(view.account().account_id, wanted, view.now).await?,
        };
        let (told, set) = Told::of(joined.iter().map(|head| head.room_nid).collect());
        let next = Place { pos: view.now.max(since), told };
        if found.is_empty() && place.as_ref() == Some(&next) {
            return Ok(None);
        }
        let mut answer = if found.is_empty() {
            Answer::nothing_until(next.encode())
        } else {
            Answer::says(written(&joined, &found), Some(next.encode()))
        };
        answer.sets.extend(set);
        Ok(Some(answer))
    }
}

fn written(rooms: &[RoomHead], receipts: &HashMap<RoomNid, Vec<StoredReceipt>>) -> Vec<u8> {
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    let mut by_room = ObjectWriter::new(reply.key("rooms"));
    for room in rooms {
        if let Some(receipts) = receipts.get(&room.room_nid) {
            let events = by_room.key(&room.room_id);
            events.push(b'[');
            events.extend_from_slice(&room_json::receipts(receipts));
            events.push(b']');
        }
    }
    by_room.end();
    reply.end();
    json
}

impl Place {
    fn encode(&self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.pos.0.unsigned_abs());
        self.told.put(&mut place);
        place
    }

    fn decode(place: &[u8]) -> Option<Self> {
        let read = |reader: &mut Reader<'_>| -> Result<Self, TokenError> {
            Ok(Self { pos: Position(reader.id()?), told: Told::read(reader)? })
        };
        read(&mut Reader::new(place)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for count in [0, 3, 100] {
            let (told, set) = Told::of((0..count).map(RoomNid).collect());
            let place = Place { pos: Position(700), told };
            let encoded = place.encode();
            assert_eq!(Place::decode(&encoded), Some(place));
            assert_eq!(
                Receipts.sets(&encoded),
                set.map(|set| set.id).into_iter().collect::<Vec<_>>()
            );
        }
        assert_eq!(Place::decode(b""), None);
        assert_eq!(Place::decode(&[7]), None);
    }
}
