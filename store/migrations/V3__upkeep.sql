-- Why: what a fresh initial sync of the homeserver would show and its incremental ones do not tell has to be
-- asked for once, in the background: what a newly joined room held before, and what users wrote while they were
-- ignored. This table says how far that has come, so that a crash in between loses none of it.

CREATE TABLE upkeep (
    account_id BIGINT PRIMARY KEY REFERENCES accounts (account_id) ON DELETE CASCADE,
    joins_settled_pos BIGINT NOT NULL DEFAULT 1,
    once_ignored TEXT[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE upkeep IS 'How far an account''s upkeep has come; no row is a row of defaults.';
COMMENT ON COLUMN upkeep.joins_settled_pos IS 'Rooms that were newly joined up to this position hold what they held before the join. The first poll, at 1, brings that itself.';
COMMENT ON COLUMN upkeep.once_ignored IS 'Users who are ignored, or were since their events were last fetched: the homeserver withheld what they wrote.';
