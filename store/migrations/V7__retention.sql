-- Why: what no live session can ask for goes after a while. That needs to be known of when things came, how far each
-- account's history is still promised and how far it is gone already, and which bodies nothing refers to any more.

-- What is here already begins its time anew: the default is computed once for all of it, and no table is rewritten. It is also
-- for the version of the program before this one, while that still serves.
ALTER TABLE polls ADD COLUMN stored_at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::BIGINT;
ALTER TABLE device_inbox ADD COLUMN stored_at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::BIGINT;
ALTER TABLE transaction_ids ADD COLUMN stored_at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::BIGINT;
ALTER TABLE quarantine ADD COLUMN stored_at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::BIGINT;
COMMENT ON COLUMN polls.stored_at IS 'When its reply was received.';
COMMENT ON COLUMN device_inbox.stored_at IS 'When the poll that brought it was received.';

ALTER TABLE accounts ADD COLUMN pruned_to BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN retained_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX accounts_by_retained_at ON accounts (retained_at);
COMMENT ON COLUMN accounts.pruned_to IS 'The history before this position is gone. It follows retained_from at a distance: nobody reads there any more when it goes.';
COMMENT ON COLUMN accounts.retained_at IS 'When retention last looked at the account. Whoever sets it has the account to itself until the next look is due.';

ALTER TABLE devices ADD COLUMN gone_since BIGINT;
COMMENT ON COLUMN devices.gone_since IS 'When retention first found it without a token; NULL while it has one.';

ALTER TABLE event_bodies ADD COLUMN unused_since BIGINT;
ALTER TABLE redactions ADD COLUMN unused_since BIGINT;
-- These hold none but the few rows that they are about: storing an event writes nothing to them.
CREATE INDEX event_bodies_by_unused ON event_bodies (body_id) WHERE unused_since IS NOT NULL;
CREATE INDEX event_bodies_by_redaction ON event_bodies (redacted_by) WHERE redacted_by IS NOT NULL;
COMMENT ON COLUMN event_bodies.unused_since IS 'When a sweep first found nothing that refers to it; NULL as far as is known otherwise. It goes only if a later sweep finds the same.';
COMMENT ON COLUMN redactions.unused_since IS 'When a sweep first found no body of the event; NULL while there is one.';

CREATE TABLE account_remains (
    account_id BIGINT PRIMARY KEY
);
COMMENT ON TABLE account_remains IS 'Accounts that are gone, of which rows are left in other tables: they go in small steps.';

CREATE TABLE chores (
    chore TEXT PRIMARY KEY,
    begun_at BIGINT NOT NULL
);
COMMENT ON TABLE chores IS 'What is done now and then for the whole database, by one process: when it was last begun.';
