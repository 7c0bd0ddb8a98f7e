//! The state that goes with a timeline: at its start or at its end, whole or as what changed on the way
//! there; with lazy loading, the members that matter.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use store::{Place, Position, RoomHead, RoomNid, Section, StateEvent, StateQuery, StateSelection};
use tokio::time::{Instant, timeout_at};

use crate::{
    account::members,
    auth::Requester,
    error::{Error, causes},
    state::State,
};

use super::{EventFields, Extent, TimelineView, View, Wanted, reads};

/// How long an answer waits to learn who speaks in it. Upstream may hold the members back for minutes, while it joins a
/// large room; a speaker without a name is better than no answer.
const LEARNING: Duration = Duration::from_secs(10);

pub(super) async fn load(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    now: Position,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let end = Place::after(now);
    // Where the state is wanted.
    let place_of = |room: &Wanted| match timelines.get(&room.head.room_nid) {
        Some(timeline) if !view.state_after => timeline.start.unwrap_or(end),
        _ => end,
    };
    let (mut at_place, mut hidden, mut members) = tokio::try_join!(
        query(state, requester, rooms, view, &place_of),
        outside_timeline(state, requester, rooms, timelines, view, &place_of, end),
        lazy_members(state, requester, rooms, timelines, view, &place_of),
    )?;

    let mut states = HashMap::with_capacity(rooms.len());
    for room in rooms {
        let nid = room.head.room_nid;
        let sources = [at_place.remove(&nid), members.remove(&nid), hidden.remove(&nid)];
        states.insert(nid, merged(view, &room.head.room_id, sources));
    }
    Ok(states)
}

/// The whole state of a room just before a place in its timeline: for a client that holds the timeline from there on.
pub(crate) async fn state_before(
    state: &State,
    requester: &Requester,
    room: &Wanted,
    view: &View<'_>,
    place: Place,
) -> Result<Vec<StateEvent>, Error> {
    let (nid, rooms) = (room.head.room_nid, std::slice::from_ref(room));
    let place_of = |_: &Wanted| place;
    let no_timelines = HashMap::new();
    let (mut at_place, mut members) = tokio::try_join!(
        query(state, requester, rooms, view, &place_of),
        lazy_members(state, requester, rooms, &no_timelines, view, &place_of),
    )?;
    let sources = [at_place.remove(&nid), members.remove(&nid)];
    Ok(merged(view, &room.head.room_id, sources))
}

/// State from several sources, as the client wants it. The last event of a key counts; it stands where the first one stood.
fn merged(
    view: &View<'_>,
    room_id: &str,
    sources: impl IntoIterator<Item = Option<Vec<StateEvent>>>,
) -> Vec<StateEvent> {
    let mut sources = sources.into_iter().flatten().filter(|source| !source.is_empty());
    let mut events = sources.next().unwrap_or_default();
    // What one source says, it says once.
    let mut others = sources.flatten().peekable();
    if others.peek().is_some() {
        let key = |event: &StateEvent| (event.event_type.clone(), event.state_key.clone());
        let mut places: HashMap<(String, String), usize> =
            events.iter().enumerate().map(|(place, event)| (key(event), place)).collect();
        for event in others {
            match places.entry(key(&event)) {
                Entry::Occupied(place) => events[*place.get()] = event,
                Entry::Vacant(place) => {
                    place.insert(events.len());
                    events.push(event);
                }
            }
        }
    }
    events.retain(|event| view.admits_state(room_id, event));
    events
}

/// The state of each room at its place, or what changed on the way there.
async fn query(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    view: &View<'_>,
    place_of: &impl Fn(&Wanted) -> Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let mut all = Vec::new();
    let mut without_members = Vec::new();
    for room in rooms {
        let since = match room.extent {
            Extent::Since { since, full_state: false, .. } => Some(Place::after(since)),
            _ => None,
        };
        let at = place_of(room);
        if since.is_some_and(|since| since >= at) {
            continue;
        }
        // Every membership change in a gap is told, lazy loading or not; what was merely learnt is none.
        let members = !view.lazy_load_members || since.is_some();
        let list = if members { &mut all } else { &mut without_members };
        list.push(StateQuery { room_nid: room.head.room_nid, at, since });
    }
    let (mut states, others) = tokio::try_join!(
        reads::states(state, requester, view, all, StateSelection::All),
        reads::states(state, requester, view, without_members, StateSelection::WithoutMembers),
    )?;
    states.extend(others);
    Ok(states)
}

/// What changed during the timeline and ends with an event that the client does not see there: hidden by
/// the timeline's filter, or decided by state resolution without an event in any timeline.
async fn outside_timeline(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    place_of: &impl Fn(&Wanted) -> Place,
    end: Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let queries: Vec<StateQuery> = rooms
        .iter()
        .map(|room| StateQuery {
            room_nid: room.head.room_nid,
            at: end,
            since: Some(place_of(room)),
        })
        .filter(|query| query.since != Some(end))
        .collect();
    if queries.is_empty() {
        return Ok(HashMap::new());
    }
    let mut hidden = reads::states(state, requester, view, queries, StateSelection::All).await?;
    for (nid, events) in &mut hidden {
        let shown: HashSet<&str> = timelines
            .get(nid)
            .into_iter()
            .flat_map(|timeline| &timeline.events)
            .map(|(_, fields)| fields.event_id.as_str())
            .collect();
        events.retain(|event| !shown.contains(EventFields::read(&event.body).event_id.as_str()));
    }
    Ok(hidden)
}

/// With lazy loading: the members who speak in the timeline and those whom the summary names, as far as
/// they are new to the client; where it knows nothing of the room, the user as well.
async fn lazy_members(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    place_of: &impl Fn(&Wanted) -> Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    if !view.lazy_load_members {
        return Ok(HashMap::new());
    }
    let mut wanted = Vec::new();
    for room in rooms {
        let nid = room.head.room_nid;
        let at = place_of(room);
        let mut users: HashSet<&str> = new_speakers(room, timelines.get(&nid), view).collect();
        let heroes = if room.tells_summary() { heroes(&room.head) } else { Vec::new() };
        users.extend(heroes.iter().map(String::as_str).filter(|user| is_new(room, user, view)));
        if room.wants_full_state() {
            users.insert(&requester.account.user_id);
        }
        wanted.extend(users.into_iter().map(|user_id| (nid, at, user_id.to_owned())));
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let account_id = requester.account.account_id;
    reads::asks_store(view);
    let found = state.store.members_at(account_id, &wanted).await?;
    if learn_missing(state, requester, rooms, timelines, view, &found).await {
        return Ok(state.store.members_at(account_id, &wanted).await?);
    }
    Ok(found)
}

/// Upstream leaves out members that it thinks we have been told of, when a poll that we gave up was the
/// one that told. Where a speaker is missing, the room's members are completed. Gives whether any were.
async fn learn_missing(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    found: &HashMap<RoomNid, Vec<StateEvent>>,
) -> bool {
    let mut learnt = false;
    // For all rooms together, however many there are.
    let patience = Instant::now() + LEARNING;
    for room in rooms {
        let nid = room.head.room_nid;
        let known: HashSet<&str> =
            found.get(&nid).into_iter().flatten().map(|event| event.state_key.as_str()).collect();
        let timeline = timelines.get(&nid);
        let missing = new_speakers(room, timeline, view)
            .any(|user_id| !known.contains(user_id) && !enters(timeline, user_id));
        if !missing || room.head.members_complete || room.head.section != Section::Join {
            continue;
        }
        let room_id = &room.head.room_id;
        let completed = members::complete(state, requester, &room.head);
        match timeout_at(patience, completed).await {
            Ok(Ok(())) => learnt = true,
            Ok(Err(error)) => {
                tracing::warn!(error = %causes(&error), %room_id, "could not learn who speaks");
            }
            Err(_elapsed) => tracing::warn!(%room_id, "could not learn in time who speaks"),
        }
    }
    learnt
}

/// Who speaks in a timeline, but for those that the client has been told of.
fn new_speakers<'a>(
    room: &'a Wanted,
    timeline: Option<&'a TimelineView>,
    view: &'a View<'_>,
) -> impl Iterator<Item = &'a str> {
    speakers(timeline).filter(move |user_id| is_new(room, user_id, view))
}

/// Whether the client is still to be told of a member.
fn is_new(room: &Wanted, user_id: &str, view: &View<'_>) -> bool {
    room.wants_full_state() || !view.known_members.contains(room.head.room_nid, user_id)
}

fn speakers(timeline: Option<&TimelineView>) -> impl Iterator<Item = &str> {
    timeline
        .into_iter()
        .flat_map(|timeline| &timeline.events)
        .map(|(_, fields)| fields.sender.as_str())
}

/// Whether the timeline itself holds a membership of the user.
fn enters(timeline: Option<&TimelineView>, user_id: &str) -> bool {
    timeline.into_iter().flat_map(|timeline| &timeline.events).any(|(_, fields)| {
        fields.event_type == "m.room.member" && fields.state_key.as_deref() == Some(user_id)
    })
}

/// Those whom the homeserver names a room after.
pub(crate) fn heroes(head: &RoomHead) -> Vec<String> {
    let raw = head.heroes.as_deref();
    raw.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
}

impl View<'_> {
    pub(super) fn admits_state(&self, room_id: &str, event: &StateEvent) -> bool {
        if self.state.admits_everything_in(room_id) {
            return true;
        }
        self.state.admits_room(room_id) && self.state.admits(EventFields::read(&event.body).seen())
    }
}
