//! The state that goes with a timeline: at its start, whole or as what changed on the way there; with
//! lazy loading, the members that matter.

use std::collections::{HashMap, HashSet};

use store::{Place, Position, RoomNid, StateEvent, StateQuery, StateSelection};

use crate::{auth::Requester, error::Error, state::State};

use super::{EventFields, Extent, TimelineView, View, Wanted};

pub(super) async fn load(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    now: Position,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let end = Place::after(now);
    let start_of = |room: &Wanted| {
        timelines.get(&room.head.room_nid).and_then(|timeline| timeline.start).unwrap_or(end)
    };
    let mut at_start = query(state, requester, rooms, view, &start_of).await?;
    let hidden = outside_timeline(state, requester, rooms, timelines, &start_of, end).await?;
    let mut members = lazy_members(state, requester, rooms, timelines, view, &start_of).await?;

    let mut states = HashMap::with_capacity(rooms.len());
    for room in rooms {
        let nid = room.head.room_nid;
        let mut entries: HashMap<(String, String), StateEvent> = HashMap::new();
        let mut order = Vec::new();
        let sources = [at_start.remove(&nid), members.remove(&nid)];
        for event in sources.into_iter().flatten().flatten() {
            let key = (event.event_type.clone(), event.state_key.clone());
            if entries.insert(key.clone(), event).is_none() {
                order.push(key);
            }
        }
        for event in hidden.get(&nid).into_iter().flatten() {
            let key = (event.event_type.clone(), event.state_key.clone());
            if entries.insert(key.clone(), event.clone()).is_none() {
                order.push(key);
            }
        }
        let events = order
            .into_iter()
            .filter_map(|key| entries.remove(&key))
            .filter(|event| view.admits_state(&room.head.room_id, event))
            .collect();
        states.insert(nid, events);
    }
    Ok(states)
}

/// The state at the start of each timeline.
async fn query(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    view: &View<'_>,
    start_of: &impl Fn(&Wanted) -> Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let account_id = requester.account.account_id;
    let mut all = Vec::new();
    let mut without_members = Vec::new();
    for room in rooms {
        let since = match room.extent {
            Extent::Since { since, full_state: false, .. } => Some(Place::after(since)),
            _ => None,
        };
        let at = start_of(room);
        if since.is_some_and(|since| since >= at) {
            continue;
        }
        // Every membership change in a gap is told, lazy loading or not; what was merely learnt is none.
        let members = !view.lazy_load_members || since.is_some();
        let list = if members { &mut all } else { &mut without_members };
        list.push(StateQuery { room_nid: room.head.room_nid, at, since });
    }
    let mut states = HashMap::new();
    if !all.is_empty() {
        states.extend(state.store.states(account_id, &all, StateSelection::All).await?);
    }
    if !without_members.is_empty() {
        let selection = StateSelection::WithoutMembers;
        states.extend(state.store.states(account_id, &without_members, selection).await?);
    }
    Ok(states)
}

/// What changed during the timeline and ends with an event that the client does not see there: hidden by
/// the timeline's filter, or decided by state resolution without an event in any timeline.
async fn outside_timeline(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    start_of: &impl Fn(&Wanted) -> Place,
    end: Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let queries: Vec<StateQuery> = rooms
        .iter()
        .map(|room| StateQuery {
            room_nid: room.head.room_nid,
            at: end,
            since: Some(start_of(room)),
        })
        .filter(|query| query.since != Some(end))
        .collect();
    if queries.is_empty() {
        return Ok(HashMap::new());
    }
    let account_id = requester.account.account_id;
    let mut hidden = state.store.states(account_id, &queries, StateSelection::All).await?;
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

/// With lazy loading: the members who speak in the timeline, and where the client knows nothing of the
/// room, the user and the heroes.
async fn lazy_members(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    timelines: &HashMap<RoomNid, TimelineView>,
    view: &View<'_>,
    start_of: &impl Fn(&Wanted) -> Place,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    if !view.lazy_load_members {
        return Ok(HashMap::new());
    }
    let mut wanted = Vec::new();
    for room in rooms {
        let nid = room.head.room_nid;
        let at = start_of(room);
        let mut users: HashSet<String> = timelines
            .get(&nid)
            .into_iter()
            .flat_map(|timeline| &timeline.events)
            .map(|(_, fields)| fields.sender.clone())
            .collect();
        if room.wants_full_state() {
            users.insert(requester.account.user_id.clone());
            users.extend(heroes(room));
        }
        wanted.extend(users.into_iter().map(|user_id| (nid, at, user_id)));
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(state.store.members_at(requester.account.account_id, &wanted).await?)
}

fn heroes(room: &Wanted) -> Vec<String> {
    let raw = room.head.heroes.as_deref().and_then(|json| std::str::from_utf8(json).ok());
    raw.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

impl View<'_> {
    fn admits_state(&self, room_id: &str, event: &StateEvent) -> bool {
        if self.state.admits_everything_in(room_id) {
            return true;
        }
        self.state.admits_room(room_id) && self.state.admits(EventFields::read(&event.body).seen())
    }
}
