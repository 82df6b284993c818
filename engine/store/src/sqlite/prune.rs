//! Retention in SQLite. The pages of what went are used again for what comes; the file does not
//! become smaller.

use std::collections::BTreeSet;

use fairlead_run::StoreError;
use fairlead_step::{BoxFuture, RunId};
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{Sqlite, lease, store_error};
use crate::prune::{Amount, Choice, Gone, Retention};
use crate::runs::TEXTS;
use crate::statements::{
    self, Argument, CHOOSE, ROWS_AT_ONCE, SHOWING, Sweep, TEXTS_AT_ONCE, amount, not_needed,
    old_events, unnamed_plans,
};
use crate::values::{counted, micros, run_id, stored, timestamp};

/// What keeps it, too: any run whose request refers to a result of it. Requests of the first two
/// versions refer to nothing. It reads requests, so it is asked for few runs at a time.
macro_rules! not_referred_to {
    () => {
        " AND NOT EXISTS (SELECT 1 FROM run AS later \
         JOIN record AS first ON first.run = later.id AND first.seq = 1 \
         WHERE later.origin IS NOT NULL AND substr(first.bytes, 1, 7) NOT IN ('{\"v\":1,', '{\"v\":2,') \
         AND instr(first.bytes, '\"made_by\":\"' || run.id || '\"') > 0)"
    };
}

impl Sqlite {
    async fn sweep(&self, sweep: Sweep, dry: bool) -> Result<Amount, StoreError> {
        let Sweep { doing, count, remove, arguments } = sweep;
        let mut query = sqlx::query_as(count);
        for argument in &arguments {
            query = match argument {
                Argument::Gone(runs) => query.bind(ids(runs)),
                Argument::Number(number) => query.bind(number),
            };
        }
        let (count, bytes): (i64, i64) =
            query.fetch_one(&self.readers).await.map_err(|error| store_error(doing, error))?;
        let amount = Amount { count: counted(count)?, bytes: counted(bytes)? };
        let mut left = !dry && amount.count > 0;
        while left {
            let mut query = sqlx::query(remove);
            for argument in &arguments {
                query = match argument {
                    // They are not there by now.
                    Argument::Gone(_) => query.bind("[]"),
                    Argument::Number(number) => query.bind(*number),
                };
            }
            let query = query.bind(ROWS_AT_ONCE);
            let removed =
                self.writer.write(|| doing.to_owned(), |db| Box::pin(query.execute(db))).await?;
            left = removed.rows_affected() > 0;
        }
        Ok(amount)
    }

    /// Shows the texts of a table, in the order of their keys.
    async fn show_table(
        &self,
        text: &'static str,
        gone: Option<&str>,
        see: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), StoreError> {
        let mut last = String::new();
        loop {
            let mut query = sqlx::query_as(text);
            if let Some(argument) = gone {
                query = query.bind(argument);
            }
            let rows: Vec<(String, Vec<u8>)> = query
                .bind(&last)
                .bind(TEXTS_AT_ONCE)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error(SHOWING, error))?;
            rows.iter().for_each(|(_, text)| see(text));
            match rows.into_iter().next_back() {
                Some((key, _)) => last = key,
                None => return Ok(()),
            }
        }
    }
}

/// Ids for `json_each`.
fn ids<'r>(runs: impl IntoIterator<Item = &'r RunId>) -> String {
    let ids: Vec<String> = runs.into_iter().map(|run| format!("\"{run}\"")).collect();
    format!("[{}]", ids.join(","))
}

async fn remove_runs(
    db: &mut SqliteConnection,
    runs: Vec<RunId>,
    dry: bool,
) -> sqlx::Result<(Vec<RunId>, i64, i64)> {
    let named: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT id FROM run WHERE id IN (SELECT value FROM json_each(?)) \
         AND ended_at IS NOT NULL AND",
        not_needed!("run"),
        not_referred_to!(),
    ))
    .bind(ids(&runs))
    .fetch_all(&mut *db)
    .await?;
    let going: Vec<RunId> =
        runs.into_iter().filter(|run| named.iter().any(|id| id == run.as_str())).collect();
    let (count, bytes) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(octet_length(bytes)), 0) FROM record \
         WHERE run IN (SELECT value FROM json_each(?))",
    )
    .bind(ids(&going))
    .fetch_one(&mut *db)
    .await?;
    if !dry && !going.is_empty() {
        for text in [
            "DELETE FROM record WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM signal WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM event_run WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM delivery WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM run WHERE id IN (SELECT value FROM json_each(?))",
        ] {
            sqlx::query(text).bind(ids(&going)).execute(&mut *db).await?;
        }
    }
    Ok((going, count, bytes))
}

impl Retention for Sqlite {
    fn choose(&self, choice: Choice) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        Box::pin(async move {
            let chosen: Vec<String> = sqlx::query_scalar(CHOOSE)
                .bind(choice.ended_before.map(micros))
                .bind(stored(choice.keep_last.unwrap_or(0) as u64))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("choose the runs to remove", error))?;
            chosen.iter().map(|id| run_id(id)).collect()
        })
    }

    fn remove_runs(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Gone, StoreError>> {
        Box::pin(async move {
            let doing = || "remove runs".to_owned();
            let (runs, count, bytes) = if dry {
                let failed = |error| store_error(doing(), error);
                let mut db = self.readers.acquire().await.map_err(failed)?;
                remove_runs(&mut db, runs, true).await.map_err(failed)?
            } else {
                self.writer.write(doing, |db| Box::pin(remove_runs(db, runs, false))).await?
            };
            let records = Amount { count: counted(count)?, bytes: counted(bytes)? };
            Ok(Gone { runs, records })
        })
    }

    fn unknown(&self, runs: Vec<RunId>) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        Box::pin(async move {
            let unknown: Vec<String> = sqlx::query_scalar(
                "SELECT value FROM json_each(?) AS named \
                 WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = named.value)",
            )
            .bind(ids(&runs))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| store_error("look up runs", error))?;
            unknown.iter().map(|id| run_id(id)).collect()
        })
    }

    fn remove_plans<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>> {
        macro_rules! unnamed {
            ($select:expr, $limit:literal) => {
                concat!(
                    $select,
                    unnamed_plans!(" NOT IN (SELECT value FROM json_each($1))"),
                    $limit
                )
            };
        }
        Box::pin(self.sweep(
            Sweep {
                doing: "remove plans",
                count: unnamed!(amount!("bytes"), ""),
                remove: concat!(
                    "DELETE FROM plan WHERE digest IN (",
                    unnamed!("SELECT digest", " LIMIT $2"),
                    ")"
                ),
                arguments: vec![Argument::Gone(gone.iter().cloned().collect())],
            },
            dry,
        ))
    }

    fn remove_events<'a>(
        &'a self,
        cutoff: Timestamp,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>> {
        macro_rules! old {
            ($select:expr, $limit:literal) => {
                concat!($select, old_events!(" NOT IN (SELECT value FROM json_each($1))"), $limit)
            };
        }
        // A trigger keeps the keys of those that go.
        Box::pin(self.sweep(
            Sweep {
                doing: "remove events",
                count: old!(amount!("document"), ""),
                remove: concat!(
                    "DELETE FROM event WHERE number IN (",
                    old!("SELECT number", " LIMIT $3"),
                    ")"
                ),
                arguments: vec![
                    Argument::Gone(gone.iter().cloned().collect()),
                    Argument::Number(micros(cutoff)),
                ],
            },
            dry,
        ))
    }

    fn remove_keys(
        &self,
        cutoff: Timestamp,
        most: u64,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>> {
        Box::pin(async move {
            let mut amount = Amount::default();
            for sweep in statements::keys(cutoff, most) {
                amount.add(self.sweep(sweep, dry).await?);
            }
            Ok(amount)
        })
    }

    fn remove_cached_results(
        &self,
        cutoff: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>> {
        Box::pin(self.sweep(statements::cached_results(cutoff), dry))
    }

    fn oldest_driven(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        Box::pin(async move {
            let unfinished: Vec<(String, i64)> = sqlx::query_as(
                "SELECT id, requested_at FROM run WHERE ended_at IS NULL ORDER BY requested_at",
            )
            .fetch_all(&self.readers)
            .await
            .map_err(|error| store_error("look for runs that are driven", error))?;
            for (id, at) in unfinished {
                if lease::is_held(&self.leases, &run_id(&id)?) {
                    return timestamp(at).map(Some);
                }
            }
            Ok(None)
        })
    }

    fn show_texts<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        see: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let left_out: BTreeSet<&str> = gone.iter().map(RunId::as_str).collect();
            let mut last = (String::new(), 0);
            loop {
                let rows: Vec<(String, i64, String)> = sqlx::query_as(TEXTS)
                    .bind(&last.0)
                    .bind(last.1)
                    .bind(TEXTS_AT_ONCE)
                    .fetch_all(&self.readers)
                    .await
                    .map_err(|error| store_error(SHOWING, error))?;
                for (run, _, text) in &rows {
                    if !left_out.contains(run.as_str()) {
                        see(text.as_bytes());
                    }
                }
                match rows.into_iter().next_back() {
                    Some((run, seq, _)) => last = (run, seq),
                    None => break,
                }
            }
            let plans = "SELECT digest, bytes FROM plan WHERE EXISTS (SELECT 1 FROM run \
                         WHERE run.plan = plan.digest \
                         AND run.id NOT IN (SELECT value FROM json_each(?))) \
                         AND digest > ? ORDER BY digest LIMIT ?";
            self.show_table(plans, Some(&ids(gone)), see).await?;
            let signals = "SELECT printf('%020d', number), CAST(body AS BLOB) FROM signal \
                           WHERE printf('%020d', number) > ? ORDER BY number LIMIT ?";
            self.show_table(signals, None, see).await?;
            let cached = "SELECT key, CAST(outputs AS BLOB) FROM remembered \
                              WHERE key > ? ORDER BY key LIMIT ?";
            self.show_table(cached, None, see).await
        })
    }
}
