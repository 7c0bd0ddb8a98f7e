//! Everything that speaks Postgres: migrations and typed operations, a file per table family.
//!
//! The proxy stands on this crate. The crate knows no HTTP, no JSON beyond carrying its bytes, and
//! nothing of clients. What it keeps is what the homeserver told each account: see the comments in
//! `migrations/`, which are the reference of the data model.

mod access_tokens;
mod account_stream;
mod accounts;
mod admin;
mod connect;
mod device_inbox;
mod devices;
mod error;
mod ids;
mod latest_values;
pub mod mark;
mod members;
#[cfg(test)]
mod micro;
mod migrate;
mod observe;
mod redactions;
mod replicas;
mod retention;
mod room_account_data;
mod room_changes;
mod room_heads;
mod room_lists;
mod room_outlines;
mod rooms;
mod selected_state;
mod session_sets;
mod sessions;
mod standings;
mod state;
mod timelines;
mod transaction_ids;
mod tx;
mod upkeep;

use std::sync::{Arc, atomic::AtomicU64};

use dashmap::DashMap;
use deadpool_postgres::Pool;
use tokio::sync::Semaphore;

pub use crate::{
    access_tokens::StoredToken,
    account_stream::{
        AccountData, Batch, Batches, Counts, DeviceUpdate, Event, Ingested, LightPoll, Poll,
        PresenceUpdate, Receipt, RoomUpdate, StateBlock, Stopped, StoredRoom, Summary,
    },
    accounts::Account,
    admin::{AccountStatus, DeviceStatus, SessionStatus},
    connect::{Settings, SettingsError},
    device_inbox::{InboxMessage, InboxPage},
    devices::Device,
    error::Error,
    ids::{AccountId, BodyId, DeviceNid, InboxSeq, Place, Position, ReplicaId, RoomNid, SessionId},
    latest_values::{DeviceListChanges, StoredPresence, StoredReceipt},
    members::{Member, MemberChange},
    observe::{Observation, PoolUse},
    redactions::{RedactionRules, RedactionScan},
    replicas::{Beat, Claimed, Membership, Peer},
    retention::{BodySweep, DueAccount, Horizon, LetGo, Pace, Swept, TableSize},
    room_account_data::RoomAccountData,
    room_changes::RoomChange,
    room_heads::{ChangedRoom, RoomHead, Section},
    room_lists::{ListedRoom, RoomList},
    room_outlines::RoomOutline,
    selected_state::StateKeys,
    session_sets::{NewSet, StoredSet},
    sessions::{Keep, NewSession, Session},
    standings::Standing,
    state::{StateEvent, StateQuery, StateSelection},
    timelines::{EventPlace, TimelineEvent, TimelineQuery, UpstreamTokens},
    upkeep::Upkeep,
};

/// The database. Cheap to clone; clones share one pool of connections.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Room IDs already interned: they never change.
    room_nids: Arc<DashMap<String, RoomNid>>,
    redaction_rules: RedactionRules,
    /// Who may store a large poll.
    large_polls: Arc<Semaphore>,
    /// Counts the transactions of this process that pruned what was stored.
    prunings: Arc<AtomicU64>,
    /// How to reach the database past the pool.
    settings: Settings,
    /// Which replica this process is.
    replica: Arc<replicas::Own>,
    /// Whoever counts what happens here.
    observer: observe::Observer,
}

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Postgres' version, as `15.18`.
    pub version: String,
}

impl Store {
    /// A store on the database of `settings`, with at most `max_connections` connections. Nothing is
    /// connected before the first operation.
    pub fn connect(
        settings: &Settings,
        max_connections: usize,
        redaction_rules: RedactionRules,
    ) -> Result<Self, Error> {
        let pool = settings.pool(max_connections)?;
        Ok(Self {
            pool,
            room_nids: Arc::default(),
            redaction_rules,
            large_polls: Arc::new(Semaphore::new(Self::large_at_once(max_connections))),
            prunings: Arc::default(),
            settings: settings.clone(),
            replica: Arc::default(),
            observer: observe::Observer::default(),
        })
    }

    /// Ends the connections: idle ones now, the others as they are given back. What is asked of the store after that fails
    /// as unavailable.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Asks the server for its version: whether it can be reached.
    pub async fn ping(&self) -> Result<ServerInfo, Error> {
        let rows = self
            .query(
                "store::ping",
                "-- store::ping
                SELECT current_setting('server_version') AS version",
                &[],
            )
            .await?;
        let version = rows.first().map(|row| row.get("version")).unwrap_or_default();
        Ok(ServerInfo { version })
    }

    /// The key of the MAC of this database's tokens: 32 bytes that no other database has.
    pub async fn token_key(&self) -> Result<Vec<u8>, Error> {
        let rows = self
            .query(
                "store::token_key",
                "-- store::token_key
                SELECT token_key FROM instance",
                &[],
            )
            .await?;
        rows.first().map(|row| row.get("token_key")).ok_or(Error::Inconsistent {
            table: "instance",
            column: "token_key",
            key: String::from("TRUE"),
        })
    }
}
