//! The settings that bound what clients take.

use std::time::Duration;

use clap::Args;
use proxy::ClientLimits;

use super::{Faults, defaults, sections::or_default, values};

/// The settings as text.
#[derive(Debug, Args)]
pub(crate) struct ClientLimitFlags {
    /// The largest body of other requests that the proxy reads whole, such as key claims, in bytes
    #[arg(long, env = "SYNCV3_MAX_BUFFERED_BYTES", value_name = "BYTES", default_value = defaults::MAX_BUFFERED_BYTES)]
    max_buffered_bytes: String,

    /// The largest head of a request, in bytes
    #[arg(long, env = "SYNCV3_MAX_HEAD_BYTES", value_name = "BYTES", default_value = defaults::MAX_HEAD_BYTES)]
    max_head_bytes: String,

    /// How long the head of a request may take from its first byte to its last, in seconds; 0: no limit
    #[arg(long, env = "SYNCV3_HEAD_TIMEOUT", value_name = "SECONDS", default_value = defaults::HEAD_TIMEOUT)]
    head_timeout: String,

    /// How long a body that the proxy reads whole may take, in seconds; 0: no limit
    #[arg(long, env = "SYNCV3_BODY_TIMEOUT", value_name = "SECONDS", default_value = defaults::BODY_TIMEOUT)]
    body_timeout: String,

    /// How long a client may take nothing of its reply before it is cut off, in seconds; 0: no limit
    #[arg(long, env = "SYNCV3_REPLY_TIMEOUT", value_name = "SECONDS", default_value = defaults::REPLY_TIMEOUT)]
    reply_timeout: String,

    /// How many connections of clients may be open; 0: no limit
    #[arg(long, env = "SYNCV3_MAX_CONNECTIONS", value_name = "N", default_value = defaults::MAX_CONNECTIONS)]
    max_connections: String,

    /// How many of them from one address, unless it is a private one; 0: no limit
    #[arg(long, env = "SYNCV3_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value = defaults::MAX_CONNECTIONS_PER_ADDRESS)]
    max_connections_per_address: String,

    /// How many requests of one access token may be under way; 0: no limit
    #[arg(long, env = "SYNCV3_MAX_REQUESTS_PER_TOKEN", value_name = "N", default_value = defaults::MAX_REQUESTS_PER_TOKEN)]
    max_requests_per_token: String,

    /// How many access tokens that nobody knows the homeserver is asked about at once, and how many that are known
    #[arg(long, env = "SYNCV3_MAX_TOKEN_CHECKS", value_name = "N", default_value = defaults::MAX_TOKEN_CHECKS)]
    max_token_checks: String,
}

impl ClientLimitFlags {
    /// Reads them.
    pub(super) fn read(&self, faults: &mut Faults) -> Option<ClientLimits> {
        let mut positive = |name, text, default| {
            faults.keep(name, values::positive::<usize>(or_default(text, default)))
        };
        let max_buffered_bytes =
            positive("max-buffered-bytes", &self.max_buffered_bytes, defaults::MAX_BUFFERED_BYTES);
        let max_head_bytes =
            positive("max-head-bytes", &self.max_head_bytes, defaults::MAX_HEAD_BYTES);
        let max_token_checks =
            positive("max-token-checks", &self.max_token_checks, defaults::MAX_TOKEN_CHECKS);
        let mut limit =
            |name, text, default| faults.keep(name, values::limit(or_default(text, default)));
        let head_timeout = limit("head-timeout", &self.head_timeout, defaults::HEAD_TIMEOUT);
        let body_timeout = limit("body-timeout", &self.body_timeout, defaults::BODY_TIMEOUT);
        let reply_timeout = limit("reply-timeout", &self.reply_timeout, defaults::REPLY_TIMEOUT);
        let max_connections =
            limit("max-connections", &self.max_connections, defaults::MAX_CONNECTIONS);
        let max_connections_per_address = limit(
            "max-connections-per-address",
            &self.max_connections_per_address,
            defaults::MAX_CONNECTIONS_PER_ADDRESS,
        );
        let max_requests_per_token = limit(
            "max-requests-per-token",
            &self.max_requests_per_token,
            defaults::MAX_REQUESTS_PER_TOKEN,
        );
        let seconds = |number: Option<u32>| number.map(|n| Duration::from_secs(u64::from(n)));
        let count = |number: Option<u32>| number.and_then(|n| usize::try_from(n).ok());
        Some(ClientLimits {
            max_buffered_bytes: max_buffered_bytes?,
            max_head_bytes: max_head_bytes?,
            head_timeout: seconds(head_timeout?),
            body_timeout: seconds(body_timeout?),
            reply_timeout: seconds(reply_timeout?),
            max_connections: count(max_connections?),
            max_connections_per_address: count(max_connections_per_address?),
            max_requests_per_token: count(max_requests_per_token?),
            max_token_checks: max_token_checks?,
        })
    }
}
