-- Groups and turns, signals, remembered results, times to wake.

-- `number` is the order of creation; ids tell time only to the millisecond, and by the clock of
-- whoever minted them.
ALTER TABLE run ADD COLUMN number INTEGER;
ALTER TABLE run ADD COLUMN wake_at INTEGER;
ALTER TABLE run ADD COLUMN origin TEXT;
ALTER TABLE run ADD COLUMN group_name TEXT;
ALTER TABLE run ADD COLUMN policy TEXT;
ALTER TABLE run ADD COLUMN max INTEGER;
ALTER TABLE run ADD COLUMN admitted INTEGER NOT NULL DEFAULT 0;

UPDATE run SET number = ordered.number
FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM run) AS ordered
WHERE ordered.id = run.id;

CREATE UNIQUE INDEX run_by_number ON run (number);
CREATE INDEX run_by_origin ON run (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX run_by_plan ON run (plan);
CREATE INDEX run_in_group ON run (group_name, number) WHERE ended_at IS NULL;
CREATE INDEX run_admitted ON run (group_name, number) WHERE admitted AND ended_at IS NULL;

-- A number is never given twice: a driver may still name one that is gone.
CREATE TABLE signal (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run    TEXT NOT NULL REFERENCES run (id),
  at     INTEGER NOT NULL,
  body   TEXT NOT NULL
) STRICT;

CREATE INDEX signal_by_run ON signal (run, number);

-- Not a reference: a result outlives the run that made it.
CREATE TABLE remembered (
  key     TEXT NOT NULL PRIMARY KEY,
  run     TEXT NOT NULL,
  step    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  outputs TEXT NOT NULL
) STRICT;

CREATE INDEX event_run_by_run ON event_run (run);

PRAGMA user_version = 2;
