-- The generation of an account's credentials. It grows with whatever ends the access tokens that were issued
-- before: a change of the password, say. Tokens carry it (the claim `gen`).
ALTER TABLE accounts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Secrets that all replicas share, sealed under KEY_ENCRYPTION_KEY as the signing keys are.
CREATE TABLE secrets (
    name   TEXT PRIMARY KEY NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

-- Tells this database from others. The cursors of the revocation feed name it.
CREATE TABLE installation (
    id BLOB NOT NULL
) STRICT;
INSERT INTO installation (id) VALUES (randomblob(8));

-- A session: who has logged in with offline_access, and which refresh token is good. The tokens themselves are
-- not stored; they are numbered, and authenticated by an HMAC.
CREATE TABLE sessions (
    id           BLOB PRIMARY KEY NOT NULL,
    account_id   BLOB NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    -- The nearer of the idle and the absolute end.
    expires_at   INTEGER NOT NULL,
    -- The number of the newest refresh token that was issued.
    current      INTEGER NOT NULL,
    -- The number of the last one that was consumed, 0 for none.
    consumed     INTEGER NOT NULL,
    -- The latest that were consumed, each with its time, newest first: `number:microseconds;`.
    consumptions TEXT NOT NULL,
    network      TEXT NOT NULL,
    user_agent   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account_id ON sessions (account_id, last_used_at);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- What was revoked within one token lifetime, in the order of commits. Verifiers follow this list.
CREATE TABLE revocations (
    position   INTEGER PRIMARY KEY NOT NULL,
    -- Random: tells this entry from one that had its position before a backup was restored.
    nonce      BLOB NOT NULL,
    -- The SHA-256 of a session's id, or of an account's.
    session    BLOB,
    account    BLOB,
    -- Of an account: tokens with a lower generation are revoked.
    generation INTEGER,
    -- Until then a token that was revoked may live.
    until      INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_until ON revocations (until);
