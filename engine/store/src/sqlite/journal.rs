//! [`Journal`] in SQLite.

use std::num::NonZeroU32;

use fairlead_run::{
    Admission, AppendError, Batch, Created, Epoch, Head, Journal, KeptRecords, Lease, LeaseError,
    NewRun, Record, RunFilter, RunSummary, Seq, Signal, SignalId, StoreError, StoredRun,
    StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, CancelToken, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;
use sqlx::{QueryBuilder, SqliteConnection};

use super::{Sqlite, admission, lease, store_error};
use crate::accept::{self, Follows};
use crate::kept;
use crate::runs::{self, Stand};
use crate::values::{counted, micros, run_id, stored};

impl Journal for Sqlite {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async move {
            accept::new_run(&run)?;
            let id = run.id.clone();
            let in_group = run.group.is_some();
            let doing = || format!("create run {id}");
            let created = self.writer.write(doing, |db| Box::pin(create(db, run))).await??;
            if in_group && created == Created::New {
                self.wakes.notify(Wake::Admission);
            }
            Ok(created)
        })
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let run = run.clone();
        Box::pin(async move {
            let guard = lease::take(&self.leases, &run).await?;
            let doing = || format!("take the lease of run {run}");
            let id = run.clone();
            let epoch: Option<i64> = self
                .writer
                .write(doing, |db| {
                    Box::pin(async move {
                        sqlx::query_scalar(
                            "UPDATE run SET epoch = epoch + 1 WHERE id = ? RETURNING epoch",
                        )
                        .bind(id.as_str())
                        .fetch_optional(db)
                        .await
                    })
                })
                .await?;
            let Some(epoch) = epoch else { return Err(StoreError::NoSuchRun { run }.into()) };
            let (never, lost) = CancelToken::new();
            let held = Box::new(lease::Held::new(guard, never));
            Ok(Lease::new(run, Epoch(counted(epoch)?), lost, held))
        })
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            let follows = accept::batch(&batch)?;
            let (run, epoch) = (batch.run.clone(), batch.epoch);
            let doing = || format!("append to run {run}");
            let done = if is_one_statement(&batch) {
                self.writer.write_one(doing, move |db| Box::pin(append(db, batch, follows))).await?
            } else {
                self.writer.write(doing, move |db| Box::pin(append(db, batch, follows))).await?
            };
            match done {
                Ok(frees) => {
                    if frees {
                        self.wakes.notify(Wake::Admission);
                    }
                    Ok(())
                }
                Err(stand) => Err(Stand::refusal(stand, run, epoch, follows)),
            }
        })
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        Box::pin(async move {
            let follows = accept::batch(&batch)?;
            let (run, epoch) = (batch.run.clone(), batch.epoch);
            let doing = || format!("admit run {run}");
            let admitted = self
                .writer
                .write(doing, move |db| Box::pin(admission::admit(db, batch, follows, most)))
                .await?;
            match admitted {
                Ok(Ok((admission, frees))) => {
                    if frees {
                        self.wakes.notify(Wake::Admission);
                    }
                    Ok(admission)
                }
                Ok(Err(damaged)) => Err(damaged.into()),
                Err(stand) => Err(Stand::refusal(stand, run, epoch, follows)),
            }
        })
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let body = accept::signal(&signal)?;
            let doing = || format!("post a signal to run {run}");
            let id = run.clone();
            let number = self
                .writer
                .write(doing, move |db| Box::pin(admission::post(db, id, at, body)))
                .await??;
            self.wakes.notify(Wake::Run(run));
            Ok(number)
        })
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        Box::pin(admission::signals(&self.readers, run.clone()))
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        self.wakes.listen()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let failed = |error: sqlx::Error| store_error(format!("load run {run}"), error);
            let mut db = self.readers.acquire().await.map_err(failed)?;
            let plan: Option<(String, Vec<u8>)> = sqlx::query_as(runs::PLAN)
                .bind(run.as_str())
                .fetch_optional(&mut *db)
                .await
                .map_err(failed)?;
            let Some((digest, bytes)) = plan else {
                return Err(StoreError::NoSuchRun { run });
            };
            let plan = runs::plan(&run, &digest, bytes)?;
            let records: Vec<String> = sqlx::query_scalar(runs::RECORDS)
                .bind(run.as_str())
                .fetch_all(&mut *db)
                .await
                .map_err(failed)?;
            if records.is_empty() {
                return Err(StoreError::NoSuchRun { run });
            }
            let records = runs::records(&run, &records)?;
            let mut kept = KeptRecords::new();
            for (other, places) in kept::referred(records.first()) {
                let found: Vec<String> = sqlx::query_scalar(
                    "SELECT bytes FROM record \
                     WHERE run = ? AND seq IN (SELECT value FROM json_each(?))",
                )
                .bind(other.as_str())
                .bind(numbers(places.iter().map(|place| place.0)))
                .fetch_all(&mut *db)
                .await
                .map_err(failed)?;
                let found = runs::records(&other, &found)?.into_iter();
                kept.extend(found.map(|record| ((other.clone(), record.seq()), record)));
            }
            Ok(StoredRun { id: run, plan, records, kept })
        })
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let found: Option<(i64, Option<String>)> = sqlx::query_as(runs::HEAD)
                .bind(run.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error(format!("look where run {run} ends"), error))?;
            let Some((seq, last)) = found else { return Err(StoreError::NoSuchRun { run }) };
            Ok(Head::of(Seq(counted(seq)?), last.as_deref()))
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(async move {
            // Who drives a run is not in the database.
            let query = QueryBuilder::new(concat!(runs::summary_columns!(), "0 <> 0"));
            let pipeline = filter.pipeline.clone();
            let rows = runs::list(query, filter, pipeline)
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list the runs", error))?;
            let mut runs = rows.iter().map(runs::summary).collect::<Result<Vec<_>, _>>()?;
            for run in &mut runs {
                run.held = run.ended_at.is_none() && lease::is_held(&self.leases, &run.id);
            }
            Ok(runs)
        })
    }
}

async fn create(
    db: &mut SqliteConnection,
    run: NewRun,
) -> sqlx::Result<Result<Created, StoreError>> {
    let request = match accept::new_run(&run) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(key) = &run.started_by {
        let known: Option<(Option<String>,)> = sqlx::query_as(
            "SELECT event_run.run FROM event LEFT JOIN event_run \
             ON event_run.key = event.key AND event_run.pipeline = ? WHERE event.key = ?",
        )
        .bind(&request.pipeline)
        .bind(key)
        .fetch_optional(&mut *db)
        .await?;
        match known {
            Some((None,)) => {}
            Some((Some(earlier),)) => return Ok(run_id(&earlier).map(Created::Already)),
            None => return Ok(Err(accept::no_event(&run, key))),
        }
    }
    if is_there(db, &run.id).await? {
        return Ok(Err(StoreError::RunExists { run: run.id }));
    }
    for origin in kept::needed(request) {
        if !is_there(db, origin).await? {
            return Ok(Err(accept::no_origin(&run, origin)));
        }
    }
    sqlx::query(runs::ADD_PLAN)
        .bind(run.plan.digest().to_string())
        .bind(run.plan.bytes().to_vec())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO run (id, number, pipeline, plan, status, requested_by, requested_at, seq, \
         origin, group_name, policy, max) \
         SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM run",
    )
    .bind(run.id.as_str())
    .bind(&request.pipeline)
    .bind(run.plan.digest().to_string())
    .bind(accept::first_status(&run).name())
    .bind(&request.by)
    .bind(micros(run.first.at()))
    .bind(stored(run.first.seq().0))
    .bind(request.origin.as_ref().map(|origin| origin.run.as_str()))
    .bind(run.group.as_ref().map(|group| &group.name))
    .bind(run.group.as_ref().map(|group| group.policy.name()))
    .bind(run.group.as_ref().map(|group| group.max.get()))
    .execute(&mut *db)
    .await?;
    insert_record(db, &run.id, &run.first).await?;
    if let Some(key) = &run.started_by {
        sqlx::query("INSERT INTO event_run (key, pipeline, run) VALUES (?, ?, ?)")
            .bind(key)
            .bind(&request.pipeline)
            .bind(run.id.as_str())
            .execute(&mut *db)
            .await?;
    }
    Ok(Ok(Created::New))
}

pub(super) async fn is_there(db: &mut SqliteConnection, run: &RunId) -> sqlx::Result<bool> {
    sqlx::query_scalar(runs::IS_THERE).bind(run.as_str()).fetch_one(db).await
}

async fn insert_record(
    db: &mut SqliteConnection,
    run: &RunId,
    record: &Record,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO record (run, seq, bytes) VALUES (?, ?, ?)")
        .bind(run.as_str())
        .bind(stored(record.seq().0))
        .bind(record.bytes())
        .execute(db)
        .await
        .map(|_| ())
}

/// Where a run stands now.
pub(super) async fn stand(db: &mut SqliteConnection, run: &RunId) -> sqlx::Result<Option<Stand>> {
    let row: Option<(i64, i64, Option<i64>)> =
        sqlx::query_as("SELECT seq, epoch, ended_at FROM run WHERE id = ?")
            .bind(run.as_str())
            .fetch_optional(db)
            .await?;
    Ok(row.map(|(seq, epoch, ended_at)| Stand(seq, epoch, ended_at)))
}

/// How many records of a batch are in its row of the view `append`.
const IN_ROW: usize = 4;

/// Whether a batch is one statement, and so a transaction by itself.
fn is_one_statement(batch: &Batch) -> bool {
    batch.records.len() <= IN_ROW && batch.taken.is_empty()
}

/// Writes a batch, and answers whether that can admit another run.
pub(super) async fn append(
    db: &mut SqliteConnection,
    batch: Batch,
    follows: Follows,
) -> sqlx::Result<Result<bool, Option<Stand>>> {
    let Batch { run, epoch, records, status, wake_at, taken } = batch;
    let ends = follows.ended_at.is_some();
    let (first, rest) = records.split_at(records.len().min(IN_ROW));
    let mut query = sqlx::query("INSERT INTO append VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(run.as_str())
        .bind(stored(epoch.0))
        .bind(follows.before.map(|before| stored(before.0)))
        .bind(records.last().map(|last| stored(last.seq().0)))
        .bind(status.name())
        .bind(follows.ended_at.map(micros))
        .bind(wake_at.map(micros));
    for place in 0..IN_ROW {
        query = query.bind(first.get(place).map(Record::bytes));
    }
    match query.execute(&mut *db).await {
        Err(error) if did_not_move(&error) => return Ok(Err(stand(db, &run).await?)),
        written => written?,
    };
    for record in rest {
        insert_record(db, &run, record).await?;
    }
    if !taken.is_empty() {
        sqlx::query(
            "DELETE FROM signal WHERE run = ? AND number IN (SELECT value FROM json_each(?))",
        )
        .bind(run.as_str())
        .bind(numbers(taken.iter().map(|signal| signal.0)))
        .execute(&mut *db)
        .await?;
    }
    if !ends && !status.rests() {
        return Ok(Ok(false));
    }
    let frees =
        sqlx::query_scalar("SELECT admitted OR group_name IS NOT NULL FROM run WHERE id = ?")
            .bind(run.as_str())
            .fetch_one(db)
            .await?;
    Ok(Ok(frees))
}

/// Whether a trigger of `append` refused the batch (`SQLITE_CONSTRAINT_TRIGGER`); only the statement is
/// taken back then, not the transaction.
fn did_not_move(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "1811")
}

/// A list for `json_each`.
fn numbers(numbers: impl Iterator<Item = u64>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}
