-- The generation of an account's credentials. It grows with whatever ends the access tokens that were issued
-- before: a change of the password, say. Tokens carry it (the claim `gen`).
ALTER TABLE accounts ADD COLUMN generation bigint NOT NULL DEFAULT 0;

-- Secrets that all replicas share, sealed under KEY_ENCRYPTION_KEY as the signing keys are.
CREATE TABLE secrets (
    name   text PRIMARY KEY,
    sealed bytea NOT NULL
);

-- Tells this database from others. The cursors of the revocation feed name it.
CREATE TABLE installation (
    id bytea NOT NULL
);
INSERT INTO installation (id) VALUES (substr(uuid_send(gen_random_uuid()), 1, 8));

-- A session: who has logged in with offline_access, and which refresh token is good. The tokens themselves are
-- not stored; they are numbered, and authenticated by an HMAC.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    account_id   uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    -- The nearer of the idle and the absolute end.
    expires_at   timestamptz NOT NULL,
    -- The number of the newest refresh token that was issued.
    current      bigint NOT NULL,
    -- The number of the last one that was consumed, 0 for none.
    consumed     bigint NOT NULL,
    -- The latest that were consumed, each with its time, newest first: `number:microseconds;`.
    consumptions text NOT NULL,
    network      text NOT NULL,
    user_agent   text NOT NULL
);
CREATE INDEX sessions_account_id ON sessions (account_id, last_used_at);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- What was revoked within one token lifetime, in the order of commits. Verifiers follow this list.
CREATE TABLE revocations (
    position   bigint PRIMARY KEY,
    -- Random: tells this entry from one that had its position before a backup was restored.
    nonce      bytea NOT NULL,
    -- The SHA-256 of a session's id, or of an account's.
    session    bytea,
    account    bytea,
    -- Of an account: tokens with a lower generation are revoked.
    generation bigint,
    -- Until then a token that was revoked may live.
    until      timestamptz NOT NULL
);
CREATE INDEX revocations_until ON revocations (until);
