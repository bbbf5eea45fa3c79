-- What happened, in the order of positions. Rows are only added; those of an account that is deleted lose all
-- that leads to it, and the oldest go by age and number.
--
-- Positions come from a sequence, so that nobody waits for anybody to write an event, and transactions may
-- commit in another order than that of their positions. Each holds a shared advisory lock that tells from which
-- position on it writes: whoever reads stops before the lowest of them (see src/store/events.rs).
CREATE SEQUENCE events_position;
CREATE TABLE events (
    position    bigint PRIMARY KEY,
    -- Random: the id of its webhook, too. It tells this event from one that had its position before a backup
    -- was restored.
    id          uuid NOT NULL,
    type        text NOT NULL,
    occurred_at timestamptz NOT NULL,
    -- account | anonymous | operator | admin | certificate:NAME | service
    actor       text NOT NULL,
    account_id  uuid,
    network     text,
    request_id  text,
    -- An object in JSON.
    data        text NOT NULL
);
CREATE INDEX events_account_id ON events (account_id, position) WHERE account_id IS NOT NULL;

-- Events that WEBHOOK_URL has not been told of. See the crate outbox.
CREATE TABLE webhooks (
    id           uuid PRIMARY KEY,
    order_key    text,
    payload      bytea NOT NULL DEFAULT '',
    request_id   text NOT NULL,
    traceparent  text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    attempts     integer NOT NULL,
    due_at       timestamptz NOT NULL,
    leased_until timestamptz,
    expires_at   timestamptz,
    last_error   text
);
CREATE INDEX webhooks_by_due ON webhooks (due_at);
CREATE INDEX webhooks_by_order ON webhooks (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX webhooks_by_expiry ON webhooks (expires_at) WHERE expires_at IS NOT NULL;
