-- Why: the first schema. It holds what the homeserver told each account (the account stream), the
-- current state that follows from it (the head) with what each change replaced (its undo), the
-- to-device inbox of each device, and the sessions that read from all this.
--
-- Rules that the schema keeps:
--   * Every table of an account's data has `account_id`, and all but the small ones that find an account
--     (`devices`, `access_tokens`) or that nobody queries (`quarantine`) have it first in their key, so that
--     the data can be partitioned by account. Only `rooms` and `event_bodies` are shared.
--   * JSON from outside is BYTEA: `jsonb` refuses or alters legal events, and nothing queries into it.
--   * Positions (`pos`) count the polls of one account, from 1, without gaps, in commit order.
--   * Times are milliseconds since the Unix epoch.

CREATE TABLE instance (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    token_key BYTEA NOT NULL
);
COMMENT ON TABLE instance IS 'One row: what makes this database itself and not another one.';
COMMENT ON COLUMN instance.token_key IS '32 random bytes, the key of the MAC of every token minted from this database: a token of another database is recognised as such.';
INSERT INTO instance (token_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

CREATE TABLE accounts (
    account_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    pos BIGINT NOT NULL DEFAULT 0,
    upstream_since TEXT,
    main_device_nid BIGINT,
    retained_from BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
COMMENT ON TABLE accounts IS 'One row a user. Its row lock is what hands out positions in commit order.';
COMMENT ON COLUMN accounts.pos IS 'The position of the last poll stored; 0 before the first.';
COMMENT ON COLUMN accounts.upstream_since IS 'The next_batch of the last main poll stored: the since of the next one, and the fence against a second poller.';
COMMENT ON COLUMN accounts.main_device_nid IS 'The device whose token runs the main poll.';
COMMENT ON COLUMN accounts.retained_from IS 'A since below this position has lost its history and is answered as a gap.';

CREATE TABLE devices (
    device_nid BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    device_id TEXT NOT NULL,
    upstream_since TEXT,
    inbox_seq BIGINT NOT NULL DEFAULT 0,
    v2_acked BIGINT,
    v2_used_at BIGINT NOT NULL DEFAULT 0,
    one_time_keys_count BYTEA NOT NULL DEFAULT '{}',
    unused_fallback_key_types BYTEA NOT NULL DEFAULT '[]',
    UNIQUE (account_id, device_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE devices IS 'A device of an account, known by what /account/whoami says and never by its token.';
COMMENT ON COLUMN devices.upstream_since IS 'The next_batch of the last light poll of this device; NULL before the first.';
COMMENT ON COLUMN devices.inbox_seq IS 'The number of the last to-device message stored for this device.';
COMMENT ON COLUMN devices.v2_acked IS 'The highest inbox number acknowledged by a since of GET /sync; NULL until the first one, while v2 is nobody''s session.';
COMMENT ON COLUMN devices.v2_used_at IS 'When a since of GET /sync was last seen: v2 holds messages back as long as a session that was used then.';
COMMENT ON COLUMN devices.one_time_keys_count IS 'The JSON object device_one_time_keys_count as upstream last gave it.';
COMMENT ON COLUMN devices.unused_fallback_key_types IS 'The JSON list device_unused_fallback_key_types as upstream last gave it.';

CREATE TABLE access_tokens (
    token_hash BYTEA PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    device_nid BIGINT NOT NULL REFERENCES devices (device_nid) ON DELETE CASCADE,
    sealed BYTEA NOT NULL,
    last_used_at BIGINT NOT NULL
);
CREATE INDEX access_tokens_by_device ON access_tokens (device_nid, last_used_at DESC);
COMMENT ON TABLE access_tokens IS 'Access tokens that their clients have used, sealed; without the key they are of no use.';
COMMENT ON COLUMN access_tokens.token_hash IS 'HMAC-SHA-256 of the token, keyed from the secret.';
COMMENT ON COLUMN access_tokens.sealed IS 'The token, sealed with an AEAD, bound to its hash.';

CREATE TABLE rooms (
    room_nid BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id TEXT NOT NULL UNIQUE
);
COMMENT ON TABLE rooms IS 'Room IDs, each stored once. Shared: it says nothing about who is in a room. 0 stands for no room.';

CREATE TABLE event_bodies (
    body_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT NOT NULL,
    body_hash BYTEA NOT NULL,
    membership TEXT,
    displayname TEXT,
    body BYTEA NOT NULL,
    UNIQUE (event_id, body_hash)
);
COMMENT ON TABLE event_bodies IS 'Events without `unsigned`, byte for byte as upstream sent them. Shared by all accounts that were told the same bytes; two different bodies of one event ID are both kept.';
COMMENT ON COLUMN event_bodies.body_hash IS 'The first 16 bytes of SHA-256 of the body.';
COMMENT ON COLUMN event_bodies.membership IS 'content.membership of an m.room.member event, else NULL.';
COMMENT ON COLUMN event_bodies.displayname IS 'content.displayname of an m.room.member event, else NULL.';

CREATE TABLE polls (
    account_id BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    next_batch TEXT NOT NULL,
    PRIMARY KEY (account_id, pos)
);
COMMENT ON TABLE polls IS 'The account stream: one row a poll that brought something. Maps our positions to upstream''s tokens.';

CREATE TABLE room_updates (
    account_id BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    section SMALLINT NOT NULL,
    limited BOOLEAN NOT NULL,
    newly_joined BOOLEAN NOT NULL,
    timeline_len INTEGER NOT NULL,
    prev_batch TEXT,
    PRIMARY KEY (account_id, pos, room_nid)
);
CREATE INDEX room_updates_by_room ON room_updates (account_id, room_nid, pos);
COMMENT ON TABLE room_updates IS 'A row for each room that a poll mentioned.';
COMMENT ON COLUMN room_updates.section IS 'Where the poll listed the room: 0 join, 1 invite, 2 knock, 3 leave.';
COMMENT ON COLUMN room_updates.limited IS 'Upstream left events out before this timeline: a hard cut, nothing from before it is served with what follows.';
COMMENT ON COLUMN room_updates.newly_joined IS 'The account came (back) into the room in this poll: it brought the full state.';
COMMENT ON COLUMN room_updates.prev_batch IS 'Upstream''s token just before the first event of this timeline.';

CREATE TABLE timeline_events (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    ord INTEGER NOT NULL,
    body_id BIGINT NOT NULL,
    age_ts BIGINT,
    unsigned BYTEA,
    PRIMARY KEY (account_id, room_nid, pos, ord)
);
COMMENT ON TABLE timeline_events IS 'Timelines as this account was told them, in upstream''s order: by poll, then by place in the poll.';
COMMENT ON COLUMN timeline_events.age_ts IS 'When the event happened by upstream''s clock (received minus unsigned.age); NULL where upstream gave no age.';
COMMENT ON COLUMN timeline_events.unsigned IS 'The JSON object `unsigned` without age and transaction_id; NULL where nothing else was in it.';

CREATE TABLE room_state (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    state_key TEXT NOT NULL,
    body_id BIGINT NOT NULL,
    unsigned BYTEA,
    PRIMARY KEY (account_id, room_nid, event_type, state_key)
);
COMMENT ON TABLE room_state IS 'The head: the state of each room after the last poll, as this account knows it.';

CREATE TABLE state_changes (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    ord INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    state_key TEXT NOT NULL,
    old_body_id BIGINT,
    old_unsigned BYTEA,
    PRIMARY KEY (account_id, room_nid, pos, ord, event_type, state_key)
);
COMMENT ON TABLE state_changes IS 'The undo of the head. The state at (pos, ord) is the head with every change at or after (pos, ord) undone. A member learnt by lazy loading is no change.';
COMMENT ON COLUMN state_changes.ord IS 'The place in the poll''s timeline; -1 for a change in the gap before it, timeline_len for a correction after it.';
COMMENT ON COLUMN state_changes.old_body_id IS 'What the change replaced; NULL where there was nothing.';

CREATE TABLE account_rooms (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    section SMALLINT NOT NULL,
    segment_pos BIGINT NOT NULL,
    members_complete BOOLEAN NOT NULL DEFAULT FALSE,
    forgotten BOOLEAN NOT NULL DEFAULT FALSE,
    kicked BOOLEAN NOT NULL DEFAULT FALSE,
    notification_count BIGINT NOT NULL DEFAULT 0,
    highlight_count BIGINT NOT NULL DEFAULT 0,
    thread_counts BYTEA,
    heroes BYTEA,
    joined_member_count BIGINT,
    invited_member_count BIGINT,
    summary_pos BIGINT NOT NULL DEFAULT 0,
    stripped_state BYTEA,
    typing BYTEA,
    typing_pos BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, room_nid)
) WITH (fillfactor = 70);
CREATE INDEX account_rooms_by_section ON account_rooms (account_id, section, room_nid);
COMMENT ON TABLE account_rooms IS 'Each room that the account has to do with: where it stands now, and its latest values.';
COMMENT ON COLUMN account_rooms.segment_pos IS 'The position of the last hard cut: timelines are served from here on.';
COMMENT ON COLUMN account_rooms.members_complete IS 'The head holds every member, and each poll keeps it so.';
COMMENT ON COLUMN account_rooms.kicked IS 'In section leave: somebody else ended the membership (kick or ban).';
COMMENT ON COLUMN account_rooms.thread_counts IS 'The JSON object unread_thread_notifications; NULL when empty.';
COMMENT ON COLUMN account_rooms.heroes IS 'The JSON list m.heroes of the summary.';
COMMENT ON COLUMN account_rooms.stripped_state IS 'The JSON object invite_state or knock_state, verbatim; NULL in other sections.';
COMMENT ON COLUMN account_rooms.typing IS 'The content of the latest m.typing; NULL before the first.';

CREATE TABLE account_data (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    pos BIGINT NOT NULL,
    event BYTEA NOT NULL,
    PRIMARY KEY (account_id, room_nid, event_type)
) WITH (fillfactor = 70);
CREATE INDEX account_data_by_pos ON account_data (account_id, pos);
COMMENT ON TABLE account_data IS 'Account data, the latest of each type; room_nid 0 is the global one.';

CREATE TABLE receipts (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    receipt_type TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    pos BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (account_id, room_nid, user_id, receipt_type, thread_id)
) WITH (fillfactor = 70);
CREATE INDEX receipts_by_pos ON receipts (account_id, room_nid, pos);
COMMENT ON TABLE receipts IS 'The latest receipt of each user, type and thread as this account was told.';
COMMENT ON COLUMN receipts.thread_id IS 'The empty string for an unthreaded receipt.';
COMMENT ON COLUMN receipts.data IS 'The JSON object with ts and thread_id, verbatim.';

CREATE TABLE presence (
    account_id BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    pos BIGINT NOT NULL,
    last_active_ts BIGINT,
    event BYTEA NOT NULL,
    PRIMARY KEY (account_id, user_id)
) WITH (fillfactor = 70);
CREATE INDEX presence_by_pos ON presence (account_id, pos);
COMMENT ON TABLE presence IS 'The latest m.presence of each user as this account was told.';
COMMENT ON COLUMN presence.event IS 'The event without content.last_active_ago, which is relative and computed when served.';

CREATE TABLE device_list_changes (
    account_id BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    has_left BOOLEAN NOT NULL,
    PRIMARY KEY (account_id, pos, user_id)
);
COMMENT ON TABLE device_list_changes IS 'device_lists of each poll: changed, or left. For one user the last verdict wins.';

CREATE TABLE device_inbox (
    account_id BIGINT NOT NULL,
    device_nid BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    message BYTEA NOT NULL,
    PRIMARY KEY (account_id, device_nid, seq)
);
COMMENT ON TABLE device_inbox IS 'To-device messages, verbatim, in arrival order, until every live session of the device has acknowledged them.';

CREATE TABLE transaction_ids (
    account_id BIGINT NOT NULL,
    device_nid BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    PRIMARY KEY (account_id, device_nid, event_id)
);
COMMENT ON TABLE transaction_ids IS 'unsigned.transaction_id of events that a device sent: shown to that device alone.';

CREATE TABLE sessions (
    account_id BIGINT NOT NULL,
    session_id BIGINT GENERATED ALWAYS AS IDENTITY,
    device_nid BIGINT NOT NULL REFERENCES devices (device_nid) ON DELETE CASCADE,
    last_used_at BIGINT NOT NULL,
    inbox_acked BIGINT NOT NULL,
    PRIMARY KEY (account_id, session_id)
) WITH (fillfactor = 70);
CREATE INDEX sessions_by_device ON sessions (device_nid, last_used_at);
CREATE INDEX sessions_by_age ON sessions (last_used_at);
COMMENT ON TABLE sessions IS 'Sync v3 sessions, live from the first reply until last_used_at is older than the configured idle time.';
COMMENT ON COLUMN sessions.inbox_acked IS 'The highest inbox number that this session has acknowledged. Never moves backwards.';

CREATE TABLE session_params (
    account_id BIGINT NOT NULL,
    session_id BIGINT NOT NULL,
    params_id INTEGER NOT NULL,
    params BYTEA NOT NULL,
    PRIMARY KEY (account_id, session_id, params_id),
    FOREIGN KEY (account_id, session_id) REFERENCES sessions (account_id, session_id) ON DELETE CASCADE
);
COMMENT ON TABLE session_params IS 'Every set of sticky parameters that a session has had: a token names the one it was minted under, so that an old since can be replayed.';

CREATE TABLE quarantine (
    quarantine_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    reason TEXT NOT NULL,
    json BYTEA NOT NULL
);
COMMENT ON TABLE quarantine IS 'What a poll brought that could not be understood: kept for a person to look at, while the poller goes on.';
