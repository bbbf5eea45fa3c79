-- no-transaction
-- Accounts that are disabled are few: they are listed without a look at the others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_disabled ON accounts (created_at, id) WHERE disabled;
