-- Requests that showed an `Idempotency-Key`, and what they were answered.
CREATE TABLE keyed_request (
  key          TEXT NOT NULL PRIMARY KEY,
  content      TEXT NOT NULL,
  run          TEXT NOT NULL,
  leased_until INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  status       INTEGER,
  body         TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX keyed_request_expires ON keyed_request (expires_at);

PRAGMA user_version = 7;
