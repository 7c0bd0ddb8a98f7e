//! One JSON object a line. The names of fields are a promise to scripts; new ones may come.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};
use store::{AccountStatus, DeviceStatus, SessionStatus};

/// Writes objects to stdout.
pub(super) fn write(objects: impl IntoIterator<Item = Value>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for object in objects {
        writeln!(out, "{object}")?;
    }
    out.flush()
}

pub(super) fn account(account: &AccountStatus) -> Value {
    json!({
        "user_id": account.user_id,
        "account_id": account.account_id.0,
        "position": account.pos.0,
        "has_upstream_since": account.has_upstream_since,
        "main_device": account.main_device,
        "used_at": account.used_at,
        "stored_at": account.stored_at,
        "joined_rooms": account.joined_rooms,
        "devices": account.devices,
    })
}

pub(super) fn device(device: &DeviceStatus) -> Value {
    json!({
        "device_id": device.device_id,
        "is_main": device.is_main,
        "token_used_at": device.token_used_at,
        "sessions": device.sessions,
        "v2": device.v2,
        "inbox_seq": device.inbox_seq.0,
        "inbox": device.inbox,
    })
}

pub(super) fn session(session: &SessionStatus, live_since: i64) -> Value {
    json!({
        "device_id": session.device_id,
        "session_id": session.session_id.map(|id| id.0),
        "api": if session.session_id.is_some() { "v3" } else { "v2" },
        "last_used_at": session.last_used_at,
        "is_expired": session.last_used_at < live_since,
        "inbox_acked": session.inbox_acked.0,
        "lag": session.lag,
        "bytes": session.bytes,
    })
}
