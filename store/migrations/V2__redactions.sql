-- Why: what was redacted must not be served again, whichever account was told of it in which order, and
-- wherever a copy of it stands. A redacted body is pruned in place, once for everybody: no row that refers
-- to it has to be found. Copies inside other events' `unsigned` are found by the IDs of what was copied.

ALTER TABLE event_bodies ADD COLUMN room_nid BIGINT;
ALTER TABLE event_bodies ADD COLUMN redacted_by BIGINT;
COMMENT ON TABLE event_bodies IS 'Events without `unsigned`, byte for byte as upstream sent them, until they are redacted: then pruned, in place. Shared by all accounts that were told the same bytes; two different bodies of one event ID are both kept.';
COMMENT ON COLUMN event_bodies.body_hash IS 'The first 16 bytes of SHA-256 of the body as it was told, also after it is pruned: told again, it is this row.';
COMMENT ON COLUMN event_bodies.room_nid IS 'The room in which it was told: a redaction reaches no other. NULL in rows from before redactions were kept.';
COMMENT ON COLUMN event_bodies.redacted_by IS 'The body of the redaction; NULL while it is not redacted. Pruned and marked in one step.';

CREATE TABLE redactions (
    event_id TEXT NOT NULL,
    room_nid BIGINT NOT NULL,
    redacted_by BIGINT NOT NULL,
    PRIMARY KEY (event_id, room_nid)
);
COMMENT ON TABLE redactions IS 'Which events are redacted, as any account was told. Shared, like the bodies: a body that arrives later, from a poll that lags behind, is pruned as it is stored.';
COMMENT ON COLUMN redactions.event_id IS 'The redacted event. Its body may never have been told.';
COMMENT ON COLUMN redactions.redacted_by IS 'The body of the redaction.';

CREATE TABLE event_copies (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    pos BIGINT NOT NULL,
    ord INTEGER NOT NULL,
    PRIMARY KEY (account_id, room_nid, event_id, pos, ord)
);
COMMENT ON TABLE event_copies IS 'Where content of an event stands in the `unsigned` of another one in a timeline (prev_content, m.relations).';
COMMENT ON COLUMN event_copies.event_id IS 'The event whose content it is.';
COMMENT ON COLUMN event_copies.pos IS 'With ord: the place of the event that carries the copy.';

CREATE TABLE redaction_scans (
    account_id BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    from_token TEXT NOT NULL,
    until_token TEXT NOT NULL,
    PRIMARY KEY (account_id, room_nid, pos)
);
COMMENT ON TABLE redaction_scans IS 'Gaps in timelines that have yet to be looked through for redactions. Written with the poll that left the gap.';
COMMENT ON COLUMN redaction_scans.from_token IS 'Upstream''s token after the gap.';
COMMENT ON COLUMN redaction_scans.until_token IS 'Upstream''s token before the gap.';

-- Copies that were stored before their places were: nobody could find them any more. They may be left out.
UPDATE timeline_events SET unsigned = NULL
WHERE POSITION('"prev_content"'::BYTEA IN unsigned) > 0 OR POSITION('"m.relations"'::BYTEA IN unsigned) > 0;
UPDATE room_state SET unsigned = NULL
WHERE POSITION('"prev_content"'::BYTEA IN unsigned) > 0 OR POSITION('"m.relations"'::BYTEA IN unsigned) > 0;
UPDATE state_changes SET old_unsigned = NULL
WHERE POSITION('"prev_content"'::BYTEA IN old_unsigned) > 0 OR POSITION('"m.relations"'::BYTEA IN old_unsigned) > 0;
