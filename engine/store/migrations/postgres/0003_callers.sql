-- Who calls, and what they have changed.

-- API tokens. The token itself is not here: `hash` is what it is looked up by.
CREATE TABLE token (
  number            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id                text COLLATE "C" NOT NULL UNIQUE,
  hash              text COLLATE "C" NOT NULL UNIQUE,
  subject           text COLLATE "C" NOT NULL,
  grants            text COLLATE "C" NOT NULL,
  speaks_for_others bigint NOT NULL,
  created_by        text COLLATE "C" NOT NULL,
  created_at        bigint NOT NULL,
  expires_at        bigint,
  revoked_at        bigint,
  last_used_at      bigint
);

-- The audit log: each entry carries the hash of the one before it.
CREATE TABLE audit (
  seq   bigint PRIMARY KEY,
  bytes text COLLATE "C" NOT NULL
);
