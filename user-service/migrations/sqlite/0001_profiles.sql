-- Times are microseconds since 1970-01-01T00:00:00Z; ids are the 16 bytes of a UUID.
CREATE TABLE profiles (
    -- The account's id: the sub of its tokens.
    id         BLOB PRIMARY KEY NOT NULL,
    -- Null until a token has carried one.
    email      TEXT,
    -- The iat of the token that email is from. An older token does not change email.
    email_iat  INTEGER,
    name       TEXT NOT NULL,
    bio        TEXT NOT NULL,
    -- Counts the changes; the entity tag is made of it.
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- The order of the list; a page is one step into this index, however deep.
CREATE INDEX profiles_by_creation ON profiles (created_at, id);

-- Accounts whose profile was deleted. Their tokens are refused, and no profile comes back.
CREATE TABLE tombstones (
    account_id BLOB PRIMARY KEY NOT NULL,
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deletions that the auth service has not been told of yet.
CREATE TABLE outbox (
    account_id BLOB PRIMARY KEY NOT NULL,
    -- The id of the request that deleted the profile.
    request_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    -- When the next attempt is due. Who takes the entry moves this ahead by the length of its
    -- lease, so that no other process takes it meanwhile.
    due_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_by_due ON outbox (due_at);

-- Random keys that all replicas share, made once.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
