-- Events have attempts, a time, a claim and an end; and what tells them apart outlives them.

-- An event that waits is due at once: an older build may have left it anywhere.
ALTER TABLE event ADD COLUMN due_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN claimed_by TEXT;
ALTER TABLE event ADD COLUMN claimed_until INTEGER;
ALTER TABLE event ADD COLUMN dead_at INTEGER;
-- Why the last attempt did not handle it.
ALTER TABLE event ADD COLUMN reason TEXT;
-- Of a push to a tag: the tag, whose history knows the event when it is gone.
ALTER TABLE event ADD COLUMN tag TEXT;

DROP INDEX event_unpublished;
DROP INDEX event_unhandled;
CREATE INDEX event_unpublished ON event (number)
WHERE published_at IS NULL AND handled_at IS NULL AND dead_at IS NULL;
CREATE INDEX event_due ON event (due_at, number) WHERE handled_at IS NULL AND dead_at IS NULL;
CREATE INDEX event_dead ON event (number) WHERE dead_at IS NOT NULL;

-- The keys of events that are gone.
CREATE TABLE event_key (
  key         TEXT NOT NULL PRIMARY KEY,
  received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The history of its tag knows a push to one.
CREATE TRIGGER event_gone AFTER DELETE ON event WHEN OLD.tag IS NULL BEGIN
  INSERT INTO event_key (key, received_at) VALUES (OLD.key, OLD.received_at)
  ON CONFLICT DO NOTHING;
END;

CREATE INDEX event_key_by_time ON event_key (received_at);

-- The last pushes to each tag. `at` is what the sender says, to the nanosecond.
CREATE TABLE tag_push (
  tag         TEXT NOT NULL,
  number      INTEGER NOT NULL,
  key         TEXT NOT NULL,
  digest      TEXT NOT NULL,
  at          TEXT,
  received_at INTEGER NOT NULL,
  PRIMARY KEY (tag, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX tag_push_by_time ON tag_push (received_at);

-- Older builds found the pushes to a tag by keys with numbers; their order is that of the events.
UPDATE event SET tag = (
  SELECT json_extract(document, '$.data.repository') || ':' || json_extract(document, '$.data.tag')
  WHERE json_extract(document, '$.data.digest') IS NOT NULL
) WHERE json_valid(document) AND document LIKE '%"dev.fairlead.image.pushed.v1"%';

INSERT INTO tag_push (tag, number, key, digest, at, received_at)
SELECT tag, place, key, digest, at, received_at FROM (
  SELECT tag, key, received_at,
    json_extract(document, '$.data.digest') AS digest, json_extract(document, '$.data.at') AS at,
    row_number() OVER (PARTITION BY tag ORDER BY number) AS place,
    row_number() OVER (PARTITION BY tag ORDER BY number DESC) AS back
  FROM event WHERE tag IS NOT NULL
) AS ordered WHERE back <= 64;

PRAGMA user_version = 4;
