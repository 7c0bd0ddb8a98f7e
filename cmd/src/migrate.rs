//! `syncv3 migrate`: brings the schema up to date and exits.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use crate::{config::Storage, database::Database};

/// Runs the migrations that are still to run.
pub(crate) async fn run(storage: Storage) -> Result<ExitCode, Box<dyn Error>> {
    let database = Database::share(&storage).await?;
    let outcome = migrate(&database).await;
    database.close().await;
    outcome
}

async fn migrate(database: &Database) -> Result<ExitCode, Box<dyn Error>> {
    database.wait_until_ready().await?;
    let before = database.store.schema_version().await?;
    database.store.migrate().await?;
    let after = database.store.schema_version().await?;

    let shown =
        |version: Option<i32>| version.map_or(String::from("none"), |number| number.to_string());
    let mut out = io::stdout().lock();
    if before == after {
        writeln!(out, "schema version {}: up to date", shown(after))?;
    } else {
        writeln!(out, "schema version {} → {}", shown(before), shown(after))?;
    }
    Ok(ExitCode::SUCCESS)
}
