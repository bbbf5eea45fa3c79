-- Failed logins in the running window of each (account, network) pair, and of each account over all
-- networks, which has the network ''. An account stands as the SHA-256 of its email.
CREATE TABLE login_failures (
    subject       BLOB NOT NULL,
    network       TEXT NOT NULL,
    failures      INTEGER NOT NULL,
    -- When the window ends that began with the first failure.
    expires_at    INTEGER NOT NULL,
    -- Attempts whose password is being looked at, until when at the latest.
    pending       INTEGER NOT NULL,
    pending_until INTEGER NOT NULL,
    PRIMARY KEY (subject, network)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_failures_expires_at ON login_failures (expires_at);

-- Networks from which a login to the account has succeeded. They are spared the limit over all
-- networks, so that nobody can lock a person out by failing from everywhere else.
CREATE TABLE login_networks (
    subject BLOB NOT NULL,
    network TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (subject, network)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_networks_seen_at ON login_networks (seen_at);
