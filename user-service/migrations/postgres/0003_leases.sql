-- The outbox as crates/outbox has it. Older versions of the service go on with it as it was.
ALTER TABLE outbox
    -- Entries of one key are delivered one after the other. Deletions have none.
    ADD COLUMN order_key    text,
    -- What is to be delivered. Of a deletion the account's id says all.
    ADD COLUMN payload      bytea NOT NULL DEFAULT '',
    -- Until then the entry belongs to the worker that has taken it.
    ADD COLUMN leased_until timestamptz,
    -- When the entry is given up. Deletions never are.
    ADD COLUMN expires_at   timestamptz,
    -- Why the last attempt failed.
    ADD COLUMN last_error   text;
