//! [`Journal`] in Postgres.

use std::num::NonZeroU32;
use std::sync::Arc;

use fairlead_run::{
    Admission, AppendError, Batch, Created, Head, Journal, KeptRecords, Lease, LeaseError, NewRun,
    RunFilter, RunSummary, Seq, Signal, SignalId, StoreError, StoredRun, StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, QueryBuilder};

use super::{Postgres, admission, on, text, wakes};
use crate::accept;
use crate::kept;
use crate::runs;
use crate::values::{counted, micros, run_id, stored};

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
            let plan = runs::plan(&run, &digest, bytes)?;
            let records = runs::records(&run, &records)?;
            let mut kept = KeptRecords::new();
            for (other, places) in kept::referred(records.first()) {
                let places: Vec<i64> = places.iter().map(|place| stored(place.0)).collect();
                let work = on(|db| Box::pin(some_of(db, other.clone(), places.clone())));
                let found = self.pool.call(|| format!("load run {run}"), work).await?;
                let found = runs::records(&other, &found)?.into_iter();
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
            let free = self.leases.given_back();
            let work = on(|db| {
                let (filter, free) = (filter.clone(), free.clone());
                Box::pin(async move { list(filter, free).build().fetch_all(db).await })
            });
            let rows = self.pool.call(|| "list the runs".to_owned(), work).await?;
            rows.iter().map(runs::summary).collect()
        })
    }
}

async fn some_of(db: &mut PgConnection, run: RunId, places: Vec<i64>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT bytes FROM record WHERE run = $1 AND seq = ANY ($2)")
        .bind(run.as_str())
        .bind(places)
        .fetch_all(db)
        .await
}

async fn head(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<(i64, Option<String>)>> {
    sqlx::query_as(runs::HEAD).bind(run.as_str()).fetch_optional(db).await
}

type Loaded = (String, Vec<u8>, Vec<String>);

async fn load(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Loaded>> {
    let plan: Option<(String, Vec<u8>)> =
        sqlx::query_as(runs::PLAN).bind(run.as_str()).fetch_optional(&mut *db).await?;
    let Some((digest, bytes)) = plan else { return Ok(None) };
    let records: Vec<String> =
        sqlx::query_scalar(runs::RECORDS).bind(run.as_str()).fetch_all(db).await?;
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
    sqlx::query(runs::ADD_PLAN)
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
    .bind(wakes::admission(schema))
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

/// Asks for runs. `free` are the leases that this process has given back, of which the database need
/// not know yet.
fn list(filter: RunFilter, free: Vec<i64>) -> QueryBuilder<sqlx::Postgres> {
    let mut query = QueryBuilder::new(concat!(
        runs::summary_columns!(),
        "ended_at IS NULL AND EXISTS (SELECT 1 FROM lease WHERE lease.run = run.id \
         AND lease.until > clock_timestamp() AND lease.token <> ALL (",
    ));
    query.push_bind(free).push("))");
    let pipeline = filter.pipeline.as_deref().map(|pipeline| text(pipeline).into_owned());
    runs::list(query, filter, pipeline)
}
