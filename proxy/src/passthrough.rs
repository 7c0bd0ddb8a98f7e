//! Everything that the homeserver answers itself, carried there and back.
//!
//! Neighbours: `dispatch` hands over requests; [`Forwarder`] carries them. Where something must be looked at on the way
//! (a login's answer, a logout, one of our tokens in a query) there is a file for it, and only that much is looked at.
//!
//! Invariants: the raw path and query go out byte for byte unless one of our own tokens stands in the query; bodies are
//! streamed both ways with no limit, except the small or paged ones that a file here edits; redirects are the client's.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{Request, Response};

use crate::auth;
use crate::auth_header::access_token;
use crate::body::Body;
use crate::error::Error;
use crate::peer::Peer;
use crate::state::State;

mod batch_tokens;
mod buffer;
mod claims;
mod connect;
mod ending;
mod forward;
mod headers;
mod json_edit;
mod login;
mod members;
mod messages;
mod progress;
mod query;
mod versions;
mod write;

pub(crate) use self::batch_tokens::batch_tokens;
pub(crate) use self::claims::claim_keys;
pub(crate) use self::ending::{Ending, end_sessions};
pub(crate) use self::forward::Forwarder;
pub(crate) use self::login::{Place, rewrite_base_url};
pub(crate) use self::members::members;
pub(crate) use self::messages::{Paged, messages};
pub(crate) use self::versions::{VersionsCache, versions};
pub(crate) use self::write::{Kept, write};

/// Whether a sync says that it is made as a user, as an application service's does. Few do, and what they are need not be
/// asked for any other.
pub(crate) fn may_be_for_application_service(parts: &Parts) -> bool {
    query::get(parts.uri.query().unwrap_or_default(), "user_id").is_some()
}

/// Whether a sync that names a user is an application service's, as one of its users: those have no devices of ours, nor
/// to-device messages that we could take from them, and the homeserver answers as it sees fit. `user_id` means
/// nothing in anybody else's request.
/// <https://spec.matrix.org/v1.16/application-service-api/#identity-assertion>
///
/// As long as nobody can say it is refused: the answer to a service that is taken for a user would be that user's own.
pub(crate) async fn is_for_application_service(
    state: &Arc<State>,
    parts: &Parts,
) -> Result<bool, Error> {
    let Ok(token) = access_token(parts, true) else { return Ok(false) };
    if let Some((_, device)) = auth::known(state, &token).await {
        return Ok(device.device_id.is_empty());
    }
    match auth::whoami(state, &token).await {
        Ok(whoami) => Ok(whoami.device_id.is_none()),
        // Nobody's: the sync is refused in the same words.
        Err(Error::UnknownToken { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `GET /_matrix/client/v3/capabilities`: read on its way.
pub(crate) async fn capabilities(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    buffer::ask_for_plain(&mut parts);
    let response = state.forwarder.forward(Request::from_parts(parts, body), peer).await?;
    let (response, answer) = buffer::peek(response).await?;
    if let Some(answer) = answer {
        state.capabilities.learn(&answer);
    }
    Ok(response)
}

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`: the homeserver's own sliding sync, for
/// clients that use it past ours. It acknowledges to-device messages, so we must not.
pub(crate) async fn sliding_sync(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    if let Ok(token) = access_token(&parts, true) {
        auth::syncs_elsewhere(state, &token).await;
    }
    state.forwarder.forward(Request::from_parts(parts, body), peer).await
}

#[cfg(test)]
mod fuzz;
