//! Who may look into which room: only rooms that the user is in, by the account stream's own word.
//!
//! Every room that any stream names passes here before anything else happens, so no stream has to
//! think of it, and none can forget.

use std::{collections::HashMap, sync::Arc};

use store::{AccountId, RoomHead, RoomNid, Section};

use crate::{error::Error, state::State};

/// The rooms that a request names: joined, or left since a stream told of them.
#[derive(Debug, Default)]
pub(crate) struct Rooms(HashMap<String, RoomHead>);

impl Rooms {
    /// Looks the rooms up; refuses if the user is not in one of them, unless it is one of those that were `told`.
    pub(crate) async fn admit(
        state: &Arc<State>,
        account_id: AccountId,
        room_ids: &[&str],
        told: &[RoomNid],
    ) -> Result<Self, Error> {
        let heads = heads(state, account_id, room_ids).await?;
        for room_id in room_ids {
            let head = heads.get(*room_id).ok_or_else(|| forbidden(room_id))?;
            if head.section != Section::Join && !told.contains(&head.room_nid) {
                return Err(forbidden(room_id));
            }
        }
        Ok(Self(heads))
    }

    /// A room as it stood when it was looked up, if the user was in it.
    pub(crate) fn get(&self, room_id: &str) -> Result<&RoomHead, Error> {
        let head = self.0.get(room_id).filter(|head| head.section == Section::Join);
        head.ok_or_else(|| forbidden(room_id))
    }

    /// Whether the user has left one of them.
    pub(crate) fn has_left_ones(&self) -> bool {
        self.0.values().any(|head| head.section != Section::Join)
    }

    /// A room as it stood when it was looked up, whether or not the user has left it by then.
    pub(crate) fn even_left(&self, room_id: &str) -> Result<&RoomHead, Error> {
        self.0.get(room_id).ok_or_else(|| forbidden(room_id))
    }
}

/// A joined room as it stands now.
pub(crate) async fn head(
    state: &Arc<State>,
    account_id: AccountId,
    room_id: &str,
) -> Result<RoomHead, Error> {
    let head = heads(state, account_id, &[room_id]).await?.remove(room_id);
    head.filter(|head| head.section == Section::Join).ok_or_else(|| forbidden(room_id))
}

/// Those of these rooms that the account has to do with. A request that waits asks for them with every poll.
async fn heads(
    state: &Arc<State>,
    account_id: AccountId,
    room_ids: &[&str],
) -> Result<HashMap<String, RoomHead>, Error> {
    if room_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let known = state.store.room_nids(room_ids).await?;
    let nid = |room_id: &&str| known.get(*room_id).copied().ok_or_else(|| forbidden(room_id));
    let nids: Vec<RoomNid> = room_ids.iter().map(nid).collect::<Result<_, _>>()?;
    let heads = state.store.room_heads(account_id, &nids).await?;
    Ok(heads.into_iter().map(|head| (head.room_id.clone(), head)).collect())
}

/// The same words whether there is such a room or not.
fn forbidden(room_id: &str) -> Error {
    Error::Forbidden(format!("You are not in the room {room_id}"))
}
