-- Times are microseconds since 1970.

CREATE TABLE plan (
  digest TEXT NOT NULL PRIMARY KEY,
  bytes  BLOB NOT NULL
) STRICT;

-- The columns but `epoch` follow from the records; they are kept in the same transaction, for lists.
CREATE TABLE run (
  id           TEXT NOT NULL PRIMARY KEY,
  pipeline     TEXT NOT NULL,
  plan         TEXT NOT NULL REFERENCES plan (digest),
  status       TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  requested_at INTEGER NOT NULL,
  ended_at     INTEGER,
  seq          INTEGER NOT NULL,
  epoch        INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX run_by_pipeline ON run (pipeline, id);
CREATE INDEX run_unfinished ON run (id) WHERE ended_at IS NULL;

CREATE TABLE record (
  run   TEXT NOT NULL REFERENCES run (id),
  seq   INTEGER NOT NULL,
  bytes TEXT NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
  number       INTEGER PRIMARY KEY,
  key          TEXT NOT NULL UNIQUE,
  id           TEXT NOT NULL,
  received_at  INTEGER NOT NULL,
  document     TEXT NOT NULL,
  published_at INTEGER,
  handled_at   INTEGER
) STRICT;

CREATE INDEX event_unpublished ON event (number) WHERE published_at IS NULL;
CREATE INDEX event_unhandled ON event (number) WHERE handled_at IS NULL;

-- One event starts at most one run of a pipeline.
CREATE TABLE event_run (
  key      TEXT NOT NULL REFERENCES event (key),
  pipeline TEXT NOT NULL,
  run      TEXT NOT NULL REFERENCES run (id),
  PRIMARY KEY (key, pipeline)
) STRICT, WITHOUT ROWID;

PRAGMA application_id = 1179406924;
PRAGMA user_version = 1;
