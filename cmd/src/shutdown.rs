//! Signals: the first SIGTERM or SIGINT asks for an orderly end, the second ends at once.

use std::{io, process};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// What a shell reports for a program that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

/// Tells when the program is to end. Clones tell the same.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens for signals from now on.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            for is_first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if !is_first {
                    break;
                }
                tracing::info!("stopping: requests in progress are finished first");
                sender.send_replace(true);
            }
            tracing::warn!("stopping at once; a private Postgres goes on until the next run");
            process::exit(EXIT_INTERRUPTED);
        });
        Ok(Self(receiver))
    }

    /// Returns once the program is to end.
    pub(crate) async fn requested(mut self) {
        if self.0.wait_for(|requested| *requested).await.is_err() {
            // The listener lives as long as the runtime does: there is nobody left to wait.
            std::future::pending::<()>().await;
        }
    }
}
