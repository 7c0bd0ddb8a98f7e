//! Room events in the format of federation, for who asks for it with `event_format`. Knows neither API.
//!
//! Polls ask for the format of clients, and the one does not follow from the other. So upstream is asked for the
//! events of an answer in that format: with an auxiliary sync, which holds the state and the newest events of each
//! room, and where that does not reach far enough with
//! [`GET /rooms/{roomId}/messages`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmessages).
//! Which events are told is decided before, and stays as it is. An event that upstream does not give is told in
//! the format of clients.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use crate::{
    auth::Requester,
    auxiliary,
    error::{Error, causes},
    filter::EventFormat,
    json::{self, Object},
    state::State,
    sync_reply, upstream,
    views::{EventFields, RoomView},
};

/// How many pages of a room's history are looked through, and how long each is.
const MOST_PAGES: usize = 10;
const PAGE: &str = "100";

/// The event that Synapse leaves out of a sync for certain rooms if it does not name its room itself, as in room
/// version 12: of every room.
const CREATE_EVENTS: &str = r#"{"event_format":"federation","presence":{"types":[]},"account_data":{"types":[]},"room":{"include_leave":true,"timeline":{"limit":1,"types":["m.room.create"]},"state":{"types":["m.room.create"]},"ephemeral":{"types":[]},"account_data":{"types":[]}}}"#;

/// What upstream says in the format of federation.
#[derive(Debug, Default)]
pub(crate) struct Pdus {
    /// Room events by ID.
    events: HashMap<String, String>,
}

impl Pdus {
    /// Fetches the events of an answer, if that is the format wanted.
    pub(crate) async fn fetch(
        state: &State,
        requester: &Requester,
        format: EventFormat,
        views: &[RoomView],
    ) -> Result<Self, Error> {
        let mut pdus = Self::default();
        if format == EventFormat::Client {
            return Ok(pdus);
        }
        let mut wanted: Vec<(&RoomView, HashSet<String>)> = views
            .iter()
            .map(|view| (view, wanted_of(view)))
            .filter(|(_, wanted)| !wanted.is_empty())
            .collect();
        if wanted.is_empty() {
            return Ok(pdus);
        }
        let token = &requester.access_token;
        let room_ids: Vec<&str> = wanted.iter().map(|(view, _)| room_id(view)).collect();
        let reply = auxiliary::sync_with_state(state, token, &rooms_filter(&room_ids)).await?;
        let rooms = Rooms::read(&reply);
        pdus.take_all(&mut wanted, &rooms);
        if wanted
            .iter()
            .any(|(view, wanted)| create_event(view).is_some_and(|id| wanted.contains(&id)))
        {
            let reply = auxiliary::sync_with_state(state, token, CREATE_EVENTS).await?;
            pdus.take_all(&mut wanted, &Rooms::read(&reply));
        }
        for (view, wanted) in &mut wanted {
            if let (false, Some(room)) = (wanted.is_empty(), rooms.0.get(room_id(view))) {
                match pdus.page_back(state, requester, room_id(view), wanted, room).await {
                    Ok(()) => {}
                    Err(error) if error.is_retryable() || error.is_unknown_token() => {
                        return Err(error.into());
                    }
                    // The user is out of the room for good: a client that got this would ask for ever.
                    Err(error) => {
                        tracing::info!(error = %causes(&error), "cannot look further back");
                    }
                }
            }
            if !wanted.is_empty() {
                let (room_id, events) = (room_id(view), wanted.len());
                tracing::info!(%room_id, events, "told in the format of clients");
            }
        }
        Ok(pdus)
    }

    /// An event in the format of federation, if that is wanted and known.
    pub(crate) fn event(&self, body: &[u8]) -> Option<&[u8]> {
        if self.events.is_empty() {
            return None;
        }
        self.events.get(&EventFields::read(body).event_id).map(String::as_bytes)
    }

    fn take_all(&mut self, wanted: &mut [(&RoomView, HashSet<String>)], rooms: &Rooms<'_>) {
        for (view, wanted) in wanted {
            if let Some(room) = rooms.0.get(room_id(view)) {
                self.take(wanted, sync_reply::events(room.get("state")));
                self.take(wanted, sync_reply::events(room.get("timeline")));
            }
        }
    }

    fn take(&mut self, wanted: &mut HashSet<String>, events: Vec<&RawValue>) {
        for raw in events {
            let event_id = EventFields::read(raw.get().as_bytes()).event_id;
            if wanted.remove(&event_id) {
                self.events.insert(event_id, raw.get().to_owned());
            }
        }
    }

    /// Looks through a room's history from where upstream's timeline of it begins.
    async fn page_back(
        &mut self,
        state: &State,
        requester: &Requester,
        room_id: &str,
        wanted: &mut HashSet<String>,
        room: &Object<'_>,
    ) -> Result<(), upstream::Error> {
        let timeline = room.object("timeline");
        let start = timeline.as_ref().and_then(|timeline| timeline.get("prev_batch"));
        let mut from = start.and_then(json::text).map(std::borrow::Cow::into_owned);
        for _ in 0..MOST_PAGES {
            let Some(token) = from.take() else { return Ok(()) };
            let parameters = [
                ("dir", "b"),
                ("from", &token),
                ("limit", PAGE),
                ("filter", r#"{"event_format":"federation"}"#),
            ];
            let upstream = &state.upstream;
            let reply = upstream.messages(&requester.access_token, room_id, &parameters).await?;
            let Some(page) = Object::read(&reply) else { return Ok(()) };
            self.take(wanted, page.get("chunk").and_then(json::list).unwrap_or_default());
            if wanted.is_empty() {
                return Ok(());
            }
            from = page.get("end").and_then(json::text).map(std::borrow::Cow::into_owned);
        }
        Ok(())
    }
}

/// The rooms of a sync reply, whatever their section.
struct Rooms<'a>(HashMap<String, Object<'a>>);

impl<'a> Rooms<'a> {
    fn read(reply: &'a [u8]) -> Self {
        let sections = sync_reply::sections(reply);
        let mut rooms = HashMap::new();
        for (_, section) in sections.iter().flat_map(Object::members) {
            for (room_id, room) in Object::of(section).iter().flat_map(Object::members) {
                if let Some(room) = Object::of(room) {
                    rooms.insert(room_id.into_owned(), room);
                }
            }
        }
        Self(rooms)
    }
}

fn room_id(view: &RoomView) -> &str {
    &view.wanted.head.room_id
}

fn create_event(view: &RoomView) -> Option<String> {
    let timeline = view.timeline.events.iter().map(|(event, _)| &event.body);
    let state = view.state.iter().map(|event| &event.body);
    let mut events = timeline.chain(state).map(|body| EventFields::read(body));
    events.find(|event| event.event_type == "m.room.create").map(|event| event.event_id)
}

fn wanted_of(view: &RoomView) -> HashSet<String> {
    let timeline = view.timeline.events.iter().map(|(_, fields)| fields.event_id.clone());
    let state = view.state.iter().map(|event| EventFields::read(&event.body).event_id);
    timeline.chain(state).collect()
}

fn rooms_filter(room_ids: &[&str]) -> String {
    format!(
        r#"{{"event_format":"federation","presence":{{"types":[]}},"account_data":{{"types":[]}},"room":{{"rooms":{},"include_leave":true,"timeline":{{"limit":100}},"ephemeral":{{"types":[]}},"account_data":{{"types":[]}}}}}}"#,
        json::strings(room_ids)
    )
}
