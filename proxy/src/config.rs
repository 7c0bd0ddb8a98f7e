//! What the proxy is told by whoever starts it. Where the values come from is not its business.

use std::{path::PathBuf, time::Duration};

use crate::{client_limits::ClientLimits, upstream::Address};

/// The settings of the proxy.
#[derive(Clone)]
pub struct Config {
    /// The homeserver.
    pub upstream: Address,
    /// What `well_known` of logins names as the homeserver; `None` derives it from each request.
    pub public_base_url: Option<String>,
    /// The key that access tokens are sealed with.
    pub secret: [u8; 32],
    /// The longest that a sync waits, whatever its `timeout` says.
    pub max_timeout: Duration,
    /// The longest body of a sync v3 request, in bytes.
    pub max_request_bytes: usize,
    /// How long an idle sync v3 session lives.
    pub session_expiry: Duration,
    /// How many sync v3 sessions a device has at most.
    pub sessions_per_device: u32,
    /// How long after its last request a device that does not run the main poll is still polled.
    pub device_idle: Duration,
    /// How long after its last request an account is still polled.
    pub account_idle: Duration,
    /// Forward `/_synapse/admin` to the homeserver.
    pub forward_admin: bool,
    /// Forward `/_matrix/federation` and `/_matrix/key` to the homeserver.
    pub forward_federation: bool,
    /// How many polls are under way at once, at most.
    pub max_polls: usize,
    /// How many first polls are under way at once, at most.
    pub max_first_polls: usize,
    /// What clients may take.
    pub client_limits: ClientLimits,
    /// How long history is kept that a client which stayed away may ask for.
    pub retention: Duration,
    /// The longest reply of the homeserver that is taken, in bytes.
    pub max_reply_bytes: usize,
    /// Where large replies wait in files until they are stored.
    pub spool_dir: PathBuf,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("upstream", &self.upstream)
            .field("public_base_url", &self.public_base_url)
            .field("max_timeout", &self.max_timeout)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("session_expiry", &self.session_expiry)
            .field("sessions_per_device", &self.sessions_per_device)
            .field("device_idle", &self.device_idle)
            .field("account_idle", &self.account_idle)
            .field("forward_admin", &self.forward_admin)
            .field("forward_federation", &self.forward_federation)
            .field("max_polls", &self.max_polls)
            .field("max_first_polls", &self.max_first_polls)
            .field("client_limits", &self.client_limits)
            .field("retention", &self.retention)
            .field("max_reply_bytes", &self.max_reply_bytes)
            .field("spool_dir", &self.spool_dir)
            .finish_non_exhaustive()
    }
}
