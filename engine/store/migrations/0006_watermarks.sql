-- Up to where what goes on for ever was looked at: the times of schedules, the runs that ended.
CREATE TABLE watermark (
  name TEXT NOT NULL PRIMARY KEY,
  at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX run_ended ON run (ended_at) WHERE ended_at IS NOT NULL;

PRAGMA user_version = 6;
