//! Pages: stretches of the sorted list as it was at some moment.
//!
//! The moment is in the page token, and the store can tell the members and the power levels of any
//! moment, so the pages of one list stay those of its first whatever happens in the room meanwhile.

use store::{BodyId, Place as Moment, Position, RoomNid, StateQuery, StateSelection};

use super::{
    Members,
    list::Sort,
    order,
    place::{PagePlace, Place},
    power_levels::PowerLevels,
    reply::{Frame, MemberEvent},
};
use crate::{
    account::members,
    error::Error,
    v3::{rooms, streams::Answer, view::View},
};

/// How often a room that is left and joined again while its members are being completed is tried.
const MOST_TRIES: u32 = 5;

/// A page, written.
pub(super) struct Page {
    json: Vec<u8>,
    /// Where changes go on after the list of this page.
    place: Place,
}

impl Page {
    /// As a first reply: changes go on from here.
    pub(super) fn with_place(self) -> Answer {
        Answer::says(self.json, Some(self.place.encode()))
    }

    /// As one page among others: the client goes on from where it was.
    pub(super) fn without_place(self) -> Answer {
        Answer::says(self.json, None)
    }
}

/// A moment at which the store knows every member of the room: that of the reply, or, where the members have to be asked
/// for first, when they have come.
pub(super) async fn snapshot(view: &View<'_>, room_id: &str) -> Result<Position, Error> {
    let account = view.account();
    let mut head = view.rooms.get(room_id)?.clone();
    if head.members_complete && head.segment_pos <= view.now {
        return Ok(view.now);
    }
    for _ in 0..MOST_TRIES {
        members::complete(view.state, view.requester, &head).await?;
        // Taken after the members were completed, so none of them is missing at this moment, and
        // before the room is looked at again, so it has not been left and joined anew until then.
        let now = account.pos();
        head = rooms::head(view.state, account.account_id, room_id).await?;
        if head.members_complete {
            return Ok(now);
        }
    }
    Err(Error::internal(format!("the members of {room_id} cannot be completed")))
}

impl Members {
    /// The page that begins at `from`.
    pub(super) async fn page(&self, view: &View<'_>, from: PagePlace) -> Result<Page, Error> {
        let account_id = view.account().account_id;
        let room_nid = view.rooms.get(&self.room_id)?.room_nid;
        let at = Moment::after(from.snapshot);
        let memberships = from.list.memberships.names();
        let mut members = view.store().members(account_id, room_nid, at, &memberships).await?;
        let levels = match from.list.sort {
            Sort::ByPl => power_levels(view, room_nid, at).await?,
            Sort::ByName => PowerLevels::default(),
        };
        order::sort(&mut members, from.list.sort, &levels);
        let end = from.offset.saturating_add(self.limit).min(members.len());
        let body_ids: Vec<BodyId> = members
            .get(from.offset..end)
            .unwrap_or_default()
            .iter()
            .map(|member| member.body_id)
            .collect();
        let bodies = view.store().bodies(&body_ids).await?;
        let next = (end < members.len())
            .then(|| PagePlace { offset: end, ..from }.seal(view.pages(), &self.room_id));
        let frame = Frame { sort: from.list.sort, next: next.as_deref(), count: members.len() };
        let events = bodies.iter().map(|(body, redaction)| MemberEvent {
            body,
            unsigned: None,
            redacted_because: redaction.as_deref(),
        });
        Ok(Page {
            json: self.write(&frame, events),
            place: Place { room_nid, list: self.list, pos: from.snapshot, skip: 0 },
        })
    }
}

async fn power_levels(
    view: &View<'_>,
    room_nid: RoomNid,
    at: Moment,
) -> Result<PowerLevels, Error> {
    let query = StateQuery { room_nid, at, since: None };
    let mut states = view
        .store()
        .states(view.account().account_id, &[query], StateSelection::WithoutMembers)
        .await?;
    let state = states.remove(&room_nid).unwrap_or_default();
    let body = |event_type: &str| {
        state
            .iter()
            .find(|event| event.event_type == event_type && event.state_key.is_empty())
            .map(|event| &*event.body)
    };
    Ok(PowerLevels::read(body("m.room.create"), body("m.room.power_levels")))
}
