-- What happened, in the order of positions, which is that of commits: one transaction writes at a time. Rows are
-- only added; those of an account that is deleted lose all that leads to it, and the oldest go by age and number.
CREATE TABLE events (
    -- A position is never given twice.
    position    INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    -- Random: the id of its webhook, too. It tells this event from one that had its position before a backup
    -- was restored.
    id          BLOB NOT NULL,
    type        TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    -- account | anonymous | operator | admin | certificate:NAME | service
    actor       TEXT NOT NULL,
    account_id  BLOB,
    network     TEXT,
    request_id  TEXT,
    -- An object in JSON.
    data        TEXT NOT NULL
) STRICT;
CREATE INDEX events_account_id ON events (account_id, position) WHERE account_id IS NOT NULL;

-- Events that WEBHOOK_URL has not been told of. See the crate outbox.
CREATE TABLE webhooks (
    id           BLOB PRIMARY KEY NOT NULL,
    order_key    TEXT,
    payload      BLOB NOT NULL DEFAULT x'',
    request_id   TEXT NOT NULL,
    traceparent  TEXT NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    leased_until INTEGER,
    expires_at   INTEGER,
    last_error   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_by_due ON webhooks (due_at);
CREATE INDEX webhooks_by_order ON webhooks (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX webhooks_by_expiry ON webhooks (expires_at) WHERE expires_at IS NOT NULL;
