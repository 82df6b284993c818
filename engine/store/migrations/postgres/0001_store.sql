-- Times are microseconds since 1970, but for the ends of leases, which are by the server's clock.
-- Ids are compared by their bytes, whatever the database's locale is.

-- What makes a schema ours, and its version. One row.
CREATE TABLE fairlead_store (
  version integer NOT NULL
);

CREATE TABLE plan (
  digest text COLLATE "C" PRIMARY KEY,
  bytes  bytea NOT NULL
);

-- Room in each page for the next version of a row: a run moves many times, and none of the columns
-- that move with every record is in an index.
CREATE TABLE run (
  id           text COLLATE "C" PRIMARY KEY,
  number       bigint GENERATED ALWAYS AS IDENTITY,
  pipeline     text COLLATE "C" NOT NULL,
  plan         text COLLATE "C" NOT NULL REFERENCES plan (digest),
  status       text COLLATE "C" NOT NULL,
  requested_by text NOT NULL,
  requested_at bigint NOT NULL,
  ended_at     bigint,
  seq          bigint NOT NULL,
  epoch        bigint NOT NULL DEFAULT 0,
  wake_at      bigint,
  origin       text COLLATE "C",
  group_name   text COLLATE "C",
  policy       text COLLATE "C",
  max          bigint,
  admitted     boolean NOT NULL DEFAULT false
) WITH (fillfactor = 60);

CREATE INDEX run_by_pipeline ON run (pipeline, id);
CREATE INDEX run_by_origin ON run (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX run_by_plan ON run (plan);
CREATE INDEX run_unfinished ON run (id) WHERE ended_at IS NULL;
CREATE INDEX run_in_group ON run (group_name, number) WHERE group_name IS NOT NULL AND ended_at IS NULL;
CREATE INDEX run_admitted ON run (group_name, number) WHERE admitted AND ended_at IS NULL;

-- No reference to the run: the one statement that writes records writes them for runs that it has
-- just moved, and a check for each would cost as much as the record.
CREATE TABLE record (
  run   text COLLATE "C" NOT NULL,
  seq   bigint NOT NULL,
  bytes text NOT NULL,
  PRIMARY KEY (run, seq)
);

-- Who drives a run, and until when unless it renews that. Apart from the run, so that renewing does
-- not wait for its writer, nor its writer for that.
CREATE TABLE lease (
  run    text COLLATE "C" PRIMARY KEY,
  holder text COLLATE "C" NOT NULL,
  token  bigint NOT NULL UNIQUE,
  until  timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE signal (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run    text COLLATE "C" NOT NULL,
  at     bigint NOT NULL,
  body   text NOT NULL
);

CREATE INDEX signal_by_run ON signal (run, number);

CREATE TABLE event (
  number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key          text COLLATE "C" NOT NULL UNIQUE,
  id           text NOT NULL,
  received_at  bigint NOT NULL,
  document     text NOT NULL,
  published_at bigint,
  handled_at   bigint
);

CREATE INDEX event_unpublished ON event (number) WHERE published_at IS NULL;
CREATE INDEX event_unhandled ON event (number) WHERE handled_at IS NULL;

-- One event starts at most one run of a pipeline.
CREATE TABLE event_run (
  key      text COLLATE "C" NOT NULL REFERENCES event (key),
  pipeline text COLLATE "C" NOT NULL,
  run      text COLLATE "C" NOT NULL,
  PRIMARY KEY (key, pipeline)
);

CREATE INDEX event_run_by_run ON event_run (run);

CREATE TABLE remembered (
  key     text COLLATE "C" PRIMARY KEY,
  run     text COLLATE "C" NOT NULL,
  step    text COLLATE "C" NOT NULL,
  at      bigint NOT NULL,
  outputs text NOT NULL
);

-- A log is a text, in pieces that begin at `start`, counted in bytes. Text of steps may hold any
-- byte, and `text` may not.
CREATE TABLE log (
  run     text COLLATE "C" NOT NULL,
  step    text COLLATE "C" NOT NULL,
  attempt bigint NOT NULL,
  size    bigint NOT NULL,
  PRIMARY KEY (run, step, attempt)
) WITH (fillfactor = 60);

CREATE TABLE log_piece (
  run     text COLLATE "C" NOT NULL,
  step    text COLLATE "C" NOT NULL,
  attempt bigint NOT NULL,
  start   bigint NOT NULL,
  bytes   bytea NOT NULL,
  PRIMARY KEY (run, step, attempt, start)
);
