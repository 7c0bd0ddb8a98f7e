//! The store against a real Postgres: each public function of `store`, each statement run at least once, and the promises
//! that only a database can break. One file a table family.
//!
//! Every test has a database of its own, cloned from a migrated template ([`database`]); polls are put together with the
//! few words of [`polls`]. `cargo test -p tests --test store` runs these alone.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the right answer to anything unexpected"
)]

mod access_tokens;
mod accounts;
mod admin;
mod beside_batches;
mod concurrency;
mod database;
mod device_inbox;
mod devices;
mod flights;
mod in_batches;
mod ingest;
mod latest_values;
mod members;
mod migrate;
mod partitions;
mod plans;
mod polls;
mod redactions;
mod replicas;
mod retention;
mod room_account_data;
mod room_lists;
mod rooms;
mod session_sets;
mod sessions;
mod sizes;
mod standings;
mod state;
mod timelines;
mod upkeep;
