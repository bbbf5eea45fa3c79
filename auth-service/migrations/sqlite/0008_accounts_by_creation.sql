-- Operators list accounts in the order of their creation, page by page.
CREATE INDEX accounts_by_creation ON accounts (created_at, id);
