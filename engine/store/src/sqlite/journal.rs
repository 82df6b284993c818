//! [`Journal`] in SQLite.

use bytes::Bytes;
use fairlead_run::{
    AppendError, Created, Epoch, Journal, Lease, LeaseError, NewRun, PlanBlob, Record, RunFilter,
    RunStatus, RunSummary, Seq, StoreError, StoredRun,
};
use fairlead_step::{BoxFuture, Digest, RunId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::writer::Transaction;
use super::{Sqlite, counted, damaged, lease, micros, store_error, stored, timestamp};
use crate::check_new_run;

impl Journal for Sqlite {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async move {
            check_new_run(&run)?;
            let id = run.id.clone();
            let doing = || format!("create run {id}");
            self.writer.write(doing, |db| Box::pin(create(db, run))).await?
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
            match epoch {
                Some(epoch) => Ok(Lease::new(run, Epoch(counted(epoch)?), Box::new(guard))),
                None => Err(StoreError::NoSuchRun { run }.into()),
            }
        })
    }

    fn append(
        &self,
        run: &RunId,
        epoch: Epoch,
        records: Vec<Record>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        let run = run.clone();
        Box::pin(async move {
            let Some(before) = crate::place_before(&run, &records)? else { return Ok(()) };
            let doing = || format!("append to run {run}");
            let id = run.clone();
            let done = if records.len() <= APPENDS.len() {
                self.writer
                    .write_whole(doing, move |db, transaction| {
                        Box::pin(append(db, transaction, id, epoch, before, records))
                    })
                    .await?
            } else {
                self.writer
                    .write(doing, move |db| {
                        Box::pin(append(db, Transaction::Shared, id, epoch, before, records))
                    })
                    .await?
            };
            match done {
                Ok(()) => Ok(()),
                Err(stand) => Err(stand.refuses(run, epoch, before)?),
            }
        })
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let failed = |error: sqlx::Error| store_error(format!("load run {run}"), error);
            let mut db = self.readers.acquire().await.map_err(failed)?;
            let plan: Option<(String, Vec<u8>)> = sqlx::query_as(
                "SELECT plan.digest, plan.bytes FROM run JOIN plan ON plan.digest = run.plan \
                 WHERE run.id = ?",
            )
            .bind(run.as_str())
            .fetch_optional(&mut *db)
            .await
            .map_err(failed)?;
            let Some((digest, bytes)) = plan else {
                return Err(StoreError::NoSuchRun { run });
            };
            let digest: Digest =
                digest.parse().map_err(|error| damaged(format!("the plan of run {run}"), error))?;
            let plan = PlanBlob::new(Bytes::from(bytes));
            if *plan.digest() != digest {
                let what = format!("plan {digest} hashes to {}", plan.digest());
                return Err(StoreError::Damaged { what, source: None });
            }
            let records: Vec<String> =
                sqlx::query_scalar("SELECT bytes FROM record WHERE run = ? ORDER BY seq")
                    .bind(run.as_str())
                    .fetch_all(&mut *db)
                    .await
                    .map_err(failed)?;
            let records = records.iter().map(|bytes| Record::read(bytes)).collect();
            match records {
                Ok(records) => Ok(StoredRun { id: run, plan, records }),
                Err(source) => Err(StoreError::Unreadable { run, source }),
            }
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(async move {
            let limit = filter.limit.min(RunFilter::MOST);
            let rows = list_query(&filter)
                .bind(limit as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list the runs", error))?;
            let mut runs = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
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
    let fairlead_run::RunEvent::Requested(request) = run.first.event() else {
        let problem = "its first record is not a request".to_owned();
        return Ok(Err(StoreError::BadRun { run: run.id, problem }));
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
            Some((Some(earlier),)) => {
                return Ok(earlier
                    .parse()
                    .map(Created::Already)
                    .map_err(|error| damaged("the run that an event started", error)));
            }
            None => {
                let problem = format!("event `{key}`, which should start it, is not stored");
                return Ok(Err(StoreError::BadRun { run: run.id, problem }));
            }
        }
    }
    let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM run WHERE id = ?)")
        .bind(run.id.as_str())
        .fetch_one(&mut *db)
        .await?;
    if taken {
        return Ok(Err(StoreError::RunExists { run: run.id }));
    }
    sqlx::query("INSERT INTO plan (digest, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(run.plan.digest().to_string())
        .bind(run.plan.bytes().to_vec())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO run (id, pipeline, plan, status, requested_by, requested_at, seq) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(run.id.as_str())
    .bind(&request.pipeline)
    .bind(run.plan.digest().to_string())
    .bind(RunStatus::Running.name())
    .bind(&request.by)
    .bind(micros(run.first.at()))
    .bind(stored(run.first.seq().0))
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

/// Where a run stands that did not take an append.
#[derive(Debug)]
struct Stand(Option<(i64, i64, Option<i64>)>);

impl Stand {
    fn refuses(self, run: RunId, held: Epoch, expected: Seq) -> Result<AppendError, StoreError> {
        let Some((seq, epoch, ended_at)) = self.0 else {
            return Err(StoreError::NoSuchRun { run });
        };
        let (found, current) = (Seq(counted(seq)?), Epoch(counted(epoch)?));
        Ok(if current != held {
            AppendError::Fenced { run, held, current }
        } else if ended_at.is_some() {
            AppendError::Ended { run }
        } else {
            AppendError::Conflict { run, expected, found }
        })
    }
}

macro_rules! move_run {
    () => {
        "UPDATE run SET seq = ?, status = coalesce(?, status), ended_at = ? \
         WHERE id = ? AND seq = ? AND epoch = ? AND ended_at IS NULL RETURNING 1"
    };
}
macro_rules! then_put {
    () => {
        "; INSERT INTO record (run, seq, bytes) SELECT ?, ?, ? WHERE changes() = 1"
    };
}
macro_rules! append {
    ($($put:expr),+) => {
        (
            concat!(move_run!(), $($put),+),
            // Immediate: the lock is taken, or waited for, before anything is read.
            concat!("BEGIN IMMEDIATE; ", move_run!(), $($put),+, "; COMMIT"),
        )
    };
}

/// The run moves and its first records land in one call to the database's thread, because each call
/// costs more than the statement: in a transaction that is there, and in one of its own. One pair of
/// texts for each number of records, so that each is prepared once.
const APPENDS: [(&str, &str); 4] = [
    append!(then_put!()),
    append!(then_put!(), then_put!()),
    append!(then_put!(), then_put!(), then_put!()),
    append!(then_put!(), then_put!(), then_put!(), then_put!()),
];

/// Appends records to a run. In a transaction of its own, they must be no more than [`APPENDS`] has
/// texts for.
async fn append(
    db: &mut SqliteConnection,
    transaction: Transaction,
    run: RunId,
    epoch: Epoch,
    before: Seq,
    records: Vec<Record>,
) -> sqlx::Result<Result<(), Stand>> {
    let mut status = None;
    let mut ended_at = None;
    for record in &records {
        let after = status.unwrap_or(RunStatus::Running).after(record.event());
        if after != RunStatus::Running {
            status = Some(after);
        }
        if let RunStatus::Ended(_) = after {
            ended_at = Some(micros(record.at()));
        }
    }
    let Some(last) = records.last() else { return Ok(Ok(())) };
    let (first, rest) = records.split_at(records.len().min(APPENDS.len()));
    let (shared, own) = APPENDS[first.len() - 1];
    let text = match transaction {
        Transaction::Shared => shared,
        Transaction::Own => own,
    };
    let mut moved = sqlx::query(text)
        .bind(stored(last.seq().0))
        .bind(status.map(RunStatus::name))
        .bind(ended_at)
        .bind(run.as_str())
        .bind(stored(before.0))
        .bind(stored(epoch.0));
    for record in first {
        moved = moved.bind(run.as_str()).bind(stored(record.seq().0)).bind(record.bytes());
    }
    // Every statement is carried out; only the first has a row, when the run has moved.
    let moved = moved.fetch_all(&mut *db).await?;
    if moved.is_empty() {
        let stand = sqlx::query_as("SELECT seq, epoch, ended_at FROM run WHERE id = ?")
            .bind(run.as_str())
            .fetch_optional(db)
            .await?;
        return Ok(Err(Stand(stand)));
    }
    for record in rest {
        insert_record(db, &run, record).await?;
    }
    Ok(Ok(()))
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// One text for each filter, so that each is prepared once and uses its index.
fn list_query(filter: &RunFilter) -> Query<'_> {
    macro_rules! select {
        ($and:literal) => {
            sqlx::query(concat!(
                "SELECT id, pipeline, status, requested_by, requested_at, ended_at FROM run \
                 WHERE id < ? ",
                $and,
                " ORDER BY id DESC LIMIT ?"
            ))
        };
    }
    // Behind every id: `{` follows `z`.
    let before = filter.before.as_ref().map_or("{", RunId::as_str);
    match (&filter.pipeline, filter.unfinished) {
        (None, false) => select!("").bind(before),
        (None, true) => select!("AND ended_at IS NULL").bind(before),
        (Some(pipeline), false) => select!("AND pipeline = ?").bind(before).bind(pipeline),
        (Some(pipeline), true) => {
            select!("AND pipeline = ? AND ended_at IS NULL").bind(before).bind(pipeline)
        }
    }
}

fn summary(row: &SqliteRow) -> Result<RunSummary, StoreError> {
    let unreadable = |error: sqlx::Error| damaged("a run's line is not readable", error);
    let id: &str = row.try_get(0).map_err(unreadable)?;
    let status: &str = row.try_get(2).map_err(unreadable)?;
    let ended_at: Option<i64> = row.try_get(5).map_err(unreadable)?;
    Ok(RunSummary {
        id: id.parse().map_err(|error| damaged("a run's id", error))?,
        pipeline: row.try_get(1).map_err(unreadable)?,
        status: RunStatus::from_name(status).ok_or_else(|| {
            let what = format!("run {id} has the unknown status `{status}`");
            StoreError::Damaged { what, source: None }
        })?,
        by: row.try_get(3).map_err(unreadable)?,
        requested_at: timestamp(row.try_get(4).map_err(unreadable)?)?,
        ended_at: ended_at.map(timestamp).transpose()?,
        held: false,
    })
}
