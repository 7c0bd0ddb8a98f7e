-- Why: sync v3 lists the rooms of an account in order, tells which events outside the list notify, and remembers
-- which rooms a session has been told of.

ALTER TABLE account_rooms ADD COLUMN recency BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN account_rooms.recency IS 'origin_server_ts of the last event of the timeline, but no later than it was received; of an invite, when it came. 0 if not known.';

UPDATE account_rooms h
SET recency = COALESCE((
    SELECT e.age_ts
    FROM timeline_events e
    WHERE e.account_id = h.account_id AND e.room_nid = h.room_nid
    ORDER BY e.pos DESC, e.ord DESC
    LIMIT 1
), 0);

ALTER TABLE room_updates ADD COLUMN counted BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE room_updates ADD COLUMN notifies BOOLEAN NOT NULL DEFAULT FALSE;
COMMENT ON COLUMN room_updates.counted IS 'The poll brought other unread counts than before.';
COMMENT ON COLUMN room_updates.notifies IS 'And they are not all zero: upstream counted something in this poll.';

CREATE TABLE session_sets (
    account_id BIGINT NOT NULL,
    session_id BIGINT NOT NULL,
    set_id BYTEA NOT NULL,
    purpose SMALLINT NOT NULL,
    last_named BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (account_id, session_id, set_id),
    FOREIGN KEY (account_id, session_id) REFERENCES sessions (account_id, session_id) ON DELETE CASCADE
);
COMMENT ON TABLE session_sets IS 'Sets of rooms that tokens name because they are too large to be in them: which rooms a session was told of, and the lists that its pages are cut from. A set never changes: another one is another row, so that an old token finds its own.';
COMMENT ON COLUMN session_sets.set_id IS 'The beginning of SHA-256 of purpose and content.';
COMMENT ON COLUMN session_sets.purpose IS 'The number of the kind of set. Of each kind a session keeps those that its last few tokens named.';
COMMENT ON COLUMN session_sets.last_named IS 'The last token that named it. Counted within the session are the tokens that came with a set.';
COMMENT ON COLUMN session_sets.content IS 'As the proxy wrote it.';

ALTER TABLE session_params ADD COLUMN last_chosen INTEGER NOT NULL DEFAULT 0;
UPDATE session_params SET last_chosen = params_id;
COMMENT ON COLUMN session_params.params_id IS 'Its number, never given twice within a session.';
COMMENT ON COLUMN session_params.last_chosen IS 'The last change of parameters that led here or started here, counted within the session; never below params_id.';
COMMENT ON TABLE session_params IS 'The sets of sticky parameters that a session had with its last few changes: a token names the one it was minted under, so that an old since can be replayed.';
