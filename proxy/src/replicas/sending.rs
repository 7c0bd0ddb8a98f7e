//! Events on their way to upstream through any replica.
//!
//! An event may arrive through a poll before the answer to its sender does, and with that its transaction ID: syncs of the
//! sending device wait a moment, at whichever replica.

use std::sync::Arc;

use dashmap::DashMap;
use store::ReplicaId;

use super::notice::Notice;
use crate::{
    account::{Account, Device, SendingHere},
    state::State,
};

/// An event that is being sent through this replica.
pub(crate) struct Sending {
    state: Arc<State>,
    number: u64,
    _here: SendingHere,
}

/// Those that are being sent through others, as long as this process waits for them.
#[derive(Default)]
pub(crate) struct SendsElsewhere(DashMap<(ReplicaId, u64), SendingHere>);

impl Sending {
    /// A client of the device is sending an event, until this is dropped.
    pub(crate) fn begin(state: &Arc<State>, account: &Account, device: &Arc<Device>) -> Self {
        let number = state.herald.number();
        let (account, nid) = (account.account_id.into(), device.device_nid.into());
        state.tell(Notice::Sending { account, device: nid, number });
        Self { state: Arc::clone(state), number, _here: device.sending() }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.state.tell(Notice::Sent { number: self.number });
    }
}

impl SendsElsewhere {
    pub(super) fn begin(&self, replica: ReplicaId, number: u64, device: &Arc<Device>) {
        self.0.insert((replica, number), device.sending());
    }

    pub(super) fn end(&self, replica: ReplicaId, number: u64) {
        self.0.remove(&(replica, number));
    }
}
