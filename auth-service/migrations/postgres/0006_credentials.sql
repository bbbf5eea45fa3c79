-- With EMAIL_VERIFICATION=required a registration is an attempt: its own link makes it an account. Several
-- for one email live side by side, and the first to be confirmed ends the others.
CREATE TABLE registrations (
    id            uuid PRIMARY KEY,
    email         text COLLATE "C" NOT NULL,
    password_hash text NOT NULL,
    hash_scheme   text COLLATE "C" NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX registrations_email ON registrations (email, created_at, id);
CREATE INDEX registrations_hash_scheme ON registrations (hash_scheme);
CREATE INDEX registrations_expires_at ON registrations (expires_at);

-- One-time links. Their secrets are not stored, only the SHA-256. A link is good while the account has the
-- email and the generation of the moment in which the link was made.
CREATE TABLE links (
    digest          bytea PRIMARY KEY,
    -- reset_password | verify_email | change_email | verify_registration
    purpose         text NOT NULL,
    -- The account, or nothing: of a password reset for an address that has only registrations.
    account_id      uuid,
    registration_id uuid,
    email           text COLLATE "C" NOT NULL,
    generation      bigint NOT NULL,
    -- The address to be confirmed, of a change of address.
    new_email       text COLLATE "C",
    expires_at      timestamptz NOT NULL
);
CREATE INDEX links_account_id ON links (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX links_email ON links (email);
CREATE INDEX links_new_email ON links (new_email) WHERE new_email IS NOT NULL;
CREATE INDEX links_expires_at ON links (expires_at);

-- How many links an address was sent in the running hour. An address stands as in login_failures.
CREATE TABLE link_quotas (
    subject    bytea PRIMARY KEY,
    sent       integer NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX link_quotas_expires_at ON link_quotas (expires_at);

-- Mail that is to be sent: address, subject and text are sealed. See the crate outbox.
CREATE TABLE mails (
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
CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_order ON mails (order_key, created_at, id) WHERE order_key IS NOT NULL;
CREATE INDEX mails_by_expiry ON mails (expires_at) WHERE expires_at IS NOT NULL;
