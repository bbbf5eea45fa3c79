-- How far we have read what other services list.
CREATE TABLE cursors (
    name       TEXT PRIMARY KEY NOT NULL,
    -- Empty: from the beginning.
    value      TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cursors (name, value, updated_at) VALUES ('deleted-accounts', '', unixepoch() * 1000000);
