-- Why: an account whose clients have been gone for long is no longer polled, and that has to survive a restart.

ALTER TABLE accounts ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN accounts.used_at IS 'When a client last synced as this user, give or take an hour.';

-- Those who are here already begin their time anew.
UPDATE accounts SET used_at = (extract(epoch FROM now()) * 1000)::BIGINT;
