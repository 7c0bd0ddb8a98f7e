//! Timelines: the newest events that a client wants, and whether any are missing before them.
//!
//! The limit counts after the filter, so a filtered timeline is looked for further and further back,
//! in a few rounds; each round serves all rooms that still need one.

use std::collections::HashMap;

use store::{Place, Position, RoomNid, TimelineEvent, TimelineQuery};

use crate::{auth::Requester, error::Error, state::State};

use super::{EventFields, View, Wanted, reads};

/// How often a filtered timeline is looked for further back.
const ROUNDS: usize = 5;

/// A room's timeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimelineView {
    /// The events, oldest first, with the fields read from each.
    pub(crate) events: Vec<(TimelineEvent, EventFields)>,
    /// Events between what the client knows and the first of these are missing.
    pub(crate) limited: bool,
    /// Where the timeline starts; `None` when it is empty.
    pub(crate) start: Option<Place>,
    /// Upstream's own token for its start, where the timeline was fetched from there.
    pub(crate) upstream_start: Option<String>,
}

/// What was found so far of one room, newest first.
struct Search {
    query: TimelineQuery,
    found: Vec<(TimelineEvent, EventFields)>,
    exhausted: bool,
}

/// Loads the timelines of rooms, up to the position `now`.
pub(crate) async fn load(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
    view: &View<'_>,
    now: Position,
) -> Result<HashMap<RoomNid, TimelineView>, Error> {
    let limit = view.timeline.timeline_limit();
    // One more than wanted tells whether there are more.
    let enough = limit + 1;
    let mut searches: Vec<Search> = rooms
        .iter()
        .map(|room| Search {
            query: TimelineQuery {
                room_nid: room.head.room_nid,
                after: room.timeline_after(),
                before: Place::after(now),
            },
            found: Vec::new(),
            exhausted: !view.timeline.admits_room(&room.head.room_id)
                || !view.timeline.admits_anything(),
        })
        .collect();
    for round in 0..ROUNDS {
        let filtered = round > 0
            || !view.ignored.is_empty()
            || rooms.iter().any(|room| !view.timeline.admits_everything_in(&room.head.room_id));
        let page = if filtered { (2 * limit).max(10) } else { enough };
        let open: Vec<TimelineQuery> = searches
            .iter()
            .filter(|search| !search.exhausted && search.found.len() < enough)
            .map(|search| search.query)
            .collect();
        if open.is_empty() {
            break;
        }
        let mut pages = reads::timelines(state, requester, view, &open, page).await?;
        for search in &mut searches {
            if search.exhausted || search.found.len() >= enough {
                continue;
            }
            let events = pages.remove(&search.query.room_nid).unwrap_or_default();
            search.exhausted = events.len() < page;
            if let Some(last) = events.last() {
                search.query.before = last.place;
            }
            search.found.extend(
                events
                    .into_iter()
                    .map(|event| {
                        let fields = EventFields::read(&event.body);
                        (event, fields)
                    })
                    .filter(|(_, fields)| {
                        view.timeline.admits(fields.seen()) && !view.ignored.hides(fields)
                    }),
            );
        }
    }
    let timelines = searches.into_iter().zip(rooms).map(|(mut search, room)| {
        let more = search.found.len() > limit || !search.exhausted;
        search.found.truncate(limit);
        search.found.reverse();
        let timeline = TimelineView {
            limited: more || room.is_cut(),
            start: search.found.first().map(|(event, _)| event.place),
            upstream_start: None,
            events: search.found,
        };
        (room.head.room_nid, timeline)
    });
    Ok(timelines.collect())
}
