-- Times are microseconds since 1970-01-01T00:00:00Z; ids are the 16 bytes of a UUID.
CREATE TABLE accounts (
    id            BLOB PRIMARY KEY NOT NULL,
    -- In lower case; the service sees to it.
    email         TEXT NOT NULL UNIQUE,
    -- Self-describing: algorithm, parameters, salt and hash.
    password_hash TEXT NOT NULL,
    -- Algorithm and parameters of password_hash, as the service names them.
    hash_scheme   TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which schemes are in use is asked often and answered by skipping along this index.
CREATE INDEX accounts_hash_scheme ON accounts (hash_scheme);

CREATE TABLE signing_keys (
    -- The RFC 7638 thumbprint of the public key.
    kid          TEXT PRIMARY KEY NOT NULL,
    algorithm    TEXT NOT NULL,
    -- The private key (PKCS #8), sealed under KEY_ENCRYPTION_KEY: nonce, then AES-256-GCM.
    sealed_key   BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    -- From when on tokens are signed with it, until the next key's time.
    activates_at INTEGER NOT NULL
) STRICT;
