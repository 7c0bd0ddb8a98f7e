//! Accepts connections and serves requests on them until told to stop.
//!
//! Neighbours: `cmd` opens the listener and calls [`serve`]; `dispatch` answers the requests. It must not know what is
//! asked.
//!
//! Shutdown, in order: no new connections; [`State::shutting_down`] turns true, at which long-polls answer; requests under
//! way get [`DRAIN`] to finish; what is left is cut off. All of it, and what `cmd` does after it, takes less than ten
//! seconds; only a private Postgres may take longer to stop.

mod accept;
mod admission;
mod connection;
mod pace;
mod reply;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::accept::Listener;
use self::admission::Admission;
pub(crate) use self::connection::serve as serve_connection;
use crate::config::Config;
use crate::monitor::Monitor;
use crate::state::State;
use crate::upstream;
use crate::{dispatch, housekeeping, metrics, replicas, retention};

/// How long requests under way may take to finish at shutdown.
const DRAIN: Duration = Duration::from_secs(7);

/// How long clients wait at the start for this process to join those that share the database.
const JOIN: Duration = Duration::from_secs(2);

/// How much longer than that it may take to give up the accounts that this process polls for. It begins with the
/// shutdown.
const LEAVE: Duration = Duration::from_secs(1);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No client for the homeserver could be made.
    #[error("cannot prepare connections to the homeserver")]
    Upstream(#[from] upstream::Error),
    /// The database could not be used.
    #[error("cannot use the database")]
    Store(#[from] store::Error),
}

/// Serves requests until `shutdown` is done, and then lets those under way finish.
pub async fn serve(
    config: Config,
    store: Store,
    listener: Listener,
    monitor: &Monitor,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, shutting_down) = watch::channel(false);
    let state = Arc::new(State::new(config, store, monitor.metrics.clone(), shutting_down).await?);
    monitor.serves(&state);
    if monitor.is_open() {
        tokio::spawn(metrics::sizes::keep(Arc::clone(&state)));
    }
    let replica = tokio::spawn(replicas::run(Arc::clone(&state)));
    tokio::spawn(housekeeping::run(Arc::clone(&state)));
    // Whoever comes first is polled for by this process, and needs no other.
    let _ = tokio::time::timeout(JOIN, state.replicas.may_poll()).await;
    let admission = Admission::new(&state.config.client_limits, state.metrics.clone());
    tokio::spawn(retention::run(Arc::clone(&state)));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);

    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept() => {
                let peer = accepted.peer();
                let Some(admitted) = admission.admit(peer) else {
                    admission.turn_away(accepted, peer);
                    continue;
                };
                let connected = state.metrics.connected();
                let limits = state.config.client_limits.clone();
                let metrics = state.metrics.clone();
                let state = Arc::clone(&state);
                let answer = move |request: Request<Incoming>| {
                    dispatch::handle(Arc::clone(&state), request, peer)
                };
                let stop = stop.subscribe();
                connections.spawn(async move {
                    connection::serve(accepted, &limits, &metrics, answer, stop).await;
                    drop((admitted, connected));
                });
            }
        }
    }

    let begun = Instant::now();
    monitor.stops();
    drop(listener);
    stop.send_replace(true);
    tracing::info!(connections = connections.len(), "stopping");
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout_at(begun + DRAIN, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting off requests that take too long to finish"
        );
    }
    connections.shutdown().await;
    if tokio::time::timeout_at(begun + DRAIN + LEAVE, replica).await.is_err() {
        tracing::warn!(
            "the database does not answer: others will take this process for dead in their time"
        );
    }
    Ok(())
}

/// A handler's panic is answered where it happens; one that comes this far is of the HTTP library, or of a body.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a panic");
    }
}
