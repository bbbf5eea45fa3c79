-- How far we have read what other services list.
CREATE TABLE cursors (
    name       text PRIMARY KEY,
    -- Empty: from the beginning.
    value      text NOT NULL,
    updated_at timestamptz NOT NULL
);
INSERT INTO cursors (name, value, updated_at) VALUES ('deleted-accounts', '', now());
