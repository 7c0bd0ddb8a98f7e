//! `syncv3 check`: tells an operator what works and how to mend what does not. Changes nothing.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    config::{self, Config, SecretSource},
    database::Database,
    private_postgres, secret,
};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A stored token: its hash and its sealed bytes.
type SealedToken = (Vec<u8>, Vec<u8>);

/// What one check came to.
enum Finding {
    Ok(String),
    Fail { problem: String, mend: &'static str },
}

/// Makes all checks, one line each.
pub(crate) async fn run(config: Config) -> Result<ExitCode, Box<dyn Error>> {
    let mut findings = probe_homeserver(&config).await;
    let (database, sealed) = look_at_database(&config.storage).await;
    findings.push(("database", database));
    findings.push(("secret", open_with_secret(&config.secret, sealed.as_ref())));

    let mut out = io::stdout().lock();
    let mut all_well = true;
    for (what, finding) in &findings {
        match finding {
            Finding::Ok(text) => writeln!(out, "OK    {what:<10}  {text}")?,
            Finding::Fail { problem, mend } => {
                all_well = false;
                writeln!(out, "FAIL  {what:<10}  {problem}: {mend}")?;
            }
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn probe_homeserver(config: &Config) -> Vec<(&'static str, Finding)> {
    let server = &config.server;
    let mend = "start the homeserver, or correct -server (SYNCV3_SERVER)";
    let probe = match timeout(PATIENCE, proxy::probe(&config.server)).await {
        Ok(Ok(probe)) => probe,
        Ok(Err(error)) => {
            let problem = format!("`{server}`: {}", crate::with_sources(&error));
            return vec![("homeserver", Finding::Fail { problem, mend })];
        }
        Err(_) => {
            let problem = format!("`{server}` does not answer");
            return vec![("homeserver", Finding::Fail { problem, mend })];
        }
    };
    let versions = match (probe.versions.first(), probe.versions.last()) {
        (Some(oldest), Some(newest)) => format!("`{server}` knows Matrix {oldest} to {newest}"),
        _ => format!("`{server}` answers and names no version of Matrix"),
    };
    let direction = if probe.is_syncv3 {
        Finding::Fail {
            problem: format!("`{server}` leads back to a syncv3 proxy"),
            mend: "give -server (SYNCV3_SERVER) the address of the homeserver behind it",
        }
    } else {
        Finding::Ok(format!("`{server}` is not a syncv3 proxy"))
    };
    vec![("homeserver", Finding::Ok(versions)), ("direction", direction)]
}

/// Looks at the database, and takes a sealed token from it for the secret to be tried on.
async fn look_at_database(storage: &config::Storage) -> (Finding, Option<SealedToken>) {
    if matches!(storage.database, config::Database::Private) {
        match private_postgres::is_made(&storage.data_dir) {
            Ok(true) => {}
            Ok(false) => {
                let place = storage.data_dir.display();
                let text = format!("the first start will make a private Postgres in `{place}`");
                return (Finding::Ok(text), None);
            }
            Err(error) => return (database_fault(crate::with_sources(&error)), None),
        }
    }
    let database = match Database::share(storage).await {
        Ok(database) => database,
        Err(error) => return (database_fault(crate::with_sources(&error)), None),
    };
    let looked = timeout(PATIENCE, look(&database)).await;
    database.close().await;
    match looked {
        Ok(Ok((text, sealed))) => (Finding::Ok(text), sealed),
        Ok(Err(error)) => (database_fault(crate::with_sources(&error)), None),
        Err(_) => (database_fault(String::from("it does not answer")), None),
    }
}

async fn look(database: &Database) -> Result<(String, Option<SealedToken>), store::Error> {
    let server = database.store.ping().await?;
    let text = |schema: &str| format!("PostgreSQL {}, {schema}", server.version);
    let Some(version) = database.store.schema_version().await? else {
        return Ok((text("no schema yet: the first start makes it"), None));
    };
    let sealed = database.store.any_sealed_token().await?;
    Ok((text(&format!("schema version {version}")), sealed))
}

fn open_with_secret(source: &SecretSource, sealed: Option<&SealedToken>) -> Finding {
    let place = match source {
        SecretSource::Given(_) => String::from("-secret (SYNCV3_SECRET)"),
        SecretSource::File(path) | SecretSource::Generated(path) => format!("`{}`", path.display()),
    };
    match (secret::read(source), sealed) {
        (Err(error), _) => Finding::Fail {
            problem: crate::with_sources(&error),
            mend: "correct -secret (SYNCV3_SECRET) or -secret-file (SYNCV3_SECRET_FILE)",
        },
        (Ok(Some(key)), Some((hash, sealed))) if proxy::secret::can_open(&key, hash, sealed) => {
            Finding::Ok(format!("{place} opens the stored tokens"))
        }
        (Ok(_), Some(_)) => Finding::Fail {
            problem: format!("{place} does not open the stored tokens"),
            mend: "give the secret that this database was used with before",
        },
        (Ok(Some(_)), None) => {
            Finding::Ok(format!("{place}; there is no stored token to try it on"))
        }
        (Ok(None), None) => Finding::Ok(format!("the first start will make {place}")),
    }
}

fn database_fault(problem: String) -> Finding {
    let mend = "start the database, or correct -db (SYNCV3_DB)";
    Finding::Fail { problem, mend }
}
