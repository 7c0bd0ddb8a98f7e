//! Waiting for conditions. The only place that sleeps, and only between two looks at a condition.

use std::time::{Duration, Instant};

/// How long a test waits for anything that ought to happen. Generous, because the machine may be busy building:
/// a test that passes never waits this long, and one that fails may as well be sure.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long to look away between two looks.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something, and returns it; panics with `what` when [`PATIENCE`] is over.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// [`eventually`] with a deadline of the caller's.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up after {patience:?} waiting for {what}");
        look_away().await;
    }
}

/// The pause between two looks, for loops that cannot be written as [`eventually`].
pub async fn look_away() {
    tokio::time::sleep(GLANCE).await;
}
