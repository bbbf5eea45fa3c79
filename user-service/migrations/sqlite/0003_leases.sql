-- The outbox as crates/outbox has it. Older versions of the service go on with it as it was.
-- Entries of one key are delivered one after the other. Deletions have none.
ALTER TABLE outbox ADD COLUMN order_key TEXT;
-- What is to be delivered. Of a deletion the account's id says all.
ALTER TABLE outbox ADD COLUMN payload BLOB NOT NULL DEFAULT x'';
-- Until then the entry belongs to the worker that has taken it.
ALTER TABLE outbox ADD COLUMN leased_until INTEGER;
-- When the entry is given up. Deletions never are.
ALTER TABLE outbox ADD COLUMN expires_at INTEGER;
-- Why the last attempt failed.
ALTER TABLE outbox ADD COLUMN last_error TEXT;
