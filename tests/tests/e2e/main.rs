//! The end-to-end tests: one file per behaviour. The fixtures are in the library of this package.
//!
//! `tests/run e2e` runs them with everything that they need; `tests/run e2e typing` runs those whose name contains `typing`.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the right answer to anything unexpected"
)]

mod access;
mod account_data;
mod admin;
mod bad_input;
mod client_limits;
mod cold_start;
mod crash;
mod data_directory;
mod database_tls;
mod demo;
mod devices;
mod e2ee;
mod ended_sessions;
mod fidelity;
mod first_attempt;
mod from_memory;
mod invites;
mod leases;
mod log_lines;
mod look_back;
mod lost_history;
mod metrics;
mod numbered;
mod overlap;
mod passthrough;
mod poller;
mod presence;
mod presence_stream;
mod quiet;
mod readiness;
mod real_client;
mod receipts;
mod redactions;
mod replicas;
mod restart;
mod retention;
mod room;
mod room_list;
mod room_members;
mod scripted_rooms;
mod secrets;
mod sessions;
mod shutdown;
mod stage;
mod sync_tokens;
mod timeline;
mod tls;
mod to_device;
mod token_life;
mod traces;
mod typing;
mod unix_socket;
mod unknown_tokens;
mod upkeep;
mod v2_sync;
mod v3_errors;
mod worked_session;
mod writes;
