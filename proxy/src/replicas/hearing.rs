//! Hearing everything that was told before a request began.
//!
//! Notices arrive by themselves, but not at once. A client whose write was answered by one replica may be at the next before
//! the notice is. So a request first makes sure: a round trip on the session that listens brings whatever was told before
//! it. All who ask while one is under way share the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use store::Membership;
use tokio::{sync::oneshot, time::timeout};

use super::{ears, queue::Queue};
use crate::state::State;

/// How long a request waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many ask at once.
const MOST_ASKING: usize = 100_000;

/// Takes those who ask.
pub(crate) struct Hearing {
    asking: Queue<oneshot::Sender<()>>,
    /// There is a session that listens.
    listens: AtomicBool,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { asking: Queue::new(MOST_ASKING), listens: AtomicBool::new(false) }
    }
}

impl State {
    /// Waits until everything is taken in that other replicas told before now. `false` if that cannot be had, and anything
    /// may have been missed.
    pub(crate) async fn hear_out(&self) -> bool {
        if self.replicas.alone() {
            return true;
        }
        if !self.hearing.listens.load(Ordering::Acquire) {
            return false;
        }
        let (heard, told) = oneshot::channel();
        self.hearing.asking.put(heard);
        matches!(timeout(PATIENCE, told).await, Ok(Ok(())))
    }
}

impl Hearing {
    /// A session listens from now on, or does so no longer.
    pub(super) fn set(&self, listens: bool) {
        self.listens.store(listens, Ordering::Release);
        if !listens {
            // They are answered by being dropped.
            drop(self.asking.take_now(usize::MAX));
        }
    }

    /// Those who wait to have heard everything.
    pub(super) async fn asked(&self) -> Vec<oneshot::Sender<()>> {
        self.asking.take(usize::MAX).await
    }
}

/// Takes in everything that was told so far, for those who ask.
pub(super) async fn hear_out(
    state: &Arc<State>,
    membership: &mut Membership,
    asking: Vec<oneshot::Sender<()>>,
) -> Result<(), store::Error> {
    for told in membership.notices_so_far().await? {
        ears::hear(state, &told);
    }
    for asked in asking {
        // Whoever asked may have given up.
        let _ = asked.send(());
    }
    Ok(())
}
