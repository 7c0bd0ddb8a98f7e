//! Which rooms an answer lists, where, and how much of each. Pure: what is in the rooms is `views`' business.

use store::{ChangedRoom, Position, RoomHead, RoomOutline, Section};

use crate::{
    filter::RoomFilter,
    ignored::Ignored,
    views::{Extent, Wanted},
};

/// The rooms of an initial answer that their outlines do not keep out of it. Rooms that the user left of its own will are
/// told only on request; kicks and bans always; forgotten ones never. With `leaving_forgets` upstream forgets every
/// room that the user is out of.
pub(super) fn initial(
    mut rooms: Vec<RoomOutline>,
    filter: &RoomFilter,
    leaving_forgets: bool,
) -> Vec<RoomOutline> {
    rooms.retain(|room| match room.section {
        Section::Join => true,
        Section::Invite | Section::Knock => !room.forgotten,
        Section::Leave => {
            (filter.include_leave || room.kicked) && !room.forgotten && !leaving_forgets
        }
    });
    rooms
}

/// Whether a client that knows nothing of a room, or nothing for certain, is told of it. The filter's word counts for
/// rooms that have events.
pub(super) fn is_told(head: &RoomHead, filter: &RoomFilter) -> bool {
    match head.section {
        Section::Invite | Section::Knock => true,
        Section::Join | Section::Leave => filter.admits(&head.room_id),
    }
}

/// The rooms of a stretch without the invites of ignored users. To a client that knew such a room as joined it
/// is left.
pub(super) fn without_ignored(
    changed: Vec<ChangedRoom>,
    ignored: &Ignored,
    user_id: &str,
) -> Vec<ChangedRoom> {
    if ignored.is_empty() {
        return changed;
    }
    changed
        .into_iter()
        .filter_map(|mut room| {
            if ignored.hides_invite(&room.head, user_id) {
                if room.section_before != Some(Section::Join) {
                    return None;
                }
                room.head.section = Section::Leave;
            }
            Some(room)
        })
        .collect()
}

/// The rooms of an incremental answer: those that polls after `since` mentioned.
pub(super) fn incremental(
    changed: Vec<ChangedRoom>,
    since: Position,
    filter: &RoomFilter,
    full_state: bool,
) -> Vec<Wanted> {
    changed
        .into_iter()
        .filter(|room| {
            matches!(room.head.section, Section::Invite | Section::Knock)
                || filter.admits(&room.head.room_id)
        })
        .map(|room| {
            let extent = extent(&room, since, full_state);
            Wanted { head: room.head, extent }
        })
        .collect()
}

/// How much of a changed room is told.
fn extent(room: &ChangedRoom, since: Position, full_state: bool) -> Extent {
    let delta = Extent::Since { since, cut: room.cut, full_state };
    match (room.head.section, room.section_before) {
        (Section::Join, Some(Section::Join)) if !room.newly_joined => delta,
        (Section::Join, _) => Extent::Whole { since: Some(since) },
        (Section::Leave, Some(Section::Join)) if !room.newly_joined => delta,
        // Left already at `since`: only what is new about the leave, a ban after a kick say.
        (Section::Leave, Some(Section::Leave)) if !room.newly_joined => delta,
        // Joined and left in between, or an invite rejected: the client knows nothing of the room.
        (Section::Leave, _) => Extent::Whole { since: Some(since) },
        (Section::Invite | Section::Knock, _) => delta,
    }
}
