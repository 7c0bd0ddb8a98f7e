//! A client that waits for what comes, and notes when it came.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use crate::rows::side_by_side::initial::LAZY;
use crate::rows::side_by_side::wire::{NO_ROOMS, Sync, Wire};

/// How long a request waits, in milliseconds.
const LONG_POLL: u64 = 30_000;

/// It waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    heard: UnboundedReceiver<(Instant, String)>,
    waiting: AbortHandle,
}

impl Listener {
    /// Waits from now on.
    pub(crate) async fn begin(mut wire: Wire) -> Self {
        let first = Sync { filter: NO_ROOMS, is_shown: true, ..Sync::default() };
        let since = wire.sync(&first).await.next_batch();
        let (tell, heard) = unbounded_channel();
        let waiting = tokio::spawn(wait(wire, since, tell)).abort_handle();
        Self { heard, waiting }
    }

    /// Waits until it is told of something with this text, and says when that was.
    pub(crate) async fn hears(&mut self, said: &str) -> Instant {
        loop {
            let (arrived, body) = self.heard.recv().await.expect("it waits until it is dropped");
            if body.contains(said) {
                return arrived;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}

async fn wait(mut wire: Wire, mut since: String, tell: UnboundedSender<(Instant, String)>) {
    loop {
        let sync = Sync { since: Some(&since), timeout: LONG_POLL, filter: LAZY, is_shown: true };
        let answer = wire.sync(&sync).await;
        since = answer.next_batch();
        if tell.send((answer.arrived, answer.text())).is_err() {
            return;
        }
    }
}
