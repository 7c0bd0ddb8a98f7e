//! Everything that a view holds of a room, for many rooms at once: timeline, state, account data, receipts.

use std::collections::HashMap;

use bytes::Bytes;
use store::{Position, RoomNid, Section, StateEvent, StoredReceipt};

use crate::{
    account::{KnownMembers, members, tail::Stretch},
    auth::Requester,
    error::{Error, causes},
    filter::EventFilter,
    ignored::Ignored,
    state::State,
};

use super::{
    Extent, TimelineView, Wanted,
    look_back::{self, LookBack},
    reads, state as state_view, timeline,
};

/// What a client wants to see of rooms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Which events, and how many.
    pub(crate) timeline: &'a EventFilter,
    /// Which state.
    pub(crate) state: &'a EventFilter,
    /// Members only as they matter to the timeline.
    pub(crate) lazy_load_members: bool,
    /// With lazy loading: members that the client has been told of, and need not be told of again.
    pub(crate) known_members: &'a KnownMembers,
    /// The state is wanted as it is at the end of the timeline, not at its start.
    pub(crate) state_after: bool,
    /// Whether receipts are wanted.
    pub(crate) receipts: bool,
    /// How far the answer may look for timelines upstream.
    pub(crate) look_back: &'a LookBack,
    /// Whose events are not shown.
    pub(crate) ignored: &'a Ignored,
    /// What the last polls brought, if it is in memory: what is there need not be asked of the store.
    pub(crate) tail: Option<&'a Stretch>,
}

/// A room as a client is to see it.
#[derive(Clone, Debug)]
pub(crate) struct RoomView {
    /// The room and how much of it this is.
    pub(crate) wanted: Wanted,
    /// Its timeline.
    pub(crate) timeline: TimelineView,
    /// The state at the start of the timeline, or at its end: whole, or what changed.
    pub(crate) state: Vec<StateEvent>,
    /// Room account data that changed: type and whole event.
    pub(crate) account_data: Vec<(String, Bytes)>,
    /// Receipts that changed.
    pub(crate) receipts: Vec<StoredReceipt>,
}

/// Loads the views of rooms, up to the position `now`.
pub(crate) async fn load(
    state: &State,
    requester: &Requester,
    rooms: Vec<Wanted>,
    view: &View<'_>,
    now: Position,
) -> Result<Vec<RoomView>, Error> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    if !view.lazy_load_members {
        complete_members(state, requester, &rooms).await?;
    }
    let account_id = requester.account.account_id;
    let values: Vec<(RoomNid, Position)> =
        rooms.iter().map(|room| (room.head.room_nid, room.values_since())).collect();
    let receipts_of = async {
        if view.receipts {
            reads::receipts(state, account_id, view, &values, now).await
        } else {
            Ok(HashMap::new())
        }
    };
    let account_data_of = reads::account_data(state, account_id, view, &values, now);
    let timelines_of = timeline::load(state, requester, &rooms, view, now);
    let (mut timelines, mut account_data, mut receipts) =
        tokio::try_join!(timelines_of, account_data_of, receipts_of)?;
    let mut states = state_view::load(state, requester, &rooms, &timelines, view, now).await?;
    let views = rooms.into_iter().map(|wanted| {
        let nid = wanted.head.room_nid;
        RoomView {
            timeline: timelines.remove(&nid).unwrap_or_default(),
            state: states.remove(&nid).unwrap_or_default(),
            account_data: account_data.remove(&nid).unwrap_or_default(),
            receipts: receipts.remove(&nid).unwrap_or_default(),
            wanted,
        }
    });
    let mut views: Vec<RoomView> = views.collect();
    look_back::fill(state, requester, &mut views, view, now).await?;
    Ok(views)
}

/// A client that does not lazy-load gets all members: one that took a part for the whole would encrypt
/// to that part. Only where upstream will never tell, because the user is out of the room by now, does
/// it get those that are known.
async fn complete_members(
    state: &State,
    requester: &Requester,
    rooms: &[Wanted],
) -> Result<(), Error> {
    let missing = rooms.iter().filter(|room| {
        room.head.section == Section::Join
            && !room.head.members_complete
            && matches!(room.extent, Extent::Whole { .. } | Extent::Since { full_state: true, .. })
    });
    let fetches = missing.map(|room| async {
        match members::complete(state, requester, &room.head).await {
            Err(error @ Error::UpstreamAnswer { .. }) => {
                tracing::warn!(
                    error = %causes(&error),
                    room_id = %room.head.room_id,
                    "could not complete the members"
                );
                Ok(())
            }
            outcome => outcome,
        }
    });
    futures_util::future::join_all(fetches).await.into_iter().collect()
}

/// The members that rooms tell of, in their state or in their timeline.
pub(crate) fn members_told(views: &[RoomView]) -> impl Iterator<Item = (RoomNid, &str)> {
    views.iter().flat_map(|view| {
        let nid = view.wanted.head.room_nid;
        let state = view.state.iter().filter(|event| event.event_type == "m.room.member");
        let in_timeline = view.timeline.events.iter().filter_map(|(_, fields)| {
            (fields.event_type == "m.room.member").then_some(fields.state_key.as_deref()).flatten()
        });
        let users = state.map(|event| event.state_key.as_str()).chain(in_timeline);
        users.map(move |user_id| (nid, user_id))
    })
}
