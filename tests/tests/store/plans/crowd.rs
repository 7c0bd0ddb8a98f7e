//! A hundred other accounts with three hundred rooms each, so that the tables are as large as one account is small.

use tokio_postgres::Client;

/// Written past the store, because it is much: what the rows say does not matter, how many there are does.
const CROWD: &str = "
CREATE TEMPORARY TABLE crowd AS
SELECT 1000 + a AS account_id, 1 + (a * 271 + r) % 30000 AS room_nid, r AS pos
FROM generate_series(1, 100) AS a, generate_series(1, 300) AS r;

INSERT INTO rooms (room_id)
SELECT '!crowd-' || n || ':x' FROM generate_series(1, 30000) AS n;

INSERT INTO event_bodies (event_id, body_hash, membership, body)
SELECT '$crowd-' || n, decode(md5(n::TEXT), 'hex'), 'join', convert_to(repeat('x', 150), 'UTF8')
FROM generate_series(1, 60000) AS n;

INSERT INTO redactions (event_id, room_nid, redacted_by)
SELECT '$crowd-' || n, 1 + n % 30000, n FROM generate_series(1, 30000) AS n;

INSERT INTO event_copies (account_id, room_nid, event_id, pos, ord)
SELECT account_id, room_nid, '$crowd-' || pos, pos, 0 FROM crowd;

INSERT INTO redaction_scans (account_id, room_nid, pos, from_token, until_token)
SELECT account_id, room_nid, pos, 't', 's' FROM crowd;

INSERT INTO polls (account_id, pos, next_batch, stored_at)
SELECT account_id, pos, 's' || pos, pos FROM crowd;

INSERT INTO room_updates (account_id, pos, room_nid, section, limited, newly_joined, timeline_len)
SELECT account_id, pos, room_nid, 0, FALSE, FALSE, 2 FROM crowd;

INSERT INTO timeline_events (account_id, room_nid, pos, ord, body_id)
SELECT account_id, room_nid, pos, ord, 1 + (account_id * 300 + pos) % 60000
FROM crowd, generate_series(0, 1) AS ord;

INSERT INTO room_state (account_id, room_nid, event_type, state_key, body_id)
SELECT account_id, room_nid, 'm.room.member', '@crowd-' || n, 1 + (account_id * 300 + pos) % 60000
FROM crowd, generate_series(1, 3) AS n;

INSERT INTO state_changes (account_id, room_nid, pos, ord, event_type, state_key)
SELECT account_id, room_nid, pos, ord, 'm.room.member', '@crowd-1'
FROM crowd, generate_series(0, 1) AS ord;

INSERT INTO account_rooms (account_id, room_nid, section, segment_pos)
SELECT account_id, room_nid, 0, pos FROM crowd;

INSERT INTO account_data (account_id, room_nid, event_type, pos, event)
SELECT account_id, room_nid, 'm.tag', pos, '{}' FROM crowd;

INSERT INTO receipts (account_id, room_nid, user_id, receipt_type, thread_id, pos, event_id, data)
SELECT account_id, room_nid, '@crowd:x', 'm.read', '', pos, '$1', '{}' FROM crowd;

INSERT INTO presence (account_id, user_id, pos, event)
SELECT account_id, '@crowd-' || pos, pos, '{}' FROM crowd;

INSERT INTO device_list_changes (account_id, pos, user_id, has_left)
SELECT account_id, pos, '@crowd:x', FALSE FROM crowd;

INSERT INTO device_inbox (account_id, device_nid, seq, message, stored_at)
SELECT account_id, account_id, pos, '{}', pos FROM crowd;

INSERT INTO transaction_ids (account_id, device_nid, event_id, transaction_id, stored_at)
SELECT account_id, account_id, '$' || pos, 't', pos FROM crowd;

INSERT INTO accounts (user_id)
SELECT DISTINCT '@crowd-' || account_id FROM crowd;

INSERT INTO devices (account_id, device_id)
SELECT account_id, 'CROWD' FROM accounts;

INSERT INTO sessions (account_id, device_nid, last_used_at, inbox_acked)
SELECT account_id, device_nid, 1, 0 FROM devices, generate_series(1, 20);

INSERT INTO session_params (account_id, session_id, params_id, params)
SELECT account_id, session_id, n, '{}' FROM sessions, generate_series(1, 5) AS n;

INSERT INTO session_sets (account_id, session_id, set_id, purpose, last_named, content)
SELECT account_id, session_id, n::TEXT::BYTEA, 0, n, 'rooms' FROM sessions, generate_series(1, 5) AS n;
";

/// The crowd moves in.
pub(super) async fn moves_in(client: &Client) {
    client.batch_execute(CROWD).await.unwrap();
}
