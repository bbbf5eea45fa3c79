-- Whether somebody who reads the mail of the address has confirmed it.
ALTER TABLE accounts ADD COLUMN email_verified INTEGER NOT NULL DEFAULT 0;
-- Whether nobody may use the account: a login is answered as one with a wrong password.
ALTER TABLE accounts ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;

-- How far the import of a file has come that was interrupted, by the SHA-256 of the file. The last line that was
-- read, and the numbers of its result so far. A row goes when its import is done.
CREATE TABLE imports (
    digest   BLOB PRIMARY KEY,
    line     INTEGER NOT NULL,
    lines    INTEGER NOT NULL,
    imported INTEGER NOT NULL,
    skipped  INTEGER NOT NULL,
    refused  INTEGER NOT NULL
) STRICT;
