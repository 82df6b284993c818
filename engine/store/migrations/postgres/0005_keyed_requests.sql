-- Requests that showed an `Idempotency-Key`, and what they were answered.
CREATE TABLE keyed_request (
  key          text COLLATE "C" PRIMARY KEY,
  content      text NOT NULL,
  run          text NOT NULL,
  leased_until bigint NOT NULL,
  expires_at   bigint NOT NULL,
  status       bigint,
  body         text
);

CREATE INDEX keyed_request_expires ON keyed_request (expires_at);
