//! A database for each test: a clone of one that has been migrated once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use store::{Settings, Store};
use tests::lab::shared_postgres;
use tests::postgres::{Database, Postgres};
use tokio::sync::OnceCell;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::redactions::REDACTION_RULES;

/// More than any test uses at once, and few enough for all tests together.
const CONNECTIONS: usize = 8;

/// A migrated database that belongs to one test.
pub(crate) struct Fresh {
    /// The store on it.
    pub(crate) store: Store,
    config: Config,
    // The server lives as long as one of its databases is in use.
    _postgres: Arc<Postgres>,
}

/// A store on a fresh, migrated database.
pub(crate) async fn fresh_store() -> Store {
    Fresh::database().await.store
}

impl Fresh {
    /// A clone of the template.
    pub(crate) async fn database() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let postgres = shared_postgres().await;
        let template = template(&postgres).await;
        let name = format!("store_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let administrator = template.administrative.connect().await.unwrap();
        let statement = format!("CREATE DATABASE {name} TEMPLATE {}", template.name);
        administrator.batch_execute(&statement).await.unwrap();
        Self::named(postgres, &template.config, &name)
    }

    /// A database in which nothing has run yet.
    pub(crate) async fn unmigrated() -> Self {
        let postgres = shared_postgres().await;
        let config = config_of(&postgres.database().await);
        let name = config.get_dbname().unwrap().to_owned();
        Self::named(postgres, &config, &name)
    }

    /// A migrated database on a server that nobody else uses, started with these settings.
    pub(crate) async fn on_a_server_of_its_own(settings: &[&str]) -> Self {
        let postgres = Arc::new(Postgres::start_with(settings).await);
        let config = config_of(&postgres.database().await);
        let name = config.get_dbname().unwrap().to_owned();
        let fresh = Self::named(postgres, &config, &name);
        fresh.store.migrate().await.unwrap();
        fresh
    }

    /// Another store on the same database, as another process would have it.
    pub(crate) fn store_of(&self, connections: usize) -> Store {
        Store::connect(&settings(&self.config), connections, REDACTION_RULES).unwrap()
    }

    /// A connection past the store, for looking into the tables.
    pub(crate) async fn sql(&self) -> Client {
        let (client, connection) = self.config.connect(NoTls).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        client
    }

    /// The result of a query for one number.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.sql().await.query_one(query, &[]).await.unwrap().get(0)
    }

    /// The name of the database.
    pub(crate) fn name(&self) -> &str {
        self.config.get_dbname().unwrap()
    }

    fn named(postgres: Arc<Postgres>, like: &Config, name: &str) -> Self {
        let mut config = like.clone();
        config.dbname(name);
        let store = Store::connect(&settings(&config), CONNECTIONS, REDACTION_RULES).unwrap();
        Self { store, config, _postgres: postgres }
    }
}

struct Template {
    name: String,
    config: Config,
    /// Somewhere else to stand: a database with a connection cannot be cloned.
    administrative: Database,
}

async fn template(postgres: &Postgres) -> &'static Template {
    static TEMPLATE: OnceCell<Template> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(async || {
            let config = config_of(&postgres.database().await);
            let name = config.get_dbname().unwrap().to_owned();
            let store = Store::connect(&settings(&config), CONNECTIONS, REDACTION_RULES).unwrap();
            store.migrate().await.unwrap();
            Template { name, config, administrative: postgres.database().await }
        })
        .await
}

fn config_of(database: &Database) -> Config {
    database.connection_string().parse().unwrap()
}

fn settings(config: &Config) -> Settings {
    Settings::for_socket(&socket(config), config.get_user().unwrap(), config.get_dbname().unwrap())
}

fn socket(config: &Config) -> PathBuf {
    match &config.get_hosts()[0] {
        Host::Unix(directory) => directory.clone(),
        Host::Tcp(host) => panic!("the fixture listens on {host}, not on a socket"),
    }
}
