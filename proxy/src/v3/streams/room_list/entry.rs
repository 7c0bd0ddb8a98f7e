//! Entries: what a reply tells of rooms, gathered from the store for all of them at once.
//!
//! Neighbours: `changes` and `pages` say which rooms are wanted and how, `state` fetches their state, `reply` writes what is
//! gathered here.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures_util::future::try_join_all;
use store::{Place, Position, RoomHead, RoomNid, Section, StateEvent};

use super::{
    params::Params,
    state::{self, Members, States},
    wanted::{How, News, Occasion, Wanted},
};
use crate::{
    account::{KnownMembers, room_index::RoomIndex},
    error::Error,
    filter::EventFilter,
    unread::Unread,
    v3::view::View,
    views::{
        self, Extent, LookBack, TimelineView,
        facts::{self, Avatars, Draft, RoomFacts},
        load_timelines,
    },
};

/// How many new events an entry has.
const NEWEST: usize = 20;

/// Among how many new events those that notify are looked for.
const SEARCHED: u64 = 100;

/// What a reply tells of a room.
#[expect(clippy::struct_excessive_bools, reason = "each is a thing of its own to be told or not")]
pub(super) struct Entry {
    /// The room.
    pub(super) head: RoomHead,
    /// It comes whole.
    pub(super) initial: bool,
    /// The moment that it is told of.
    pub(super) at: Position,
    /// Its timeline; an invite has none.
    pub(super) timeline: Option<TimelineView>,
    /// The state that is told.
    pub(super) state: Vec<StateEvent>,
    /// It is all that was asked for, and not what changed of it.
    pub(super) all_state: bool,
    /// Name and avatar are told.
    pub(super) names: bool,
    /// What a list shows of it.
    pub(super) facts: RoomFacts,
    /// When it last stirred.
    pub(super) timestamp: i64,
    /// Its unread counts.
    pub(super) unread: Unread,
    /// Whether `m.direct` names it.
    pub(super) is_dm: bool,
}

/// Gathers entries in the order of `wanted`; those in which there is nothing new are left out.
pub(super) async fn load(
    view: &View<'_>,
    params: &Params,
    index: &RoomIndex,
    mut wanted: Vec<Wanted>,
) -> Result<Vec<Entry>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (mut timelines, mut states, tagged, tags) = tokio::try_join!(
        timelines(view, &wanted),
        state::load(view, params, &wanted),
        tagged(view, &wanted),
        tags(view, &wanted)
    )?;
    wanted.retain(|room| {
        let timeline = timelines.get(&room.head.room_nid);
        has_news(room, timeline, &states, &tagged)
    });
    let mut members = Members::default();
    let speaking = params.lazy_load_members.then_some(&timelines);
    let mut facts = facts_of(view, &wanted, &states, tags, speaking, &mut members).await?;
    let mut entries: Vec<Entry> = wanted
        .into_iter()
        .map(|room| {
            let nid = room.head.room_nid;
            let names = states.names(&room);
            let at = room.at(view.now);
            let initial = room.is_whole();
            let all_state = room.tells_all_state();
            let timeline = timelines.remove(&nid).map(|timeline| TimelineView {
                // There is nothing that the client was told.
                limited: timeline.limited && !initial,
                ..timeline
            });
            let indexed = index.get(nid);
            Entry {
                initial,
                at,
                timeline,
                state: states.take(nid),
                all_state,
                names,
                facts: facts.remove(&nid).unwrap_or_default(),
                timestamp: indexed.map_or(room.head.recency, |indexed| indexed.recency),
                unread: indexed.map_or_else(|| Unread::with_threads(&room.head), |it| it.unread),
                is_dm: indexed.is_some_and(|indexed| indexed.is_dm),
                head: room.head,
            }
        })
        .collect();
    if params.lazy_load_members {
        state::add_members(view, &mut entries, &mut members).await?;
    }
    Ok(entries)
}

impl Entry {
    /// The poll that brought the last event which it tells.
    pub(super) fn last_poll(&self) -> Option<Position> {
        let last = self.timeline.as_ref()?.events.last();
        last.map(|(event, _)| event.place.pos)
    }
}

impl Wanted {
    /// The moment that the room is told of.
    pub(super) fn at(&self, now: Position) -> Position {
        match self.how {
            How::Whole { at } => at,
            How::Since(_) | How::Notifying { .. } => now,
        }
    }

    /// Whether it comes whole.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.how, How::Whole { .. } | How::Notifying { news: None, .. })
    }

    /// Whether all of the state that is asked for is told, and not what changed of it.
    pub(super) fn tells_all_state(&self) -> bool {
        self.news().is_none_or(|news| news.occasion == Occasion::OtherState)
    }

    /// What is new to a client that has got it.
    pub(super) fn news(&self) -> Option<&News> {
        match &self.how {
            How::Whole { .. } => None,
            How::Since(news) => Some(news),
            How::Notifying { news, .. } => news.as_ref(),
        }
    }

    /// Whether it has events to tell: of an invite nothing but stripped state is known.
    pub(super) fn has_events(&self) -> bool {
        self.head.section != Section::Invite
    }

    /// The stretch of the timeline that is told, and how many events of it.
    fn stretch(&self) -> (views::Wanted, u64) {
        let mut head = self.head.clone();
        let (extent, limit) = match &self.how {
            How::Whole { at } => {
                // A cut that came later is none yet.
                if head.segment_pos > *at {
                    head.segment_pos = Position(0);
                }
                (Extent::Whole { since: None }, 1)
            }
            How::Since(News { since, cut, .. }) => {
                let extent = Extent::Since { since: *since, cut: *cut, full_state: false };
                (extent, NEWEST as u64)
            }
            How::Notifying { news, after, .. } => {
                let cut = news.as_ref().and_then(|news| news.cut);
                (Extent::Since { since: *after, cut, full_state: false }, SEARCHED)
            }
        };
        (views::Wanted { head, extent }, limit)
    }
}

/// Whether there is anything to tell of a room.
fn has_news(
    room: &Wanted,
    timeline: Option<&TimelineView>,
    states: &States,
    tagged: &HashSet<RoomNid>,
) -> bool {
    let events = timeline.is_some_and(|timeline| !timeline.events.is_empty());
    match &room.how {
        How::Whole { .. } => true,
        How::Notifying { .. } => events,
        How::Since(news) => {
            let nid = room.head.room_nid;
            news.occasion != Occasion::Change
                || events
                || timeline.is_some_and(|timeline| timeline.limited)
                || news.counted
                || news.dm_changed
                || tagged.contains(&nid)
                || states.names(room)
                || states.has(nid)
        }
    }
}

/// The timelines of rooms.
async fn timelines(
    view: &View<'_>,
    rooms: &[Wanted],
) -> Result<HashMap<RoomNid, TimelineView>, Error> {
    let account = view.account();
    let ignored = account.ignored.get(view.store(), account.account_id).await?;
    let mut groups: BTreeMap<(Position, u64), Vec<views::Wanted>> = BTreeMap::new();
    for room in rooms.iter().filter(|room| room.has_events()) {
        let (stretch, limit) = room.stretch();
        groups.entry((room.at(view.now), limit)).or_default().push(stretch);
    }
    let (everything, nobody) = (EventFilter::default(), KnownMembers::default());
    let look_back = LookBack::default();
    let mut timelines = HashMap::with_capacity(rooms.len());
    for ((at, limit), stretches) in groups {
        let newest = EventFilter::newest(limit);
        let wishes = views::View {
            timeline: &newest,
            state: &everything,
            lazy_load_members: true,
            known_members: &nobody,
            state_after: true,
            receipts: false,
            look_back: &look_back,
            ignored: &ignored,
            tail: None,
        };
        let found = load_timelines(view.state, view.requester, &stretches, &wishes, at).await?;
        timelines.extend(found);
    }
    for room in rooms {
        if let (How::Notifying { polls, .. }, Some(timeline)) =
            (&room.how, timelines.get_mut(&room.head.room_nid))
        {
            keep_notifying(timeline, polls.as_deref(), &account.user_id);
        }
    }
    Ok(timelines)
}

/// Keeps the events of others that came with these polls, the newest of them. The client is told up to the poll of the last
/// of them: what the user says after it in that poll comes as well, or it would never come.
fn keep_notifying(timeline: &mut TimelineView, polls: Option<&[Position]>, user_id: &str) {
    let notifies = |(event, fields): &(store::TimelineEvent, views::EventFields)| {
        fields.sender != user_id && polls.is_none_or(|polls| polls.contains(&event.place.pos))
    };
    let Some(last) = timeline.events.iter().rposition(notifies) else {
        timeline.events.clear();
        return;
    };
    let told_up_to = timeline.events[last].0.place.pos;
    let mut after = timeline.events.split_off(last + 1);
    // What comes with later polls is not missing: it has yet to be told.
    after.retain(|(event, _)| event.place.pos == told_up_to);
    let all = timeline.events.len() + after.len();
    timeline.events.retain(notifies);
    timeline.events.append(&mut after);
    let excess = timeline.events.len().saturating_sub(NEWEST);
    timeline.events.drain(..excess);
    timeline.limited |= timeline.events.len() < all;
    timeline.start = timeline.events.first().map(|(event, _)| event.place);
}

/// The rooms whose tags changed.
async fn tagged(view: &View<'_>, rooms: &[Wanted]) -> Result<HashSet<RoomNid>, Error> {
    let since: Vec<(RoomNid, Position)> = rooms
        .iter()
        .filter_map(|room| match &room.how {
            How::Since(news) if news.occasion == Occasion::Change => {
                Some((room.head.room_nid, news.since))
            }
            _ => None,
        })
        .collect();
    tagged_after(view, &since).await
}

/// Those of the rooms whose tags changed after a position.
pub(super) async fn tagged_after(
    view: &View<'_>,
    since: &[(RoomNid, Position)],
) -> Result<HashSet<RoomNid>, Error> {
    if since.is_empty() {
        return Ok(HashSet::new());
    }
    let account_id = view.account().account_id;
    let data = view.store().room_account_data(account_id, since, view.now).await?;
    let tagged = data
        .into_iter()
        .filter(|(_, data)| data.iter().any(|(event_type, _)| event_type == "m.tag"));
    Ok(tagged.map(|(nid, _)| nid).collect())
}

/// The tags of rooms.
async fn tags(view: &View<'_>, rooms: &[Wanted]) -> Result<HashMap<RoomNid, Bytes>, Error> {
    let rooms: Vec<RoomNid> = rooms.iter().map(|room| room.head.room_nid).collect();
    facts::tags(view.store(), view.account(), &rooms).await
}

/// What the list shows of the rooms, each as of its moment; of those whose name and heroes are not told, the tags alone. Whoever
/// speaks in the timelines that are `speaking` is looked up on the way.
async fn facts_of(
    view: &View<'_>,
    rooms: &[Wanted],
    states: &States,
    mut tags: HashMap<RoomNid, Bytes>,
    speaking: Option<&HashMap<RoomNid, TimelineView>>,
    members: &mut Members,
) -> Result<HashMap<RoomNid, RoomFacts>, Error> {
    let (store, account) = (view.store(), view.account());
    let mut whole: BTreeMap<Position, Vec<&RoomHead>> = BTreeMap::new();
    let mut renamed: BTreeMap<Position, Vec<&RoomHead>> = BTreeMap::new();
    for room in rooms {
        let is_read = room.has_events() || room.head.stripped_state.is_some();
        if room.tells_all_state() && is_read {
            whole.entry(room.at(view.now)).or_default().push(&room.head);
        } else if states.names(room) {
            renamed.entry(room.at(view.now)).or_default().push(&room.head);
        }
    }
    let drafts: Vec<Draft> =
        whole.iter().map(|(at, heads)| Draft::of(account, heads, *at, states.naming())).collect();
    let mut wanted: Vec<(RoomNid, Place, String)> = drafts.iter().flat_map(Draft::heroes).collect();
    for room in rooms {
        let timeline = speaking.and_then(|timelines| timelines.get(&room.head.room_nid));
        let (nid, place) = (room.head.room_nid, Place::after(room.at(view.now)));
        let users = timeline.into_iter().flat_map(state::speakers);
        wanted.extend(users.map(|user_id| (nid, place, user_id.to_owned())));
    }
    let first = drafts.iter().map(|draft| draft.first_members(store, account));
    let others =
        renamed.iter().map(|(at, heads)| facts::load(store, account, heads, *at, Avatars::Wanted));
    let ((), first, others) =
        tokio::try_join!(members.look_up(view, wanted), try_join_all(first), try_join_all(others))?;
    let mut all: HashMap<RoomNid, RoomFacts> = others.into_iter().flatten().collect();
    for (draft, first) in drafts.into_iter().zip(first) {
        all.extend(draft.finish(members.found(), first, &mut tags));
    }
    for (nid, tags) in tags {
        all.entry(nid).or_insert_with(|| RoomFacts { tags: Some(tags), ..RoomFacts::default() });
    }
    Ok(all)
}
