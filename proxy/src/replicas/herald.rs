//! Tells the other replicas: one task a process, so that what many have to tell goes out in one statement.
//!
//! While one statement is under way the next fills up, and no two follow each other closer than [`APART`]: each takes a lock
//! of the whole database server for a moment. Nothing is told from within a transaction, and with no other replica nothing
//! is told at all. It must not know what a notice means.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use store::ReplicaId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{notice::Notice, queue::Queue};
use crate::{error::causes, state::State};

/// How far apart statements are at least.
const APART: Duration = Duration::from_millis(2);

/// How many notices go out in one statement.
const MOST_AT_ONCE: usize = 1_000;

/// How many wait while the database is away. The sessions of the others end then, too, and they look for themselves.
const MOST_WAITING: usize = 50_000;

/// How long somebody waits until a notice is sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes what is to be told.
pub(crate) struct Herald {
    errands: Queue<Errand>,
    /// Numbers what has to be told apart.
    numbers: AtomicU64,
}

struct Errand {
    notice: Notice,
    sent: Option<oneshot::Sender<()>>,
}

impl Default for Herald {
    fn default() -> Self {
        Self { errands: Queue::new(MOST_WAITING), numbers: AtomicU64::new(0) }
    }
}

impl Herald {
    /// A number that this process has not given out before.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl State {
    /// Tells the other replicas, soon.
    pub(crate) fn tell(&self, notice: Notice) {
        if !self.replicas.alone() {
            self.herald.errands.put(Errand { notice, sent: None });
        }
    }

    /// Tells the other replicas, and waits until a request that begins at one of them later can know: for a bounded time,
    /// because the database may be away.
    pub(crate) async fn tell_now(&self, notices: Vec<Notice>) {
        let count = notices.len();
        if self.replicas.alone() || count == 0 {
            return;
        }
        let (sender, sent) = oneshot::channel();
        let mut sender = Some(sender);
        for (number, notice) in (1..).zip(notices) {
            let sent = if number == count { sender.take() } else { None };
            self.herald.errands.put(Errand { notice, sent });
        }
        if !matches!(timeout(PATIENCE, sent).await, Ok(Ok(()))) {
            tracing::warn!("the other replicas could not be told in time");
        }
    }
}

/// Tells whoever is there that this replica is, too. That is not known yet of anybody.
pub(super) async fn announce(state: &State, own: ReplicaId) {
    let texts: Vec<String> = Notice::Joined {}.write(own).into_iter().collect();
    if let Err(error) = state.store.notify(&texts).await {
        // They find it out by themselves in a moment.
        tracing::warn!(error = %causes(&error), "could not tell the other replicas of this one");
    }
}

/// Sends what there is to tell. Never ends.
pub(super) async fn run(state: &State) {
    loop {
        let errands = state.herald.errands.take(MOST_AT_ONCE).await;
        let began = Instant::now();
        send(state, errands).await;
        sleep_until(began + APART).await;
    }
}

async fn send(state: &State, errands: Vec<Errand>) {
    // With nobody left to hear it there is nothing to tell: who comes later looks for itself.
    while !state.replicas.alone() {
        let own = state.store.replica().unwrap_or_else(|| state.replicas.last());
        let texts: Vec<String> = errands.iter().filter_map(|it| it.notice.write(own)).collect();
        match state.store.notify(&texts).await {
            Ok(()) => break,
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = %causes(&error), "could not tell the other replicas yet");
                sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(error = %causes(&error), "could not tell the other replicas");
                break;
            }
        }
    }
    for errand in errands {
        // Whoever waited may have given up.
        errand.sent.map(|sent| sent.send(()));
    }
}
