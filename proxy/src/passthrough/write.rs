//! Requests that may change what the account's next sync says: sends, joins, receipts, keys, ….
//!
//! They are forwarded like everything else. When the homeserver has granted one, the account is told, so
//! that its next sync waits for a poll that began after it: whoever writes through us reads what it wrote.
//! Of a few, more is kept, because no sync tells of it, or not in time ([`Kept`]).
//!
//! Neighbours: `dispatch`; `account` keeps count.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Request, Response};

use super::buffer;
use crate::account::{Account, Device, PresenceWish};
use crate::auth;
use crate::auth_header::access_token;
use crate::body::{self, Body};
use crate::error::{Error, causes};
use crate::json::{self, Object};
use crate::peer::Peer;
use crate::replicas::{Notice, Sending};
use crate::state::State;
use crate::upstream::AccessToken;

/// What is kept of a write that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Only that there was one.
    Nothing,
    /// Which event it sent, and under which transaction ID: upstream tells only the device that sent it, and
    /// the room is polled as another one.
    /// <https://spec.matrix.org/v1.16/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>
    TransactionId(String),
    /// That a room is forgotten.
    /// <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3roomsroomidforget>
    Forgotten(String),
    /// How many keys the device has now: one that hears of an older count uploads again.
    /// <https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3keysupload>
    KeyCounts,
    /// That the user's presence was set outright.
    /// <https://spec.matrix.org/v1.16/client-server-api/#put_matrixclientv3presenceuseridstatus>
    Presence,
}

impl Kept {
    fn is_in_answer(&self) -> bool {
        matches!(self, Self::TransactionId(_) | Self::KeyCounts)
    }
}

/// Forwards a write.
pub(crate) async fn write(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    kept: Kept,
) -> Result<Response<Body>, Error> {
    let (mut parts, mut body) = request.into_parts();
    let token = access_token(&parts, true).ok();
    let known = match &token {
        Some(token) => auth::known(state, token).await,
        None => None,
    };
    let newcomer = token.filter(|_| known.is_none());
    if known.is_none() && (newcomer.is_none() || kept == Kept::Nothing) {
        let request = Request::from_parts(parts, body);
        return write_of_nobody(state, request, peer, newcomer).await;
    }
    let mut said = Bytes::new();
    if kept == Kept::Presence {
        let limits = &state.config.client_limits;
        said = body::read_limited(body, limits.max_buffered_bytes, limits.body_timeout).await?;
        body = body::full(said.clone());
    }
    if kept.is_in_answer() {
        buffer::ask_for_plain(&mut parts);
    }
    let request = Request::from_parts(parts, body);
    let state = Arc::clone(state);
    // A task of its own, because what a client does that hangs up early is done all the same.
    let task = tokio::spawn(async move {
        let sender = known.as_ref().filter(|_| matches!(kept, Kept::TransactionId(_)));
        let _sending = sender.map(|(account, device)| Sending::begin(&state, account, device));
        let mut response = state.forwarder.forward(request, peer).await?;
        if response.status().is_success() {
            let mut answer = None;
            if kept.is_in_answer() {
                (response, answer) = buffer::peek(response).await?;
            }
            let answer = answer.unwrap_or_default();
            // Not before upstream's answer: the client has used its token by then.
            let writer = match &newcomer {
                Some(token) => auth::newcomer(&state, token).await,
                None => known,
            };
            if let Some((account, device)) = writer {
                if let Err(error) = keep(&state, &account, &device, &kept, &said, &answer).await {
                    tracing::warn!(error = %causes(&error), ?kept, "could not keep what a write did");
                }
                account.tell_written(&state).await;
            }
        }
        Ok(response)
    });
    task.await.map_err(Error::internal)?
}

/// Forwards a write of which nothing is kept, with a token that is not known, or without one. The first sync with it waits
/// for a poll, which is enough; but that sync may be over before the write is answered.
async fn write_of_nobody(
    state: &Arc<State>,
    request: Request<Body>,
    peer: Peer,
    token: Option<AccessToken>,
) -> Result<Response<Body>, Error> {
    let response = state.forwarder.forward(request, peer).await?;
    if response.status().is_success()
        && let Some((account, _)) = token.and_then(|token| auth::known_here(state, &token))
    {
        account.tell_written(state).await;
    }
    Ok(response)
}

async fn keep(
    state: &State,
    account: &Account,
    device: &Device,
    kept: &Kept,
    said: &[u8],
    answer: &[u8],
) -> Result<(), store::Error> {
    let answer = Object::read(answer);
    let member = |key: &str| answer.as_ref().and_then(|answer| answer.get(key));
    let (account_id, device_nid) = (account.account_id, device.device_nid);
    match kept {
        Kept::Nothing => {}
        Kept::TransactionId(transaction_id) => {
            if let Some(event_id) = member("event_id").and_then(json::text) {
                let store = &state.store;
                let now = crate::clock::now_ms();
                store
                    .put_transaction_id(account_id, device_nid, &event_id, transaction_id, now)
                    .await?;
            }
        }
        Kept::Forgotten(room_id) => {
            if let Some(room_nid) = state.store.room_nid(room_id).await? {
                state.store.forget_room(account_id, room_nid).await?;
                account.room_index.forget(room_nid).await;
                let (account, room) = (account_id.into(), room_nid.into());
                state.tell(Notice::RoomForgotten { account, room });
            }
        }
        Kept::KeyCounts => {
            if let Some(count) = member("one_time_key_counts").filter(|counts| is_object(counts)) {
                let count = Bytes::copy_from_slice(count.get().as_bytes());
                state.store.put_key_counts(device_nid, &count).await?;
                device.set_one_time_keys_count(count);
                let (inbox, keys) = (device.inbox_seq(), device.key_counts());
                state.tell(Notice::device(account_id, device_nid, inbox, Some(&keys)));
            }
        }
        Kept::Presence => {
            let presence = presence_in(said);
            device.presence.set_outright(presence);
            let (account, device) = (account_id.into(), device_nid.into());
            state.tell(Notice::Presence { account, device, presence: presence.into() });
        }
    }
    Ok(())
}

/// The presence in a body that the homeserver has understood.
fn presence_in(said: &[u8]) -> PresenceWish {
    let presence = Object::read(said).and_then(|said| said.get("presence"));
    match presence.and_then(json::text).as_deref() {
        Some("online") => PresenceWish::Online,
        Some("unavailable") => PresenceWish::Unavailable,
        // Of what `set_presence` has no word for, `busy` say, polls keep off.
        _ => PresenceWish::Offline,
    }
}

fn is_object(value: &serde_json::value::RawValue) -> bool {
    value.get().starts_with('{')
}
