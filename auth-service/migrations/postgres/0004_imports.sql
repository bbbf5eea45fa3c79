-- Whether somebody who reads the mail of the address has confirmed it.
ALTER TABLE accounts ADD COLUMN email_verified boolean NOT NULL DEFAULT false;
-- Whether nobody may use the account: a login is answered as one with a wrong password.
ALTER TABLE accounts ADD COLUMN disabled boolean NOT NULL DEFAULT false;

-- How far the import of a file has come that was interrupted, by the SHA-256 of the file. The last line that was
-- read, and the numbers of its result so far. A row goes when its import is done.
CREATE TABLE imports (
    digest   bytea PRIMARY KEY,
    line     bigint NOT NULL,
    lines    bigint NOT NULL,
    imported bigint NOT NULL,
    skipped  bigint NOT NULL,
    refused  bigint NOT NULL
);
