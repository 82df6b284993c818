-- Up to where what goes on for ever was looked at: the times of schedules, the runs that ended.
CREATE TABLE watermark (
  name text COLLATE "C" PRIMARY KEY,
  at   bigint NOT NULL
);

CREATE INDEX run_ended ON run (ended_at) WHERE ended_at IS NOT NULL;
