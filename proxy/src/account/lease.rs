//! Who polls for an account: this process, another one, or nobody at the moment.
//!
//! The store decides; this is what the process last heard of it. Pollers run only while the lease is ours.

use store::{ReplicaId, Store};
use tokio::sync::watch;

use super::Account;

/// Who polls for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Nobody that this process knows of: whoever is first.
    Vacant,
    /// This process.
    Ours,
    /// Another one.
    Theirs(ReplicaId),
}

impl Lease {
    /// What the store says of an account.
    pub(super) fn of(store: &Store, holder: Option<ReplicaId>) -> Self {
        match holder {
            None => Self::Vacant,
            Some(holder) if store.replica() == Some(holder) => Self::Ours,
            Some(holder) => Self::Theirs(holder),
        }
    }
}

impl Account {
    /// Who polls for it.
    pub(crate) fn lease(&self) -> Lease {
        *self.lease.borrow()
    }

    /// Changes when another process polls for it, or none does.
    pub(crate) fn watch_lease(&self) -> watch::Receiver<Lease> {
        self.lease.subscribe()
    }

    /// Another process polls for it from now on, or this one, or none.
    pub(crate) fn set_lease(&self, lease: Lease) {
        let changed = self.lease.send_if_modified(|current| {
            let changed = std::mem::replace(current, lease) != lease;
            if changed {
                // What polls elsewhere have stored is not known to cover anything here. Whoever waits for the lease sees both.
                self.has_written();
            }
            changed
        });
        if !changed {
            return;
        }
        self.rooms.forgive();
        self.forget_failures();
        for device in self.devices() {
            device.change_hands();
            if lease != Lease::Ours {
                // A client may go on with another token at another replica: whoever polls next begins with the latest.
                device.stop_polling();
            }
        }
    }

    /// What whoever polled said of upstream's refusals is no longer known to be so: whoever polls now says it anew.
    pub(crate) fn forget_failures(&self) {
        self.refused(None);
        self.first_poll_begins();
    }

    /// What the store says of the lease.
    pub(crate) fn hear_of_holder(&self, store: &Store, holder: Option<ReplicaId>) {
        self.set_lease(Lease::of(store, holder));
    }
}
