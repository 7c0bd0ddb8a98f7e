//! Sessions that were ended through us: forgotten as soon as the homeserver has ended them, before the
//! client hears of it.
//!
//! What is certain to be gone (a device that was logged out or deleted) is forgotten. What may be gone
//! (the other sessions after a new password) is doubted: upstream is asked before it is used again, and
//! nothing that is stored goes.

use std::sync::Arc;

use store::DeviceNid;

use super::{gone::known_device, known, look_for, questions::Failure, whoami};
use crate::{
    account::{Account, Device},
    error::{Error, causes},
    replicas::{Hash, Nid, Notice},
    secret::TokenHash,
    state::State,
    upstream::AccessToken,
};

/// Whose a token is, if we have anything of that user. Asks upstream where we do not know the token. In a flood of
/// unknown tokens it may be told to come again: what it ends must not be missed.
pub(crate) async fn owner(
    state: &Arc<State>,
    access_token: &AccessToken,
) -> Result<Option<(Arc<Account>, Option<Arc<Device>>)>, Error> {
    match look_for(state, access_token).await {
        Ok(Some((account, device))) => return Ok(Some((account, Some(device)))),
        Ok(None) => {}
        Err(Failure::Shed) => return Err(Failure::Shed.into()),
        Err(failure) => complain_of_search(&Error::from(failure)),
    }
    let whoami = match whoami(state, access_token).await {
        Ok(whoami) => whoami,
        Err(shed @ Error::LimitExceeded { .. }) => return Err(shed),
        // The homeserver has the word on what it is asked to end, too.
        Err(_) => return Ok(None),
    };
    let account = state.accounts.existing(&state.store, &whoami.user_id).await;
    let account = account.inspect_err(|error| complain_of_search(error)).ok().flatten();
    let Some(account) = account else { return Ok(None) };
    // A device that is known has a new token after a refresh.
    let device = match &whoami.device_id {
        Some(device_id) => device_of(state, &account, device_id).await,
        None => None,
    };
    Ok(Some((account, device)))
}

/// A device of an account by its Matrix ID; where the store does not say, as this process knows it.
async fn device_of(state: &State, account: &Account, device_id: &str) -> Option<Arc<Device>> {
    match known_device(state, account, device_id).await {
        Ok(known) => known.map(|(_, device)| device),
        Err(error) => {
            complain_of_search(&error);
            account.devices().into_iter().find(|device| device.device_id == device_id)
        }
    }
}

fn complain_of_search(error: &dyn std::error::Error) {
    tracing::error!(error = %causes(error), "could not find whose sessions were ended");
}

/// A device was logged out: it is refused at once, and forgotten.
pub(crate) async fn logged_out(state: &State, account: &Account, device: &Device) {
    forget(state, account, &[device.device_nid]).await;
}

/// Every device of a user was logged out.
pub(crate) async fn logged_out_everywhere(state: &State, account: &Account) {
    let stored = state.store.device_nids(account.account_id).await;
    forget(state, account, &or_known(account, stored, |_| true)).await;
}

/// Devices of a user were deleted, by their Matrix IDs.
pub(crate) async fn ended_devices(state: &State, account: &Account, device_ids: &[String]) {
    let stored = state.store.device_nids_of(account.account_id, device_ids).await;
    let is_listed = |device: &Device| device_ids.contains(&device.device_id);
    forget(state, account, &or_known(account, stored, is_listed)).await;
}

/// The devices that have ended, as the store found them. A store that does not answer keeps nobody signed in: then they are
/// those that this process knows.
fn or_known(
    account: &Account,
    stored: Result<Vec<DeviceNid>, store::Error>,
    has_ended: impl Fn(&Device) -> bool,
) -> Vec<DeviceNid> {
    stored.unwrap_or_else(|error| {
        complain(account, &error);
        let devices = account.devices();
        let ended = devices.iter().filter(|device| has_ended(device));
        ended.map(|device| device.device_nid).collect()
    })
}

/// A user has a new password, which may have ended all sessions but the one that set it.
pub(crate) async fn password_changed(state: &State, account: &Account, by: Option<&Device>) {
    let but = by.map(|by| by.device_nid);
    doubt_here(state, account, but);
    let account = account.account_id.into();
    state.tell_now(vec![Notice::Doubted { account, but: but.map(Nid::from) }]).await;
}

/// Doubts the tokens of an account, but for those of one device.
pub(crate) fn doubt_here(state: &State, account: &Account, but: Option<DeviceNid>) {
    for device in account.devices() {
        if but.is_none_or(|but| but != device.device_nid) {
            state.token_cache.doubt_device(device.device_nid);
        }
    }
}

/// A user signed in with this device ID: if the device is known, its tokens so far may be dead.
pub(crate) async fn signed_in(state: &State, user_id: &str, device_id: &str) {
    signed_in_here(state, user_id, device_id);
    let (user, device) = (user_id.to_owned(), device_id.to_owned());
    state.tell_now(vec![Notice::SignedIn { user, device }]).await;
}

/// The same, as far as this process is concerned.
pub(crate) fn signed_in_here(state: &State, user_id: &str, device_id: &str) {
    let Some(account) = state.accounts.account(user_id) else { return };
    for device in account.devices() {
        if device.device_id == device_id {
            state.token_cache.doubt_device(device.device_nid);
        }
    }
}

/// A user is gone for good, with everything that was kept for it.
pub(crate) async fn forget_account(state: &State, account: &Account) {
    logged_out_everywhere(state, account).await;
    state.accounts.remove(account);
    if let Err(error) = state.store.remove_account(account.account_id).await {
        complain(account, &error);
    }
    state.tell_now(vec![Notice::Forgotten { account: account.account_id.into() }]).await;
}

/// Upstream refused a token: whoever waits with it elsewhere asks for itself.
pub(crate) fn refused(state: &State, account: &Account, device: &Device, hash: &TokenHash) {
    state.tell(Notice::TokenRefused {
        account: account.account_id.into(),
        device: device.device_nid.into(),
        token: Hash(hash.clone()),
    });
}

/// Upstream refused a token at another replica: if polls go on with that one here, they stop.
pub(crate) fn drop_token_here(state: &State, account: &Account, device: &Device, hash: &TokenHash) {
    let held = device.watch_token().borrow().clone();
    if let Some(held) = held.filter(|held| state.sealer.hash(held) == *hash) {
        device.drop_token(&held);
        account.wake_candidates();
    }
}

/// A device syncs with the homeserver in a way of the homeserver's own: two that acknowledge the same
/// to-device messages would each take some from the other, so we stop to poll for it, also after a
/// restart, until it comes back to a sync of ours. What is stored stays.
pub(crate) async fn syncs_elsewhere(state: &State, access_token: &AccessToken) {
    let Some((account, device)) = known(state, access_token).await else { return };
    tracing::info!(
        user_id = %account.user_id,
        device_id = %device.device_id,
        "the device uses the homeserver's own sliding sync: not polled for it"
    );
    stop_here(state, &account, &device);
    if let Err(error) = state.store.remove_tokens_of(device.device_nid).await {
        complain(&account, &error);
    }
    let (account, device) = (account.account_id.into(), device.device_nid.into());
    state.tell_now(vec![Notice::SyncsElsewhere { account, device }]).await;
}

/// A device is not polled for, until it comes back to a sync of ours.
pub(crate) fn stop_here(state: &State, account: &Account, device: &Device) {
    device.stop_polling();
    state.token_cache.drop_device(device.device_nid);
    account.wake_candidates();
}

async fn forget(state: &State, account: &Account, devices: &[DeviceNid]) {
    // First of all nobody may go on with these tokens, whatever becomes of the rest.
    forget_here(state, account, devices);
    let logged_out = |device: &DeviceNid| Notice::LoggedOut {
        account: account.account_id.into(),
        device: (*device).into(),
    };
    state.tell_now(devices.iter().map(logged_out).collect()).await;
    if let Err(error) = state.store.remove_devices(account.account_id, devices).await {
        complain(account, &error);
    }
}

/// Nobody goes on with the tokens of these devices in this process, and it has no such devices any more.
pub(crate) fn forget_here(state: &State, account: &Account, devices: &[DeviceNid]) {
    state.token_cache.refused_devices(devices);
    for device in account.devices() {
        if devices.contains(&device.device_nid) {
            device.log_out();
        }
    }
    account.remove_devices(devices);
    // Another device may have the main poll to take over.
    account.wake_candidates();
}

fn complain(account: &Account, error: &store::Error) {
    tracing::error!(
        error = %causes(error),
        user_id = %account.user_id,
        "could not forget ended sessions"
    );
}
