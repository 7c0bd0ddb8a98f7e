//! What can go wrong in the store. Absence is no error: it is `Ok(None)`.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings ask for something that cannot be had.
    #[error("the database settings cannot be used")]
    Settings(#[from] crate::SettingsError),
    /// No connection could be had.
    #[error("no database connection")]
    Pool(#[from] PoolError),
    /// A statement failed.
    #[error("the database refused `{name}`")]
    Db {
        /// The operation it was part of.
        name: &'static str,
        /// What Postgres, or the connection to it, said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database says something that the program never writes.
    #[error("inconsistent row in `{table}`: column `{column}`, key `{key}`")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Which row.
        key: String,
    },
    /// The database was written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows {supported} at most: run a newer syncv3"
    )]
    UnsupportedSchema {
        /// What the database has.
        found: i32,
        /// The newest that this program knows.
        supported: i32,
    },
    /// The database was written by an older program, and has yet to be migrated.
    #[error(
        "the database has schema version {found}, this program needs {needed}: run `syncv3 migrate`"
    )]
    OutdatedSchema {
        /// What the database has; 0 for an empty one.
        found: i32,
        /// What this program needs.
        needed: i32,
    },
    /// A migration failed, or one that has run differs from the one in the program.
    #[error("migration failed")]
    Migration(#[from] refinery::Error),
    /// Another poll of the same account was stored in between: this one must not be.
    #[error("the account stream moved on: poll `{asked_since:?}` is stale")]
    Fenced {
        /// The since of the poll that came too late.
        asked_since: Option<String>,
    },
}

impl Error {
    /// Whether the database is away, so that trying again later can help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Pool(_) => true,
            Self::Db { source, .. } => {
                source.is_closed()
                    || source.code().is_none()
                    || source.code().is_some_and(|code| {
                        *code == SqlState::ADMIN_SHUTDOWN
                            || *code == SqlState::CRASH_SHUTDOWN
                            || *code == SqlState::CANNOT_CONNECT_NOW
                            || *code == SqlState::TOO_MANY_CONNECTIONS
                            || *code == SqlState::DISK_FULL
                            || *code == SqlState::IDLE_SESSION_TIMEOUT
                    })
            }
            _ => false,
        }
    }

    /// Whether a row was to refer to one that is not there, or is there no more.
    pub fn is_dangling(&self) -> bool {
        matches!(self, Self::Db { source, .. }
            if source.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION))
    }

    /// Whether the same transaction may succeed when it is simply run again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Db { source, .. }
            if source.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
                || source.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE))
    }
}
