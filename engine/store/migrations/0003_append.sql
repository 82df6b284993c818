-- A batch as one statement, which is one call to the database's thread and a transaction by itself.
-- A statement changes one table, but what a trigger does is part of it: so this is a view, and a row
-- that is inserted is a batch. `before` is the place of the last record that stands, `seq` that of the
-- last one of the batch; both are NULL when the batch has no records. The first four records of a batch
-- are in its row.
CREATE VIEW append (run, epoch, before, seq, status, ended_at, wake_at, first, second, third, fourth)
AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;

-- A run that goes on. To name `ended_at` would write the indexes of unfinished runs again.
CREATE TRIGGER append_move INSTEAD OF INSERT ON append WHEN NEW.ended_at IS NULL BEGIN
  UPDATE run SET status = NEW.status, wake_at = NEW.wake_at, seq = coalesce(NEW.seq, seq)
  WHERE id = NEW.run AND epoch = NEW.epoch AND ended_at IS NULL AND seq = coalesce(NEW.before, seq);
  SELECT RAISE(ABORT, 'the run did not move') WHERE changes() = 0;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 1, NEW.first WHERE NEW.first IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 2, NEW.second WHERE NEW.second IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 3, NEW.third WHERE NEW.third IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 4, NEW.fourth WHERE NEW.fourth IS NOT NULL;
END;

-- A run that ends. Nobody listens to what was said to it any more.
CREATE TRIGGER append_end INSTEAD OF INSERT ON append WHEN NEW.ended_at IS NOT NULL BEGIN
  UPDATE run SET status = NEW.status, ended_at = NEW.ended_at, wake_at = NULL, seq = NEW.seq
  WHERE id = NEW.run AND epoch = NEW.epoch AND ended_at IS NULL AND seq = NEW.before;
  SELECT RAISE(ABORT, 'the run did not move') WHERE changes() = 0;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 1, NEW.first WHERE NEW.first IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 2, NEW.second WHERE NEW.second IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 3, NEW.third WHERE NEW.third IS NOT NULL;
  INSERT INTO record (run, seq, bytes)
  SELECT NEW.run, NEW.before + 4, NEW.fourth WHERE NEW.fourth IS NOT NULL;
  DELETE FROM signal WHERE run = NEW.run;
END;

PRAGMA user_version = 3;
