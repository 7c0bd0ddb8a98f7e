//! Devices and accounts that are gone from the store while this process still has them: by retention, or by an ending at
//! another replica of which it did not hear.
//!
//! They are known here by numbers that no row has. Who signs in again has others, by which nothing would be found here: so
//! whoever meets the old ones forgets them, and what the store has is loaded instead.

use std::sync::Arc;

use store::{AccountId, DeviceNid};

use super::forget_here;
use crate::{
    account::{Account, Device},
    state::State,
};

/// The account and the device of a row of the store, which are meant by their numbers; `None` if they are gone by now.
pub(crate) async fn load_stored(
    state: &State,
    user_id: &str,
    device_id: &str,
    numbers: (AccountId, DeviceNid),
) -> Result<Option<(Arc<Account>, Arc<Device>)>, store::Error> {
    let is_meant = |(account, device): &(Arc<Account>, Arc<Device>)| {
        (account.account_id, device.device_nid) == numbers
    };
    match state.accounts.load(&state.store, user_id, device_id).await {
        Ok(loaded) if is_meant(&loaded) => return Ok(Some(loaded)),
        Ok(_) => {}
        // A new device of an account that is gone.
        Err(error) if error.is_dangling() => {}
        Err(error) => return Err(error),
    }
    forget_gone(state, user_id).await?;
    let loaded = state.accounts.load(&state.store, user_id, device_id).await?;
    Ok(Some(loaded).filter(is_meant))
}

/// A device of an account by its Matrix ID, if the store has it.
pub(super) async fn known_device(
    state: &State,
    account: &Account,
    device_id: &str,
) -> Result<Option<(Arc<Account>, Arc<Device>)>, store::Error> {
    let ids = [device_id.to_owned()];
    let found = state.store.device_nids_of(account.account_id, &ids).await?;
    let Some(device_nid) = found.first() else { return Ok(None) };
    load_stored(state, &account.user_id, device_id, (account.account_id, *device_nid)).await
}

/// Forgets here those devices of a user that are gone from the store, and the account if that is.
pub(super) async fn forget_gone(state: &State, user_id: &str) -> Result<(), store::Error> {
    let Some(account) = state.accounts.account(user_id) else { return Ok(()) };
    let is_gone = state.store.account_by_id(account.account_id).await?.is_none();
    let mut gone: Vec<DeviceNid> =
        account.devices().iter().map(|device| device.device_nid).collect();
    if !is_gone {
        let known = state.store.known_devices(&gone).await?;
        gone.retain(|device| !known.contains(device));
    }
    forget_here(state, &account, &gone);
    if is_gone {
        state.accounts.remove(&account);
    }
    Ok(())
}
