//! The homeserver, as a server whose API we call: where it is, what we ask it, and how it can fail.
//!
//! Neighbours: pollers, `auth` and `v2` call `Client`; `passthrough` shares the [`Address`] and the TLS roots but brings
//! its own raw client, because what it carries must not be looked at. This module must not know what an answer
//! means: it hands bodies back as bytes.

mod address;
mod aside;
mod client;
mod error;
mod on_behalf;
mod probe;
mod response;
mod spool;
mod tls;
mod token;

pub use self::address::{Address, AddressError};
pub(crate) use self::aside::{aside, unlike_any_other};
pub(crate) use self::client::{Client, SyncQuery, Whoami};
pub use self::error::Error;
pub(crate) use self::on_behalf::OnBehalfOf;
pub use self::probe::{Probe, probe};
pub(crate) use self::spool::{Large, Reply};
pub(crate) use self::tls::client_config;
pub use self::token::AccessToken;

/// Marks every request that leaves this program, so that a `-server` which leads back here is noticed at the second
/// lap and not at the last free socket.
pub(crate) const HOP_HEADER: &str = "x-syncv3-hop";
