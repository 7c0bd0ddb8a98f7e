//! The state that comes with rooms: what was asked for, whole or as it changed, and the members who matter.

use std::collections::{HashMap, HashSet};

use store::{Place, RoomNid, StateEvent, StateQuery, StateSelection};

use super::{entry::Entry, params::Params, wanted::Wanted};
use crate::{error::Error, v3::view::View, views::heroes};

const MEMBER: &str = "m.room.member";

/// The types of state that name and avatar are made of.
const NAMING: [&str; 3] = ["m.room.name", "m.room.canonical_alias", "m.room.avatar"];

/// The state of rooms that is to be told.
#[derive(Default)]
pub(super) struct States {
    told: HashMap<RoomNid, Vec<StateEvent>>,
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
    let keys = params.state_keys();
    let selected = async { view.store().selected_states(account_id, &whole, &keys).await };
    let changes = async {
        if deltas.is_empty() {
            return Ok(HashMap::new());
        }
        view.store().states(account_id, &deltas, StateSelection::All).await
    };
    let (selected, mut changes) = tokio::try_join!(selected, changes)?;
    let mut states = States { told: selected, renamed: HashSet::new() };
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

/// Adds the members who speak in the timelines, and where the name or all state is told, those that the name is made of.
pub(super) async fn add_members(view: &View<'_>, entries: &mut [Entry]) -> Result<(), Error> {
    let mut wanted: Vec<(RoomNid, Place, String)> = Vec::new();
    for entry in &*entries {
        let Some(timeline) = &entry.timeline else { continue };
        let mut users: HashSet<&str> =
            timeline.events.iter().map(|(_, fields)| fields.sender.as_str()).collect();
        if entry.names || entry.all_state {
            users.extend(entry.facts.heroes.iter().map(|hero| hero.user_id.as_str()));
        }
        for event in entry.state.iter().filter(|event| event.event_type == MEMBER) {
            users.remove(event.state_key.as_str());
        }
        let mut users: Vec<&str> = users.into_iter().collect();
        users.sort_unstable();
        let place = Place::after(entry.at);
        let of_room = users.into_iter().map(|user| (entry.head.room_nid, place, user.to_owned()));
        wanted.extend(of_room);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut members = view.store().members_at(view.account().account_id, &wanted).await?;
    for entry in entries {
        entry.state.extend(members.remove(&entry.head.room_nid).unwrap_or_default());
    }
    Ok(())
}

/// Whether a change of this may be one of a room's name or avatar.
fn is_naming(event: &StateEvent, heroes: &[String]) -> bool {
    NAMING.contains(&event.event_type.as_str())
        || (event.event_type == MEMBER && heroes.contains(&event.state_key))
}
