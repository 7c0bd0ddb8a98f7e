//! The state that comes with rooms: what was asked for, whole or as it changed, and the members who matter.

use std::collections::{BTreeSet, HashMap, HashSet};

use store::{Place, RoomNid, StateEvent, StateQuery, StateSelection};

use super::{entry::Entry, params::Params, wanted::Wanted};
use crate::{
    error::Error,
    v3::view::View,
    views::{TimelineView, facts, heroes},
};

const MEMBER: &str = "m.room.member";

/// The types of state that name and avatar are made of.
const NAMING: [&str; 3] = ["m.room.name", "m.room.canonical_alias", "m.room.avatar"];

/// The state of rooms that is to be told.
#[derive(Default)]
pub(super) struct States {
    told: HashMap<RoomNid, Vec<StateEvent>>,
    /// What the names, and all else that a list shows, of the rooms are made of whose whole state is told.
    naming: HashMap<RoomNid, Vec<StateEvent>>,
    /// Rooms in whose state something changed that their names are made of.
    renamed: HashSet<RoomNid>,
}

impl States {
    /// Whether there is state to tell of a room.
    pub(super) fn has(&self, room: RoomNid) -> bool {
        self.told.get(&room).is_some_and(|events| !events.is_empty())
    }

    /// Whether name and avatar of a room are told.
    pub(super) fn names(&self, room: &Wanted) -> bool {
        room.news().is_none_or(|news| {
            room.head.summary_pos > news.since || self.renamed.contains(&room.head.room_nid)
        })
    }

    /// What the names of rooms are made of, of those whose whole state is told; other state may be among it.
    pub(super) fn naming(&self) -> &HashMap<RoomNid, Vec<StateEvent>> {
        &self.naming
    }

    /// What is told of a room.
    pub(super) fn take(&mut self, room: RoomNid) -> Vec<StateEvent> {
        self.told.remove(&room).unwrap_or_default()
    }
}

/// The state of rooms: all that was asked for, or what changed of it.
pub(super) async fn load(
    view: &View<'_>,
    params: &Params,
    rooms: &[Wanted],
) -> Result<States, Error> {
    let account_id = view.account().account_id;
    let with_events = || rooms.iter().filter(|room| room.has_events());
    let whole: Vec<(RoomNid, Place)> = with_events()
        .filter(|room| room.tells_all_state())
        .map(|room| (room.head.room_nid, Place::after(room.at(view.now))))
        .collect();
    let deltas: Vec<StateQuery> = with_events()
        .filter_map(|room| {
            Some(StateQuery {
                room_nid: room.head.room_nid,
                at: Place::after(view.now),
                since: Some(Place::after(room.news()?.since)),
            })
        })
        .collect();
    // What is told of such a room has its name with it: both are read at once.
    let mut keys = params.state_keys();
    keys.extend(facts::KEYS);
    let selected = async { view.store().selected_states(account_id, &whole, &keys).await };
    let changes = async {
        if deltas.is_empty() {
            return Ok(HashMap::new());
        }
        view.store().states(account_id, &deltas, StateSelection::All).await
    };
    let (naming, mut changes) = tokio::try_join!(selected, changes)?;
    let mut states = States { naming, ..States::default() };
    for (nid, events) in &states.naming {
        let is_told = |event: &&StateEvent| params.shows_state(&event.event_type, &event.state_key);
        let told: Vec<StateEvent> = events.iter().filter(is_told).cloned().collect();
        if !told.is_empty() {
            states.told.insert(*nid, told);
        }
    }
    for room in with_events() {
        let nid = room.head.room_nid;
        let Some(mut changed) = changes.remove(&nid) else { continue };
        let heroes = heroes(&room.head);
        if changed.iter().any(|event| is_naming(event, &heroes)) {
            states.renamed.insert(nid);
        }
        if !room.tells_all_state() {
            changed.retain(|event| params.shows_state(&event.event_type, &event.state_key));
            states.told.insert(nid, changed);
        }
    }
    Ok(states)
}

/// Member events, each looked up once for a reply.
#[derive(Default)]
pub(super) struct Members {
    asked: HashSet<(RoomNid, String)>,
    found: HashMap<RoomNid, Vec<StateEvent>>,
}

impl Members {
    /// Looks up those that have not been. A reply tells of a room as of one moment.
    pub(super) async fn look_up(
        &mut self,
        view: &View<'_>,
        mut wanted: Vec<(RoomNid, Place, String)>,
    ) -> Result<(), Error> {
        wanted.retain(|(nid, _, user_id)| self.asked.insert((*nid, user_id.clone())));
        if wanted.is_empty() {
            return Ok(());
        }
        let found = view.store().members_at(view.account().account_id, &wanted).await?;
        for (nid, events) in found {
            self.found.entry(nid).or_default().extend(events);
        }
        Ok(())
    }

    /// What was found, by room.
    pub(super) fn found(&self) -> &HashMap<RoomNid, Vec<StateEvent>> {
        &self.found
    }
}

/// Adds the members who speak in the timelines, and where the name or all state is told, those that the name is made of.
pub(super) async fn add_members(
    view: &View<'_>,
    entries: &mut [Entry],
    members: &mut Members,
) -> Result<(), Error> {
    let wanted: Vec<BTreeSet<String>> = entries.iter().map(members_of).collect();
    let places = entries.iter().zip(&wanted).flat_map(|(entry, users)| {
        let (nid, place) = (entry.head.room_nid, Place::after(entry.at));
        users.iter().map(move |user_id| (nid, place, user_id.clone()))
    });
    members.look_up(view, places.collect()).await?;
    for (entry, users) in entries.iter_mut().zip(wanted) {
        let found = members.found.get(&entry.head.room_nid).map_or(&[][..], Vec::as_slice);
        let event = |user_id: &String| found.iter().find(|event| event.state_key == *user_id);
        entry.state.extend(users.iter().filter_map(event).cloned());
    }
    Ok(())
}

/// The members that come with a room.
fn members_of(entry: &Entry) -> BTreeSet<String> {
    let Some(timeline) = &entry.timeline else { return BTreeSet::new() };
    let mut users: BTreeSet<String> = speakers(timeline).map(str::to_owned).collect();
    if entry.names || entry.all_state {
        users.extend(entry.facts.heroes.iter().map(|hero| hero.user_id.clone()));
    }
    for event in entry.state.iter().filter(|event| event.event_type == MEMBER) {
        users.remove(&event.state_key);
    }
    users
}

/// Who speaks in a timeline.
pub(super) fn speakers(timeline: &TimelineView) -> impl Iterator<Item = &str> {
    timeline.events.iter().map(|(_, fields)| fields.sender.as_str())
}

/// Whether a change of this may be one of a room's name or avatar.
fn is_naming(event: &StateEvent, heroes: &[String]) -> bool {
    NAMING.contains(&event.event_type.as_str())
        || (event.event_type == MEMBER && heroes.contains(&event.state_key))
}
