//! Who may look into which room: only rooms that the user is in, by the account stream's own word.
//!
//! Every room that any stream names passes here before anything else happens, so no stream has to
//! think of it, and none can forget.

use std::{collections::HashMap, sync::Arc};

use store::{AccountId, RoomHead, Section};

use crate::{error::Error, state::State};

/// The rooms that a request names, all joined.
#[derive(Debug, Default)]
pub(crate) struct Rooms(HashMap<String, RoomHead>);

impl Rooms {
    /// Looks the rooms up; refuses if the user is not in one of them.
    pub(crate) async fn admit(
        state: &Arc<State>,
        account_id: AccountId,
        room_ids: &[&str],
    ) -> Result<Self, Error> {
        let mut rooms = HashMap::with_capacity(room_ids.len());
        for room_id in room_ids {
            if !rooms.contains_key(*room_id) {
                rooms.insert((*room_id).to_owned(), head(state, account_id, room_id).await?);
            }
        }
        Ok(Self(rooms))
    }

    /// A room as it stood when it was looked up.
    pub(crate) fn get(&self, room_id: &str) -> Result<&RoomHead, Error> {
        self.0.get(room_id).ok_or_else(|| forbidden(room_id))
    }
}

/// A joined room as it stands now.
pub(crate) async fn head(
    state: &Arc<State>,
    account_id: AccountId,
    room_id: &str,
) -> Result<RoomHead, Error> {
    let Some(room_nid) = state.store.room_nid(room_id).await? else {
        return Err(forbidden(room_id));
    };
    match state.store.room_head(account_id, room_nid).await? {
        Some(head) if head.section == Section::Join => Ok(head),
        _ => Err(forbidden(room_id)),
    }
}

/// The same words whether there is such a room or not.
fn forbidden(room_id: &str) -> Error {
    Error::Forbidden(format!("You are not in the room {room_id}"))
}
