//! Turns and signals in Postgres.

use std::num::NonZeroU32;

use fairlead_run::{Admission, AppendError, Batch, SignalId, StoreError, StoredSignal};
use fairlead_step::RunId;
use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::append::{answer_of, append_all};
use super::schema::LOCK;
use super::{Pool, on, wakes};
use crate::accept::Follows;
use crate::admission::{self, Others, Wish};
use crate::runs::{self, Stand};
use crate::values::{counted, micros, policy, readable};

/// What an asker finds about its run: its last record, epoch and end; its number; its group, with
/// policy and size; and whether it is admitted.
type Asker = (i64, i64, Option<i64>, i64, Option<String>, Option<String>, Option<i64>, bool);

/// A refusal that was decided, or the batch that was written.
pub(super) type Admitted = Result<(Admission, bool), AppendError>;

/// Decides, and writes the batch of a run that is admitted. Answers also whether that can give
/// another run its admission: when the batch ends the run.
pub(super) async fn admit(
    db: &mut PgConnection,
    schema: &str,
    batch: &Batch,
    follows: Follows,
    most: Option<NonZeroU32>,
) -> sqlx::Result<Admitted> {
    let group: Option<Option<String>> =
        sqlx::query_scalar("SELECT group_name FROM run WHERE id = $1")
            .bind(batch.run.as_str())
            .fetch_optional(&mut *db)
            .await?;
    let Some(group) = group else {
        return Ok(Err(StoreError::NoSuchRun { run: batch.run.clone() }.into()));
    };
    let mut transaction =
        db.begin_with(AssertSqlSafe(locked(schema, group.as_deref(), most))).await?;
    let decided = decide(&mut transaction, batch, follows, most).await?;
    let admitted = match decided {
        Ok(None) => {
            sqlx::query("UPDATE run SET admitted = true WHERE id = $1 AND NOT admitted")
                .bind(batch.run.as_str())
                .execute(&mut *transaction)
                .await?;
            tell_the_next(&mut transaction, schema, &batch.run).await?;
            let answer = append_all(&mut transaction, schema, &[(batch, follows)]).await?;
            let answer = answer.into_values().next();
            answer_of(batch.run.clone(), batch.epoch, follows, answer)
                .map(|frees| (Admission::Admitted, frees))
        }
        Ok(Some(refused)) => Ok((refused, false)),
        Err(error) => Err(error),
    };
    match &admitted {
        Ok((Admission::Admitted, _)) => transaction.commit().await?,
        Ok(_) | Err(_) => transaction.rollback().await?,
    }
    Ok(admitted)
}

/// Tells every server when others wait in the group of `run`, which now is admitted, and the group has
/// room for several: who comes next may be another server's to ask for.
async fn tell_the_next(db: &mut PgConnection, schema: &str, run: &RunId) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT pg_notify($2, $3) FROM run AS admitted WHERE id = $1 AND max > 1 AND EXISTS ( \
           SELECT 1 FROM run WHERE group_name = admitted.group_name AND NOT run.admitted \
             AND ended_at IS NULL)",
    )
    .bind(run.as_str())
    .bind(wakes::CHANNEL)
    .bind(wakes::admission(schema))
    .execute(db)
    .await
    .map(|_| ())
}

/// The statements that begin a transaction in which nobody else is admitted to the same group,
/// nor to any where the number of all is limited. Always in this order, so that two never wait for
/// each other.
fn locked(schema: &str, group: Option<&str>, most: Option<NonZeroU32>) -> String {
    let mut text = "BEGIN".to_owned();
    let mut lock = |of: &str| {
        // A number only, so that nothing that somebody wrote gets into a statement. That two groups
        // may have the same costs them a little time.
        let key = fairlead_step::Digest::sha256(format!("{schema}\n{of}").as_bytes());
        let key = i32::from_str_radix(&key.hex()[..7], 16).unwrap_or_default();
        text.push_str(&format!("; SELECT pg_advisory_xact_lock({}, {key})", LOCK + 1));
    };
    if let Some(group) = group {
        lock(&format!("group\n{group}"));
    }
    if most.is_some() {
        lock("all");
    }
    text
}

/// Why a run has not been admitted yet. Its row stays locked.
async fn decide(
    db: &mut PgConnection,
    batch: &Batch,
    follows: Follows,
    most: Option<NonZeroU32>,
) -> sqlx::Result<Result<Option<Admission>, AppendError>> {
    let asker: Option<Asker> = sqlx::query_as(
        "SELECT seq, epoch, ended_at, number, group_name, policy, max, admitted FROM run \
         WHERE id = $1 FOR NO KEY UPDATE",
    )
    .bind(batch.run.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some((seq, epoch, ended_at, number, group, named, max, admitted)) = asker else {
        return Ok(Err(StoreError::NoSuchRun { run: batch.run.clone() }.into()));
    };
    let stand = Stand(seq, epoch, ended_at);
    if !stand.takes(batch.epoch, follows) {
        return Ok(Err(Stand::refusal(Some(stand), batch.run.clone(), batch.epoch, follows)));
    }
    if admitted {
        return Ok(Ok(None));
    }
    let mut seen = Others::default();
    let max = max.and_then(|max| NonZeroU32::new(u32::try_from(max).ok()?));
    if let (Some(group), Some(named), Some(max)) = (group, named, max) {
        let wish = match policy(&named) {
            Ok(policy) => Wish { policy, max },
            Err(error) => return Ok(Err(error.into())),
        };
        seen = match others(db, &group, number).await? {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error.into())),
        };
        if let Some(refused) = admission::in_group(wish, &seen) {
            return Ok(Ok(Some(refused)));
        }
    }
    let going: i64 = match most {
        None => 0,
        Some(_) => sqlx::query_scalar(runs::GOING).fetch_one(db).await?,
    };
    let going = counted(going).map_err(AppendError::from);
    Ok(going.map(|going| admission::in_store(most, going, &seen)))
}

async fn others(
    db: &mut PgConnection,
    group: &str,
    number: i64,
) -> sqlx::Result<Result<Others, StoreError>> {
    const GROUP: &str = concat!(runs::beside!(), ", ARRAY(", runs::holders!(), ")");
    type Row = (Option<String>, Option<String>, i64, Vec<String>);
    let (successor, before, waiting, holders): Row =
        sqlx::query_as(GROUP).bind(group).bind(number).fetch_one(db).await?;
    Ok(runs::others((successor, before, waiting), &holders))
}

/// Stores a signal and wakes whoever drives the run. The row of the run is locked, so that a run that
/// ends at this moment either takes the signal with it or refuses it.
pub(super) async fn post(
    db: &mut PgConnection,
    schema: &str,
    run: &RunId,
    at: Timestamp,
    body: &str,
) -> sqlx::Result<Result<SignalId, StoreError>> {
    let number: Option<i64> = sqlx::query_scalar(
        "WITH to_run AS (SELECT id FROM run WHERE id = $1 AND ended_at IS NULL FOR SHARE), \
         new AS (INSERT INTO signal (run, at, body) SELECT id, $2, $3 FROM to_run \
           RETURNING number), \
         told AS MATERIALIZED (SELECT pg_notify($4, $5) FROM new) \
         SELECT number FROM new LEFT JOIN told ON true",
    )
    .bind(run.as_str())
    .bind(micros(at))
    .bind(super::text(body))
    .bind(wakes::CHANNEL)
    .bind(wakes::run(schema, run))
    .fetch_optional(&mut *db)
    .await?;
    if let Some(number) = number {
        return Ok(counted(number).map(SignalId));
    }
    let there = sqlx::query_scalar(runs::IS_THERE).bind(run.as_str()).fetch_one(db).await?;
    Ok(Err(match there {
        true => StoreError::RunEnded { run: run.clone() },
        false => StoreError::NoSuchRun { run: run.clone() },
    }))
}

pub(super) async fn signals(pool: &Pool, run: RunId) -> Result<Vec<StoredSignal>, StoreError> {
    let id = run.clone();
    let work = on(move |db| {
        let id = id.clone();
        Box::pin(rows(db, id))
    });
    let rows = pool.call(|| format!("look for signals to run {run}"), work).await?;
    readable(&run, rows)
}

/// A signal that was posted at the moment when its run ended may be left; it is nobody's.
async fn rows(db: &mut PgConnection, run: RunId) -> sqlx::Result<Vec<(i64, i64, String)>> {
    sqlx::query_as(
        "SELECT signal.number, at, body FROM signal JOIN run ON run.id = signal.run \
         WHERE signal.run = $1 AND run.ended_at IS NULL ORDER BY signal.number",
    )
    .bind(run.as_str())
    .fetch_all(db)
    .await
}
