//! [`LogStore`] in Postgres: the text that the files would have, in pieces. Every server sees the
//! logs of all.

use std::sync::Arc;

use fairlead_run::{LogKey, LogLine, LogPage, LogStore, StoreError};
use fairlead_step::{BoxFuture, RunId};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::{Postgres, ids, on};
use crate::logs::{LEAST_PAGE, MOST_PAGE, NEAR_THE_END, fitting, is_cut, page};
use crate::prune::{Amount, LogRetention};
use crate::values::{counted, damaged, run_id, stored};

/// The most bytes of a piece, beside its last line: a page reads few more than it needs.
const PIECE: usize = 128 << 10;
/// The pieces that are looked up for one page at most: small ones are many.
const MOST_PIECES: i64 = 4096;

/// Cuts a text into pieces at the ends of lines.
fn pieces(text: &str) -> Vec<&[u8]> {
    let mut rest = text.as_bytes();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let from = PIECE.min(rest.len());
        let end = rest[from..].iter().position(|&byte| byte == b'\n').map(|end| from + end + 1);
        let (piece, more) = rest.split_at(end.filter(|_| from == PIECE).unwrap_or(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

async fn put(db: &mut PgConnection, key: &LogKey, mut start: u64, text: &str) -> sqlx::Result<()> {
    for piece in pieces(text) {
        sqlx::query(
            "INSERT INTO log_piece (run, step, attempt, start, bytes) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .bind(stored(start))
        .bind(piece)
        .execute(&mut *db)
        .await?;
        start += piece.len() as u64;
    }
    Ok(())
}

/// Adds a text to a log that is far from its limit, in one statement. Answers whether it was far.
async fn append_within(
    db: &mut PgConnection,
    key: &LogKey,
    text: &str,
    most: u64,
) -> sqlx::Result<bool> {
    if text.len() > PIECE {
        return Ok(false);
    }
    let done = sqlx::query(
        "WITH grown AS (\
           INSERT INTO log (run, step, attempt, size) VALUES ($1, $2, $3, $4) \
           ON CONFLICT (run, step, attempt) DO UPDATE SET size = log.size + $4 \
           WHERE log.size + $4 <= $5 RETURNING size) \
         INSERT INTO log_piece (run, step, attempt, start, bytes) \
         SELECT $1, $2, $3, size - $4, $6 FROM grown",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(stored(text.len() as u64))
    .bind(stored(most - NEAR_THE_END))
    .bind(text.as_bytes())
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds lines to a log, as far as they fit.
async fn append(
    db: &mut PgConnection,
    key: &LogKey,
    lines: &[LogLine],
    most: u64,
) -> sqlx::Result<()> {
    let text = fitting(lines, 0, most);
    if text.is_empty() || append_within(db, key, &text, most).await? {
        return Ok(());
    }
    let mut change = db.begin().await?;
    let size: i64 = sqlx::query_scalar(
        "INSERT INTO log (run, step, attempt, size) VALUES ($1, $2, $3, 0) \
         ON CONFLICT (run, step, attempt) DO UPDATE SET size = log.size RETURNING size",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .fetch_one(&mut *change)
    .await?;
    let size = u64::try_from(size).unwrap_or_default();
    if size + NEAR_THE_END > most {
        let last: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT bytes FROM log_piece WHERE run = $1 AND step = $2 AND attempt = $3 \
             ORDER BY start DESC LIMIT 1",
        )
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .fetch_optional(&mut *change)
        .await?;
        if last.is_some_and(|last| is_cut(&last)) {
            return change.rollback().await;
        }
    }
    let text = fitting(lines, size, most);
    put(&mut change, key, size, &text).await?;
    sqlx::query("UPDATE log SET size = $4 WHERE run = $1 AND step = $2 AND attempt = $3")
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .bind(stored(size + text.len() as u64))
        .execute(&mut *change)
        .await?;
    change.commit().await
}

/// The pieces from the one on that `from` is in; and how large the log is.
async fn read(
    db: &mut PgConnection,
    key: &LogKey,
    from: u64,
    most: u64,
) -> sqlx::Result<Option<(i64, Vec<(i64, Vec<u8>)>)>> {
    let size: Option<i64> =
        sqlx::query_scalar("SELECT size FROM log WHERE run = $1 AND step = $2 AND attempt = $3")
            .bind(key.run.as_str())
            .bind(key.step.as_str())
            .bind(i64::from(key.attempt))
            .fetch_optional(&mut *db)
            .await?;
    let Some(size) = size else { return Ok(None) };
    let pieces = sqlx::query_as(
        "SELECT start, bytes FROM log_piece WHERE run = $1 AND step = $2 AND attempt = $3 \
         AND start < $5 AND start >= coalesce((SELECT max(start) FROM log_piece \
           WHERE run = $1 AND step = $2 AND attempt = $3 AND start <= $4), 0) \
         ORDER BY start LIMIT $6",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(stored(from))
    .bind(stored(from.saturating_add(most)))
    .bind(MOST_PIECES)
    .fetch_all(db)
    .await?;
    Ok(Some((size, pieces)))
}

impl LogStore for Postgres {
    fn append(&self, key: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (key, lines) = (Arc::new(key.clone()), Arc::new(lines));
        Box::pin(async move {
            let most = self.max_log.get();
            let work = on(|db| {
                let (key, lines) = (Arc::clone(&key), Arc::clone(&lines));
                Box::pin(async move { append(db, &key, &lines, most).await })
            });
            let doing = || format!("write the log of `{}` in run {}", key.step, key.run);
            self.logs.call(doing, work).await
        })
    }

    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        let key = Arc::new(key.clone());
        Box::pin(async move {
            let most = max_bytes.clamp(LEAST_PAGE, MOST_PAGE) as u64;
            let work = on(|db| {
                let key = Arc::clone(&key);
                Box::pin(async move { read(db, &key, from, most).await })
            });
            let doing = || format!("read the log of `{}` in run {}", key.step, key.run);
            let Some((size, pieces)) = self.logs.call(doing, work).await? else {
                return Ok(LogPage { at_end: true, ..LogPage::default() });
            };
            let size = counted(size)?;
            let from = from.min(size);
            let mut bytes = Vec::new();
            for (start, piece) in pieces {
                // Of the first piece, what is behind `from`.
                let skip = usize::try_from(from.saturating_sub(counted(start)?)).unwrap_or(0);
                bytes.extend_from_slice(piece.get(skip..).unwrap_or_default());
            }
            bytes.truncate(usize::try_from(most).unwrap_or(MOST_PAGE));
            let more = from + (bytes.len() as u64) < size;
            Ok(page(&bytes, from, more))
        })
    }

    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as("SELECT step, attempt FROM log WHERE run = $1")
                    .bind(run.to_string());
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || format!("list the logs of run {run}");
            let rows: Vec<(String, i64)> = self.logs.call(doing, work).await?;
            let key = |(step, attempt): (String, i64)| {
                Ok(LogKey {
                    run: run.clone(),
                    step: step.parse().map_err(|error| damaged("a step's name", error))?,
                    attempt: u32::try_from(attempt)
                        .map_err(|error| damaged("the number of an attempt", error))?,
                })
            };
            let mut keys = rows.into_iter().map(key).collect::<Result<Vec<_>, StoreError>>()?;
            keys.sort();
            Ok(keys)
        })
    }

    fn max_bytes(&self) -> u64 {
        self.max_log.get()
    }
}

impl LogRetention for Postgres {
    fn limit(&self, bytes: u64) {
        self.max_log.set(bytes);
    }

    fn runs(&self) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar("SELECT DISTINCT run FROM log ORDER BY run");
                Box::pin(async move { query.fetch_all(db).await })
            });
            let runs: Vec<String> = self.logs.call(|| "list the logs".to_owned(), work).await?;
            runs.iter().map(|run| run_id(run)).collect()
        })
    }

    fn remove(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Amount, StoreError>> {
        Box::pin(async move {
            let mut amount = Amount::default();
            for run in runs {
                let run = ids([&run]);
                let doing = || "remove logs".to_owned();
                let work = on(|db| Box::pin(remove(db, run.clone(), dry)));
                let (count, bytes): (i64, i64) = self.logs.call(doing, work).await?;
                amount.add(Amount { count: counted(count)?, bytes: counted(bytes)? });
            }
            Ok(amount)
        })
    }
}

/// The pieces go first: a log that is left has a size that says where its next piece would begin.
async fn remove(db: &mut PgConnection, runs: Vec<String>, dry: bool) -> sqlx::Result<(i64, i64)> {
    let amount = sqlx::query_as(
        "SELECT count(*), coalesce(sum(size), 0)::bigint FROM log WHERE run = ANY ($1)",
    )
    .bind(&runs)
    .fetch_one(&mut *db)
    .await?;
    if !dry {
        for text in
            ["DELETE FROM log_piece WHERE run = ANY ($1)", "DELETE FROM log WHERE run = ANY ($1)"]
        {
            sqlx::query(text).bind(&runs).execute(&mut *db).await?;
        }
    }
    Ok(amount)
}
