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
