//! What has changed: the news of the rooms that the session follows, rooms that come into the list and leave it, and
//! notifications; with changed parameters the first page of the new list as well.

use std::collections::{HashMap, HashSet};

use store::{Position, RoomChange, RoomHead, RoomNid, Section};

use super::{
    entering, entry,
    list::List,
    notifications,
    pages::{self, heads},
    params::Params,
    place::Place,
    reply::Reply,
    spaces,
    told::{As, Told},
    wanted::{How, News, Occasion, Wanted, rejoined},
};
use crate::{
    account::room_index::IndexedRoom,
    error::Error,
    v3::{sets::NewRoomSet, view::View},
};

/// What the request changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewed {
    /// It is another list, or a longer page.
    pub(super) list: bool,
    /// Other state comes with rooms.
    pub(super) state: bool,
}

/// What a reply says, where the client stands after it, and the pages that it names.
pub(super) struct Outcome {
    pub(super) reply: Option<Reply>,
    pub(super) told: Told,
    /// Rooms that the session followed are followed no more.
    pub(super) lets_go: bool,
    pub(super) pages: Option<NewRoomSet>,
}

/// The account since the session was answered.
struct Since<'a> {
    view: &'a View<'a>,
    params: &'a Params,
    list: &'a List<'a>,
    pos: Position,
    told: Told,
    /// What polls changed after `pos`.
    changes: HashMap<RoomNid, RoomChange>,
    /// And what they changed of rooms that were last told before that.
    earlier: HashMap<RoomNid, RoomChange>,
    all_state: bool,
}

/// Rooms to tell, in the order in which they changed.
#[derive(Default)]
struct Arrivals(Vec<(Position, RoomNid, How)>);

/// Tells what is new after `place`.
pub(super) async fn tell(
    view: &View<'_>,
    params: &Params,
    list: &List<'_>,
    place: Place,
    mut told: Told,
    renewed: Renewed,
) -> Result<Outcome, Error> {
    let pos = view.retained(place.pos)?;
    if renewed.state {
        told.drop_sent();
    }
    let (page, token) =
        if renewed.list { pages::first_of(view, list, params.limit) } else { (Vec::new(), None) };
    let changes = changes(view, pos, None).await?;
    let earlier = earlier(view, pos, &told, page.iter().chain(changes.keys())).await?;
    let since = Since { view, params, list, pos, told, changes, earlier, all_state: renewed.state };
    let mut outcome = since.tell(&page, renewed.list).await?;
    if let (Some(reply), Some((token, set))) = (&mut outcome.reply, token) {
        reply.next = Some(token);
        outcome.pages = Some(set);
    }
    Ok(outcome)
}

impl Since<'_> {
    async fn tell(mut self, page: &[RoomNid], always: bool) -> Result<Outcome, Error> {
        let mut arrivals = Arrivals::default();
        let removed = self.followed(page, &mut arrivals);
        let lets_go = !removed.is_empty();
        let entering = self.entering(page, &mut arrivals).await?;
        let on_page = page.iter().map(|nid| (*nid, self.page_entry(*nid)));
        let rooms: Vec<(RoomNid, How)> = on_page.chain(arrivals.in_order()).collect();

        let mut nids: Vec<RoomNid> = rooms.iter().map(|(nid, _)| *nid).collect();
        nids.extend(&removed);
        let heads = self.heads(nids).await?;
        for room in page.iter().chain(&entering) {
            self.told.put(*room, As::Active);
        }
        super::follows(self.view, self.params, self.list, &self.told);
        let notifying = self.notifying().await?;

        let index = self.list.index;
        let wanted = wanted(rooms, &heads);
        let rooms = entry::load(self.view, self.params, index, wanted).await?;
        let notifications = entry::load(self.view, self.params, index, notifying).await?;
        for entry in &notifications {
            // Events that came later and did not notify are yet to be told.
            let up_to = entry.last_poll().unwrap_or(self.view.now);
            self.told.put(entry.head.room_nid, As::Sent(up_to));
        }
        self.told.reach(self.view.now);
        let removed: Vec<String> = removed
            .iter()
            .filter_map(|nid| heads.get(nid).map(|head| head.room_id.clone()))
            .collect();
        let says = always
            || self.params.negotiated
            || !(rooms.is_empty() && removed.is_empty() && notifications.is_empty());
        let reply = says.then(|| Reply {
            next: None,
            count: self.list.count(),
            rooms,
            removed,
            notifications,
        });
        Ok(Outcome { reply, told: self.told, lets_go, pages: None })
    }

    /// The news of the rooms that the session follows, but for those on the page. Gives those that it follows no more.
    fn followed(&mut self, page: &[RoomNid], arrivals: &mut Arrivals) -> Vec<RoomNid> {
        let on_page: HashSet<&RoomNid> = page.iter().collect();
        let mut removed = Vec::new();
        for nid in self.told.active().collect::<Vec<_>>() {
            if on_page.contains(&nid) {
                continue;
            }
            let change = self.changes.get(&nid);
            let since = self.told.up_to(nid, self.pos).unwrap_or(self.pos).max(self.pos);
            let Some(room) = self.list.followed(nid) else {
                removed.push(nid);
                self.told.drop(nid);
                // A room that the user leaves comes once more.
                if self.list.section() == Section::Join
                    && !self.is_joined(nid)
                    && was_joined(change)
                {
                    let news = News { occasion: Occasion::Page, ..News::of(change, since) };
                    arrivals.add(change, self.view.now, nid, How::Since(news));
                }
                continue;
            };
            if let Some(how) = self.news(room, change, since) {
                arrivals.add(change, self.view.now, nid, how);
            }
        }
        // What was sent once of a room that the user has left is void.
        let left: Vec<RoomNid> =
            self.changes.keys().copied().filter(|nid| !self.is_joined(*nid)).collect();
        for nid in left {
            if matches!(self.told.get(nid), Some(As::Sent(_))) {
                self.told.drop(nid);
            }
        }
        removed
    }

    /// How a room that the session follows is told, if there may be anything new.
    fn news(
        &self,
        room: &IndexedRoom,
        change: Option<&RoomChange>,
        since: Position,
    ) -> Option<How> {
        let whole = How::Whole { at: self.view.now };
        if room.section == Section::Invite {
            // The homeserver told its stripped state anew.
            return (change.is_some() && since < self.view.now).then_some(whole);
        }
        if rejoined(change, since) {
            return Some(whole);
        }
        let dm_changed = room.dm_changed > since;
        if change.is_none() && !dm_changed && !self.all_state {
            return None;
        }
        let occasion = if self.all_state { Occasion::OtherState } else { Occasion::Change };
        Some(How::Since(News { dm_changed, occasion, ..News::of(change, since) }))
    }

    /// How a room of the page is told.
    fn page_entry(&self, nid: RoomNid) -> How {
        let change = self.change_since_told(nid);
        let told = pages::told_up_to(self.view, &self.told, nid, self.pos)
            .filter(|since| !rejoined(change, *since))
            .filter(|_| self.list.section() == Section::Join);
        match told {
            None => How::Whole { at: self.view.now },
            Some(since) => {
                let occasion = if self.all_state { Occasion::OtherState } else { Occasion::Page };
                How::Since(News { occasion, ..News::of(change, since) })
            }
        }
    }

    /// Rooms that come into the list, or that a space lists and the client has not got; they come whole.
    async fn entering(
        &self,
        page: &[RoomNid],
        arrivals: &mut Arrivals,
    ) -> Result<Vec<RoomNid>, Error> {
        let dm_changed = self.list.index.dm_changed_after(self.pos).map(|room| room.room_nid);
        let candidates: HashSet<RoomNid> = self.changes.keys().copied().chain(dm_changed).collect();
        let mut rooms: Vec<&IndexedRoom> = candidates
            .into_iter()
            .filter(|nid| !self.told.follows(*nid) && !page.contains(nid))
            .filter_map(|nid| self.list.followed(nid))
            .collect();
        rooms.sort_by_key(|room| room.room_nid);
        let entering = if self.params.spaces.is_empty() {
            self.coming_in(rooms).await?
        } else {
            self.with_news_in_spaces(rooms, page).await?
        };
        for nid in &entering {
            let how = How::Whole { at: self.view.now };
            arrivals.add(self.changes.get(nid), self.view.now, *nid, how);
        }
        Ok(entering)
    }

    /// Of rooms that changed and are in the list: those that were not in it.
    async fn coming_in(&self, rooms: Vec<&IndexedRoom>) -> Result<Vec<RoomNid>, Error> {
        let (mut entering, rest): (Vec<&IndexedRoom>, Vec<_>) =
            rooms.into_iter().partition(|room| {
                // Not `newly_joined`: every room is that where the homeserver begins its stream anew.
                self.changes.get(&room.room_nid).is_some_and(|change| {
                    let rejoined = change.was_out && room.section == Section::Join;
                    rejoined || change.room.section_before != Some(room.section)
                })
            });
        let heads = self.heads(rest.iter().map(|room| room.room_nid).collect()).await?;
        let known: Vec<(&IndexedRoom, &RoomHead)> =
            rest.iter().filter_map(|room| Some((*room, heads.get(&room.room_nid)?))).collect();
        let filters = &self.params.filters;
        let mentioned = |nid| self.changes.contains_key(&nid);
        let matching =
            entering::begin_to_match(self.view, filters, &known, mentioned, self.pos).await?;
        entering.extend(rest.into_iter().filter(|room| matching.contains(&room.room_nid)));
        Ok(entering.into_iter().map(|room| room.room_nid).collect())
    }

    /// Of children that changed and that the client has not got: those with something to tell, and those that have become
    /// children.
    async fn with_news_in_spaces(
        &self,
        rooms: Vec<&IndexedRoom>,
        page: &[RoomNid],
    ) -> Result<Vec<RoomNid>, Error> {
        let mut entering = self.new_children(page).await?;
        let mut probes = Vec::new();
        for room in rooms {
            let nid = room.room_nid;
            if entering.contains(&nid) {
                continue;
            }
            match self.news(room, self.changes.get(&nid), self.pos) {
                Some(How::Since(news)) => probes.push((nid, How::Since(news))),
                Some(_) => entering.push(nid),
                None => {}
            }
        }
        let heads = self.heads(probes.iter().map(|(nid, _)| *nid).collect()).await?;
        let probed = wanted(probes, &heads);
        let found = entry::load(self.view, self.params, self.list.index, probed).await?;
        entering.extend(found.iter().map(|entry| entry.head.room_nid));
        Ok(entering)
    }

    async fn new_children(&self, page: &[RoomNid]) -> Result<Vec<RoomNid>, Error> {
        let changed = self.params.spaces.iter().any(|space| {
            let head = self.view.rooms.get(space);
            head.is_ok_and(|head| self.changes.contains_key(&head.room_nid))
        });
        if !changed {
            return Ok(Vec::new());
        }
        let room_ids = spaces::changed_after(self.view, &self.params.spaces, self.pos).await?;
        let room_ids: Vec<&str> = room_ids.iter().map(String::as_str).collect();
        let known = self.view.store().room_nids(&room_ids).await?;
        let mut children: Vec<RoomNid> = known.into_values().collect();
        children.retain(|nid| {
            !self.told.follows(*nid) && !page.contains(nid) && self.list.followed(*nid).is_some()
        });
        Ok(children)
    }

    /// What notifies outside of what is followed from now on.
    async fn notifying(&self) -> Result<Vec<Wanted>, Error> {
        if !self.params.track_notifications {
            return Ok(Vec::new());
        }
        let of_space = |nid| !self.params.spaces.is_empty() && self.list.followed(nid).is_some();
        let outside: Vec<&RoomChange> = self
            .changes
            .values()
            .filter(|change| !self.told.follows(change.room.head.room_nid))
            .filter(|change| !of_space(change.room.head.room_nid))
            .collect();
        notifications::of(self.view, self.pos, outside, &self.earlier, &self.told).await
    }

    /// What changed of a room since the client was told of it.
    fn change_since_told(&self, nid: RoomNid) -> Option<&RoomChange> {
        self.earlier.get(&nid).or_else(|| self.changes.get(&nid))
    }

    fn is_joined(&self, nid: RoomNid) -> bool {
        self.list.index.get(nid).is_some_and(|room| room.section == Section::Join)
    }

    /// The rooms as they stand: to the list, one that the user is out of is left, whatever it is beside.
    async fn heads(&self, nids: Vec<RoomNid>) -> Result<HashMap<RoomNid, RoomHead>, Error> {
        let (known, unknown): (Vec<RoomNid>, Vec<RoomNid>) =
            nids.into_iter().partition(|nid| self.changes.contains_key(nid));
        let mut found = heads(self.view, &unknown).await?;
        let changed = known.iter().filter_map(|nid| self.changes.get(nid));
        found.extend(changed.map(|change| (change.room.head.room_nid, change.room.head.clone())));
        for head in found.values_mut().filter(|head| head.section != self.list.section()) {
            head.section = Section::Leave;
        }
        Ok(found)
    }
}

impl Arrivals {
    fn add(&mut self, change: Option<&RoomChange>, now: Position, nid: RoomNid, how: How) {
        let stirred = change.and_then(|change| change.stirred).unwrap_or(now);
        self.0.push((stirred, nid, how));
    }

    fn in_order(mut self) -> impl Iterator<Item = (RoomNid, How)> {
        self.0.sort_by_key(|(stirred, nid, _)| (*stirred, *nid));
        self.0.into_iter().map(|(_, nid, how)| (nid, how))
    }
}

/// Whether the user was in a room when a stretch began, or during it.
fn was_joined(change: Option<&RoomChange>) -> bool {
    change.is_some_and(|change| {
        change.room.newly_joined || change.room.section_before == Some(Section::Join)
    })
}

/// What polls after `since` changed; with `only`, of these rooms.
pub(super) async fn changes(
    view: &View<'_>,
    since: Position,
    only: Option<&[RoomNid]>,
) -> Result<HashMap<RoomNid, RoomChange>, Error> {
    if since >= view.now || only.is_some_and(<[_]>::is_empty) {
        return Ok(HashMap::new());
    }
    let changes = match only {
        None => view.changes(since).await?,
        Some(rooms) => view.changes_of(since, &rooms.iter().copied().collect()).await?,
    };
    Ok(changes.into_iter().map(|change| (change.room.head.room_nid, change)).collect())
}

/// What changed of those of these rooms that were told, but not up to `pos`.
async fn earlier(
    view: &View<'_>,
    pos: Position,
    told: &Told,
    rooms: impl Iterator<Item = &RoomNid>,
) -> Result<HashMap<RoomNid, RoomChange>, Error> {
    let behind: Vec<(Position, RoomNid)> = rooms
        .filter_map(|nid| Some((pages::told_up_to(view, told, *nid, pos)?, *nid)))
        .filter(|(up_to, _)| *up_to < pos)
        .collect();
    let Some((oldest, _)) = behind.iter().min() else { return Ok(HashMap::new()) };
    let nids: Vec<RoomNid> = behind.iter().map(|(_, nid)| *nid).collect();
    changes(view, *oldest, Some(&nids)).await
}

/// Rooms with their heads; one without is one that the account has nothing to do with any more.
pub(super) fn wanted(
    rooms: Vec<(RoomNid, How)>,
    heads: &HashMap<RoomNid, RoomHead>,
) -> Vec<Wanted> {
    rooms
        .into_iter()
        .filter_map(|(nid, how)| Some(Wanted { head: heads.get(&nid)?.clone(), how }))
        .collect()
}
