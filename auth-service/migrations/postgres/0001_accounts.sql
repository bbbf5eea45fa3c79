CREATE TABLE accounts (
    id            uuid PRIMARY KEY,
    -- In lower case; the service sees to it.
    email         text COLLATE "C" NOT NULL UNIQUE,
    -- Self-describing: algorithm, parameters, salt and hash.
    password_hash text NOT NULL,
    -- Algorithm and parameters of password_hash, as the service names them.
    hash_scheme   text COLLATE "C" NOT NULL,
    created_at    timestamptz NOT NULL
);

-- Which schemes are in use is asked often and answered by skipping along this index.
CREATE INDEX accounts_hash_scheme ON accounts (hash_scheme);

CREATE TABLE signing_keys (
    -- The RFC 7638 thumbprint of the public key.
    kid          text PRIMARY KEY,
    algorithm    text NOT NULL,
    -- The private key (PKCS #8), sealed under KEY_ENCRYPTION_KEY: nonce, then AES-256-GCM.
    sealed_key   bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    -- From when on tokens are signed with it, until the next key's time.
    activates_at timestamptz NOT NULL
);
