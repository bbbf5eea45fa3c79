-- Accounts that were deleted, in the order of commits. Other services ask for them, and remove what they have of
-- them.
CREATE TABLE deleted_accounts (
    position   INTEGER PRIMARY KEY NOT NULL,
    -- Random: tells this entry from one that had its position before a backup was restored.
    nonce      BLOB NOT NULL,
    account_id BLOB NOT NULL,
    deleted_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deleted_accounts_deleted_at ON deleted_accounts (deleted_at);
