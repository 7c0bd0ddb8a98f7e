//! Rooms that come into the list while the session streams although the user was in them before: they begin to match the
//! filters.

use std::collections::HashSet;

use store::{Position, RoomHead, RoomNid};

use super::{entry::tagged_after, filters::Filters};
use crate::{
    account::room_index::IndexedRoom,
    error::Error,
    v3::view::View,
    views::facts::{self, Avatars},
};

/// Which of these rooms, all of which match now, did not match after the poll `since`. Of one that no poll has mentioned
/// since then (`mentioned`), only `m.direct` can have changed. What account data said then is not known any more: a room whose tags changed since
/// counts as one that did not, where filters look at tags.
pub(super) async fn begin_to_match(
    view: &View<'_>,
    filters: &Filters,
    rooms: &[(&IndexedRoom, &RoomHead)],
    mentioned: impl Fn(RoomNid) -> bool,
    since: Position,
) -> Result<HashSet<RoomNid>, Error> {
    let mut entering: HashSet<RoomNid> = HashSet::new();
    if filters.look_at_direct() {
        let changed = rooms.iter().filter(|(room, _)| room.dm_changed > since);
        entering.extend(changed.map(|(room, _)| room.room_nid));
    }
    let others = rooms.iter().filter(|(room, _)| {
        let changed = room.facts.as_ref().is_some_and(|facts| facts.changed > since);
        changed && mentioned(room.room_nid) && !entering.contains(&room.room_nid)
    });
    let others: Vec<&RoomHead> = others.map(|(_, head)| *head).collect();
    if others.is_empty() {
        return Ok(entering);
    }
    if filters.look_at_tags() {
        let after: Vec<(RoomNid, Position)> =
            others.iter().map(|head| (head.room_nid, since)).collect();
        entering.extend(tagged_after(view, &after).await?);
    }
    if filters.look_at_state() {
        let before =
            facts::load(view.store(), view.account(), &others, since, Avatars::LeftOut).await?;
        let unmatched = before.iter().filter(|(_, facts)| !filters.admitted(facts));
        entering.extend(unmatched.map(|(nid, _)| *nid));
    }
    Ok(entering)
}
