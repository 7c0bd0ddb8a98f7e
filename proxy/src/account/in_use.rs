//! Who is here: whether clients use a device, and an account, or have been gone for long.
//!
//! Pollers of devices and accounts that nobody uses rest. Upstream keeps what comes meanwhile, and
//! whoever comes back waits for a poll that brings it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use store::DeviceNid;
use tokio::time::Instant;

use super::{Account, Device};
use crate::{clock::now_ms, state::State};

/// How often the store hears that an account is in use.
const TOUCH: Duration = Duration::from_hours(1);

/// The requests of a device's clients.
pub(super) struct Requests(Mutex<Count>);

struct Count {
    under_way: u32,
    /// When the last one ended, or the device was loaded.
    ended: Instant,
    any: bool,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Count { under_way: 0, ended: Instant::now(), any: false }))
    }

    /// One begins. Gives how long there was none; for the first of all, for ever.
    fn begin(&self) -> Duration {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = match count.under_way {
            0 if count.any => count.ended.elapsed(),
            0 => Duration::MAX,
            _ => Duration::ZERO,
        };
        count.under_way += 1;
        count.any = true;
        idle
    }

    fn end(&self) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.under_way = count.under_way.saturating_sub(1);
        count.ended = Instant::now();
    }

    /// How long there has been none.
    pub(super) fn idle(&self) -> Duration {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.under_way > 0 { Duration::ZERO } else { count.ended.elapsed() }
    }
}

/// When a client last used an account.
pub(super) struct LastUse {
    /// In milliseconds.
    at: AtomicI64,
    /// What the store knows of it.
    stored: AtomicI64,
}

impl LastUse {
    pub(super) fn new(stored: i64) -> Self {
        Self { at: AtomicI64::new(stored), stored: AtomicI64::new(stored) }
    }

    pub(super) fn idle(&self) -> Duration {
        since(self.at.load(Ordering::Acquire), now_ms())
    }

    /// Gives how long it was idle, and whether the store ought to hear of it.
    fn touch(&self, now: i64) -> (Duration, bool) {
        let before = self.at.swap(now, Ordering::AcqRel);
        let stale = since(self.stored.load(Ordering::Acquire), now) >= TOUCH;
        (since(before, now), stale)
    }
}

fn since(then: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

/// A request of a client of a device, while it lasts.
pub(crate) struct InUse(Arc<Device>);

impl InUse {
    /// A request begins. Where pollers may have rested, they wake, and this counts as a write: the request
    /// waits for a poll that begins now.
    pub(crate) async fn begin(
        state: &State,
        account: &Arc<Account>,
        device: &Arc<Device>,
    ) -> Result<Self, store::Error> {
        let now = now_ms();
        let (account_idle, touch) = account.last_use.touch(now);
        let device_idle = device.requests.begin();
        let in_use = Self(Arc::clone(device));
        if device_idle >= state.config.device_idle || account_idle >= state.config.account_idle {
            account.has_written();
            account.wake_candidates();
        }
        if touch {
            // Boxed: it is once an hour.
            if Box::pin(state.store.touch_account(account.account_id, now)).await? {
                account.last_use.stored.store(now, Ordering::Release);
            }
        }
        Ok(in_use)
    }
}

impl Account {
    /// A client uses a device at another replica, which this one polls for: pollers that rested wake.
    pub(crate) fn used_elsewhere(&self, state: &State, device_nid: DeviceNid) {
        let (account_idle, _) = self.last_use.touch(now_ms());
        let device = self.device(device_nid);
        let device_idle = device.as_ref().map_or(Duration::MAX, |device| device.requests.idle());
        if let Some(device) = device {
            device.requests.begin();
            device.requests.end();
            device.elsewhere.used();
        }
        if device_idle >= state.config.device_idle || account_idle >= state.config.account_idle {
            self.wake_candidates();
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.requests.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_is_idle_when_no_request_is_under_way() {
        let requests = Requests::new();
        let pause = Duration::from_mins(1);
        assert_eq!(requests.begin(), Duration::MAX);
        tokio::time::advance(pause).await;
        assert_eq!(requests.idle(), Duration::ZERO);
        assert_eq!(requests.begin(), Duration::ZERO);
        requests.end();
        tokio::time::advance(pause).await;
        assert_eq!(requests.idle(), Duration::ZERO, "the first is still under way");
        requests.end();
        tokio::time::advance(pause).await;
        assert_eq!(requests.idle(), pause);
        assert_eq!(requests.begin(), pause);
    }
}
