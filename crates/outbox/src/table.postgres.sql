CREATE TABLE outbox (
    id           uuid PRIMARY KEY,
    -- Entries of one key are delivered one after the other, in the order in which they were added.
    order_key    text,
    -- What is to be delivered.
    payload      bytea NOT NULL DEFAULT '',
    -- The id and the trace (W3C Trace Context) of the request that added the entry.
    request_id   text NOT NULL,
    traceparent  text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    -- How many attempts there have been.
    attempts     integer NOT NULL,
    -- When the next attempt is due.
    due_at       timestamptz NOT NULL,
    -- Until then the entry belongs to the worker that has taken it.
    leased_until timestamptz,
    -- When the entry is given up.
    expires_at   timestamptz,
    -- Why the last attempt failed.
    last_error   text
);
CREATE INDEX outbox_by_due ON outbox (due_at);
CREATE INDEX outbox_by_order ON outbox (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX outbox_by_expiry ON outbox (expires_at) WHERE expires_at IS NOT NULL;
