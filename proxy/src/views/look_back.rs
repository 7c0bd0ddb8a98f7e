//! Timelines that the store cannot fill: a limit counts after the filter, and what a client wants may lie further
//! back than what the account was ever told.
//!
//! Only for clients that know nothing of a room; and only where upstream left events out before what is stored. A
//! since-less sync of these rooms alone, with the client's own filters, is upstream's exact answer: timeline, whether it
//! is limited, and the state at its start. It acknowledges nothing, and all else that it says is ignored. What the
//! account stream brings after `now` is taken out of it, so that it comes once.
//!
//! An answer asks for few rooms in this way: one from the store is at once, and not wrong, for `limited` says that
//! there is more.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::value::RawValue;
use store::{
    Place, Position, RoomNid, Section, StateEvent, StateQuery, StateSelection, TimelineEvent,
};
use tokio::time::timeout;

use crate::{
    auth::Requester,
    auxiliary,
    clock::now_ms,
    error::{Error, causes},
    filter::EventFilter,
    ingest::parse_event,
    json::{self, Object},
    state::State,
    sync_reply, upstream,
};

use super::{EventFields, Extent, RoomView, TimelineView, View};

/// The most rooms of one answer.
const MOST_ROOMS: usize = 64;

/// How long an answer waits for them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events that upstream told aside have no place in the account stream.
const NOWHERE: Place = Place { pos: Position(0), ord: 0 };

const CREATE: &str = "m.room.create";

/// The rooms that an answer has looked for upstream: each once, however often the answer is put together anew while
/// its client waits, for what comes meanwhile is in the account stream.
#[derive(Debug, Default)]
pub(crate) struct LookBack(Mutex<HashSet<RoomNid>>);

impl LookBack {
    /// Takes those of the rooms that may be looked for.
    fn take<'a>(&self, rooms: impl Iterator<Item = &'a mut RoomView>) -> Vec<&'a mut RoomView> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms
            .filter(|room| asked.len() < MOST_ROOMS && asked.insert(room.wanted.head.room_nid))
            .collect()
    }
}

/// What upstream says of a room.
struct Told {
    events: Vec<(TimelineEvent, EventFields)>,
    limited: bool,
    prev_batch: String,
    /// The state at the start of the timeline, if that is what upstream gave.
    state: Option<Vec<StateEvent>>,
}

/// Fills the timelines that the store could not. Where upstream does not answer, or no poll is stored after that which would
/// say what of its answer comes again, they stay as they are.
pub(super) async fn fill(
    state: &State,
    requester: &Requester,
    views: &mut [RoomView],
    view: &View<'_>,
    now: Position,
) -> Result<(), Error> {
    let mut open = view.look_back.take(views.iter_mut().filter(|room| is_short(room, view)));
    if open.is_empty() {
        return Ok(());
    }
    let rooms: Vec<&str> = open.iter().map(|room| room.wanted.head.room_id.as_str()).collect();
    let filter = filter(&rooms, view)?;
    let asked = auxiliary::sync_with_state(state, &requester.access_token, &filter);
    let asked = timeout(PATIENCE, asked).await;
    let reply = match asked.unwrap_or(Err(upstream::Error::Timeout)) {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(error = %causes(&error), "could not look for timelines upstream");
            return Ok(());
        }
    };
    if !requester.account.poll_afresh(state, &requester.device).await {
        tracing::debug!("no poll to hold upstream's timelines against");
        return Ok(());
    }
    let later = state.store.event_ids_after(requester.account.account_id, now).await?;
    let later: HashSet<String> = later.into_iter().collect();
    let mut told = read(&reply, view.timeline);
    open.retain(|room| told.contains_key(&room.wanted.head.room_id));
    let mut creations = creations(state, requester, &open, now).await?;
    for room in open {
        let create = creations.remove(&room.wanted.head.room_nid);
        if let Some(mut told) = told.remove(&room.wanted.head.room_id) {
            told.events.retain(|(_, fields)| !later.contains(&fields.event_id));
            let create = create.filter(|_| !told.has_create());
            put(room, told, create, view);
        }
    }
    Ok(())
}

/// Whether a client that knows nothing of the room wants more of it than is stored, and there is more.
fn is_short(room: &RoomView, view: &View<'_>) -> bool {
    let head = &room.wanted.head;
    matches!(room.wanted.extent, Extent::Whole { .. })
        && head.section == Section::Join
        && head.segment_limited
        && room.timeline.events.len() < view.timeline.timeline_limit()
        && view.timeline.admits_anything()
        && view.timeline.admits_room(&head.room_id)
}

fn put(room: &mut RoomView, mut told: Told, create: Option<StateEvent>, view: &View<'_>) {
    // Upstream may read a filter otherwise than we do, or not be up to date: what is stored goes before.
    if !told.holds(&room.timeline) {
        return;
    }
    if let Some(create) = create {
        told.add(create, view.timeline);
    }
    let newly_joined = matches!(room.wanted.extent, Extent::Whole { since: Some(_) });
    room.timeline = TimelineView {
        events: told.events,
        limited: told.limited || newly_joined,
        upstream_start: Some(told.prev_batch),
        ..TimelineView::default()
    };
    if let Some(state) = told.state {
        let room_id = &room.wanted.head.room_id;
        let admitted = state.into_iter().filter(|event| view.admits_state(room_id, event));
        if view.state_after {
            // What the store says of the end stands; who speaks further back is added.
            let speakers: Vec<StateEvent> =
                admitted.filter(|event| is_missing(&room.state, event)).collect();
            room.state.extend(speakers);
        } else {
            room.state = admitted.collect();
        }
    }
}

/// Whether a member event is of somebody whose membership is not among these.
fn is_missing(state: &[StateEvent], event: &StateEvent) -> bool {
    let same = |other: &StateEvent| {
        other.event_type == event.event_type && other.state_key == event.state_key
    };
    event.event_type == "m.room.member" && !state.iter().any(same)
}

impl Told {
    /// Whether it holds every event of a timeline.
    fn holds(&self, timeline: &TimelineView) -> bool {
        let ids: HashSet<&str> =
            self.events.iter().map(|(_, fields)| fields.event_id.as_str()).collect();
        timeline.events.iter().all(|(_, fields)| ids.contains(fields.event_id.as_str()))
    }

    fn has_create(&self) -> bool {
        let in_state = |event: &StateEvent| event.event_type == CREATE;
        self.events.iter().any(|(_, fields)| fields.event_type == CREATE)
            || self.state.iter().flatten().any(in_state)
    }

    /// Adds the event that created the room where it belongs: at the beginning of a timeline that begins with the
    /// room and has a place for it, else to the state.
    fn add(&mut self, create: StateEvent, filter: &EventFilter) {
        let fields = EventFields::read(&create.body);
        if self.limited || !filter.admits(fields.seen()) {
            self.state.get_or_insert_default().push(create);
        } else if self.events.len() >= filter.timeline_limit() {
            self.limited = true;
            self.state.get_or_insert_default().push(create);
        } else {
            let event = TimelineEvent {
                place: NOWHERE,
                body: create.body,
                age_ts: None,
                unsigned: create.unsigned,
                transaction_id: None,
                redacted_because: create.redacted_because,
            };
            self.events.insert(0, (event, fields));
        }
    }
}

/// The events that created rooms. Synapse leaves them out where a filter names rooms, if they do not name their room
/// themselves: from room version 12 on.
async fn creations(
    state: &State,
    requester: &Requester,
    rooms: &[&mut RoomView],
    now: Position,
) -> Result<HashMap<RoomNid, StateEvent>, Error> {
    let at = Place::after(now);
    let query =
        |room: &&mut RoomView| StateQuery { room_nid: room.wanted.head.room_nid, at, since: None };
    let queries: Vec<StateQuery> = rooms.iter().map(query).collect();
    if queries.is_empty() {
        return Ok(HashMap::new());
    }
    let account_id = requester.account.account_id;
    let selection = StateSelection::WithoutMembers;
    let states = state.store.states(account_id, &queries, selection).await?;
    let create = |events: Vec<StateEvent>| {
        events.into_iter().find(|event| event.event_type == CREATE && event.state_key.is_empty())
    };
    Ok(states.into_iter().filter_map(|(nid, events)| Some((nid, create(events)?))).collect())
}

/// These rooms as the client wants them, and nothing else.
fn filter(rooms: &[&str], view: &View<'_>) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Nothing {
        types: [&'static str; 0],
    }
    #[derive(Serialize)]
    struct Rooms<'a> {
        rooms: &'a [&'a str],
        timeline: &'a EventFilter,
        state: &'a EventFilter,
        ephemeral: Nothing,
        account_data: Nothing,
    }
    #[derive(Serialize)]
    struct Filter<'a> {
        room: Rooms<'a>,
        presence: Nothing,
        account_data: Nothing,
    }
    const NOTHING: Nothing = Nothing { types: [] };
    let room = Rooms {
        rooms,
        timeline: view.timeline,
        state: view.state,
        ephemeral: NOTHING,
        account_data: NOTHING,
    };
    serde_json::to_string(&Filter { room, presence: NOTHING, account_data: NOTHING })
        .map_err(Error::internal)
}

/// The joined rooms of a reply.
fn read(reply: &[u8], filter: &EventFilter) -> HashMap<String, Told> {
    let rooms = sync_reply::rooms(reply, "join").into_iter();
    rooms.filter_map(|(room_id, raw)| Some((room_id, room(raw, filter)?))).collect()
}

fn room(raw: &RawValue, filter: &EventFilter) -> Option<Told> {
    let room = Object::of(raw)?;
    let timeline = room.object("timeline")?;
    let received_at = now_ms();
    let events = events(&timeline, received_at)?
        .into_iter()
        .map(|event| {
            let fields = EventFields::read(&event.body);
            let event = TimelineEvent {
                place: NOWHERE,
                body: event.body,
                age_ts: event.age_ts,
                unsigned: event.unsigned,
                transaction_id: event.transaction_id,
                redacted_because: event.redacted_because.map(|redaction| redaction.body),
            };
            (event, fields)
        })
        .filter(|(_, fields)| filter.admits(fields.seen()))
        .collect();
    let state = room.object("state").and_then(|state| self::events(&state, received_at));
    Some(Told {
        events,
        limited: timeline.get("limited").is_some_and(|limited| limited.get() == "true"),
        prev_batch: timeline.get("prev_batch").and_then(json::text)?.into_owned(),
        state: state.map(|events| events.into_iter().filter_map(state_event).collect()),
    })
}

/// The events of `{"events": […]}`; those that cannot be read are left out.
fn events(section: &Object<'_>, received_at: i64) -> Option<Vec<store::Event>> {
    let raws = json::list(section.get("events")?)?;
    Some(raws.into_iter().filter_map(|raw| parse_event(raw, received_at).ok()).collect())
}

fn state_event(event: store::Event) -> Option<StateEvent> {
    Some(StateEvent {
        event_type: event.event_type,
        state_key: event.state_key?,
        body: event.body,
        unsigned: event.unsigned,
        redacted_because: event.redacted_because.map(|redaction| redaction.body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_leniently() {
        let reply = br#"{"rooms":{"join":{
            "!a":{"timeline":{"events":[{"type":"t","event_id":"$1","sender":"@a:b"},{"type":"u","event_id":"$2"},7],
                "limited":true,"prev_batch":"s1"},"state":{"events":[{"type":"t","event_id":"$0"}]}},
            "!b":7, "!c":{"timeline":{"events":[]}}}}}"#;
        let filter = serde_json::from_str(r#"{"types":["t"]}"#).expect("the test's filter is good");
        let mut told = read(reply, &filter);
        let room = told.remove("!a").expect("the room is there");
        let ids: Vec<&str> = room.events.iter().map(|(_, fields)| &*fields.event_id).collect();
        assert_eq!((ids, room.limited, &*room.prev_batch), (vec!["$1"], true, "s1"));
        assert!(room.state.is_some_and(|state| state.is_empty()), "no state key, no state");
        assert!(told.is_empty());
        assert!(read(b"<html>", &filter).is_empty());
    }
}
