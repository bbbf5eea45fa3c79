CREATE TABLE profiles (
    -- The account's id: the sub of its tokens.
    id         uuid PRIMARY KEY,
    -- Null until a token has carried one.
    email      text,
    -- The iat of the token that email is from. An older token does not change email.
    email_iat  bigint,
    name       text NOT NULL,
    bio        text NOT NULL,
    -- Counts the changes; the entity tag is made of it.
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- The order of the list; a page is one step into this index, however deep.
CREATE INDEX profiles_by_creation ON profiles (created_at, id);

-- Accounts whose profile was deleted. Their tokens are refused, and no profile comes back.
CREATE TABLE tombstones (
    account_id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL
);

-- Deletions that the auth service has not been told of yet.
CREATE TABLE outbox (
    account_id uuid PRIMARY KEY,
    -- The id of the request that deleted the profile.
    request_id text NOT NULL,
    created_at timestamptz NOT NULL,
    attempts   integer NOT NULL,
    -- When the next attempt is due. Who takes the entry moves this ahead by the length of its
    -- lease, so that no other replica takes it meanwhile.
    due_at     timestamptz NOT NULL
);

CREATE INDEX outbox_by_due ON outbox (due_at);

-- Random keys that all replicas share, made once.
CREATE TABLE secrets (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);
