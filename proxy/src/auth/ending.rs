//! Sessions that were ended through us: forgotten as soon as the homeserver has ended them, before the
//! client hears of it.
//!
//! What is certain to be gone (a device that was logged out or deleted) is forgotten. What may be gone
//! (the other sessions after a new password) is doubted: upstream is asked before it is used again, and
//! nothing that is stored goes.

use std::sync::Arc;

use store::DeviceNid;

use super::{known, whoami};
use crate::{
    account::{Account, Device},
    error::causes,
    state::State,
    upstream::AccessToken,
};

/// Whose a token is, if we have anything of that user. Asks upstream where we do not know the token.
pub(crate) async fn owner(
    state: &Arc<State>,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Option<Arc<Device>>)> {
    if let Some((account, device)) = known(state, access_token).await {
        return Some((account, Some(device)));
    }
    let whoami = whoami(state, access_token).await?;
    let account = state.accounts.existing(&state.store, &whoami.user_id).await;
    match account {
        Ok(account) => account.map(|account| (account, None)),
        Err(error) => {
            tracing::error!(error = %causes(&error), "could not find whose sessions were ended");
            None
        }
    }
}

/// A device was logged out: it is refused at once, and forgotten.
pub(crate) async fn logged_out(state: &State, account: &Account, device: &Device) {
    forget(state, account, &[device.device_nid]).await;
}

/// Every device of a user was logged out.
pub(crate) async fn logged_out_everywhere(state: &State, account: &Account) {
    match state.store.device_nids(account.account_id).await {
        Ok(devices) => forget(state, account, &devices).await,
        Err(error) => complain(account, &error),
    }
}

/// Devices of a user were deleted, by their Matrix IDs.
pub(crate) async fn ended_devices(state: &State, account: &Account, device_ids: &[String]) {
    match state.store.device_nids_of(account.account_id, device_ids).await {
        Ok(devices) => forget(state, account, &devices).await,
        Err(error) => complain(account, &error),
    }
}

/// A user has a new password, which may have ended all sessions but the one that set it.
pub(crate) fn password_changed(state: &State, account: &Account, by: Option<&Device>) {
    for device in account.devices() {
        if by.is_none_or(|by| by.device_nid != device.device_nid) {
            state.token_cache.doubt_device(device.device_nid);
        }
    }
}

/// A user signed in with this device ID: if the device is known, its tokens so far may be dead.
pub(crate) fn signed_in(state: &State, user_id: &str, device_id: &str) {
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
    state.accounts.remove(&account.user_id);
    if let Err(error) = state.store.remove_account(account.account_id).await {
        complain(account, &error);
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
    device.stop_polling();
    state.token_cache.drop_device(device.device_nid);
    if let Err(error) = state.store.remove_tokens_of(device.device_nid).await {
        complain(&account, &error);
    }
    account.wake_candidates();
}

async fn forget(state: &State, account: &Account, devices: &[DeviceNid]) {
    // First of all nobody may go on with these tokens, whatever becomes of the rest.
    state.token_cache.refused_devices(devices);
    for device in account.devices() {
        if devices.contains(&device.device_nid) {
            device.log_out();
        }
    }
    account.remove_devices(devices);
    // Another device may have the main poll to take over.
    account.wake_candidates();
    if let Err(error) = state.store.remove_devices(account.account_id, devices).await {
        complain(account, &error);
    }
}

fn complain(account: &Account, error: &store::Error) {
    tracing::error!(
        error = %causes(error),
        user_id = %account.user_id,
        "could not forget ended sessions"
    );
}
