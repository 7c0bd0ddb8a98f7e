//! Changes: what has happened to the list since, in arrival order.
//!
//! A change belongs to the list if the membership before it or after it does, so a client hears of
//! those who leave the list as well as of those who come.

use store::{MemberChange, Place as Moment, Position, RoomHead};

use super::{
    Members,
    place::Place,
    reply::{Frame, MemberEvent},
};
use crate::{
    error::Error,
    v3::{streams::Answer, view::View},
};

/// How many changes are read at once, at least: most may belong to other lists.
const CHUNK: usize = 200;

/// The changes of one reply.
struct Found {
    changes: Vec<MemberChange>,
    /// How far they reach.
    place: Place,
}

impl Members {
    /// What there is to say to a client that has been told everything up to `place`.
    pub(super) async fn changes(
        &self,
        view: &View<'_>,
        place: Place,
    ) -> Result<Option<Answer>, Error> {
        if place.pos >= view.now && !self.negotiated {
            return Ok(None);
        }
        if place.pos < view.account().retained_from() {
            return Err(Error::UnknownSyncSession);
        }
        if begins_anew(view, view.rooms.get(&self.room_id)?, place.pos).await? {
            return Ok(Some(self.first_page(view).await?.with_place()));
        }
        let found = self.find(view, place).await?;
        if found.changes.is_empty() && !self.negotiated {
            // Next time it need not be looked for again, and the place does not grow older than the history.
            return Ok(Some(Answer::nothing_until(found.place.encode())));
        }
        let frame =
            Frame { sort: self.list.sort, next: None, count: self.count(view, &found).await? };
        let events = found.changes.iter().map(|change| MemberEvent {
            body: &change.body,
            unsigned: change.unsigned.as_deref(),
            redacted_because: change.redacted_because.as_deref(),
        });
        let json = self.write(&frame, events);
        Ok(Some(Answer::says(json, Some(found.place.encode()))))
    }

    async fn find(&self, view: &View<'_>, mut place: Place) -> Result<Found, Error> {
        let chunk = self.limit.max(CHUNK);
        let mut found = Vec::new();
        loop {
            let asked = place.skip + chunk;
            let after = Moment { pos: place.pos, ord: i32::MAX };
            let account_id = view.account().account_id;
            let changes = view
                .store()
                .member_changes(account_id, place.room_nid, after, view.now, asked)
                .await?;
            let exhausted = changes.len() < asked;
            for change in changes.into_iter().skip(place.skip) {
                if found.len() == self.limit {
                    return Ok(Found { changes: found, place });
                }
                place.step(change.place.pos);
                if self.belongs(&change) {
                    found.push(change);
                }
            }
            if exhausted {
                place = Place { pos: view.now, skip: 0, ..place };
                return Ok(Found { changes: found, place });
            }
        }
    }

    fn belongs(&self, change: &MemberChange) -> bool {
        [&change.old_membership, &change.membership]
            .into_iter()
            .flatten()
            .any(|membership| self.list.memberships.contains(membership))
    }

    /// The length of the whole list after these changes.
    async fn count(&self, view: &View<'_>, found: &Found) -> Result<usize, Error> {
        let at = match found.changes.last() {
            Some(last) if found.place.skip > 0 => {
                Moment { pos: last.place.pos, ord: last.place.ord.saturating_add(1) }
            }
            _ => Moment::after(found.place.pos),
        };
        let members = view
            .store()
            .members(
                view.account().account_id,
                found.place.room_nid,
                at,
                &self.list.memberships.names(),
            )
            .await?;
        Ok(members.len())
    }
}

/// Whether the user has come back into the room after `since`. Who came and left while the user was
/// away is not known, so neither changes nor pages reach across that.
pub(super) async fn begins_anew(
    view: &View<'_>,
    room: &RoomHead,
    since: Position,
) -> Result<bool, Error> {
    if !room.members_complete {
        return Ok(true);
    }
    if room.segment_pos <= since {
        return Ok(false);
    }
    let (_, changed) = view.store().changed_rooms(view.account().account_id, since).await?;
    Ok(changed.iter().any(|changed| changed.head.room_nid == room.room_nid && changed.newly_joined))
}
