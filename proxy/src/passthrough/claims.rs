//! `POST /_matrix/client/v3/keys/claim`
//! <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3keysclaim>
//!
//! Whose keys are claimed has fewer of them, and the homeserver tells nobody: it is in the devices' next
//! syncs. Of those that we poll for, the next sync asks anew.
//!
//! Neighbours: `dispatch`; `account` keeps count.

use std::sync::Arc;

use hyper::{Request, Response};

use crate::body::{self, Body};
use crate::error::Error;
use crate::json::Object;
use crate::peer::Peer;
use crate::replicas::Notice;
use crate::state::State;

/// Forwards a claim.
pub(crate) async fn claim_keys(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let limits = &state.config.client_limits;
    let said = body::read_limited(body, limits.max_buffered_bytes, limits.body_timeout).await?;
    let request = Request::from_parts(parts, body::full(said.clone()));
    let response = state.forwarder.forward(request, peer).await?;
    if response.status().is_success() {
        let users = users(&said);
        for user_id in &users {
            if let Some(account) = state.accounts.account(user_id) {
                account.has_written();
            }
        }
        state.tell_now(Notice::claimed(&users)).await;
    }
    Ok(response)
}

fn users(said: &[u8]) -> Vec<String> {
    let keys = Object::read(said).and_then(|said| said.object("one_time_keys"));
    keys.map(|keys| keys.members().map(|(user_id, _)| user_id.into_owned()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_keys_are_claimed_are_found() {
        assert_eq!(users(br#"{"one_time_keys":{"@a:b":{"D":"x"}},"timeout":1}"#), ["@a:b"]);
        assert!(users(b"[]").is_empty());
    }
}
