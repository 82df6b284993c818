-- What is to be told to others: an outbox for each destination. A message of a run goes with the run.
CREATE TABLE delivery (
  number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  destination   text COLLATE "C" NOT NULL,
  id            text COLLATE "C" NOT NULL,
  kind          text COLLATE "C" NOT NULL,
  about         text COLLATE "C" NOT NULL,
  replaces      bigint NOT NULL,
  run           text COLLATE "C",
  document      text NOT NULL,
  created_at    bigint NOT NULL,
  due_at        bigint NOT NULL,
  attempts      bigint NOT NULL DEFAULT 0,
  claimed_by    text COLLATE "C",
  claimed_until bigint,
  delivered_at  bigint,
  dead_at       bigint,
  reason        text,
  UNIQUE (destination, id)
);

CREATE INDEX delivery_due ON delivery (destination, due_at)
WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX delivery_about ON delivery (destination, about, number)
WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX delivery_run ON delivery (run);

-- What was last seen of something outside: the files of a repository, the tags of a registry.
CREATE TABLE checkpoint (
  name text COLLATE "C" PRIMARY KEY,
  body text NOT NULL
);
