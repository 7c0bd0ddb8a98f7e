//! The stream `room`: state and timeline of the rooms that the client follows, with all that `GET /sync` tells of them.
//!
//! A room comes anew or with what is new. `asked` is what the client wants, `place` what it has been told, `plan` which
//! rooms a reply tells and how much of each, `earliest` what the client holds already; `reply` gathers them, and `write` writes each.

mod asked;
mod earliest;
mod place;
mod plan;
mod reply;
mod write;

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use store::{Position, RoomNid};

use self::{asked::Asked, place::Place};
use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    v3::{
        fields::Fields,
        page_token::PageTokens,
        sets::{SetId, Sets},
        view::View,
    },
    views::LookBack,
};

/// The stream.
pub(super) struct Room;

/// The stream as a session asks for it.
struct Rooms {
    asked: Asked,
    /// What this request has looked for upstream.
    look_back: LookBack,
}

impl Stream for Room {
    fn name(&self) -> &'static str {
        "room"
    }

    fn number(&self) -> u64 {
        5
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(Rooms { asked: Asked::read(fields)?, look_back: LookBack::default() }))
    }

    fn sets(&self, place: &[u8]) -> Vec<SetId> {
        Place::decode(place).and_then(|place| place.told.set()).into_iter().collect()
    }

    fn told(&self, place: &[u8], sets: &Sets) -> Result<Vec<RoomNid>, Error> {
        let Some(place) = Place::decode(place) else { return Ok(Vec::new()) };
        Ok(place.told.rooms(sets)?.into_iter().collect())
    }
}

impl Subscription for Rooms {
    fn sticky(&self) -> Map<String, Value> {
        self.asked.sticky()
    }

    fn room_ids(&self) -> Vec<&str> {
        self.asked.followed.named()
    }

    fn follows_room_list(&self) -> bool {
        self.asked.followed.is_room_list()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        reply::answer(&self.asked, &self.look_back, view, place.and_then(Place::decode)).boxed()
    }
}
