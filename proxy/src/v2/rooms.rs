//! Which rooms an answer lists, where, and how much of each. Pure: what is in the rooms is `views`' business.

use store::{ChangedRoom, Position, RoomHead, Section};

use crate::{
    filter::RoomFilter,
    ignored::Ignored,
    views::{Extent, Wanted},
};

/// The rooms of an initial answer: everything that the account has, as the filter lets it in.
/// With `leaving_forgets` upstream forgets every room that the user is out of.
pub(super) fn initial(
    heads: Vec<RoomHead>,
    filter: &RoomFilter,
    leaving_forgets: bool,
) -> Vec<Wanted> {
    heads
        .into_iter()
        .filter(|head| is_listed(head, filter))
        .filter(|head| head.section != Section::Leave || !leaving_forgets)
        .map(|head| Wanted { head, extent: Extent::Whole { since: None } })
        .collect()
}

/// The rooms of an answer to a client whose history is `lost`: all that the account has, each as if it were new, and
/// those that it may have left since.
pub(super) fn anew(heads: Vec<RoomHead>, lost: Position, filter: &RoomFilter) -> Vec<Wanted> {
    heads
        .into_iter()
        .filter(|head| match head.section {
            Section::Invite | Section::Knock => true,
            Section::Join | Section::Leave => filter.admits(&head.room_id),
        })
        .map(|head| Wanted { head, extent: Extent::Whole { since: Some(lost) } })
        .collect()
}

/// Whether a client that knows nothing is told of a room. Rooms that the user left of its own will
/// only on request; kicks and bans always; forgotten ones never.
fn is_listed(head: &RoomHead, filter: &RoomFilter) -> bool {
    match head.section {
        Section::Join => filter.admits(&head.room_id),
        Section::Invite | Section::Knock => !head.forgotten,
        Section::Leave => {
            (filter.include_leave || head.kicked) && !head.forgotten && filter.admits(&head.room_id)
        }
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
