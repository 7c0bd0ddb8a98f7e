//! Access tokens whose owner is known, and for how long upstream's word on them is taken.
//!
//! In memory alone: what is lost is found again through upstream. It must not ask anybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use store::DeviceNid;
use tokio::{sync::watch, time::Instant};

use crate::{
    account::{Account, Device},
    secret::TokenHash,
};

/// How long upstream's word on a token is taken without asking again: what bounds how long a token
/// revoked elsewhere still works.
pub(super) const TRUST: Duration = Duration::from_secs(30);

/// How long a token that nobody uses stays known.
const KEEP: Duration = Duration::from_hours(1);

/// How many tokens are learnt between two looks for those that nobody uses.
const SWEEP_EVERY: usize = 1024;

/// A token's owner.
pub(super) struct Known {
    pub(super) account: Arc<Account>,
    pub(super) device: Arc<Device>,
    /// When upstream last accepted the token; `None` when that may no longer be true.
    pub(super) accepted: watch::Sender<Option<Instant>>,
    pub(super) valid: watch::Sender<bool>,
    /// Its device has been polled for because of it. Whoever has a token learnt may be gone before that, or want to know whose
    /// it is and no more.
    taken_up: AtomicBool,
}

impl Known {
    /// Nobody has been polled for because of it yet.
    pub(super) fn is_new(&self) -> bool {
        !self.taken_up.load(Ordering::Acquire)
    }

    /// Its device is polled for, and what was written with it before is waited for.
    pub(super) fn take_up(&self) {
        self.taken_up.store(true, Ordering::Release);
    }

    /// Whether upstream need not be asked.
    pub(super) fn is_trusted(&self) -> bool {
        self.accepted.borrow().is_some_and(|at| at.elapsed() < TRUST)
    }
}

/// Access tokens whose owner is known, by keyed hash.
#[derive(Default)]
pub(crate) struct TokenCache {
    known: DashMap<TokenHash, Arc<Known>>,
}

impl TokenCache {
    /// Whose a token is, if that is known.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Known>> {
        self.known.get(hash).map(|known| Arc::clone(&known))
    }

    /// Learns whose a token is, and when upstream accepted it, if it did.
    pub(super) fn learn(
        &self,
        hash: &TokenHash,
        account: Arc<Account>,
        device: Arc<Device>,
        accepted: Option<Instant>,
    ) -> Arc<Known> {
        self.sweep();
        let entry = self.known.entry(hash.clone()).or_insert_with(|| {
            Arc::new(Known {
                account,
                device,
                accepted: watch::Sender::new(None),
                valid: watch::Sender::new(true),
                taken_up: AtomicBool::new(false),
            })
        });
        if accepted.is_some() {
            entry.accepted.send_replace(accepted);
        }
        Arc::clone(&entry)
    }

    /// A poll with this token has succeeded.
    pub(crate) fn accepted(&self, hash: &TokenHash) {
        if let Some(known) = self.known.get(hash) {
            known.accepted.send_replace(Some(Instant::now()));
        }
    }

    /// Forgets a token that upstream refused. Whoever waits with it asks upstream again.
    pub(crate) fn refused(&self, hash: &TokenHash) {
        if let Some((_, known)) = self.known.remove(hash) {
            known.valid.send_replace(false);
        }
    }

    /// Forgets tokens that have not been seen for long, now and then: they rotate, and each that is
    /// still good is found again through upstream.
    fn sweep(&self) {
        if self.known.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.known.retain(|_, known| {
                let is_recent = known.accepted.borrow().is_some_and(|at| at.elapsed() < KEEP);
                is_recent || Arc::strong_count(known) > 1
            });
        }
    }

    /// Forgets every token of these devices.
    pub(super) fn refused_devices(&self, devices: &[DeviceNid]) {
        self.known.retain(|_, known| {
            let refused = devices.contains(&known.device.device_nid);
            if refused {
                known.valid.send_replace(false);
            }
            !refused
        });
    }

    /// The tokens of a device may no longer be good: whoever uses one, or waits with one, asks upstream.
    pub(super) fn doubt_device(&self, device: DeviceNid) {
        for known in self.known.iter().filter(|known| known.device.device_nid == device) {
            known.accepted.send_replace(None);
        }
    }

    /// Any token may no longer be good.
    pub(crate) fn doubt_all(&self) {
        for known in &self.known {
            known.accepted.send_replace(None);
        }
    }

    /// Forgets the tokens of a device without a verdict on them.
    pub(super) fn drop_device(&self, device: DeviceNid) {
        self.known.retain(|_, known| known.device.device_nid != device);
    }
}
