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
    account::{Account, Device, PresenceWish},
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
    /// A sync there waits for a poll.
    Cover { asker: ReplicaId, account: Arc<Account>, device: DeviceNid, writes: u64, upkeep: bool },
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
        Duty::Cover { asker, account, device, writes, upkeep } => {
            let nothing = Use::default();
            let taken_in = take_in(state, &account, device, None, &nothing).await;
            let Some(device) = taken_in else { return };
            tell_failures(state, &account);
            let state = Arc::clone(state);
            tokio::spawn(async move {
                let stored = account.poll_afresh(&state, &device).await;
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
