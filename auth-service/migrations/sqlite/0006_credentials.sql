-- With EMAIL_VERIFICATION=required a registration is an attempt: its own link makes it an account. Several
-- for one email live side by side, and the first to be confirmed ends the others.
CREATE TABLE registrations (
    id            BLOB PRIMARY KEY NOT NULL,
    email         TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    hash_scheme   TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX registrations_email ON registrations (email, created_at, id);
CREATE INDEX registrations_hash_scheme ON registrations (hash_scheme);
CREATE INDEX registrations_expires_at ON registrations (expires_at);

-- One-time links. Their secrets are not stored, only the SHA-256. A link is good while the account has the
-- email and the generation of the moment in which the link was made.
CREATE TABLE links (
    digest          BLOB PRIMARY KEY NOT NULL,
    -- reset_password | verify_email | change_email | verify_registration
    purpose         TEXT NOT NULL,
    -- The account, or nothing: of a password reset for an address that has only registrations.
    account_id      BLOB,
    registration_id BLOB,
    email           TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    -- The address to be confirmed, of a change of address.
    new_email       TEXT,
    expires_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX links_account_id ON links (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX links_email ON links (email);
CREATE INDEX links_new_email ON links (new_email) WHERE new_email IS NOT NULL;
CREATE INDEX links_expires_at ON links (expires_at);

-- How many links an address was sent in the running hour. An address stands as in login_failures.
CREATE TABLE link_quotas (
    subject    BLOB PRIMARY KEY NOT NULL,
    sent       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX link_quotas_expires_at ON link_quotas (expires_at);

-- Mail that is to be sent: address, subject and text are sealed. See the crate outbox.
CREATE TABLE mails (
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
CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_order ON mails (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX mails_by_expiry ON mails (expires_at) WHERE expires_at IS NOT NULL;
