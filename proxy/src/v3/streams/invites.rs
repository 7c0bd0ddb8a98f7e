//! The stream `invites`: rooms that the user is invited to or has knocked on.
//!
//! The account stream says where each room stood at the place and where it stands now, so the place need not list what
//! was told: only the few invites that were not, and whom the user ignored. What follows from that is decided in
//! `decide`, which is pure.

mod decide;
mod place;

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use store::{Position, RoomHead, Section};

use self::{
    decide::{Found, News, is_open},
    place::{Place, name_of, untold_set},
};
use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    json::{ObjectWriter, write_list, write_string},
    v3::{
        fields::Fields,
        page_token::PageTokens,
        sets::{SetId, decode_rooms},
        view::View,
    },
};

/// The end of the stream, wherever that is.
const THE_END: Position = Position(i64::MAX);

/// The stream.
pub(super) struct Invites;

/// The stream as a session asks for it: there is nothing to choose.
struct Open;

impl Stream for Invites {
    fn name(&self) -> &'static str {
        "invites"
    }

    fn number(&self) -> u64 {
        6
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn read(
        &self,
        _fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(Open))
    }

    fn sets(&self, place: &[u8]) -> Vec<SetId> {
        Place::decode(place).and_then(|place| place.untold).into_iter().collect()
    }
}

impl Subscription for Open {
    fn sticky(&self) -> Map<String, Value> {
        Map::new()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        answer(view, place.and_then(Place::decode)).boxed()
    }
}

async fn answer(view: &View<'_>, place: Option<Place>) -> Result<Option<Answer>, Error> {
    if place.is_some_and(|place| place.pos >= view.now) {
        return Ok(None);
    }
    let account = view.account();
    // The list may be newer than the poll that is told: the place remembers which one it was.
    let ignored = account.ignored.get(view.store(), account.account_id).await?;
    let fingerprint = name_of(&ignored);
    let found = find(view, place, place.is_none_or(|place| place.ignored != fingerprint)).await?;
    let news =
        found.decide(|room| !room.forgotten && !ignored.hides_invite(room, &account.user_id));

    let untold = untold_set(&news.untold);
    let untold_id = untold.as_ref().map(|set| set.id);
    let here = Place { pos: view.now, ignored: fingerprint, untold: untold_id }.encode();
    let mut answer = if place.is_some() && news.is_nothing() {
        Answer::nothing_until(here)
    } else {
        Answer::says(write(&news, place.is_none()), Some(here))
    };
    answer.sets.extend(untold);
    Ok(Some(answer))
}

/// Reads what there is to decide from; with `all` every room that stands open, changed or not.
async fn find(view: &View<'_>, place: Option<Place>, all: bool) -> Result<Found, Error> {
    let (store, account_id) = (view.store(), view.account().account_id);
    let mut found = Found { is_first: place.is_none(), ..Found::default() };
    if let Some(place) = place {
        if let Some(untold) = place.untold {
            found.untold = decode_rooms(view.sets.told(untold)?)?;
        }
        let since = view.retained(place.pos)?;
        found.changed = store.room_changes(account_id, since, view.now, None).await?;
        let was_open = |before: Option<Section>| before.is_some_and(is_open);
        found.changed.retain(|change| {
            is_open(change.room.head.section) || was_open(change.room.section_before)
        });
    }
    if all {
        found.open = store.rooms_in(account_id, &[Section::Invite, Section::Knock]).await?;
    }
    if all || !found.changed.is_empty() {
        // Asked for last: whatever was read above of a later poll than the one that is told is in here.
        found.later = store.room_changes(account_id, view.now, THE_END, None).await?;
    }
    Ok(found)
}

fn write(news: &News, is_first: bool) -> Vec<u8> {
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    if is_first || !news.rooms.is_empty() {
        let mut rooms = ObjectWriter::new(reply.key("rooms"));
        for room in &news.rooms {
            write_room(room, rooms.key(&room.room_id));
        }
        rooms.end();
    }
    if !news.left.is_empty() {
        write_list(&news.left, reply.key("left"), |room_id, out| write_string(room_id, out));
    }
    reply.end();
    json
}

fn write_room(room: &RoomHead, out: &mut Vec<u8>) {
    let name = if room.section == Section::Knock { "knock_state" } else { "invite_state" };
    let mut object = ObjectWriter::new(out);
    object.raw(name, room.stripped_state.as_deref().unwrap_or(br#"{"events":[]}"#));
    object.end();
}
