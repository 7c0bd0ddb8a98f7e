//! What every request and every poller of the process shares.

use store::Store;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    account::Accounts,
    auth::{Newcomers, Questions, TokenCache},
    capabilities::Capabilities,
    config::Config,
    guard::InFlight,
    metrics::Metrics,
    passthrough,
    patience::{DATABASE_GRACE, PAUSE},
    replicas::{Duties, Hearing, Herald, Replicas, SendsElsewhere},
    secret::Sealer,
    server::ServeError,
    token::Tokens,
    upstream,
    v2::FilterCache,
};

/// The shared state of the process. Held in an `Arc` by everything that runs.
pub(crate) struct State {
    /// The settings.
    pub(crate) config: Config,
    /// The database.
    pub(crate) store: Store,
    /// What the process counts of itself.
    pub(crate) metrics: Metrics,
    /// The homeserver's API.
    pub(crate) upstream: upstream::Client,
    /// The accounts that this process serves.
    pub(crate) accounts: Accounts,
    /// This process among those that share the database.
    pub(crate) replicas: Replicas,
    /// Tells the others.
    pub(crate) herald: Herald,
    /// Makes sure that what they told is known.
    pub(crate) hearing: Hearing,
    /// What they ask for.
    pub(crate) duties: Duties,
    /// Events that are just being sent through them.
    pub(crate) sends: SendsElsewhere,
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
    /// What upstream is being asked about tokens, and which it refused lately.
    pub(crate) questions: Questions,
    /// Whose tokens were that wrote something before they came with a sync.
    pub(crate) newcomers: Newcomers,
    /// The requests under way, by token.
    pub(crate) in_flight: InFlight,
}

impl State {
    /// Completes when the process is to end.
    pub(crate) async fn shuts_down(&self) {
        // Whoever tells it outlives everybody who asks.
        let _ = self.shutting_down.clone().wait_for(|down| *down).await;
    }

    /// The state of a process that begins. The database is there and migrated.
    pub(crate) async fn new(
        config: Config,
        store: Store,
        metrics: Metrics,
        shutting_down: watch::Receiver<bool>,
    ) -> Result<Self, ServeError> {
        let observer = metrics.clone();
        store.observe(move |observation| observer.observe(observation));
        Ok(Self {
            upstream: upstream::Client::new(&config.upstream, config.max_reply_bytes)?
                .spooling_to(&config.spool_dir)
                .measured(&metrics),
            forwarder: passthrough::Forwarder::new(&config.upstream)?.measured(&metrics),
            accounts: Accounts::new(config.max_polls, config.max_first_polls),
            replicas: Replicas::default(),
            herald: Herald::default(),
            hearing: Hearing::default(),
            duties: Duties::default(),
            sends: SendsElsewhere::default(),
            token_cache: TokenCache::default(),
            sealer: Sealer::new(&config.secret),
            tokens: Tokens::new(&token_key(&store).await?),
            capabilities: Capabilities::default(),
            filters: FilterCache::default(),
            versions: passthrough::VersionsCache::default(),
            newcomers: Newcomers::default(),
            questions: Questions::new(config.client_limits.max_token_checks),
            in_flight: InFlight::default(),
            config,
            store,
            metrics,
            shutting_down,
        })
    }
}

/// Reads the key, patiently: the database was there a moment ago, and is being restarted.
async fn token_key(store: &Store) -> Result<Vec<u8>, store::Error> {
    let give_up = Instant::now() + DATABASE_GRACE;
    loop {
        match store.token_key().await {
            Err(error) if error.is_unavailable() && Instant::now() < give_up => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}
