//! [`Journal`] in Postgres.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use fairlead_run::{
    Admission, AppendError, Batch, Created, Head, Journal, KeptRecords, Lease, LeaseError, NewRun,
    PlanBlob, Record, RunFilter, RunSummary, Seq, Signal, SignalId, StoreError, StoredRun,
    StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, Digest, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, QueryBuilder, Row as _};

use super::{Postgres, admission, on, text, wakes};
use crate::accept;
use crate::kept;
use crate::values::{counted, damaged, micros, run_id, status, stored, timestamp};

impl Journal for Postgres {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async move {
            accept::new_run(&run)?;
            let in_group = run.group.is_some();
            let run = Arc::new(run);
            let doing = || format!("create run {}", run.id);
            let schema: Arc<str> = self.wakes.schema.as_str().into();
            let work = on(|db| {
                let (run, schema) = (Arc::clone(&run), Arc::clone(&schema));
                Box::pin(async move { create(db, &schema, &run).await })
            });
            let created = self.pool.call(doing, work).await??;
            if in_group && created == Created::New {
                self.wakes.notify(Wake::Admission);
            }
            Ok(created)
        })
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        Box::pin(self.leases.acquire(&self.pool, run.clone()))
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            let follows = accept::batch(&batch)?;
            if self.appender.append(batch, follows).await? {
                self.wakes.notify(Wake::Admission);
            }
            Ok(())
        })
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        Box::pin(async move {
            let follows = accept::batch(&batch)?;
            let batch = Arc::new(batch);
            let doing = || format!("admit run {}", batch.run);
            let schema: Arc<str> = self.wakes.schema.as_str().into();
            let work = on(|db| {
                let (batch, schema) = (Arc::clone(&batch), Arc::clone(&schema));
                Box::pin(async move { admission::admit(db, &schema, &batch, follows, most).await })
            });
            let (admission, frees) = self.pool.call(doing, work).await??;
            if frees {
                self.wakes.notify(Wake::Admission);
            }
            Ok(admission)
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
            let body: Arc<str> = accept::signal(&signal)?.into();
            let schema: Arc<str> = self.wakes.schema.as_str().into();
            let work = on(|db| {
                let (run, body, schema) = (run.clone(), Arc::clone(&body), Arc::clone(&schema));
                Box::pin(async move { admission::post(db, &schema, &run, at, &body).await })
            });
            let doing = || format!("post a signal to run {run}");
            let number = self.pool.call(doing, work).await??;
            self.wakes.notify(Wake::Run(run));
            Ok(number)
        })
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        Box::pin(admission::signals(&self.pool, run.clone()))
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        self.wakes.listen()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let work = on(|db| Box::pin(load(db, run.clone())));
            let found = self.pool.call(|| format!("load run {run}"), work).await?;
            let Some((digest, bytes, records)) = found else {
                return Err(StoreError::NoSuchRun { run });
            };
            let digest: Digest =
                digest.parse().map_err(|error| damaged(format!("the plan of run {run}"), error))?;
            let plan = PlanBlob::new(Bytes::from(bytes));
            if *plan.digest() != digest {
                let what = format!("plan {digest} hashes to {}", plan.digest());
                return Err(StoreError::Damaged { what, source: None });
            }
            let records = read(&run, &records)?;
            let mut kept = KeptRecords::new();
            for (other, places) in kept::referred(records.first()) {
                let places: Vec<i64> = places.iter().map(|place| stored(place.0)).collect();
                let work = on(|db| Box::pin(some_of(db, other.clone(), places.clone())));
                let found = self.pool.call(|| format!("load run {run}"), work).await?;
                let found = read(&other, &found)?.into_iter();
                kept.extend(found.map(|record| ((other.clone(), record.seq()), record)));
            }
            Ok(StoredRun { id: run, plan, records, kept })
        })
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let work = on(|db| Box::pin(head(db, run.clone())));
            let found = self.pool.call(|| format!("look where run {run} ends"), work).await?;
            let Some((seq, last)) = found else { return Err(StoreError::NoSuchRun { run }) };
            Ok(Head::of(Seq(counted(seq)?), last.as_deref()))
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(async move {
            let filter = Arc::new(filter);
            let free = self.leases.given_back();
            let work = on(|db| {
                let (filter, free) = (Arc::clone(&filter), free.clone());
                Box::pin(async move { list_query(&filter, free).build().fetch_all(db).await })
            });
            let rows = self.pool.call(|| "list the runs".to_owned(), work).await?;
            rows.iter().map(summary).collect()
        })
    }
}

/// Records as they are stored.
fn read(run: &RunId, stored: &[String]) -> Result<Vec<Record>, StoreError> {
    let records = stored.iter().map(|bytes| Record::read(bytes)).collect::<Result<_, _>>();
    records.map_err(|source| StoreError::Unreadable { run: run.clone(), source })
}

async fn some_of(db: &mut PgConnection, run: RunId, places: Vec<i64>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT bytes FROM record WHERE run = $1 AND seq = ANY ($2)")
        .bind(run.as_str())
        .bind(places)
        .fetch_all(db)
        .await
}

async fn head(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<(i64, Option<String>)>> {
    sqlx::query_as(
        "SELECT run.seq, record.bytes FROM run \
         LEFT JOIN record ON record.run = run.id AND record.seq = run.seq WHERE run.id = $1",
    )
    .bind(run.as_str())
    .fetch_optional(db)
    .await
}

type Loaded = (String, Vec<u8>, Vec<String>);

/// A run has its first record from the beginning: without one, retention has just removed it.
async fn load(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Loaded>> {
    let plan: Option<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT plan.digest, plan.bytes FROM run JOIN plan ON plan.digest = run.plan \
         WHERE run.id = $1",
    )
    .bind(run.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some((digest, bytes)) = plan else { return Ok(None) };
    let records: Vec<String> =
        sqlx::query_scalar("SELECT bytes FROM record WHERE run = $1 ORDER BY seq")
            .bind(run.as_str())
            .fetch_all(db)
            .await?;
    Ok(Some((digest, bytes, records)).filter(|(_, _, records)| !records.is_empty()))
}

async fn create(
    db: &mut PgConnection,
    schema: &str,
    run: &NewRun,
) -> sqlx::Result<Result<Created, StoreError>> {
    let mut change = db.begin().await?;
    let created = create_within(&mut change, schema, run).await?;
    match created {
        Ok(Created::New) => change.commit().await?,
        Ok(Created::Already(_)) | Err(_) => change.rollback().await?,
    }
    Ok(created)
}

async fn create_within(
    db: &mut PgConnection,
    schema: &str,
    run: &NewRun,
) -> sqlx::Result<Result<Created, StoreError>> {
    let request = match accept::new_run(run) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(key) = &run.started_by
        && let Some(known) = linked(db, key, &request.pipeline, run).await?
    {
        return Ok(known);
    }
    for origin in kept::needed(request) {
        // Locked, so that it is not removed as long as this run is not seen to begin from it.
        let there: Option<i32> =
            sqlx::query_scalar("SELECT 1 FROM run WHERE id = $1 FOR KEY SHARE")
                .bind(origin.as_str())
                .fetch_optional(&mut *db)
                .await?;
        if there.is_none() {
            return Ok(Err(accept::no_origin(run, origin)));
        }
    }
    sqlx::query("INSERT INTO plan (digest, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(run.plan.digest().to_string())
        .bind(&run.plan.bytes()[..])
        .execute(&mut *db)
        .await?;
    let group = run.group.as_ref();
    let new: Option<i32> = sqlx::query_scalar(
        "WITH new AS (\
           INSERT INTO run (id, pipeline, plan, status, requested_by, requested_at, seq, origin, \
             group_name, policy, max) \
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING \
           RETURNING id), \
         put AS (INSERT INTO record (run, seq, bytes) SELECT id, $7, $12 FROM new), \
         told AS MATERIALIZED (SELECT pg_notify($13, $14) FROM new WHERE $9::text IS NOT NULL) \
         SELECT 1 FROM new LEFT JOIN told ON true",
    )
    .bind(run.id.as_str())
    .bind(text(&request.pipeline))
    .bind(run.plan.digest().to_string())
    .bind(accept::first_status(run).name())
    .bind(text(&request.by))
    .bind(micros(run.first.at()))
    .bind(stored(run.first.seq().0))
    .bind(request.origin.as_ref().map(|origin| origin.run.as_str()))
    .bind(group.map(|group| text(&group.name)))
    .bind(group.map(|group| group.policy.name()))
    .bind(group.map(|group| i64::from(group.max.get())))
    .bind(run.first.bytes())
    .bind(wakes::CHANNEL)
    .bind(wakes::turns(schema))
    .fetch_optional(db)
    .await?;
    Ok(match new {
        Some(_) => Ok(Created::New),
        None => Err(StoreError::RunExists { run: run.id.clone() }),
    })
}

/// Links a run to the event that starts it. Answers what came of creating the run where that is
/// known already: the event is not there, or has started one.
async fn linked(
    db: &mut PgConnection,
    key: &str,
    pipeline: &str,
    run: &NewRun,
) -> sqlx::Result<Option<Result<Created, StoreError>>> {
    let new = sqlx::query(
        "INSERT INTO event_run (key, pipeline, run) SELECT key, $2, $3 FROM event WHERE key = $1 \
         ON CONFLICT DO NOTHING",
    )
    .bind(key)
    .bind(text(pipeline))
    .bind(run.id.as_str())
    .execute(&mut *db)
    .await?;
    if new.rows_affected() == 1 {
        return Ok(None);
    }
    let earlier: Option<String> =
        sqlx::query_scalar("SELECT run FROM event_run WHERE key = $1 AND pipeline = $2")
            .bind(key)
            .bind(text(pipeline))
            .fetch_optional(db)
            .await?;
    Ok(Some(match earlier {
        Some(earlier) => run_id(&earlier).map(Created::Already),
        None => Err(accept::no_event(run, key)),
    }))
}

/// The text follows from which filters are there, so that each is prepared once and uses its index.
fn list_query(filter: &RunFilter, free: Vec<i64>) -> QueryBuilder<sqlx::Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT id, pipeline, status, requested_by, requested_at, ended_at, group_name, origin, \
         wake_at, \
         ended_at IS NULL AND EXISTS (SELECT 1 FROM signal WHERE signal.run = run.id), \
         ended_at IS NULL AND EXISTS (SELECT 1 FROM lease WHERE lease.run = run.id \
           AND lease.until > clock_timestamp() AND lease.token <> ALL (",
    );
    query.push_bind(free).push(")), number FROM run WHERE id < ");
    // Behind every id: `{` follows `z`.
    query.push_bind(filter.before.as_ref().map_or("{", RunId::as_str).to_owned());
    if let Some(pipeline) = &filter.pipeline {
        query.push(" AND pipeline = ").push_bind(text(pipeline).into_owned());
    }
    if let Some(run) = &filter.run {
        query.push(" AND id = ").push_bind(run.as_str().to_owned());
    }
    if let Some(origin) = &filter.origin {
        query.push(" AND origin = ").push_bind(origin.as_str().to_owned());
    }
    if filter.unfinished {
        query.push(" AND ended_at IS NULL");
    }
    let limit = filter.limit.min(RunFilter::MOST);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(stored(limit as u64));
    query
}

fn summary(row: &PgRow) -> Result<RunSummary, StoreError> {
    let unreadable = |error: sqlx::Error| damaged("a run's line is not readable", error);
    let time = |at: Option<i64>| at.map(timestamp).transpose();
    let id: &str = row.try_get(0).map_err(unreadable)?;
    let ended_at = time(row.try_get(5).map_err(unreadable)?)?;
    let known = status(row.try_get(2).map_err(unreadable)?, ended_at.is_some());
    let origin: Option<&str> = row.try_get(7).map_err(unreadable)?;
    Ok(RunSummary {
        id: run_id(id)?,
        pipeline: row.try_get(1).map_err(unreadable)?,
        status: known,
        by: row.try_get(3).map_err(unreadable)?,
        requested_at: timestamp(row.try_get(4).map_err(unreadable)?)?,
        ended_at,
        group: row.try_get(6).map_err(unreadable)?,
        origin: origin.map(run_id).transpose()?,
        wake_at: time(row.try_get(8).map_err(unreadable)?)?,
        signaled: row.try_get(9).map_err(unreadable)?,
        held: row.try_get(10).map_err(unreadable)?,
        number: counted(row.try_get(11).map_err(unreadable)?)?,
    })
}
