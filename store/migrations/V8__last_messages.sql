-- Why: a homeserver that refuses the position it gave with to-device messages tells them again. Those that every client has
-- acknowledged meanwhile are gone from the inbox, and could not be told from new ones.

ALTER TABLE devices ADD COLUMN last_messages BYTEA NOT NULL DEFAULT '';
COMMENT ON COLUMN devices.last_messages IS 'Of the to-device messages that the device''s last poll brought, in order, the first 8 bytes of SHA-256 each: until the next poll''s since acknowledges them, upstream may tell them again.';
