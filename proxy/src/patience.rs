//! Riding out a database that is away for a moment: a restart of Postgres passes unnoticed.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use crate::error::Error;

/// How long beyond its own time a request waits for a database that is away.
pub(crate) const DATABASE_GRACE: Duration = Duration::from_secs(15);

/// How often it looks whether the database is back.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Runs something again while the database is away, until `give_up`.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    give_up: Instant,
    mut run: impl FnMut() -> F,
) -> Result<T, Error> {
    loop {
        match run().await {
            Err(Error::Unavailable(cause)) if Instant::now() < give_up => {
                tracing::debug!(%cause, "waiting for the database");
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
