//! GET `/sync`, as the Matrix specification has it and Synapse does it.
//!
//! These tests know nothing of a proxy: with `TEST_DIRECT=1` they run against Synapse itself, which is how we know that
//! they ask for the right thing. The exceptions say so.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync>

mod account;
mod account_rules;
mod archive;
mod basics;
mod context;
mod e2ee;
mod ephemeral;
mod errors;
mod federation_format;
mod filter_rules;
mod filters;
mod ignored;
mod lazy_members;
mod membership;
mod migration;
mod parameters;
mod receipts;
mod sections;
mod state_after;
mod timelines;
mod transitions;
mod visibility;
mod waiting;
mod whose;
