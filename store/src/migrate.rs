//! Brings the schema up to date: embedded, numbered migrations, run under a lock, refused when the
//! database is newer than the program.

use tokio_postgres::Client;

use crate::{Error, Store};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The key of the advisory lock under which migrations run: any fixed number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x7379_6e63_7633_0001;

impl Store {
    /// Runs the migrations that are still to run. Several processes may call this at once.
    pub async fn migrate(&self) -> Result<(), Error> {
        const NAME: &str = "migrate::migrate";
        let wrap = |source| Error::Db { name: NAME, source };
        let mut client = self.pool.get().await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await.map_err(wrap)?;
        // All on the one connection: whoever waits for the lock holds one, and there may be no other.
        let outcome = match refuse_newer(&client).await {
            Ok(()) => embedded::migrations::runner()
                .set_abort_divergent(true)
                .run_async(&mut **client.as_mut())
                .await
                .map_err(Error::from),
            Err(refused) => Err(refused),
        };
        client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await.map_err(wrap)?;
        for migration in outcome?.applied_migrations() {
            tracing::info!(migration = %migration, "migrated");
        }
        Ok(())
    }

    /// Refuses a database whose schema is not the one that this program knows.
    pub async fn require_schema(&self) -> Result<(), Error> {
        let client = self.pool.get().await?;
        refuse_newer(&client).await?;
        let (found, needed) = (schema_version(&client).await?.unwrap_or(0), newest());
        if found < needed { Err(Error::OutdatedSchema { found, needed }) } else { Ok(()) }
    }

    /// The version of the schema in the database; `None` where there is none yet.
    pub async fn schema_version(&self) -> Result<Option<i32>, Error> {
        let client = self.pool.get().await?;
        schema_version(&client).await
    }
}

async fn schema_version(client: &Client) -> Result<Option<i32>, Error> {
    let wrap = |source| Error::Db { name: "migrate::schema_version", source };
    let known = client
        .query_one(
            "-- migrate::schema_version
            SELECT to_regclass('refinery_schema_history') IS NOT NULL AS known",
            &[],
        )
        .await
        .map_err(wrap)?;
    if !known.get::<_, bool>("known") {
        return Ok(None);
    }
    let newest = client
        .query_one(
            "-- migrate::schema_version
            SELECT MAX(version) AS version FROM refinery_schema_history",
            &[],
        )
        .await
        .map_err(wrap)?;
    Ok(newest.get("version"))
}

async fn refuse_newer(client: &Client) -> Result<(), Error> {
    let supported = newest();
    match schema_version(client).await? {
        Some(found) if found > supported => Err(Error::UnsupportedSchema { found, supported }),
        _ => Ok(()),
    }
}

/// The newest schema version that this program knows.
fn newest() -> i32 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}
