-- Who calls, and what they have changed.

-- API tokens. The token itself is not here: `hash` is what it is looked up by.
CREATE TABLE token (
  number            INTEGER PRIMARY KEY,
  id                TEXT NOT NULL UNIQUE,
  hash              TEXT NOT NULL UNIQUE,
  subject           TEXT NOT NULL,
  grants            TEXT NOT NULL,
  speaks_for_others INTEGER NOT NULL,
  created_by        TEXT NOT NULL,
  created_at        INTEGER NOT NULL,
  expires_at        INTEGER,
  revoked_at        INTEGER,
  last_used_at      INTEGER
) STRICT;

-- The audit log: each entry carries the hash of the one before it.
CREATE TABLE audit (
  seq   INTEGER PRIMARY KEY,
  bytes TEXT NOT NULL
) STRICT;

PRAGMA user_version = 5;
