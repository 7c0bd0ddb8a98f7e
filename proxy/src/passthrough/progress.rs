//! Notices whether an upload still moves.
//!
//! Neighbours: `forward`, which gives up on a homeserver that is silent for too long, but not on a client that takes an
//! hour to upload.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::body::{Body, BoxError};

/// When something last moved.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    since: Instant,
    moved_after_ms: Arc<AtomicU64>,
}

impl Progress {
    /// Begins now.
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), moved_after_ms: Arc::default() }
    }

    /// When something last moved.
    pub(super) fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.moved_after_ms.load(Ordering::Relaxed))
    }

    fn mark(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_after_ms.store(elapsed, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for `patience`.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let deadline = self.last() + patience;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A request's body that tells of its progress.
pub(super) struct Watched {
    body: Body,
    progress: Progress,
}

impl Watched {
    pub(super) fn new(body: Body, progress: Progress) -> Self {
        Self { body, progress }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.mark();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_movement_puts_off_the_end() {
        let begun = Instant::now();
        let progress = Progress::begin();
        let mover = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            progress.mark();
        };
        tokio::join!(progress.stalled(Duration::from_secs(10)), mover);
        assert_eq!(begun.elapsed().as_secs(), 17);
    }
}
