//! The database of this run: the one that `-db` names, or the private one.

use std::{path::Path, time::Duration};

use proxy::REDACTION_RULES;
use store::Store;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    config,
    private_postgres::{self, PrivatePostgres},
};

/// How long a database that does not answer may still be starting.
const START_LIMIT: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no database to work on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the private Postgres cannot be used")]
    Private(#[from] private_postgres::Error),
    #[error("the start of the private Postgres was abandoned")]
    Abandoned(#[from] tokio::task::JoinError),
    #[error("the database cannot be used")]
    Store(#[from] store::Error),
    #[error("the database does not answer")]
    Silent(#[source] store::Error),
}

/// A store, and the server behind it if that is ours to stop.
pub(crate) struct Database {
    pub(crate) store: Store,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// The database for a proxy, which owns its private Postgres.
    pub(crate) async fn open(storage: &config::Storage) -> Result<Self, Error> {
        Self::with(storage, PrivatePostgres::start).await
    }

    /// The database for a short look, beside a running proxy if there is one.
    pub(crate) async fn share(storage: &config::Storage) -> Result<Self, Error> {
        Self::with(storage, PrivatePostgres::share).await
    }

    async fn with(
        storage: &config::Storage,
        private: impl FnOnce(&Path, usize) -> Result<PrivatePostgres, private_postgres::Error>
        + Send
        + 'static,
    ) -> Result<Self, Error> {
        let max_connections = storage.max_connections;
        let private = match &storage.database {
            config::Database::External(settings) => {
                let store = Store::connect(settings, max_connections, REDACTION_RULES)?;
                return Ok(Self { store, private: None });
            }
            config::Database::Private => {
                let data_dir = storage.data_dir.clone();
                spawn_blocking(move || private(&data_dir, max_connections)).await??
            }
        };
        let store = Store::connect(private.settings(), max_connections, REDACTION_RULES)?;
        Ok(Self { store, private: Some(private) })
    }

    /// Waits until the server answers, for it may be starting just as we are.
    pub(crate) async fn wait_until_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.store.ping().await {
                Ok(server) => {
                    tracing::info!("the database is PostgreSQL {}", server.version);
                    return Ok(());
                }
                Err(error) if Instant::now() < deadline => {
                    tracing::warn!("waiting for the database: {}", crate::with_sources(&error));
                }
                Err(error) => return Err(Error::Silent(error)),
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Leaves the server, and stops it if it is ours. The store must not be used any more.
    pub(crate) async fn close(self) {
        // A server that stops would else end connections that something still holds, and each would be warned of.
        self.store.close();
        let Some(private) = self.private else {
            return;
        };
        if let Err(error) = spawn_blocking(move || private.stop()).await {
            tracing::error!("the private Postgres was not stopped: {error}");
        }
    }
}
