//! Waiting until there may be something to say: for the streams' sources, the deadline, the end of the
//! process, and the death of the requester's token.
//!
//! It knows where news comes from, not what it is: whoever is woken looks for itself.

use std::sync::Arc;

use store::{InboxSeq, Position};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{account::KeyCounts, auth::Requester, metrics::labels::Api, observed, state::State};

/// Where the news of a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The account stream.
    Account,
    /// The device's inbox.
    Inbox,
    /// The device's key counts.
    KeyCounts,
}

/// Why the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There is news from a source.
    By(Source),
    /// The time is up, or the process is to end: the client gets its answer now.
    Over,
    /// Upstream refused the requester's token.
    Revoked,
}

/// Wakes one request.
pub(crate) struct Waiting {
    state: Arc<State>,
    requester: Requester,
    deadline: Instant,
    account: watch::Receiver<Position>,
    inbox: watch::Receiver<InboxSeq>,
    key_counts: watch::Receiver<KeyCounts>,
    shutting_down: watch::Receiver<bool>,
}

impl Waiting {
    /// Begins to listen: whatever comes after this call wakes.
    pub(crate) fn new(state: &Arc<State>, requester: &Requester, deadline: Instant) -> Self {
        Self {
            state: Arc::clone(state),
            requester: requester.clone(),
            deadline,
            account: requester.account.watch(),
            inbox: requester.device.watch_inbox(),
            key_counts: requester.device.watch_key_counts(),
            shutting_down: state.shutting_down.clone(),
        }
    }

    /// Waits for the next reason to look again, or to stop waiting.
    pub(crate) async fn next(&mut self) -> Woken {
        let _waits = observed::waits(&self.state.metrics, Api::V3);
        tokio::select! {
            biased;
            () = sleep_until(self.deadline) => Woken::Over,
            () = told(self.shutting_down.wait_for(|down| *down)) => Woken::Over,
            () = self.requester.revoked(&self.state) => Woken::Revoked,
            () = told(self.account.changed()) => Woken::By(Source::Account),
            () = told(self.inbox.changed()) => Woken::By(Source::Inbox),
            () = told(self.key_counts.changed()) => Woken::By(Source::KeyCounts),
        }
    }
}

/// Completes when a watch does; never if the other side is gone, which is then no news at all.
async fn told<T>(watched: impl Future<Output = Result<T, watch::error::RecvError>>) {
    if watched.await.is_err() {
        std::future::pending::<()>().await;
    }
}
