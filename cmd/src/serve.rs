//! `syncv3`: runs the proxy until a signal ends it.

use std::{error::Error, process::ExitCode, time::Duration};

use proxy::{Monitor, upstream::Address};
use tokio::time::{Instant, sleep};

use crate::{
    config::{Config, Limits},
    database::Database,
    listen, secret,
    shutdown::Shutdown,
};

/// The pause between two looks for a homeserver that does not answer: at first, and at most.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
const MAX_PROBE_PAUSE: Duration = Duration::from_mins(1);

/// How long a database that comes and goes is put up with.
const PREPARE_LIMIT: Duration = Duration::from_secs(30);

/// `-server` names this proxy, or another one.
#[derive(Debug, thiserror::Error)]
#[error(
    "-server (SYNCV3_SERVER) `{0}` leads back to a syncv3 proxy: give the address of the homeserver behind it"
)]
struct PointsAtProxy(Address);

/// Starts what the configuration asks for, serves, and stops it all in order.
pub(crate) async fn run(config: Config) -> Result<ExitCode, Box<dyn Error>> {
    tracing::info!("syncv3 {} starts", env!("CARGO_PKG_VERSION"));
    #[cfg(debug_assertions)]
    obey_tests();
    let shutdown = Shutdown::on_signals()?;
    let secret = secret::read_or_make(&config.secret)?;
    // Before the database is ready: clients that come meanwhile wait, and are not turned away.
    let (listener, place) = listen::open(&config.listen).await?;
    let monitor = Monitor::default();
    if let Some(metrics) = &config.metrics {
        let (listener, place) = listen::open(metrics).await?;
        tracing::info!("metrics, health and readiness are told on {place}");
        tokio::spawn(monitor.clone().serve(listener));
    }
    let database = Database::open(&config.storage).await?;

    let outcome = serve(&config, secret, &database, listener, &place, &monitor, shutdown).await;
    database.close().await;
    listen::tidy_up(&config.listen);
    if let Some(metrics) = &config.metrics {
        listen::tidy_up(metrics);
    }
    outcome?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tests have a debug build killed at a point of their choice, or have it compute answers once, as a release build does.
#[cfg(debug_assertions)]
fn obey_tests() {
    if std::env::var_os("SYNCV3_TEST_UNCHECKED").is_some() {
        proxy::leave_unchecked();
    }
    if let Some(mark) = std::env::var_os("SYNCV3_TEST_KILL_AT") {
        let armed = store::mark::arm(&mark.to_string_lossy());
        tracing::warn!(?mark, armed, "to be killed at a mark");
    }
}

async fn serve(
    config: &Config,
    secret: [u8; 32],
    database: &Database,
    listener: proxy::Listener,
    place: &str,
    monitor: &Monitor,
    shutdown: Shutdown,
) -> Result<(), Box<dyn Error>> {
    tokio::select! {
        ready = prepare(database, &secret) => ready?,
        () = shutdown.clone().requested() => return Ok(()),
    }
    tracing::info!("listening on {place}");
    let store = database.store.clone();
    tokio::select! {
        served = proxy::serve(proxy_config(config, secret), store, listener, monitor, shutdown.requested()) => {
            Ok(served?)
        }
        () = is_a_proxy(&config.server) => Err(PointsAtProxy(config.server.clone()).into()),
    }
}

/// Waits for the database and brings it up to date. One that goes away in the middle is waited for again.
async fn prepare(database: &Database, secret: &[u8; 32]) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + PREPARE_LIMIT;
    loop {
        database.wait_until_ready().await?;
        match bring_up_to_date(database, secret).await {
            Err(error) if error.is_unavailable() && Instant::now() < deadline => {
                tracing::warn!("the database went away again: {}", crate::with_sources(&error));
            }
            outcome => return Ok(outcome?),
        }
    }
}

async fn bring_up_to_date(database: &Database, secret: &[u8; 32]) -> Result<(), store::Error> {
    database.store.migrate().await?;
    if let Some((hash, sealed)) = database.store.any_sealed_token().await?
        && !proxy::secret::can_open(secret, &hash, &sealed)
    {
        tracing::error!(
            "the secret does not open the tokens in the database: accounts are not polled until their clients come back"
        );
    }
    Ok(())
}

/// Looks for the homeserver until it answers. Returns only if it turns out to be a proxy: while the
/// homeserver is away, clients are served from what is stored.
async fn is_a_proxy(server: &Address) {
    let mut pause = PROBE_PAUSE;
    loop {
        match proxy::probe(server).await {
            Ok(probe) if probe.is_syncv3 => return,
            Ok(probe) => {
                let newest = probe.versions.last().map_or("no version", String::as_str);
                tracing::info!("the homeserver `{server}` answers and knows Matrix up to {newest}");
                return std::future::pending().await;
            }
            Err(error) => tracing::warn!(
                "the homeserver `{server}` does not answer: {}",
                crate::with_sources(&error)
            ),
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PROBE_PAUSE);
    }
}

fn proxy_config(config: &Config, secret: [u8; 32]) -> proxy::Config {
    let Limits {
        max_timeout,
        session_expiry,
        sessions_per_device,
        device_idle,
        account_idle,
        max_request_bytes,
        max_polls,
        max_first_polls,
        retention,
        max_reply_bytes,
    } = config.limits;
    proxy::Config {
        upstream: config.server.clone(),
        public_base_url: config.public_base_url.clone(),
        secret,
        max_timeout,
        max_request_bytes,
        session_expiry,
        sessions_per_device,
        device_idle,
        account_idle,
        forward_admin: config.forward_admin,
        forward_federation: config.forward_federation,
        max_polls,
        max_first_polls,
        client_limits: config.client_limits.clone(),
        retention,
        max_reply_bytes,
        spool_dir: config.storage.spool_dir.clone(),
    }
}
