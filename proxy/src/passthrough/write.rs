//! Requests that may change what the account's next sync says: sends, joins, receipts, keys, ….
//!
//! They are forwarded like everything else. When the homeserver has granted one, the account is told, so
//! that its next sync waits for a poll that began after it: whoever writes through us reads what it wrote.
//!
//! - `POST /_matrix/client/v3/rooms/{roomId}/forget`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3roomsroomidforget>
//!   is kept as well, because no sync tells of it.
//!
//! Neighbours: `dispatch`; `account` keeps count.

use std::sync::Arc;

use hyper::{Request, Response};

use crate::auth;
use crate::auth_header::access_token;
use crate::body::Body;
use crate::error::{Error, causes};
use crate::peer::Peer;
use crate::state::State;

/// Forwards a write; `forgets` is the room that it forgets, if that is what it does.
pub(crate) async fn write(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    forgets: Option<&str>,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let token = access_token(&parts, true).ok();
    let response = state.forwarder.forward(Request::from_parts(parts, body), peer).await?;
    // A token that never synced has nobody whose next sync could miss anything.
    let known = token.as_ref().and_then(|token| auth::peek(state, token));
    if let (true, Some((account, _))) = (response.status().is_success(), known) {
        if let Some(room_id) = forgets
            && let Err(error) = forget(state, account.account_id, room_id).await
        {
            tracing::warn!(error = %causes(&error), room_id, "could not keep that a room is forgotten");
        }
        account.has_written();
    }
    Ok(response)
}

async fn forget(
    state: &State,
    account_id: store::AccountId,
    room_id: &str,
) -> Result<(), store::Error> {
    if let Some(room_nid) = state.store.room_nid(room_id).await? {
        state.store.forget_room(account_id, room_nid).await?;
    }
    Ok(())
}
