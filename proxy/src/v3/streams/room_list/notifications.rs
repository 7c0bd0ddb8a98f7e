//! Rooms outside the active set in which something notifies.

use std::collections::{HashMap, HashSet};

use store::{Place, Position, RoomChange, RoomNid, Section, StateKeys};

use super::{
    told::Told,
    wanted::{How, News, Wanted, rejoined},
};
use crate::{error::Error, v3::view::View};

/// Which of the rooms that changed after `since` are told because something in them notifies. `candidates` are outside
/// the active set; `earlier` knows what changed of some of them since they were told.
pub(super) async fn of(
    view: &View<'_>,
    since: Position,
    candidates: Vec<&RoomChange>,
    earlier: &HashMap<RoomNid, RoomChange>,
    told: &Told,
) -> Result<Vec<Wanted>, Error> {
    let stirred: Vec<&RoomChange> = candidates
        .into_iter()
        .filter(|change| change.room.head.section == Section::Join && change.stirred.is_some())
        .collect();
    let encrypted = encrypted(view, &stirred).await?;
    let mut notifying: Vec<(Option<Position>, Wanted)> = stirred
        .into_iter()
        .filter_map(|change| {
            let head = &change.room.head;
            // Of an encrypted event nobody but the client can say whether it notifies.
            let polls = if encrypted.contains(&head.room_nid) {
                None
            } else if change.notified.is_empty() {
                return None;
            } else {
                Some(change.notified.clone())
            };
            let change_since_told = earlier.get(&head.room_nid).unwrap_or(change);
            let told_up_to = told
                .up_to(head.room_nid, since)
                .filter(|up_to| *up_to >= view.account().retained_from())
                .filter(|up_to| !rejoined(Some(change_since_told), *up_to));
            let news = told_up_to.map(|up_to| News::of(Some(change_since_told), up_to));
            let how = How::Notifying { news, after: told_up_to.unwrap_or(since), polls };
            Some((change.stirred, Wanted { head: head.clone(), how }))
        })
        .collect();
    notifying.sort_by_key(|(stirred, wanted)| (*stirred, wanted.head.room_nid));
    Ok(notifying.into_iter().map(|(_, wanted)| wanted).collect())
}

/// The rooms that are encrypted as of now.
async fn encrypted(view: &View<'_>, rooms: &[&RoomChange]) -> Result<HashSet<RoomNid>, Error> {
    let at: Vec<(RoomNid, Place)> =
        rooms.iter().map(|room| (room.room.head.room_nid, Place::after(view.now))).collect();
    let keys = [StateKeys { event_type: "m.room.encryption", state_key: Some("") }];
    let states = view.store().selected_states(view.account().account_id, &at, &keys).await?;
    Ok(states.into_keys().collect())
}
