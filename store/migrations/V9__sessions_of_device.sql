-- Why: every statement names the account, so that the tables can be spread by it. A device's sessions are found by both.

CREATE INDEX sessions_of_device ON sessions (device_nid, account_id, last_used_at, session_id);
DROP INDEX sessions_by_device;
