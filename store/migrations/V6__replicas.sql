-- Why: several processes share one database. Each account is polled for by one of them alone, and when that one is gone another
-- takes it over. The database says who lives and who polls for whom; nothing else is needed between them.

CREATE TABLE replicas (
    replica_id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alive_until BIGINT NOT NULL,
    accounts INTEGER NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE replicas IS 'One row a process that serves from this database, from its start until its accounts are others''. Each holds a session''s advisory lock on its number as long as it lives.';
COMMENT ON COLUMN replicas.replica_id IS 'Never given twice, also not to the same process after it was taken for dead: that is what fences it.';
COMMENT ON COLUMN replicas.alive_until IS 'By the database''s own clock: until then nobody takes its accounts over. 0 once it is dead.';
COMMENT ON COLUMN replicas.accounts IS 'How many accounts it polls for, as it said last: those with many give some up to those with few.';

ALTER TABLE accounts ADD COLUMN replica_id INTEGER;
CREATE INDEX accounts_by_replica ON accounts (replica_id);
COMMENT ON COLUMN accounts.replica_id IS 'The process that polls for the account, while that lives; NULL if none does. A poll of any other is not stored.';
