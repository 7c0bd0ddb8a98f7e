//! Requests at a replica that does not poll for their account.
//!
//! Such a request looks where its account and device stand in the store when it begins, and what comes while it waits is
//! told. Because a notice may be lost, whoever waits is looked up again every few seconds. The one that polls is told who
//! uses what here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use store::{DeviceNid, Standing};
use tokio::time::{Instant, sleep};

use super::notice::{self, Hash, Notice};
use crate::{
    account::{Account, Device, KeyCounts, Lease, PresenceWish},
    auth,
    error::causes,
    secret::TokenHash,
    state::State,
};

/// How often those who wait are looked up.
const LOOK_EVERY: Duration = Duration::from_secs(4);

/// How many by one statement.
const AT_ONCE: usize = 1_000;

/// A client uses a device here that another process polls for: that is told, if it is news. A token is given where this
/// process did not know it before.
pub(crate) fn tell_use(
    state: &State,
    account: &Account,
    device: &Device,
    token: Option<TokenHash>,
    presence: Option<(PresenceWish, Instant)>,
) {
    let client = device.on_behalf_of();
    let is_due = device.elsewhere.is_use_due(presence, &client);
    if !is_due && token.is_none() {
        return;
    }
    let lasts = |end: Instant| end.saturating_duration_since(Instant::now()).as_millis();
    state.tell(Notice::Uses {
        account: account.account_id.into(),
        device: device.device_nid.into(),
        token: token.map(Hash),
        presence: presence
            .map(|(wish, end)| (wish.into(), u64::try_from(lasts(end)).unwrap_or(u64::MAX))),
        client: notice::client(&client),
    });
}

/// Looks where a request's account and device stand, if another process may have brought them there.
pub(crate) async fn look_up(
    state: &State,
    account: &Account,
    device: &Device,
) -> Result<(), store::Error> {
    if state.replicas.alone() && account.lease() == Lease::Ours {
        return Ok(());
    }
    let look = device.elsewhere.begin_look();
    let standings = Box::pin(state.store.standings(&[device.device_nid])).await?;
    match standings.first() {
        Some(standing) => take_in(state, account, device, look, standing),
        // Logged out, or forgotten, and the notice of it was missed: upstream is asked what is true.
        None => auth::forget_here(state, account, &[device.device_nid]),
    }
    Ok(())
}

/// Looks where all devices stand that are known here, before this process goes on polling for them.
pub(super) async fn look_up_devices(state: &State, account: &Account) -> Result<(), store::Error> {
    let devices = account.devices();
    let looks: Vec<u64> = devices.iter().map(|device| device.elsewhere.begin_look()).collect();
    let nids: Vec<DeviceNid> = devices.iter().map(|device| device.device_nid).collect();
    for standing in state.store.standings(&nids).await? {
        let known = devices.iter().zip(&looks);
        let mut known = known.filter(|(device, _)| device.device_nid == standing.device_nid);
        if let Some((device, look)) = known.next() {
            take_in(state, account, device, *look, &standing);
        }
    }
    Ok(())
}

/// Looks up again and again who waits here. Never ends.
pub(super) async fn keep_looking(state: &Arc<State>) {
    let looks = async {
        loop {
            sleep(LOOK_EVERY).await;
            if state.replicas.alone() {
                continue;
            }
            if let Err(error) = look_up_waiting(state).await {
                tracing::warn!(error = %causes(&error), "could not look up where those who wait stand");
            }
        }
    };
    tokio::select! {
        () = looks => {}
        () = state.shuts_down() => {}
    }
}

/// Looks up once all whose clients wait here.
pub(super) async fn look_up_waiting(state: &State) -> Result<(), store::Error> {
    let mut waiting = Vec::new();
    for account in state.accounts.all() {
        if account.lease() == Lease::Ours {
            continue;
        }
        for device in account.devices().into_iter().filter(|device| device.idle().is_zero()) {
            tell_use(state, &account, &device, None, None);
            waiting.push((Arc::clone(&account), device));
        }
    }
    for some in waiting.chunks(AT_ONCE) {
        let looks: Vec<u64> =
            some.iter().map(|(_, device)| device.elsewhere.begin_look()).collect();
        let nids: Vec<DeviceNid> = some.iter().map(|(_, device)| device.device_nid).collect();
        let standings = state.store.standings(&nids).await?;
        let standings: HashMap<DeviceNid, Standing> =
            standings.into_iter().map(|standing| (standing.device_nid, standing)).collect();
        for ((account, device), look) in some.iter().zip(looks) {
            match standings.get(&device.device_nid) {
                Some(standing) => take_in(state, account, device, look, standing),
                None => auth::forget_here(state, account, &[device.device_nid]),
            }
        }
    }
    Ok(())
}

fn take_in(state: &State, account: &Account, device: &Device, look: u64, standing: &Standing) {
    account.retained(standing.retained_from);
    if let Some(acked) = standing.v2_acked {
        device.hear_v2_acked(acked);
    }
    if account.lease() == Lease::Ours {
        // Its pollers know better, and tell the others.
        return;
    }
    // That it is this process', only what claims it may say.
    if standing.replica != state.store.replica() {
        account.hear_of_holder(&state.store, standing.replica);
    }
    account.set_main_device(standing.main_device);
    if standing.pos > account.pos() {
        account.ignored.forget();
        account.advance(standing.pos);
    }
    if device.elsewhere.is_newest(look) {
        device.set_key_counts(KeyCounts {
            one_time_keys_count: standing.one_time_keys_count.clone(),
            unused_fallback_key_types: standing.unused_fallback_key_types.clone(),
        });
    }
    device.catch_up(standing.inbox_seq);
}
