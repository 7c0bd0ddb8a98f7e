//! Endpoints that take a place in an account's whole stream, and no room's:
//!
//! - `GET /_matrix/client/v3/keys/changes`, `from` and `to`
//!   <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3keyschanges>
//! - `GET /_matrix/client/v3/events`, `from`
//!   <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3events>
//!
//! Forwarded, with tokens of ours replaced by the homeserver's. They are taken at or before the place: what
//! happened is rather told too often than not at all.
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
use crate::sync_token::upstream_batch;
use crate::token;
use crate::upstream::AccessToken;

/// A parameter and its token.
type Parameter = (&'static str, String);

/// Forwards a question whose parameters with these names are such tokens.
pub(crate) async fn batch_tokens(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    names: &[&'static str],
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let text = parts.uri.query().unwrap_or_default();
    let ours: Vec<Parameter> = names
        .iter()
        .filter_map(|&name| Some((name, query::get(text, name)?.into_owned())))
        .filter(|(_, value)| token::is_ours(value))
        .collect();
    if !ours.is_empty() {
        let token = access_token(&parts, true)?;
        let give_up = Instant::now() + DATABASE_GRACE;
        let theirs = patiently(give_up, || translate(state, token.clone(), &ours)).await?;
        let theirs: Vec<(&str, Option<&str>)> =
            theirs.iter().map(|(name, token)| (*name, Some(token.as_str()))).collect();
        parts.uri = query::replace(&parts.uri, &theirs)?;
    }
    state.forwarder.forward(Request::from_parts(parts, body), peer).await
}

async fn translate(
    state: &Arc<State>,
    token: AccessToken,
    ours: &[Parameter],
) -> Result<Vec<Parameter>, Error> {
    let requester = auth::authenticate(state, token).await?;
    let mut theirs = Vec::with_capacity(ours.len());
    for (name, token) in ours {
        theirs.push((*name, upstream_batch(state, &requester, token).await?));
    }
    Ok(theirs)
}
