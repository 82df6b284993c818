-- Events have attempts, a time, a claim and an end; and what tells them apart outlives them.

-- An event that waits is due at once: an older build may have left it anywhere.
ALTER TABLE event
  ADD COLUMN due_at        bigint NOT NULL DEFAULT 0,
  ADD COLUMN attempts      bigint NOT NULL DEFAULT 0,
  ADD COLUMN claimed_by    text COLLATE "C",
  -- By the server's clock, as the ends of leases are.
  ADD COLUMN claimed_until bigint,
  ADD COLUMN dead_at       bigint,
  -- Why the last attempt did not handle it.
  ADD COLUMN reason        text,
  -- Of a push to a tag: the tag, whose history knows the event when it is gone.
  ADD COLUMN tag           text COLLATE "C";

DROP INDEX event_unpublished;
DROP INDEX event_unhandled;
CREATE INDEX event_unpublished ON event (number)
WHERE published_at IS NULL AND handled_at IS NULL AND dead_at IS NULL;
CREATE INDEX event_due ON event (due_at, number) WHERE handled_at IS NULL AND dead_at IS NULL;
CREATE INDEX event_dead ON event (number) WHERE dead_at IS NOT NULL;

-- The keys of events that are gone.
CREATE TABLE event_key (
  key         text COLLATE "C" PRIMARY KEY,
  received_at bigint NOT NULL
);

CREATE INDEX event_key_by_time ON event_key (received_at);

-- The last pushes to each tag. `at` is what the sender says, to the nanosecond.
CREATE TABLE tag_push (
  tag         text COLLATE "C" NOT NULL,
  number      bigint NOT NULL,
  key         text COLLATE "C" NOT NULL,
  digest      text COLLATE "C" NOT NULL,
  at          text COLLATE "C",
  received_at bigint NOT NULL,
  PRIMARY KEY (tag, number)
);

CREATE INDEX tag_push_by_time ON tag_push (received_at);

-- Older builds found the pushes to a tag by keys with numbers; their order is that of the events. A
-- text with the character 0 is no tag, and the server has no such texts.
UPDATE event SET tag = (push.data ->> 'repository') || ':' || (push.data ->> 'tag')
FROM (
  SELECT number, CASE WHEN document LIKE '{%"dev.fairlead.image.pushed.v1"%}'
    AND document NOT LIKE '%\\u0000%' THEN document::json -> 'data' END AS data
  FROM event
) AS push
WHERE push.number = event.number AND push.data ->> 'digest' IS NOT NULL;

INSERT INTO tag_push (tag, number, key, digest, at, received_at)
SELECT tag, place, key, digest, at, received_at FROM (
  SELECT tag, key, received_at,
    document::json -> 'data' ->> 'digest' AS digest, document::json -> 'data' ->> 'at' AS at,
    row_number() OVER (PARTITION BY tag ORDER BY number) AS place,
    row_number() OVER (PARTITION BY tag ORDER BY number DESC) AS back
  FROM event WHERE tag IS NOT NULL
) AS ordered WHERE back <= 64;
