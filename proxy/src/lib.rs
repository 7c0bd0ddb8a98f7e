//! Everything that speaks HTTP: the server, the pass-through, the pollers, sync v2 and sync v3.
//!
//! Stands on `store`, where all durable state is; `cmd` starts it. This crate knows no SQL and reads
//! no environment. Where a line belongs is told by docs/architecture.md.

mod account;
mod auth;
mod auth_header;
mod auxiliary;
mod body;
mod capabilities;
mod client_limits;
pub mod clock;
mod config;
mod cors;
mod dispatch;
mod error;
mod event_json;
mod federation;
mod filter;
mod fingerprint;
#[cfg(test)]
mod footprint;
mod guard;
mod housekeeping;
mod ignored;
mod ingest;
mod json;
mod metrics;
#[cfg(test)]
mod micro;
mod monitor;
mod observed;
mod passthrough;
mod patience;
mod peer;
mod poller;
mod query;
mod redaction;
mod replicas;
mod retention;
mod room_json;
mod router;
pub mod secret;
mod server;
mod state;
mod sync_reply;
mod sync_token;
mod token;
pub mod traces;
mod unread;
pub mod upstream;
mod v2;
mod v3;
mod views;

#[cfg(debug_assertions)]
pub use crate::v2::leave_unchecked;
pub use crate::{
    client_limits::ClientLimits,
    config::Config,
    monitor::Monitor,
    redaction::RULES as REDACTION_RULES,
    server::{Listener, ServeError, serve},
    upstream::{Probe, probe},
};
