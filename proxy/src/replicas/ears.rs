//! What other replicas tell, taken in.
//!
//! Everything here is done at once and from memory, so that whoever hears is never behind; what needs the store is left to
//! `duties`. An account or a device that this process does not know needs nothing: it is loaded from the store when it does.

use std::{sync::Arc, time::Duration};

use store::{AccountId, DeviceNid, ReplicaId};
use tokio::time::{Instant, sleep};

use super::{
    duties::{Duty, Use},
    elsewhere,
    notice::{Nid, Notice},
};
use crate::{
    account::{Account, Device, Failure, KeyCounts, Lease},
    auth,
    error::causes,
    state::State,
    upstream::OnBehalfOf,
};

/// How long an event that is sent at another replica is waited for at most: longer than any sync waits.
const SENDING: Duration = Duration::from_secs(2);

/// Takes in what a replica told.
pub(super) fn hear(state: &Arc<State>, told: &str) {
    let (from, notice) = match Notice::read(told) {
        Ok(heard) => heard,
        Err(error) => {
            // A later version may tell what this one does not know.
            tracing::debug!(%error, "a notice that is none");
            return;
        }
    };
    if state.store.replica() == Some(from) {
        return;
    }
    state.replicas.met_another();
    match notice {
        Notice::Joined {} => {}
        Notice::Advanced { .. }
        | Notice::FirstPoll { .. }
        | Notice::Refusal { .. }
        | Notice::Covered { .. }
        | Notice::Accepted { .. } => hear_from_poller(state, notice),
        Notice::Uses { .. } | Notice::Demands { .. } => hear_as_poller(state, from, notice),
        Notice::LoggedOut { .. }
        | Notice::Forgotten { .. }
        | Notice::Doubted { .. }
        | Notice::SignedIn { .. }
        | Notice::TokenRefused { .. }
        | Notice::SyncsElsewhere { .. } => hear_of_end(state, notice),
        Notice::Wrote { .. }
        | Notice::Claimed { .. }
        | Notice::Device { .. }
        | Notice::Presence { .. }
        | Notice::RoomForgotten { .. }
        | Notice::Sending { .. }
        | Notice::Sent { .. } => hear_of_write(state, from, notice),
    }
}

/// For a while nothing could be heard: every account may have written, every token may be dead, and every stream may have
/// moved on.
pub(super) fn missed(state: &Arc<State>) {
    state.token_cache.doubt_all();
    for account in state.accounts.all() {
        account.ignored.forget();
        account.has_written();
        if account.lease() != Lease::Ours {
            account.forget_failures();
        }
    }
    let state = Arc::clone(state);
    tokio::spawn(async move {
        if let Err(error) = elsewhere::look_up_waiting(&state).await {
            tracing::warn!(error = %causes(&error), "could not make up for what was missed");
        }
    });
}

/// From the replica that polls for an account.
fn hear_from_poller(state: &State, notice: Notice) {
    match notice {
        Notice::Advanced { account, pos, ignored } => {
            let Some(account) = known(state, account) else { return };
            if account.lease() == Lease::Ours {
                // Its stream grows by what this process stores, whatever somebody says.
                return;
            }
            if ignored {
                account.ignored.forget();
            }
            account.advance(pos.into());
            account.refused(None);
        }
        Notice::FirstPoll { account, failure } => {
            let Some(account) = known(state, account) else { return };
            match failure {
                Some(failure) => account.first_poll_failed(failure.into()),
                None => account.first_poll_begins(),
            };
        }
        Notice::Refusal { account, failure } => {
            let Some(account) = known(state, account) else { return };
            account.refused(failure.map(Failure::from));
        }
        Notice::Covered { to, account, device, writes, stored } => {
            if state.store.replica() != Some(ReplicaId(to)) {
                return;
            }
            let Some((account, device)) = known_device(state, account, device) else { return };
            if stored {
                account.refused(None);
                device.cover_up_to(writes);
            } else {
                device.lag();
            }
        }
        Notice::Accepted { token } => auth::accepted(state, &token.0),
        _ => {}
    }
}

/// To the replica that polls for an account, which this one may be.
fn hear_as_poller(state: &Arc<State>, from: ReplicaId, notice: Notice) {
    let (Notice::Uses { account, .. } | Notice::Demands { account, .. }) = &notice else { return };
    let Some(account) = known(state, *account) else {
        // It may be this process' all the same: claimed before it was ever used here.
        if let Notice::Uses { device, .. } | Notice::Demands { device, .. } = &notice {
            state.duties.put(Duty::TakeUp { device: (*device).into() });
        }
        return;
    };
    if account.lease() != Lease::Ours {
        return;
    }
    match notice {
        Notice::Uses { device, token, presence, client, .. } => {
            account.used_elsewhere(state, device.into());
            let end = |lasts: u64| Instant::now() + Duration::from_millis(lasts.min(MOST_WISHED));
            let client = Use {
                client: client.map(|(address, program)| {
                    OnBehalfOf::told(address.as_deref(), program.as_deref())
                }),
                presence: presence.map(|(wish, lasts)| (wish.into(), end(lasts))),
            };
            let known = account.device(device.into());
            if let Some(device) = &known {
                client.note(device);
            }
            // Most of the time there is nothing left to do.
            if token.is_some()
                || known.is_none_or(|device| !device.has_poller() || !device.has_token())
            {
                let (device, token) = (device.into(), token.map(|token| token.0));
                state.duties.put(Duty::Poll { account, device, token, client });
            }
        }
        Notice::Demands { device, writes, upkeep, patient, .. } => {
            let device = device.into();
            let asker = from;
            state.duties.put(Duty::Cover { asker, account, device, writes, upkeep, patient });
        }
        _ => {}
    }
}

/// The longest that a presence is wished for, in milliseconds.
const MOST_WISHED: u64 = 60 * 60 * 1000;

/// From a replica where a session ended, or may have.
fn hear_of_end(state: &Arc<State>, notice: Notice) {
    match notice {
        Notice::LoggedOut { account, device } => {
            if let Some(account) = known(state, account) {
                auth::forget_here(state, &account, &[device.into()]);
            }
        }
        Notice::Forgotten { account } => {
            if let Some(account) = known(state, account) {
                let devices: Vec<DeviceNid> =
                    account.devices().iter().map(|device| device.device_nid).collect();
                auth::forget_here(state, &account, &devices);
                state.accounts.remove(&account);
            }
        }
        Notice::Doubted { account, but } => {
            if let Some(account) = known(state, account) {
                auth::doubt_here(state, &account, but.map(DeviceNid::from));
            }
        }
        Notice::SignedIn { user, device } => auth::signed_in_here(state, &user, &device),
        Notice::TokenRefused { account, device, token } => {
            state.token_cache.refused(&token.0);
            if let Some((account, device)) = known_device(state, account, device) {
                auth::drop_token_here(state, &account, &device, &token.0);
            }
        }
        Notice::SyncsElsewhere { account, device } => {
            if let Some((account, device)) = known_device(state, account, device) {
                auth::stop_here(state, &account, &device);
            }
        }
        _ => {}
    }
}

/// From a replica that a client wrote something through.
fn hear_of_write(state: &Arc<State>, from: ReplicaId, notice: Notice) {
    match notice {
        Notice::Wrote { account } => {
            if let Some(account) = known(state, account) {
                account.has_written();
            }
        }
        Notice::Claimed { users } => {
            for user_id in users {
                if let Some(account) = state.accounts.account(&user_id) {
                    account.has_written();
                }
            }
        }
        Notice::Device { account, device, inbox, keys } => {
            let Some((_, device)) = known_device(state, account, device) else { return };
            if let Some((counts, types)) = keys {
                device.set_key_counts(KeyCounts {
                    one_time_keys_count: counts.into(),
                    unused_fallback_key_types: types.into(),
                });
            }
            device.catch_up(inbox.into());
        }
        Notice::Presence { account, device, presence } => {
            if let Some((_, device)) = known_device(state, account, device) {
                device.presence.set_outright(presence.into());
            }
        }
        Notice::RoomForgotten { account, room } => {
            if let Some(account) = known(state, account) {
                // Whoever looks at the index holds it for as long as that takes.
                tokio::spawn(async move { account.room_index.forget(room.into()).await });
            }
        }
        Notice::Sending { account, device, number } => {
            if let Some((_, device)) = known_device(state, account, device) {
                state.sends.begin(from, number, &device);
                let state = Arc::clone(state);
                tokio::spawn(async move {
                    sleep(SENDING).await;
                    state.sends.end(from, number);
                });
            }
        }
        Notice::Sent { number } => {
            state.sends.end(from, number);
        }
        _ => {}
    }
}

fn known(state: &State, account: Nid) -> Option<Arc<Account>> {
    state.accounts.by_id(AccountId::from(account))
}

fn known_device(state: &State, account: Nid, device: Nid) -> Option<(Arc<Account>, Arc<Device>)> {
    let account = known(state, account)?;
    let device = account.device(DeviceNid::from(device))?;
    Some((account, device))
}
