//! Retention in Postgres.

use std::collections::BTreeSet;

use fairlead_run::StoreError;
use fairlead_step::{BoxFuture, RunId};
use jiff::Timestamp;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::{Postgres, ids, on};
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
         WHERE later.origin IS NOT NULL AND left(first.bytes, 7) NOT IN ('{\"v\":1,', '{\"v\":2,') \
         AND strpos(first.bytes, '\"made_by\":\"' || run.id || '\"') > 0)"
    };
}

impl Postgres {
    async fn sweep(&self, sweep: Sweep, dry: bool) -> Result<Amount, StoreError> {
        let doing = || sweep.doing.to_owned();
        let amount = self.amount(&sweep).await?;
        let mut left = !dry && amount.count > 0;
        while left {
            let work = on(|db| {
                let mut query = sqlx::query(sweep.remove);
                for argument in &sweep.arguments {
                    query = match argument {
                        // They are not there by now.
                        Argument::Gone(_) => query.bind(Vec::<String>::new()),
                        Argument::Number(number) => query.bind(*number),
                    };
                }
                let query = query.bind(ROWS_AT_ONCE);
                Box::pin(async move { query.execute(db).await.map(|done| done.rows_affected()) })
            });
            left = self.pool.call(doing, work).await? > 0;
        }
        Ok(amount)
    }

    async fn amount(&self, sweep: &Sweep) -> Result<Amount, StoreError> {
        let work = on(|db| {
            let mut query = sqlx::query_as(sweep.count);
            for argument in &sweep.arguments {
                query = match argument {
                    Argument::Gone(runs) => query.bind(ids(runs)),
                    Argument::Number(number) => query.bind(*number),
                };
            }
            Box::pin(async move { query.fetch_one(db).await })
        });
        let (count, bytes): (i64, i64) = self.pool.call(|| sweep.doing.to_owned(), work).await?;
        Ok(Amount { count: counted(count)?, bytes: counted(bytes)? })
    }

    /// Shows the texts of a table, in the order of their keys.
    async fn show_table(
        &self,
        text: &'static str,
        gone: Vec<String>,
        see: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), StoreError> {
        let mut last = String::new();
        loop {
            let work = on(|db| {
                let query =
                    sqlx::query_as(text).bind(gone.clone()).bind(last.clone()).bind(TEXTS_AT_ONCE);
                Box::pin(async move { query.fetch_all(db).await })
            });
            let rows: Vec<(String, Vec<u8>)> = self.pool.call(|| SHOWING.to_owned(), work).await?;
            rows.iter().for_each(|(_, text)| see(text));
            match rows.into_iter().next_back() {
                Some((key, _)) => last = key,
                None => return Ok(()),
            }
        }
    }
}

/// Removes some events, and keeps the keys of those whose tag has no history that knows them.
const REMOVE_EVENTS: &str = concat!(
    "WITH gone AS (DELETE FROM event WHERE number IN (SELECT number",
    old_events!(" <> ALL ($1)"),
    " LIMIT $3) RETURNING key, received_at, tag), \
     kept AS (INSERT INTO event_key (key, received_at) SELECT key, received_at FROM gone \
     WHERE tag IS NULL ON CONFLICT DO NOTHING) SELECT count(*) FROM gone"
);

async fn remove_events(db: &mut PgConnection, cutoff: i64) -> sqlx::Result<i64> {
    let mut change = db.begin().await?;
    // An insert that has looked for the key before this and comes to the event behind it would find
    // neither. It waits here, and looks then.
    sqlx::query("LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE").execute(&mut *change).await?;
    let removed = sqlx::query_scalar(REMOVE_EVENTS)
        .bind(Vec::<String>::new())
        .bind(cutoff)
        .bind(ROWS_AT_ONCE)
        .fetch_one(&mut *change)
        .await?;
    change.commit().await?;
    Ok(removed)
}

async fn remove_runs(
    db: &mut PgConnection,
    runs: Vec<String>,
    dry: bool,
) -> sqlx::Result<(Vec<String>, i64, i64)> {
    let mut change = db.begin().await?;
    if !dry {
        // Whoever creates a run that begins from one of these has the row locked, or waits here; the
        // statement after this one sees what was created.
        sqlx::query("SELECT 1 FROM run WHERE id = ANY ($1) ORDER BY id FOR UPDATE")
            .bind(&runs)
            .execute(&mut *change)
            .await?;
    }
    let going: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT id FROM run WHERE id = ANY ($1) AND ended_at IS NOT NULL AND",
        not_needed!("run"),
        not_referred_to!(),
        " ORDER BY id",
    ))
    .bind(&runs)
    .fetch_all(&mut *change)
    .await?;
    let (count, bytes) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(octet_length(bytes)), 0)::bigint FROM record \
         WHERE run = ANY ($1)",
    )
    .bind(&going)
    .fetch_one(&mut *change)
    .await?;
    if !dry && !going.is_empty() {
        for text in [
            "DELETE FROM record WHERE run = ANY ($1)",
            "DELETE FROM signal WHERE run = ANY ($1)",
            "DELETE FROM event_run WHERE run = ANY ($1)",
            "DELETE FROM delivery WHERE run = ANY ($1)",
            "DELETE FROM lease WHERE run = ANY ($1)",
            "DELETE FROM run WHERE id = ANY ($1)",
        ] {
            sqlx::query(text).bind(&going).execute(&mut *change).await?;
        }
    }
    change.commit().await?;
    Ok((going, count, bytes))
}

impl Retention for Postgres {
    fn choose(&self, choice: Choice) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar(CHOOSE)
                    .bind(choice.ended_before.map(micros))
                    .bind(stored(choice.keep_last.unwrap_or(0) as u64));
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || "choose the runs to remove".to_owned();
            let chosen: Vec<String> = self.pool.call(doing, work).await?;
            chosen.iter().map(|id| run_id(id)).collect()
        })
    }

    fn remove_runs(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Gone, StoreError>> {
        Box::pin(async move {
            let runs = ids(&runs);
            let work = on(|db| Box::pin(remove_runs(db, runs.clone(), dry)));
            let (runs, count, bytes) = self.pool.call(|| "remove runs".to_owned(), work).await?;
            let runs = runs.iter().map(|id| run_id(id)).collect::<Result<_, _>>()?;
            let records = Amount { count: counted(count)?, bytes: counted(bytes)? };
            Ok(Gone { runs, records })
        })
    }

    fn unknown(&self, runs: Vec<RunId>) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        Box::pin(async move {
            let runs = ids(&runs);
            let work = on(|db| {
                let query = sqlx::query_scalar(
                    "SELECT named FROM unnest($1::text[]) AS named \
                     WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = named)",
                )
                .bind(runs.clone());
                Box::pin(async move { query.fetch_all(db).await })
            });
            let unknown: Vec<String> = self.pool.call(|| "look up runs".to_owned(), work).await?;
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
                concat!($select, unnamed_plans!(" <> ALL ($1)"), $limit)
            };
        }
        let sweep = Sweep {
            doing: "remove plans",
            count: unnamed!(amount!("bytes"), ""),
            remove: concat!(
                "DELETE FROM plan WHERE digest IN (",
                unnamed!("SELECT digest", " LIMIT $2"),
                ")"
            ),
            arguments: vec![Argument::Gone(gone.iter().cloned().collect())],
        };
        Box::pin(self.sweep(sweep, dry))
    }

    fn remove_events<'a>(
        &'a self,
        cutoff: Timestamp,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>> {
        let sweep = Sweep {
            doing: "remove events",
            count: concat!(amount!("document"), old_events!(" <> ALL ($1)")),
            remove: REMOVE_EVENTS,
            arguments: vec![
                Argument::Gone(gone.iter().cloned().collect()),
                Argument::Number(micros(cutoff)),
            ],
        };
        Box::pin(async move {
            let amount = self.amount(&sweep).await?;
            let mut left = !dry && amount.count > 0;
            while left {
                let work = on(|db| Box::pin(remove_events(db, micros(cutoff))));
                left = self.pool.call(|| sweep.doing.to_owned(), work).await? > 0;
            }
            Ok(amount)
        })
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
            let free = self.leases.given_back();
            let work = on(|db| {
                let query = sqlx::query_scalar(
                    "SELECT min(requested_at) FROM run JOIN lease ON lease.run = run.id \
                     WHERE ended_at IS NULL AND lease.until > clock_timestamp() \
                     AND lease.token <> ALL ($1)",
                )
                .bind(free.clone());
                Box::pin(async move { query.fetch_one(db).await })
            });
            let doing = || "look for runs that are driven".to_owned();
            let oldest: Option<i64> = self.pool.call(doing, work).await?;
            oldest.map(timestamp).transpose()
        })
    }

    fn show_texts<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        see: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let left_out: BTreeSet<&str> = gone.iter().map(RunId::as_str).collect();
            let mut last = (String::new(), 0_i64);
            loop {
                let work = on(|db| {
                    let query =
                        sqlx::query_as(TEXTS).bind(last.0.clone()).bind(last.1).bind(TEXTS_AT_ONCE);
                    Box::pin(async move { query.fetch_all(db).await })
                });
                let rows: Vec<(String, i64, String)> =
                    self.pool.call(|| SHOWING.to_owned(), work).await?;
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
                         WHERE run.plan = plan.digest AND run.id <> ALL ($1)) \
                         AND digest > $2 ORDER BY digest LIMIT $3";
            self.show_table(plans, ids(gone), see).await?;
            let signals = "SELECT to_char(number, 'FM0000000000000000000'), \
                           convert_to(body, 'UTF8') FROM signal WHERE run <> ALL ($1) \
                           AND number > coalesce(nullif($2, '')::bigint, 0) \
                           ORDER BY number LIMIT $3";
            self.show_table(signals, ids(gone), see).await?;
            let cached = "SELECT key, convert_to(outputs, 'UTF8') FROM remembered \
                              WHERE run <> ALL ($1) AND key > $2 ORDER BY key LIMIT $3";
            self.show_table(cached, Vec::new(), see).await
        })
    }
}
