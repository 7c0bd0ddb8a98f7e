//! `GET /_matrix/client/v3/keys/changes`
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3keyschanges>
//!
//! Forwarded, with tokens of ours in `from` and `to` replaced by the homeserver's. They are taken at or
//! before the place: whose keys changed is rather told too often than not at all.
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

/// Forwards a question for the users whose keys have changed.
pub(crate) async fn key_changes(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let text = parts.uri.query().unwrap_or_default();
    let ours: Vec<Parameter> = ["from", "to"]
        .into_iter()
        .filter_map(|name| Some((name, query::get(text, name)?.into_owned())))
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
