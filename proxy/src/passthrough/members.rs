//! `GET /_matrix/client/v3/rooms/{roomId}/members`
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmembers>
//!
//! Forwarded, with a token of ours in `at` replaced by the homeserver's.
//!
//! Neighbours: `dispatch`; `sync_token` knows which of the homeserver's tokens stands for which of ours.

use std::sync::Arc;

use hyper::{Request, Response};
use tokio::time::Instant;

use super::query;
use crate::auth;
use crate::auth_header::access_token;
use crate::body::Body;
use crate::error::Error;
use crate::patience::{DATABASE_GRACE, patiently};
use crate::peer::Peer;
use crate::state::State;
use crate::sync_token::locate;
use crate::token;

/// Forwards a request for a room's members.
pub(crate) async fn members(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    room_id: &str,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let at =
        query::get(parts.uri.query().unwrap_or_default(), "at").filter(|at| token::is_ours(at));
    if let Some(at) = at {
        let token = access_token(&parts, true)?;
        let located = patiently(Instant::now() + DATABASE_GRACE, || async {
            let requester = auth::authenticate(state, token.clone()).await?;
            locate(state, &requester, room_id, &at).await
        });
        let located = located.await?;
        let located =
            located.ok_or_else(|| Error::UnknownPos("'at' parameter is invalid".to_owned()))?;
        // The members at a position inside a batch are not to be had; those shortly after it miss nobody.
        parts.uri = query::replace(&parts.uri, &[("at", Some(&located.newer))])?;
    }
    state.forwarder.forward(Request::from_parts(parts, body), peer).await
}
