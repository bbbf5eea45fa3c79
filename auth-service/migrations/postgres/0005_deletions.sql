-- Accounts that were deleted, in the order of commits. Other services ask for them, and remove what they have of
-- them.
CREATE TABLE deleted_accounts (
    position   bigint PRIMARY KEY,
    -- Random: tells this entry from one that had its position before a backup was restored.
    nonce      bytea NOT NULL,
    account_id uuid NOT NULL,
    deleted_at timestamptz NOT NULL
);
CREATE INDEX deleted_accounts_deleted_at ON deleted_accounts (deleted_at);
