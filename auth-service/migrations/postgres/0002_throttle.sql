-- Failed logins in the running window of each (account, network) pair, and of each account over all
-- networks, which has the network ''. An account stands as the SHA-256 of its email.
CREATE TABLE login_failures (
    subject       bytea NOT NULL,
    network       text COLLATE "C" NOT NULL,
    failures      integer NOT NULL,
    -- When the window ends that began with the first failure.
    expires_at    timestamptz NOT NULL,
    -- Attempts whose password is being looked at, until when at the latest.
    pending       integer NOT NULL,
    pending_until timestamptz NOT NULL,
    PRIMARY KEY (subject, network)
);
CREATE INDEX login_failures_expires_at ON login_failures (expires_at);

-- Networks from which a login to the account has succeeded. They are spared the limit over all
-- networks, so that nobody can lock a person out by failing from everywhere else.
CREATE TABLE login_networks (
    subject bytea NOT NULL,
    network text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (subject, network)
);
CREATE INDEX login_networks_seen_at ON login_networks (seen_at);
