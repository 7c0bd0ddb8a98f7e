//! Requests that end sessions, effective here as soon as the client hears of it.
//!
//! - `POST /_matrix/client/v3/logout`, `…/logout/all`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3logout>
//! - `DELETE /_matrix/client/v3/devices/{deviceId}`, `POST …/delete_devices`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#delete_matrixclientv3devicesdeviceid>
//! - `POST …/account/password`, `…/account/deactivate`:
//!   <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3accountpassword>
//!
//! All but the logouts may be refused with a 401 that asks for authentication, which means nothing for the
//! token: only a success ends anything. Neighbours: `dispatch`; `auth` forgets the sessions.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;

use crate::account::{Account, Device};
use crate::auth;
use crate::auth_header::access_token;
use crate::body::{self, Body};
use crate::error::Error;
use crate::peer::Peer;
use crate::state::State;

/// What ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The session of the request's token.
    This,
    /// All sessions of its user.
    All,
    /// One device of its user.
    Device(String),
    /// Those devices of its user that the body lists.
    Devices,
    /// The other sessions of its user, unless the body says otherwise: the password is a new one.
    Password,
    /// The user.
    Account,
}

/// Forwards the request and, if the homeserver granted it, ends the sessions here before the client is told.
pub(crate) async fn end_sessions(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    ending: Ending,
) -> Result<Response<Body>, Error> {
    let (parts, mut body) = request.into_parts();
    let token = access_token(&parts, true).ok();
    let mut said = Bytes::new();
    if matches!(ending, Ending::Devices | Ending::Password) {
        let limits = &state.config.client_limits;
        said = body::read_limited(body, limits.max_buffered_bytes, limits.body_timeout).await?;
        body = body::full(said.clone());
    }
    let request = Request::from_parts(parts, body);
    let state = Arc::clone(state);
    // A task of its own, because a client that hangs up early has ended its sessions all the same.
    let task = tokio::spawn(async move {
        // Whose the token is has to be known before it is dead.
        let owner = match &token {
            Some(token) => auth::owner(&state, token).await?,
            None => None,
        };
        let response = state.forwarder.forward(request, peer).await?;
        if let (StatusCode::OK, Some((account, device))) = (response.status(), owner) {
            end(&state, &account, device.as_deref(), &ending, &said).await;
            account.tell_written(&state).await;
        }
        Ok(response)
    });
    task.await.map_err(Error::internal)?
}

async fn end(
    state: &State,
    account: &Account,
    device: Option<&Device>,
    ending: &Ending,
    said: &[u8],
) {
    match ending {
        Ending::This => {
            if let Some(device) = device {
                auth::logged_out(state, account, device).await;
            }
        }
        Ending::All => auth::logged_out_everywhere(state, account).await,
        Ending::Device(device_id) => {
            auth::ended_devices(state, account, std::slice::from_ref(device_id)).await;
        }
        Ending::Devices => auth::ended_devices(state, account, &listed_devices(said)).await,
        Ending::Password if logs_others_out(said) => {
            auth::password_changed(state, account, device).await;
        }
        Ending::Password => {}
        Ending::Account => auth::forget_account(state, account).await,
    }
}

fn listed_devices(said: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Said {
        devices: Vec<String>,
    }
    serde_json::from_slice::<Said>(said).map(|said| said.devices).unwrap_or_default()
}

/// The default is yes, and doubt costs nothing but a question to the homeserver.
fn logs_others_out(said: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said {
        logout_devices: Option<bool>,
    }
    serde_json::from_slice::<Said>(said).ok().and_then(|said| said.logout_devices).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_say_what_ends() {
        assert_eq!(listed_devices(br#"{"devices":["A","B"],"auth":{}}"#), ["A", "B"]);
        assert!(listed_devices(br#"{"devices":"A"}"#).is_empty());
        assert!(listed_devices(b"").is_empty());
        assert!(logs_others_out(br#"{"new_password":"x"}"#));
        assert!(logs_others_out(br#"{"logout_devices":true}"#));
        assert!(!logs_others_out(br#"{"logout_devices":false}"#));
        assert!(logs_others_out(b"nonsense"));
    }
}
