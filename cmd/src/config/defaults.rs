//! The defaults, as an operator would write them. The README and docs/operations.md repeat them.

pub(super) const PORT: &str = ":8008";
pub(super) const LOG_LEVEL: &str = "info";
pub(super) const LOG_FORMAT: &str = "text";
pub(super) const MAX_DB_CONN: &str = "16";
pub(super) const MAX_TIMEOUT: &str = "300";
pub(super) const SESSION_EXPIRY: &str = "30";
pub(super) const SESSIONS_PER_DEVICE: &str = "20";
pub(super) const MAX_REQUEST_BYTES: &str = "1048576";
pub(super) const MAX_POLLS: &str = "1000";
pub(super) const MAX_FIRST_POLLS: &str = "8";
pub(super) const FORWARD: &str = "false";
pub(super) const DEVICE_IDLE: &str = "300";
pub(super) const ACCOUNT_IDLE: &str = "30";
pub(super) const OTLP_SAMPLE: &str = "1";
pub(super) const MAX_BUFFERED_BYTES: &str = "16777216";
pub(super) const MAX_HEAD_BYTES: &str = "131072";
pub(super) const HEAD_TIMEOUT: &str = "10";
pub(super) const BODY_TIMEOUT: &str = "60";
pub(super) const REPLY_TIMEOUT: &str = "300";
pub(super) const MAX_CONNECTIONS: &str = "10000";
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: &str = "1000";
pub(super) const MAX_REQUESTS_PER_TOKEN: &str = "100";
pub(super) const MAX_TOKEN_CHECKS: &str = "32";
pub(super) const RETENTION: &str = "30";
pub(super) const MAX_REPLY_BYTES: &str = "536870912";
// Not `/tmp`, which is memory on many machines.
pub(super) const SPOOL_DIR: &str = "/var/tmp";
