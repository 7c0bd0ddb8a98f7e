//! Rooms that come anew to a client which holds the end of their timelines already.
//!
//! `earliest_timeline_event_ids` says from which events on: those are not told again. Where that is all that would have
//! been told, the client gets what stands before: the state, and the token to go back from there.

use std::collections::HashMap;

use store::{EventPlace, Place, Position, RoomNid, TimelineQuery};

use super::{asked::Asked, plan::Planned};
use crate::{
    error::Error,
    v3::view::View,
    views::{self, RoomView, TimelineView},
};

/// Where the timelines begin that the client holds, by room.
pub(super) struct Held(HashMap<RoomNid, Vec<EventPlace>>);

impl Held {
    /// Looks the client's events up in the rooms that come anew.
    pub(super) async fn find(
        asked: &Asked,
        view: &View<'_>,
        rooms: &[Planned],
    ) -> Result<Self, Error> {
        let anew: Vec<(RoomNid, Position)> = rooms
            .iter()
            .filter(|room| room.initial)
            .map(|room| &room.wanted.head)
            .map(|head| (head.room_nid, before(head.segment_pos)))
            .collect();
        if asked.earliest.is_empty() || anew.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let account_id = view.account().account_id;
        let found = view.store().places_of(account_id, &anew, view.now, &asked.earliest).await?;
        let mut by_room: HashMap<RoomNid, Vec<EventPlace>> = HashMap::new();
        for event in found {
            by_room.entry(event.room_nid).or_default().push(event);
        }
        Ok(Self(by_room))
    }

    /// Takes out of a room that comes anew what the client holds. Gives the event that it holds the room from.
    pub(super) async fn take_out(
        &self,
        asked: &Asked,
        view: &View<'_>,
        wishes: &views::View<'_>,
        room: &mut RoomView,
    ) -> Result<Option<String>, Error> {
        let places = self.0.get(&room.wanted.head.room_nid).map_or(&[][..], Vec::as_slice);
        // They come in order. What is told twice, after a gap say, is held from its first place on.
        let stored = places.first();
        let shown = room.timeline.events.iter().position(|(event, fields)| {
            asked.earliest.contains(&fields.event_id)
                || stored.is_some_and(|held| is_stored(event.place) && event.place >= held.place)
        });
        let named = match (stored, shown) {
            (Some(held), _) => held.event_id.clone(),
            // Looked for upstream: it lies before what is stored.
            (None, Some(index)) => room.timeline.events[index].1.event_id.clone(),
            (None, None) => return Ok(None),
        };
        room.timeline.events.truncate(shown.unwrap_or(room.timeline.events.len()));
        if let (true, Some(held)) = (room.timeline.events.is_empty(), stored) {
            begin_at(view, wishes, room, held.place).await?;
        }
        Ok(Some(named))
    }
}

/// Makes the timeline an empty one just before a place.
async fn begin_at(
    view: &View<'_>,
    wishes: &views::View<'_>,
    room: &mut RoomView,
    place: Place,
) -> Result<(), Error> {
    let head = &room.wanted.head;
    let (state, requester) = (view.state, view.requester);
    room.state = views::state_before(state, requester, &room.wanted, wishes, place).await?;
    let earlier =
        TimelineQuery { room_nid: head.room_nid, after: before(head.segment_pos), before: place };
    let (account, device) = (&requester.account, &requester.device);
    let earlier =
        view.store().timelines(account.account_id, device.device_nid, &[earlier], 1).await?;
    room.timeline = TimelineView {
        limited: head.segment_limited || !earlier.is_empty(),
        start: Some(place),
        ..TimelineView::default()
    };
    Ok(())
}

/// Events that were looked for upstream have no place.
fn is_stored(place: Place) -> bool {
    place.pos > Position(0)
}

fn before(pos: Position) -> Position {
    Position(pos.0.saturating_sub(1))
}
