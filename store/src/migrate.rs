//! Brings the schema up to date: embedded, numbered migrations, run under a lock, refused when the
//! database is newer than the program.

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
        let outcome = match self.refuse_newer().await {
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

    /// The version of the schema in the database; `None` where there is none yet.
    pub async fn schema_version(&self) -> Result<Option<i32>, Error> {
        const NAME: &str = "migrate::schema_version";
        let known = self
            .query(
                NAME,
                "-- migrate::schema_version
                SELECT to_regclass('refinery_schema_history') IS NOT NULL AS known",
                &[],
            )
            .await?;
        if !known.first().is_some_and(|row| row.get::<_, bool>("known")) {
            return Ok(None);
        }
        let rows = self
            .query(
                NAME,
                "-- migrate::schema_version
                SELECT MAX(version) AS version FROM refinery_schema_history",
                &[],
            )
            .await?;
        Ok(rows.first().and_then(|row| row.get("version")))
    }

    async fn refuse_newer(&self) -> Result<(), Error> {
        let supported = newest();
        match self.schema_version().await? {
            Some(found) if found > supported => Err(Error::UnsupportedSchema { found, supported }),
            _ => Ok(()),
        }
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
