//! Reading one's writes: a sync waits for a poll that began after the account's last write.
//!
//! Requests count writes as they are answered; a poll covers those that were counted when it began. A
//! sync that finds writes which no stored poll covers demands a fresh one, which upstream answers at
//! once, and waits for it: for a bounded time, because upstream may be away. After one wait in vain
//! nobody waits any more until a poll has succeeded.
//!
//! Where another replica polls for the account, the poll is demanded there, and that one says when it is stored. Each
//! replica counts the writes that it heard of for itself: only its own numbers mean anything to it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{Account, Device, Lease};
use crate::{replicas::Notice, state::State};

/// How long a sync waits for its account's writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a poll is demanded of whoever polls.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Account {
    /// A write of the account was answered through us: every replica knows it before the client does.
    pub(crate) async fn tell_written(&self, state: &State) {
        self.has_written();
        state.tell_now(vec![Notice::Wrote { account: self.account_id.into() }]).await;
    }

    /// Waits until a poll that begins now is stored, as if the account had just written something. `false` if that was
    /// not to be had.
    pub(crate) async fn poll_afresh(&self, state: &State, device: &Arc<Device>) -> bool {
        self.has_written();
        self.cover_writes(state, device).await
    }

    /// Has a main poll begin now, and waits until it is stored. `false` if that took too long.
    pub(crate) async fn fresh_main_poll(&self, state: &State, main_device: &Arc<Device>) -> bool {
        self.has_written();
        let writes = self.writes();
        self.cover_writes(state, main_device).await;
        main_device.covered() >= writes
    }

    /// Waits until what polls of the account left to be done has been tried.
    pub(crate) async fn upkeep_is_tended(&self, state: &State, device: &Arc<Device>) {
        if self.lease() == Lease::Ours {
            return self.upkeep.tended().await;
        }
        self.has_written();
        self.cover(state, device, Demand::WithUpkeep).await;
    }

    /// Waits until the account's writes so far are stored, in its rooms and in the device's own part. `false` if one of
    /// them is not.
    pub(super) async fn cover_writes(&self, state: &State, device: &Arc<Device>) -> bool {
        self.cover(state, device, Demand::Plain).await
    }

    async fn cover(&self, state: &State, device: &Arc<Device>, demand: Demand) -> bool {
        let writes = self.writes();
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.watch_lease();
        loop {
            let holder = *lease.borrow_and_update();
            let covered = async {
                match holder {
                    Lease::Ours => self.covered_here(device, writes, deadline).await,
                    // Somebody may have it that this process has not heard of.
                    Lease::Theirs(_) | Lease::Vacant => {
                        self.covered_elsewhere(state, device, writes, demand, deadline).await
                    }
                }
            };
            // Whoever polls from now on has to be asked, or is this process itself.
            tokio::select! {
                covered = covered => return covered,
                _ = lease.changed() => {}
                () = state.shuts_down() => return false,
            }
        }
    }

    async fn covered_here(&self, device: &Arc<Device>, writes: u64, deadline: Instant) -> bool {
        let main = self.main_device().and_then(|nid| self.device(nid));
        let pollers: Vec<Arc<Device>> = main
            .into_iter()
            .chain([Arc::clone(device)])
            .filter(|device| device.has_token() && device.covered() < writes)
            .collect();
        if pollers.is_empty() {
            return true;
        }
        // Polled anew all the same; but where one wait was in vain, every further one would be.
        self.demand.send_if_modified(|demand| {
            let more = writes > *demand;
            *demand = writes.max(*demand);
            more
        });
        let mut all = true;
        for poller in pollers {
            all = !poller.lags() && self.waited_for(&poller, writes, deadline).await && all;
        }
        all
    }

    async fn covered_elsewhere(
        &self,
        state: &State,
        device: &Arc<Device>,
        writes: u64,
        demand: Demand,
        deadline: Instant,
    ) -> bool {
        if device.covered() >= writes {
            return true;
        }
        let ask = || {
            if device.elsewhere.is_demand_due(writes) {
                state.tell(Notice::Demands {
                    account: self.account_id.into(),
                    device: device.device_nid.into(),
                    writes,
                    upkeep: demand == Demand::WithUpkeep,
                });
            }
        };
        ask();
        if device.lags() {
            return false;
        }
        // The one that polls may say that nothing is to be had, and why.
        let (mut lags, mut refusal) = (device.watch_lags(), self.refusal.subscribe());
        let mut covered = std::pin::pin!(self.waited_for(device, writes, deadline));
        loop {
            tokio::select! {
                covered = &mut covered => return covered,
                _ = lags.wait_for(|lags| *lags) => return false,
                _ = refusal.wait_for(Option::is_some) => return false,
                // Nobody may have polled for the account when this was demanded.
                () = sleep(ASK_AGAIN) => ask(),
            }
        }
    }

    async fn waited_for(&self, poller: &Device, writes: u64, deadline: Instant) -> bool {
        let mut covered = poller.watch_covered();
        if timeout_at(deadline, covered.wait_for(|covered| *covered >= writes)).await.is_ok() {
            return true;
        }
        poller.lag();
        tracing::debug!(user_id = %self.user_id, "a sync goes on without its account's last writes");
        false
    }
}

/// What a poll at another replica is demanded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// For the account's writes.
    Plain,
    /// And for what polls left to be done.
    WithUpkeep,
}
