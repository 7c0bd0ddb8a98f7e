//! Pages: the first reply, the pages that follow it, and the first page as of now.

use std::collections::HashMap;

use store::{Position, RoomHead, RoomNid, Section};

use super::{
    changes::{Outcome, changes, wanted},
    entry,
    list::List,
    params::Params,
    place::{PageToken, Place, decode_list, encode_list},
    reply::Reply,
    told::{As, Told},
    wanted::{How, News, Occasion, rejoined},
};
use crate::{
    error::Error,
    v3::{
        sets::{NewRoomSet, Purpose},
        view::View,
    },
};

/// The first rooms of the list, and if there are more, the token of the next page with the set that it names.
pub(super) fn first_of(
    view: &View<'_>,
    list: &List<'_>,
    limit: usize,
) -> (Vec<RoomNid>, Option<(String, NewRoomSet)>) {
    let mut rooms = list.rooms();
    if limit == 0 || rooms.len() <= limit {
        rooms.truncate(limit);
        return (rooms, None);
    }
    let set = NewRoomSet::new(Purpose::Pages, encode_list(&rooms));
    let invites = list.section() == Section::Invite;
    let token = PageToken { snapshot: view.now, list: set.id, offset: limit, invites };
    rooms.truncate(limit);
    (rooms, Some((token.seal(view.pages()), set)))
}

/// The first reply: the first page.
pub(super) async fn first(
    view: &View<'_>,
    params: &Params,
    list: &List<'_>,
) -> Result<Outcome, Error> {
    let (page, token) = first_of(view, list, params.limit);
    let mut told = Told::default();
    for room in &page {
        told.put(*room, As::Active);
    }
    let how = page.iter().map(|nid| (*nid, How::Whole { at: view.now })).collect();
    let heads = heads(view, &page).await?;
    super::follows(view, params, list, &told);
    let rooms = entry::load(view, params, list.index, wanted(how, &heads)).await?;
    Ok(outcome(rooms, list.count(), token, told))
}

/// The first page as of now, for a client that goes on from `place`: rooms that it has got come with what is new since.
pub(super) async fn first_again(
    view: &View<'_>,
    params: &Params,
    list: &List<'_>,
    place: Place,
    mut told: Told,
) -> Result<Outcome, Error> {
    let (page, token) = first_of(view, list, params.limit);
    let known: Vec<(RoomNid, Position)> = page
        .iter()
        .filter(|_| list.section() == Section::Join)
        .filter_map(|nid| Some((*nid, told_up_to(view, &told, *nid, place.pos)?)))
        .collect();
    let oldest = known.iter().map(|(_, since)| *since).min().unwrap_or(view.now);
    let nids: Vec<RoomNid> = known.iter().map(|(nid, _)| *nid).collect();
    let changes = changes(view, oldest, Some(&nids)).await?;
    let known: HashMap<RoomNid, Position> = known.into_iter().collect();
    let how = |nid: &RoomNid| {
        let change = changes.get(nid);
        match known.get(nid) {
            Some(since) if !rejoined(change, *since) => {
                How::Since(News { occasion: Occasion::Page, ..News::of(change, *since) })
            }
            _ => How::Whole { at: view.now },
        }
    };
    let how = page.iter().map(|nid| (*nid, how(nid))).collect();
    let heads = heads(view, &page).await?;
    let rooms = entry::load(view, params, list.index, wanted(how, &heads)).await?;
    for room in &page {
        told.put(*room, As::ActiveUpTo(view.now));
    }
    told.reach(place.pos);
    Ok(outcome(rooms, list.count(), token, told))
}

/// The page that `token` asks for, as of `place`.
pub(super) async fn next(
    view: &View<'_>,
    params: &Params,
    list: &List<'_>,
    token: PageToken,
    place: Option<Place>,
    mut told: Told,
) -> Result<Outcome, Error> {
    let ended = || {
        let problem = "room_list.p.since: is a page of a list that has ended";
        Error::InvalidParam(problem.to_owned())
    };
    let place = place.ok_or_else(ended)?;
    let at = view.retained(place.pos)?;
    let pinned = view.sets.get(token.list).and_then(|set| decode_list(set)).ok_or_else(ended)?;
    let rest = pinned.get(token.offset..).unwrap_or_default();
    let page = rest.get(..params.limit).unwrap_or(rest);
    let more = !page.is_empty() && page.len() < rest.len();
    let next = more.then(|| {
        let offset = token.offset + page.len();
        PageToken { offset, ..token }.seal(view.pages())
    });

    let (mut heads, changed) = tokio::try_join!(heads(view, page), changes(view, at, Some(page)))?;
    heads.retain(|nid, head| {
        let section = changed.get(nid).map_or(Some(head.section), |it| it.room.section_before);
        head.section = token.section();
        section == Some(token.section())
    });
    // What a first page as of now told of a room does not come again, so this one must not show less.
    let shown = |nid: &RoomNid| match told.get(*nid) {
        Some(As::ActiveUpTo(up_to)) => up_to.max(at),
        _ => at,
    };
    let how = page.iter().map(|nid| (*nid, How::Whole { at: shown(nid) })).collect();
    let rooms = entry::load(view, params, list.index, wanted(how, &heads)).await?;
    for entry in &rooms {
        if !told.follows(entry.head.room_nid) {
            told.put(entry.head.room_nid, As::Active);
        }
    }
    let reply =
        Reply { next, count: pinned.len(), rooms, removed: Vec::new(), notifications: Vec::new() };
    Ok(Outcome { reply: Some(reply), told, lets_go: false, pages: None })
}

/// Up to where the client was told of a room, if that is still known.
pub(super) fn told_up_to(
    view: &View<'_>,
    told: &Told,
    room: RoomNid,
    pos: Position,
) -> Option<Position> {
    told.up_to(room, pos).filter(|up_to| *up_to >= view.account().retained_from())
}

/// The rooms as they stand.
pub(super) async fn heads(
    view: &View<'_>,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, RoomHead>, Error> {
    let heads = view.heads(rooms).await?;
    Ok(heads.into_iter().map(|head| (head.room_nid, head)).collect())
}

fn outcome(
    rooms: Vec<entry::Entry>,
    count: usize,
    token: Option<(String, NewRoomSet)>,
    told: Told,
) -> Outcome {
    let (next, pages) = token.unzip();
    let reply = Reply { next, count, rooms, removed: Vec::new(), notifications: Vec::new() };
    Outcome { reply: Some(reply), told, lets_go: false, pages }
}
