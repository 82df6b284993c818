-- What is to be told to others: an outbox for each destination. A message of a run goes with the run.
CREATE TABLE delivery (
  number        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  destination   TEXT NOT NULL,
  id            TEXT NOT NULL,
  kind          TEXT NOT NULL,
  about         TEXT NOT NULL,
  replaces      INTEGER NOT NULL,
  run           TEXT,
  document      TEXT NOT NULL,
  created_at    INTEGER NOT NULL,
  due_at        INTEGER NOT NULL,
  attempts      INTEGER NOT NULL DEFAULT 0,
  claimed_by    TEXT,
  claimed_until INTEGER,
  delivered_at  INTEGER,
  dead_at       INTEGER,
  reason        TEXT,
  UNIQUE (destination, id)
) STRICT;

CREATE INDEX delivery_due ON delivery (destination, due_at)
WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX delivery_about ON delivery (destination, about, number)
WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX delivery_run ON delivery (run);

-- What was last seen of something outside: the files of a repository, the tags of a registry.
CREATE TABLE checkpoint (
  name TEXT NOT NULL PRIMARY KEY,
  body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 8;
