//! The stream `room_list`: the rooms of the account in order, in pages and then as changes.
//!
//! `params`, `filters` and `sort` say which list it is, `list` and `spaces` what is in it now; `place` and `told` how far the
//! session has been told; `pages` and `changes` (with `entering` and `notifications`) which rooms a reply tells; `entry` and
//! `state` gather what is told of them, and `reply` writes it.

mod changes;
mod entering;
mod entry;
mod filters;
mod list;
mod notifications;
mod pages;
mod params;
mod place;
mod reply;
mod sort;
mod spaces;
mod state;
mod told;
mod wanted;

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use store::Position;

use self::{
    changes::{Outcome, Renewed},
    list::List,
    params::{Asked, Params},
    place::Place,
    told::Told,
};
use super::{Answer, Stream, Subscription};
use crate::{
    account::room_index::IndexNeeds,
    error::Error,
    v3::{
        fields::Fields,
        page_token::PageTokens,
        sets::{NewRoomSet, Purpose, SetId},
        view::View,
    },
};

/// The number of the stream.
const NUMBER: u64 = 4;

/// The stream.
pub(super) struct RoomList;

impl Stream for RoomList {
    fn name(&self) -> &'static str {
        "room_list"
    }

    fn number(&self) -> u64 {
        NUMBER
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(Params::read(fields, pages)?))
    }

    fn sets(&self, place: &[u8]) -> Vec<SetId> {
        Place::decode(place).and_then(|place| place.told).into_iter().collect()
    }

    fn pages_from(&self, place: &[u8]) -> Option<SetId> {
        Place::decode(place).map(|place| place.pages())
    }

    fn after_drop(&self, place: &[u8]) -> Option<Vec<u8>> {
        Some(Place::decode(place).map_or_else(|| place.to_vec(), |place| place.dropped()))
    }
}

impl Subscription for Params {
    fn sticky(&self) -> Map<String, Value> {
        Self::sticky(self)
    }

    fn room_ids(&self) -> Vec<&str> {
        self.spaces.iter().map(String::as_str).collect()
    }

    fn index(&self) -> Option<IndexNeeds> {
        Some(IndexNeeds { facts: self.filters.need_facts(), order: Some(self.sort.in_index()) })
    }

    fn page_set(&self) -> Option<SetId> {
        match &self.page {
            Some(Asked::Next(token)) => Some(token.list),
            _ => None,
        }
    }

    fn asks_for_page(&self) -> bool {
        self.page.is_some()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        async move {
            let answer = answer(self, view, place).await;
            // Whoever follows it waits no longer, whatever became of it.
            view.set_active(Vec::new());
            answer
        }
        .boxed()
    }
}

/// Says which rooms are followed from this reply on: as soon as that is known, and the rooms' heads are at hand.
fn follows(view: &View<'_>, params: &Params, list: &List<'_>, told: &Told) {
    view.set_active(if params.spaces.is_empty() { told.active().collect() } else { list.rooms() });
}

async fn answer(
    params: &Params,
    view: &View<'_>,
    place: Option<&[u8]>,
) -> Result<Option<Answer>, Error> {
    let list = List::open(view, params).await?;
    let generation = place.map_or(0, Place::generation);
    let place = place.and_then(Place::decode);
    let mut told = match place.and_then(|place| place.told) {
        Some(set) => Told::decode(view.sets.told(set)?)?,
        None => Told::default(),
    };
    if let Some(place) = place {
        told.add(&view.sets.read_from(place.pages())?);
    }
    let here = Place {
        pos: view.now,
        list: params.list_digest(),
        limit: params.limit,
        state: params.state_digest(),
        told: None,
        generation,
    };
    let (outcome, reached) = match (&params.page, place) {
        (Some(Asked::Next(token)), _) => {
            let mut outcome = pages::next(view, params, &list, *token, place, told).await?;
            if let Some(place) = place {
                let rooms = outcome.told.active().collect();
                outcome.pages = Some(NewRoomSet::read_from(place.pages(), &rooms));
            }
            // What the request changes counts from the next one on.
            (outcome, place.unwrap_or(here))
        }
        (_, None) => (pages::first(view, params, &list).await?, here),
        (asked, Some(place)) => {
            let renewed = Renewed {
                list: place.list != here.list || place.limit < here.limit,
                state: place.state != here.state,
            };
            let tracks = matches!(asked, Some(Asked::First));
            if tracks && !renewed.list && !renewed.state {
                let outcome = pages::first_again(view, params, &list, place, told).await?;
                (outcome, Place { pos: place.pos, ..here })
            } else {
                let renewed = Renewed { list: renewed.list || tracks, ..renewed };
                let outcome = changes::tell(view, params, &list, place, told, renewed).await?;
                let generation =
                    generation.saturating_add(u64::from(renewed.list || outcome.lets_go));
                (outcome, Place { pos: here.pos.max(place.pos), generation, ..here })
            }
        }
    };
    Ok(conclude(params, view, &list, place, reached, outcome))
}

/// Makes the answer of an outcome that brings the client from `before` to `reached`.
fn conclude(
    params: &Params,
    view: &View<'_>,
    list: &List<'_>,
    before: Option<Place>,
    mut reached: Place,
    outcome: Outcome,
) -> Option<Answer> {
    follows(view, params, list, &outcome.told);
    let told =
        (!outcome.told.is_empty()).then(|| NewRoomSet::new(Purpose::Told, outcome.told.encode()));
    reached.told = told.as_ref().map(|set| set.id);
    let mut sets: Vec<NewRoomSet> = outcome.pages.into_iter().collect();
    sets.extend(told);
    let answer = match outcome.reply {
        Some(reply) => Answer::says(reply.write(view, params), Some(reached.encode())),
        None if before == Some(reached) => return None,
        None => Answer::nothing_until(reached.encode()),
    };
    Some(Answer { sets, ..answer })
}
