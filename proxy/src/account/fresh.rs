//! Reading one's writes: a sync waits for a poll that began after the account's last write.
//!
//! Requests count writes as they are answered; a poll covers those that were counted when it began. A
//! sync that finds writes which no stored poll covers demands a fresh one, which upstream answers at
//! once, and waits for it: for a bounded time, because upstream may be away. After one wait in vain
//! nobody waits any more until a poll has succeeded.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Account, Device};

/// How long a sync waits for its account's writes.
const PATIENCE: Duration = Duration::from_secs(5);

impl Account {
    /// Waits until a poll that begins now is stored, as if the account had just written something.
    pub(crate) async fn poll_afresh(&self, device: &Arc<Device>) {
        self.has_written();
        self.cover_writes(device).await;
    }

    /// Has a main poll begin now, and waits until it is stored. `false` if that took too long.
    pub(crate) async fn fresh_main_poll(&self, main_device: &Arc<Device>) -> bool {
        self.has_written();
        let writes = self.writes();
        self.cover_writes(main_device).await;
        main_device.covered() >= writes
    }

    /// Waits until the account's writes so far are stored, in its rooms and in the device's own part.
    pub(super) async fn cover_writes(&self, device: &Arc<Device>) {
        let writes = self.writes();
        let main = self
            .main_device()
            .and_then(|nid| self.devices.get(&nid).map(|device| Arc::clone(&device)));
        let pollers: Vec<Arc<Device>> = main
            .into_iter()
            .chain([Arc::clone(device)])
            .filter(|device| device.has_token() && device.covered() < writes)
            .collect();
        if pollers.is_empty() {
            return;
        }
        // Polled anew all the same; but where one wait was in vain, every further one would be.
        self.demand.send_if_modified(|demand| {
            let more = writes > *demand;
            *demand = writes.max(*demand);
            more
        });
        let deadline = Instant::now() + PATIENCE;
        for poller in pollers.into_iter().filter(|device| !device.lags()) {
            let mut covered = poller.watch_covered();
            if timeout_at(deadline, covered.wait_for(|covered| *covered >= writes)).await.is_err() {
                poller.lag();
                tracing::debug!(user_id = %self.user_id, "a sync goes on without its account's last writes");
            }
        }
    }
}
