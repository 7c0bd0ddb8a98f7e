//! Reading one's writes: a sync waits for a poll that began after the account's last write.
//!
//! Requests count writes as they are answered; a poll covers those that were counted when it began: a main
//! poll in the account's rooms, whichever device runs it, and each device's polls in its own part. A
//! sync that finds writes which no stored poll covers demands a fresh one, which upstream answers at
//! once, and waits for it: for a bounded time, because upstream may be away. After one wait in vain
//! nobody waits any more until a poll has succeeded. It waits for as long where nobody polls yet: after a restart, or
//! when another device or process takes over.
//!
//! Where another replica polls for the account, the poll is demanded there, and that one says when it is stored. Each
//! replica counts the writes that it heard of for itself: only its own numbers mean anything to it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{Account, Device, Lease};
use crate::{replicas::Notice, state::State};

/// How long a sync waits for its account's writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for what cannot be answered without.
const LONG_PATIENCE: Duration = Duration::from_secs(20);

/// How often a poll is demanded of whoever polls.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How far polls cover an account's writes: in its rooms, or in a device's own part.
pub(super) struct Coverage {
    /// How many writes. Written by the poller after its commit.
    writes: watch::Sender<u64>,
    /// A sync has waited for polls in vain, and none has succeeded since.
    lags: watch::Sender<bool>,
}

impl Coverage {
    pub(super) fn new() -> Self {
        Self { writes: watch::Sender::new(0), lags: watch::Sender::new(false) }
    }

    /// How many writes are covered.
    pub(super) fn writes(&self) -> u64 {
        *self.writes.borrow()
    }

    /// A poll that covers this many is stored.
    pub(super) fn reaches(&self, writes: u64) {
        self.forgive();
        self.writes.send_modify(|covered| *covered = writes.max(*covered));
    }

    /// A sync waited in vain.
    pub(super) fn lag(&self) {
        self.lags.send_replace(true);
    }

    /// Waiting is worth a try again.
    pub(super) fn forgive(&self) {
        self.lags.send_replace(false);
    }

    fn lags(&self) -> bool {
        *self.lags.borrow()
    }
}

impl Account {
    /// A main poll that covers this many of its writes is stored.
    pub(crate) fn cover_rooms(&self, writes: u64) {
        self.rooms.reaches(writes);
    }

    /// How many of its writes main polls cover.
    pub(crate) fn rooms_covered(&self) -> u64 {
        self.rooms.writes()
    }

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

    /// The same for a request at another replica, which may be `patient`.
    pub(crate) async fn poll_afresh_for(
        &self,
        state: &State,
        device: &Arc<Device>,
        patient: bool,
    ) -> bool {
        self.has_written();
        let wait = if patient { Wait::PATIENT } else { Wait::FOR_WRITES };
        self.cover(state, device, wait).await
    }

    /// Waits until a main poll that begins now is stored, for as long as a slow homeserver needs and whoever waited in vain
    /// before. `false` if that was not to be had.
    pub(crate) async fn poll_rooms_afresh(&self, state: &State, device: &Arc<Device>) -> bool {
        self.has_written();
        self.cover(state, device, Wait::FOR_ROOMS).await
    }

    /// Has a main poll begin now, and waits until it is stored. `false` if that took too long.
    pub(crate) async fn fresh_main_poll(&self, state: &State, main_device: &Arc<Device>) -> bool {
        self.has_written();
        let writes = self.writes();
        self.cover_writes(state, main_device).await;
        self.rooms_covered() >= writes
    }

    /// Waits until what polls of the account left to be done has been tried.
    pub(crate) async fn upkeep_is_tended(&self, state: &State, device: &Arc<Device>) {
        if self.lease() == Lease::Ours {
            return self.upkeep.tended().await;
        }
        self.has_written();
        self.cover(state, device, Wait::FOR_UPKEEP).await;
    }

    /// Waits until the account's writes so far are stored, in its rooms and in the device's own part. `false` if one of
    /// them is not.
    pub(super) async fn cover_writes(&self, state: &State, device: &Arc<Device>) -> bool {
        self.cover(state, device, Wait::FOR_WRITES).await
    }

    async fn cover(&self, state: &State, device: &Arc<Device>, wait: Wait) -> bool {
        let deadline = Instant::now() + wait.patience;
        let mut lease = self.watch_lease();
        let mut logged_out = device.watch_logged_out();
        let mut refusal = self.refusal.subscribe();
        loop {
            let holder = *lease.borrow_and_update();
            // With the lease the meaning of what is covered has changed: there is one more write then.
            let writes = self.writes();
            let covered = async {
                match holder {
                    Lease::Ours => self.covered_here(device, writes, wait, deadline).await,
                    // Somebody may have it that this process has not heard of.
                    Lease::Theirs(_) | Lease::Vacant => {
                        self.covered_elsewhere(state, device, writes, wait, deadline).await
                    }
                }
            };
            // Whoever polls from now on has to be asked, or is this process itself.
            tokio::select! {
                covered = covered => return covered,
                _ = lease.changed() => {}
                _ = logged_out.wait_for(|gone| *gone) => return false,
                // There will be no poll; as a rule it is told by a wait in vain.
                _ = refusal.wait_for(Option::is_some), if !wait.heeds_lags => return false,
                () = state.shuts_down() => return false,
            }
        }
    }

    async fn covered_here(
        &self,
        device: &Device,
        writes: u64,
        wait: Wait,
        deadline: Instant,
    ) -> bool {
        // Whether there is a token to poll with just now does not matter: one comes, or another device takes over.
        let mut behind = vec![&self.rooms];
        behind.extend(wait.own_part.then_some(&device.own_part));
        behind.retain(|coverage| coverage.writes() < writes);
        if behind.is_empty() {
            return true;
        }
        // Polled anew all the same; but where one wait was in vain, every further one would be.
        self.demand.send_if_modified(|demand| {
            let more = writes > *demand;
            *demand = writes.max(*demand);
            more
        });
        let mut all = true;
        for coverage in behind {
            let is_in_vain = wait.heeds_lags && coverage.lags();
            all = !is_in_vain && self.waited_for(coverage, writes, wait, deadline).await && all;
        }
        all
    }

    async fn covered_elsewhere(
        &self,
        state: &State,
        device: &Arc<Device>,
        writes: u64,
        wait: Wait,
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
                    upkeep: wait.upkeep,
                    patient: !wait.heeds_lags,
                });
            }
        };
        ask();
        if wait.heeds_lags && device.own_part.lags() {
            return false;
        }
        // The one that polls may say that nothing is to be had, and why.
        let (mut lags, mut refusal) = (device.own_part.lags.subscribe(), self.refusal.subscribe());
        let mut covered = std::pin::pin!(self.waited_for(&device.own_part, writes, wait, deadline));
        loop {
            tokio::select! {
                covered = &mut covered => return covered,
                _ = lags.wait_for(|lags| *lags), if wait.heeds_lags => return false,
                _ = refusal.wait_for(Option::is_some) => return false,
                // Nobody may have polled for the account when this was demanded.
                () = sleep(ASK_AGAIN) => ask(),
            }
        }
    }

    async fn waited_for(
        &self,
        coverage: &Coverage,
        writes: u64,
        wait: Wait,
        deadline: Instant,
    ) -> bool {
        let mut covered = coverage.writes.subscribe();
        if timeout_at(deadline, covered.wait_for(|covered| *covered >= writes)).await.is_ok() {
            return true;
        }
        // Who waits long may have been overtaken by polls that were stored in time for others.
        if wait.heeds_lags {
            coverage.lag();
        }
        tracing::debug!(user_id = %self.user_id, "a sync goes on without its account's last writes");
        false
    }
}

/// What is waited for, and how.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Not for the account's rooms alone, but for the device's own part as well. Another replica sees to both.
    own_part: bool,
    /// For what polls left to be done as well.
    upkeep: bool,
    /// Not where another wait was in vain.
    heeds_lags: bool,
    /// How long at most.
    patience: Duration,
}

impl Wait {
    const FOR_WRITES: Self =
        Self { own_part: true, upkeep: false, heeds_lags: true, patience: PATIENCE };
    const FOR_UPKEEP: Self = Self { upkeep: true, ..Self::FOR_WRITES };
    const PATIENT: Self = Self { heeds_lags: false, patience: LONG_PATIENCE, ..Self::FOR_WRITES };
    const FOR_ROOMS: Self = Self { own_part: false, ..Self::PATIENT };
}
