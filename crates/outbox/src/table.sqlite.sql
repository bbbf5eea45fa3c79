CREATE TABLE outbox (
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
CREATE INDEX outbox_by_due ON outbox (due_at);
CREATE INDEX outbox_by_order ON outbox (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX outbox_by_expiry ON outbox (expires_at) WHERE expires_at IS NOT NULL;
