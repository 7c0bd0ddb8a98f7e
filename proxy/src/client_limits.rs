//! What one client, and all of them together, may take of this process.
//!
//! Neighbours: `cmd` reads the numbers, `server` and `guard` hold connections and requests to them. `None` means no limit.

use std::time::Duration;

/// The limits on clients.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// The longest body, in bytes, of a request that is read whole and is no sync: key claims, endings of sessions.
    pub max_buffered_bytes: usize,
    /// The longest head of a request, in bytes.
    pub max_head_bytes: usize,
    /// How long the head of a request may take from its first byte to its last.
    pub head_timeout: Option<Duration>,
    /// How long a body that is read whole may take.
    pub body_timeout: Option<Duration>,
    /// How long a client may take nothing of its reply.
    pub reply_timeout: Option<Duration>,
    /// How many connections are open at once.
    pub max_connections: Option<usize>,
    /// How many of them come from one address.
    pub max_connections_per_address: Option<usize>,
    /// How many requests of one access token are under way at once.
    pub max_requests_per_token: Option<usize>,
    /// How many access tokens that nobody has heard of are asked about at once, and how many that are known.
    pub max_token_checks: usize,
}

#[cfg(test)]
impl ClientLimits {
    /// None at all, for tests that set those that they are about.
    pub(crate) fn none() -> Self {
        Self {
            max_buffered_bytes: usize::MAX,
            max_head_bytes: usize::MAX,
            head_timeout: None,
            body_timeout: None,
            reply_timeout: None,
            max_connections: None,
            max_connections_per_address: None,
            max_requests_per_token: None,
            max_token_checks: usize::MAX,
        }
    }
}
