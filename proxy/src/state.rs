//! What every request and every poller of the process shares.

use store::Store;
use tokio::sync::watch;

use crate::{
    account::Accounts, auth::TokenCache, capabilities::Capabilities, config::Config, passthrough,
    replicas::Replicas, secret::Sealer, server::ServeError, token::Tokens, upstream,
    v2::FilterCache,
};

/// The shared state of the process. Held in an `Arc` by everything that runs.
pub(crate) struct State {
    /// The settings.
    pub(crate) config: Config,
    /// The database.
    pub(crate) store: Store,
    /// The homeserver's API.
    pub(crate) upstream: upstream::Client,
    /// The accounts that this process serves.
    pub(crate) accounts: Accounts,
    /// This process among those that share the database.
    pub(crate) replicas: Replicas,
    /// Access tokens whose owner is known.
    pub(crate) token_cache: TokenCache,
    /// Seals access tokens.
    pub(crate) sealer: Sealer,
    /// Mints and opens our own tokens.
    pub(crate) tokens: Tokens,
    /// Filters that were fetched by ID.
    pub(crate) filters: FilterCache,
    /// What the homeserver says it does.
    pub(crate) capabilities: Capabilities,
    /// What the homeserver last said of its versions.
    pub(crate) versions: passthrough::VersionsCache,
    /// Turns true when the process is to end: whoever waits answers at once.
    pub(crate) shutting_down: watch::Receiver<bool>,
    /// Forwards everything else.
    pub(crate) forwarder: passthrough::Forwarder,
}

impl State {
    /// The state of a process that begins. The database is there and migrated.
    pub(crate) async fn new(
        config: Config,
        store: Store,
        shutting_down: watch::Receiver<bool>,
    ) -> Result<Self, ServeError> {
        Ok(Self {
            upstream: upstream::Client::new(&config.upstream)?,
            forwarder: passthrough::Forwarder::new(&config.upstream)?,
            accounts: Accounts::new(config.max_polls, config.max_first_polls),
            replicas: Replicas::default(),
            token_cache: TokenCache::default(),
            sealer: Sealer::new(&config.secret),
            tokens: Tokens::new(&store.token_key().await?),
            capabilities: Capabilities::default(),
            filters: FilterCache::default(),
            versions: passthrough::VersionsCache::default(),
            config,
            store,
            shutting_down,
        })
    }
}
