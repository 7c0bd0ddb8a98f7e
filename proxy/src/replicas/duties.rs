//! What this replica does for requests at others, because it polls for their account: begins to poll for a device, and has
//! polls cover what was written.
//!
//! What is asked for comes in the order in which it was told, and is begun in that order. It must not know how it was told.

use std::sync::Arc;

use store::{DeviceNid, ReplicaId};
use tokio::time::Instant;

use super::{
    notice::{Notice, Told},
    queue::Queue,
};
use crate::{
    account::{Account, Device, Lease, PresenceWish},
    auth,
    error::causes,
    secret::TokenHash,
    state::State,
    upstream::OnBehalfOf,
};

/// How much waits to be begun. Who is not served asks again.
const MOST: usize = 10_000;

/// Takes what other replicas ask for.
pub(crate) struct Duties(Queue<Duty>);

impl Default for Duties {
    fn default() -> Self {
        Self(Queue::new(MOST))
    }
}

/// Something that this replica ought to do for another.
pub(super) enum Duty {
    /// A client uses a device there, maybe with a new token.
    Poll { account: Arc<Account>, device: DeviceNid, token: Option<TokenHash>, client: Use },
    /// A client uses a device there whose account was never used here.
    TakeUp { device: DeviceNid },
    /// A sync there waits for a poll.
    Cover {
        asker: ReplicaId,
        account: Arc<Account>,
        device: DeviceNid,
        writes: u64,
        upkeep: bool,
        patient: bool,
    },
}

/// What polls for a device are made with: its client, and the presence that it wishes for until some time.
#[derive(Default)]
pub(super) struct Use {
    pub(super) client: Option<OnBehalfOf>,
    pub(super) presence: Option<(PresenceWish, Instant)>,
}

impl Use {
    pub(super) fn note(&self, device: &Device) {
        if let Some(client) = &self.client {
            device.seen(client.clone());
        }
        if let Some((wish, end)) = self.presence {
            device.presence.wish(wish, end);
        }
    }
}

impl Duties {
    pub(super) fn put(&self, duty: Duty) {
        self.0.put(duty);
    }
}

/// Has a device polled for whose client waits here.
pub(super) fn poll(state: &State, account: &Arc<Account>, device: &Device) {
    let (account, device) = (Arc::clone(account), device.device_nid);
    state.duties.put(Duty::Poll { account, device, token: None, client: Use::default() });
}

/// Does what is asked for. Never ends.
pub(super) async fn run(state: &Arc<State>) {
    loop {
        for duty in state.duties.0.take(1).await {
            begin(state, duty).await;
        }
    }
}

async fn begin(state: &Arc<State>, duty: Duty) {
    match duty {
        Duty::Poll { account, device, token, client } => {
            take_in(state, &account, device, token.as_ref(), &client).await;
            tell_failures(state, &account);
        }
        Duty::TakeUp { device } => {
            if let Err(error) = take_up(state, device).await {
                tracing::warn!(error = %causes(&error), "could not poll for an account that is used at another replica");
            }
        }
        Duty::Cover { asker, account, device, writes, upkeep, patient } => {
            let nothing = Use::default();
            let taken_in = take_in(state, &account, device, None, &nothing).await;
            let Some(device) = taken_in else { return };
            tell_failures(state, &account);
            let state = Arc::clone(state);
            tokio::spawn(async move {
                let stored = account.poll_afresh_for(&state, &device, patient).await;
                if !stored && (account.lease() != Lease::Ours || *state.shutting_down.borrow()) {
                    // Another one polls for it, or is about to: it is asked in a moment.
                    return;
                }
                if upkeep {
                    account.upkeep.tended().await;
                }
                state.tell(Notice::Covered {
                    to: asker.0,
                    account: account.account_id.into(),
                    device: device.device_nid.into(),
                    writes,
                    stored,
                });
            });
        }
    }
}

/// Polls for a device if its account is this process' to poll for. Whoever uses it asks again in a moment.
async fn take_up(state: &Arc<State>, device: DeviceNid) -> Result<(), store::Error> {
    let Some(stored) = state.store.device_by_nid(device).await? else { return Ok(()) };
    let Some(account) = state.store.account_by_id(stored.account_id).await? else { return Ok(()) };
    if account.replica.is_none() || account.replica != state.store.replica() {
        return Ok(());
    }
    let numbers = (stored.account_id, device);
    let loaded = auth::load_stored(state, &account.user_id, &stored.device_id, numbers).await?;
    let Some((account, _)) = loaded else { return Ok(()) };
    take_in(state, &account, device, None, &Use::default()).await;
    Ok(())
}

/// Sees to it that a device is polled for.
async fn take_in(
    state: &Arc<State>,
    account: &Arc<Account>,
    device: DeviceNid,
    token: Option<&TokenHash>,
    client: &Use,
) -> Option<Arc<Device>> {
    let prepare = |device: &Device| client.note(device);
    match auth::poll_for_elsewhere(state, account, device, token, prepare).await {
        Ok(device) => device,
        Err(error) => {
            tracing::warn!(error = %causes(&error), "could not poll for a device that is used at another replica");
            account.device(device)
        }
    }
}

/// Whoever has just come does not know what was told before.
fn tell_failures(state: &State, account: &Account) {
    let account_id = account.account_id.into();
    if let Some(failure) = account.first_poll_failure() {
        state.tell(Notice::FirstPoll { account: account_id, failure: Some(Told::of(&failure)) });
    }
    if let Some(failure) = account.refusal() {
        state.tell(Notice::Refusal { account: account_id, failure: Some(Told::of(&failure)) });
    }
}
