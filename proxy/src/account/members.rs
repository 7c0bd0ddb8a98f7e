//! Completing the members of a room on demand.
//!
//! Upstream's sync loads members lazily. Whoever needs all members of a room (a v2 client that does
//! not lazy-load, the stream `room_members`) has them fetched once from
//! [`GET /rooms/{roomId}/members`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmembers)
//! as of a position of the account stream; from then on polls keep them complete.

use serde::Deserialize;
use serde_json::value::RawValue;
use store::RoomHead;

use crate::{auth::Requester, clock::now_ms, error::Error, ingest::parse_event, state::State};

#[derive(Deserialize)]
struct MembersReply<'a> {
    #[serde(borrow)]
    chunk: Vec<&'a RawValue>,
}

/// Makes sure that the store holds every member of a room. Does nothing where it does already.
pub(crate) async fn complete(
    state: &State,
    requester: &Requester,
    room: &RoomHead,
) -> Result<(), Error> {
    if room.members_complete {
        return Ok(());
    }
    let account = &requester.account;
    // Closed never: the semaphore lives as long as the account.
    let _permit = account.member_fetches.acquire().await;
    // Another request may have completed the room while this one waited for its turn.
    let known = state.store.room_head(account.account_id, room.room_nid).await?;
    if known.is_none_or(|known| known.members_complete) {
        return Ok(());
    }
    let at = account.pos();
    let upstream_at = state.store.next_batch_at(account.account_id, at).await?;
    let reply = state
        .upstream
        .members(&requester.access_token, &room.room_id, upstream_at.as_deref())
        .await?;
    let parsed: MembersReply<'_> =
        serde_json::from_slice(&reply).map_err(|error| Error::Internal(Box::new(error)))?;
    let received_at = now_ms();
    let members: Vec<_> = parsed
        .chunk
        .into_iter()
        .filter_map(|raw| parse_event(raw, received_at).ok())
        .filter(|event| event.event_type == "m.room.member" && event.membership.is_some())
        .collect();
    tracing::debug!(room_id = %room.room_id, members = members.len(), "completed the members");
    state.store.complete_members(account.account_id, room.room_nid, at, &members).await?;
    Ok(())
}
