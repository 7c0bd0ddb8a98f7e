//! The stream `room_members`: the members of one room, in pages and then as changes.
//!
//! The first reply is the first page of the sorted list; later ones tell changes in arrival order.
//! `pages` and `changes` do the two; `list` says which list it is, `order` sorts it, `power_levels`
//! ranks it, `place` and `reply` read and write.

mod changes;
mod list;
mod order;
mod pages;
mod place;
mod power_levels;
mod reply;

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::Position;

use self::{
    list::{List, Memberships, Sort},
    pages::Page,
    place::{PagePlace, Place},
};
use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    v3::{
        fields::Fields,
        page_token::{FIRST_PAGE, PageTokens},
        view::View,
    },
};

/// How many members a reply has where the client does not say.
const DEFAULT_LIMIT: u64 = 50;

/// How many it has at most.
const MOST: u64 = 1000;

/// The number of the stream.
const NUMBER: u64 = 3;

/// The stream.
pub(super) struct RoomMembers;

/// The stream as a session asks for it.
struct Members {
    room_id: String,
    limit: usize,
    list: List,
    /// The client asked for another limit or order: the reply says so even with nothing to tell.
    negotiated: bool,
    page: Option<Asked>,
}

/// Which page is asked for.
enum Asked {
    /// The first, as of now.
    First,
    /// The one after another.
    Next(PagePlace),
}

impl Stream for RoomMembers {
    fn name(&self) -> &'static str {
        "room_members"
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
        let room_id = fields.room_id("room_id")?.to_owned();
        let memberships = match fields.texts("memberships")? {
            None => Memberships::default(),
            Some(names) => Memberships::of(&names).ok_or_else(|| {
                fields.invalid("memberships", "may hold join, invite, knock, leave and ban")
            })?,
        };
        let (mut limit, mut sort, mut page) = (DEFAULT_LIMIT, Sort::default(), None);
        let mut negotiated = false;
        if let Some(p) = fields.object("p")? {
            limit = p.limit("limit", DEFAULT_LIMIT, MOST)?;
            // An order that we do not know is replaced, and the reply says so.
            let asked_sort = p.text("sort")?;
            sort = asked_sort.and_then(Sort::of).unwrap_or_default();
            let replaced = asked_sort.is_some_and(|asked| Sort::of(asked).is_none());
            negotiated = replaced || p.lowers("limit", MOST)?;
            page = match p.text("since")? {
                None => None,
                Some(FIRST_PAGE) => Some(Asked::First),
                Some(token) => {
                    let place = PagePlace::open(pages, token, &room_id)
                        .ok_or_else(|| p.invalid("since", "is not a page of this list"))?;
                    Some(Asked::Next(place))
                }
            };
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let list = List { sort, memberships };
        Ok(Box::new(Members { room_id, limit, list, negotiated, page }))
    }
}

impl Subscription for Members {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([
            ("room_id".to_owned(), json!(self.room_id)),
            ("p".to_owned(), json!({ "limit": self.limit, "sort": self.list.sort.name() })),
            ("memberships".to_owned(), json!(self.list.memberships.names())),
        ])
    }

    fn room_ids(&self) -> Vec<&str> {
        vec![&self.room_id]
    }

    fn asks_for_page(&self) -> bool {
        self.page.is_some()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        let place = place.and_then(Place::decode);
        self.answer_from(view, place).boxed()
    }
}

impl Members {
    async fn answer_from(
        &self,
        view: &View<'_>,
        place: Option<Place>,
    ) -> Result<Option<Answer>, Error> {
        let room = view.rooms.get(&self.room_id)?;
        let room_nid = room.room_nid;
        // A place belongs to the list that it was reached in: another one begins anew.
        let place = place.filter(|place| place.room_nid == room_nid && place.list == self.list);
        match (&self.page, place) {
            (Some(Asked::Next(page)), _) => {
                if changes::begins_anew(view, room, page.snapshot).await? {
                    let problem = "room_members.p.since: is a page of a list that has ended";
                    return Err(Error::InvalidParam(problem.to_owned()));
                }
                Ok(Some(self.page(view, *page).await?.without_place()))
            }
            (Some(Asked::First), Some(_)) => Ok(Some(self.first_page(view).await?.without_place())),
            (_, None) => Ok(Some(self.first_page(view).await?.with_place())),
            (None, Some(place)) => self.changes(view, place).await,
        }
    }

    /// The first page as of now.
    async fn first_page(&self, view: &View<'_>) -> Result<Page, Error> {
        let snapshot = pages::snapshot(view, &self.room_id).await?;
        self.page(view, PagePlace { list: self.list, snapshot, offset: 0 }).await
    }
}
