//! `GET /_matrix/client/versions`
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientversions>
//!
//! Clients ask it to find out whether their server is there, and give up where it is not. Ours is there also
//! while the homeserver is away: then what the homeserver last said to the same token, or to nobody, is said
//! again, for a while.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dashmap::DashMap;
use hyper::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::buffer;
use crate::auth_header::access_token;
use crate::body::Body;
use crate::error::{Error, json_response};
use crate::peer::Peer;
use crate::secret::TokenHash;
use crate::state::State;

/// How long an answer is good for a homeserver that is away.
const GOOD: Duration = Duration::from_hours(1);

/// How many answers are kept. Past that they start over: each is had again for the asking.
const MOST: usize = 10_000;

/// What the homeserver said last, by the token that asked.
#[derive(Default)]
pub(crate) struct VersionsCache(DashMap<Option<TokenHash>, (Instant, Bytes)>);

/// Forwards a question for versions, or answers it where the homeserver cannot.
pub(crate) async fn versions(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    buffer::ask_for_plain(&mut parts);
    // The answer may differ by user.
    let asker = access_token(&parts, true).ok().map(|token| state.sealer.hash(&token));
    let cache = &state.versions.0;
    let outcome = state.forwarder.forward(Request::from_parts(parts, body), peer).await;
    let is_away = match &outcome {
        Ok(response) => is_gateway_error(response.status()),
        Err(Error::UpstreamUnreachable(_) | Error::UpstreamTimeout) => true,
        Err(_) => false,
    };
    if is_away {
        let known = cache.get(&asker).filter(|known| known.0.elapsed() < GOOD);
        return match known {
            Some(known) => Ok(json_response(StatusCode::OK, known.1.clone())),
            None => outcome,
        };
    }
    let (response, answer) = buffer::peek(outcome?).await?;
    if let Some(answer) = answer {
        if cache.len() >= MOST {
            cache.clear();
        }
        cache.insert(asker, (Instant::now(), answer));
    }
    Ok(response)
}

/// What a reverse proxy says when the homeserver behind it is away.
fn is_gateway_error(status: StatusCode) -> bool {
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
        .contains(&status)
}
