-- no-transaction
-- Operators list accounts in the order of their creation, page by page.
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_by_creation ON accounts (created_at, id);
