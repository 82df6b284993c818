//! Turns and signals in SQLite.

use std::num::NonZeroU32;

use fairlead_run::{Admission, Batch, SignalId, StoreError, StoredSignal};
use fairlead_step::RunId;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::{journal, store_error};
use crate::accept::Follows;
use crate::admission::{self, Others, Wish};
use crate::runs::{self, Stand};
use crate::values::{counted, micros, policy, readable};

/// Decides, and writes the batch of a run that is admitted. Answers also whether that can give
/// another run its admission: when the batch ends the run.
pub(super) async fn admit(
    db: &mut SqliteConnection,
    batch: Batch,
    follows: Follows,
    most: Option<NonZeroU32>,
) -> sqlx::Result<Result<Result<(Admission, bool), StoreError>, Option<Stand>>> {
    let stand = journal::stand(db, &batch.run).await?;
    if !stand.is_some_and(|stand| stand.takes(batch.epoch, follows)) {
        return Ok(Err(stand));
    }
    match refusal(db, &batch.run, most).await? {
        Ok(None) => {}
        Ok(Some(refused)) => return Ok(Ok(Ok((refused, false)))),
        Err(damaged) => return Ok(Ok(Err(damaged))),
    }
    sqlx::query("UPDATE run SET admitted = 1 WHERE id = ?")
        .bind(batch.run.as_str())
        .execute(&mut *db)
        .await?;
    let written = journal::append(db, batch, follows).await?;
    Ok(written.map(|frees| Ok((Admission::Admitted, frees))))
}

/// Why a run has not been admitted yet.
async fn refusal(
    db: &mut SqliteConnection,
    run: &RunId,
    most: Option<NonZeroU32>,
) -> sqlx::Result<Result<Option<Admission>, StoreError>> {
    type Row = (bool, i64, Option<String>, Option<String>, Option<u32>);
    let (admitted, number, group, named, max): Row =
        sqlx::query_as("SELECT admitted, number, group_name, policy, max FROM run WHERE id = ?")
            .bind(run.as_str())
            .fetch_one(&mut *db)
            .await?;
    if admitted {
        return Ok(Ok(None));
    }
    let mut seen = Others::default();
    if let (Some(group), Some(named), Some(max)) = (group, named, max.and_then(NonZeroU32::new)) {
        let wish = match policy(&named) {
            Ok(policy) => Wish { policy, max },
            Err(damaged) => return Ok(Err(damaged)),
        };
        seen = match others(db, &group, number).await? {
            Ok(seen) => seen,
            Err(damaged) => return Ok(Err(damaged)),
        };
        if let Some(refused) = admission::in_group(wish, &seen) {
            return Ok(Ok(Some(refused)));
        }
    }
    let going: i64 = match most {
        None => 0,
        Some(_) => sqlx::query_scalar(runs::GOING).fetch_one(db).await?,
    };
    Ok(counted(going).map(|going| admission::in_store(most, going, &seen)))
}

async fn others(
    db: &mut SqliteConnection,
    group: &str,
    number: i64,
) -> sqlx::Result<Result<Others, StoreError>> {
    let beside: runs::Beside =
        sqlx::query_as(runs::beside!()).bind(group).bind(number).fetch_one(&mut *db).await?;
    let holders: Vec<String> =
        sqlx::query_scalar(runs::holders!()).bind(group).fetch_all(db).await?;
    Ok(runs::others(beside, &holders))
}

pub(super) async fn post(
    db: &mut SqliteConnection,
    run: RunId,
    at: Timestamp,
    body: String,
) -> sqlx::Result<Result<SignalId, StoreError>> {
    let number: Option<i64> = sqlx::query_scalar(
        "INSERT INTO signal (run, at, body) \
         SELECT id, ?, ? FROM run WHERE id = ? AND ended_at IS NULL RETURNING number",
    )
    .bind(micros(at))
    .bind(body)
    .bind(run.as_str())
    .fetch_optional(&mut *db)
    .await?;
    if let Some(number) = number {
        return Ok(counted(number).map(SignalId));
    }
    Ok(Err(match journal::is_there(db, &run).await? {
        true => StoreError::RunEnded { run },
        false => StoreError::NoSuchRun { run },
    }))
}

pub(super) async fn signals(db: &SqlitePool, run: RunId) -> Result<Vec<StoredSignal>, StoreError> {
    let rows: Vec<(i64, i64, String)> =
        sqlx::query_as("SELECT number, at, body FROM signal WHERE run = ? ORDER BY number")
            .bind(run.as_str())
            .fetch_all(db)
            .await
            .map_err(|error| store_error(format!("look for signals to run {run}"), error))?;
    readable(&run, rows)
}
