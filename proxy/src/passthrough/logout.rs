//! Logging out, effective here as soon as the client hears of it.
//!
//! - `POST /_matrix/client/v3/logout`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3logout>
//! - `POST /_matrix/client/v3/logout/all`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3logoutall>
//!
//! Neighbours: `dispatch`; `auth` forgets the session.

use std::sync::Arc;

use hyper::{Request, Response, StatusCode};

use crate::auth;
use crate::auth_header::access_token;
use crate::body::Body;
use crate::error::Error;
use crate::peer::Peer;
use crate::state::State;

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The session of the request's token.
    This,
    /// All sessions of its user.
    All,
}

/// Forwards a logout and, if the homeserver granted it, ends the sessions here before the client is told.
pub(crate) async fn log_out(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    extent: Extent,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let token = access_token(&parts, true).ok();
    let request = Request::from_parts(parts, body);
    let state = Arc::clone(state);
    // A task of its own, because a client that hangs up early has logged out all the same.
    let ending = tokio::spawn(async move {
        let response = state.forwarder.forward(request, peer).await?;
        if let (StatusCode::OK, Some(token)) = (response.status(), &token) {
            match extent {
                Extent::This => auth::logged_out(&state, token).await,
                Extent::All => auth::logged_out_everywhere(&state, token).await,
            }
        }
        Ok(response)
    });
    ending.await.map_err(Error::internal)?
}
