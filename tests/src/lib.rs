//! Fixtures for the end-to-end tests: a real Synapse, a scripted homeserver for what Synapse cannot be made to do,
//! a private Postgres, the real `syncv3` binary, and Matrix clients that read like prose.
//!
//! Start reading at [`lab`]: it puts the pieces together. The tests themselves are three binaries. `tests/e2e` has one
//! file per behaviour and knows the program only by its command line, its HTTP and, where a promise is about what is
//! stored, its database: nothing here links against `proxy` or `store`. `tests/differential` compares a client of
//! Synapse with one of the proxy, over random stories, and holds the reference client of v3 against Synapse.
//! `tests/store` has one file per table family and calls the store itself, on a real Postgres.
//!
//! Two habits keep the suite honest. Tests wait on conditions with a deadline, never for a fixed time. And every child
//! process dies with the test process, however that one ends ([`keep`]).
#![expect(
    clippy::unwrap_used,
    reason = "in a fixture a panic is the right answer to anything unexpected: it fails the test and says where"
)]

pub mod authority;
pub mod bench;
pub mod chain;
pub mod client;
pub mod collector;
pub mod exposition;
pub mod forwarder;
pub mod fuzz;
pub mod history;
pub mod keep;
pub mod lab;
pub mod load;
pub mod matchers;
pub mod micro;
pub mod paths;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod real_client;
pub mod replicas;
pub mod round_robin;
pub mod schema;
pub mod scripted_homeserver;
pub mod secrets;
pub mod session;
pub mod shim;
pub mod size_model;
pub mod synapse;
pub mod wait;
pub mod witness;
