//! What the databases have in common about runs: the text of statements, how a row is read, and where
//! a run stands that does not take a batch. Both know parameters as `$1`.

use bytes::Bytes;
use fairlead_run::{
    AppendError, CachedResult, Epoch, PlanBlob, Record, RunFilter, RunSummary, Seq, StoreError,
};
use fairlead_step::{Digest, RunId};
use sqlx::{ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};

use crate::accept::Follows;
use crate::admission::Others;
use crate::values::{counted, damaged, micros, run_id, status, stored, timestamp};

pub(crate) const PLAN: &str = "SELECT plan.digest, plan.bytes FROM run \
    JOIN plan ON plan.digest = run.plan WHERE run.id = $1";

/// A run has its first record from the beginning: without one, retention has just removed it.
pub(crate) const RECORDS: &str = "SELECT bytes FROM record WHERE run = $1 ORDER BY seq";

pub(crate) const HEAD: &str = "SELECT run.seq, record.bytes FROM run \
    LEFT JOIN record ON record.run = run.id AND record.seq = run.seq WHERE run.id = $1";

pub(crate) const ADD_PLAN: &str =
    "INSERT INTO plan (digest, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";

pub(crate) const IS_THERE: &str = "SELECT EXISTS (SELECT 1 FROM run WHERE id = $1)";

/// How many runs go on, towards the limit of all.
pub(crate) const GOING: &str = "SELECT count(*) FROM run WHERE admitted AND ended_at IS NULL \
    AND status NOT IN ('waiting', 'needs-attention')";

/// The runs of group `$1` beside the one with number `$2`: a row of [`Beside`]. How many are before it
/// and wait is the third column.
macro_rules! beside {
    () => {
        "SELECT \
         (SELECT id FROM run WHERE group_name = $1 AND ended_at IS NULL AND number > $2 \
          AND policy IN ('supersede', 'cancel-running') ORDER BY number DESC LIMIT 1), \
         (SELECT id FROM run WHERE group_name = $1 AND ended_at IS NULL AND number < $2 \
          AND NOT admitted ORDER BY number DESC LIMIT 1), \
         (SELECT count(*) FROM run WHERE group_name = $1 AND ended_at IS NULL AND number < $2 \
          AND NOT admitted)"
    };
}

/// Those of group `$1` that are admitted.
macro_rules! holders {
    () => {
        "SELECT id FROM run WHERE group_name = $1 AND admitted AND ended_at IS NULL ORDER BY number"
    };
}

pub(crate) const RECALL: &str = "SELECT run, step, at, outputs FROM remembered WHERE key = $1";

pub(crate) const REMEMBER: &str = "INSERT INTO remembered (key, run, step, at, outputs) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) DO UPDATE SET \
    run = excluded.run, step = excluded.step, at = excluded.at, outputs = excluded.outputs";

/// A page of the texts of records, behind one of them.
pub(crate) const TEXTS: &str = "SELECT run, seq, bytes FROM record WHERE (run, seq) > ($1, $2) \
    ORDER BY run, seq LIMIT $3";

/// Records as they are stored.
pub(crate) fn records(run: &RunId, stored: &[String]) -> Result<Vec<Record>, StoreError> {
    let records = stored.iter().map(|bytes| Record::read(bytes)).collect::<Result<_, _>>();
    records.map_err(|source| StoreError::Unreadable { run: run.clone(), source })
}

/// The plan of a run, when its bytes are those that its digest stands for.
pub(crate) fn plan(run: &RunId, digest: &str, bytes: Vec<u8>) -> Result<PlanBlob, StoreError> {
    let digest: Digest =
        digest.parse().map_err(|error| damaged(format!("the plan of run {run}"), error))?;
    let plan = PlanBlob::new(Bytes::from(bytes));
    if *plan.digest() == digest {
        return Ok(plan);
    }
    let what = format!("plan {digest} hashes to {}", plan.digest());
    Err(StoreError::Damaged { what, source: None })
}

/// A row of `beside`.
pub(crate) type Beside = (Option<String>, Option<String>, i64);

pub(crate) fn others(
    (successor, before, waiting_before): Beside,
    holders: &[String],
) -> Result<Others, StoreError> {
    Ok(Others {
        successor: successor.as_deref().map(run_id).transpose()?,
        before: before.as_deref().map(run_id).transpose()?,
        waiting_before: counted(waiting_before)?,
        holders: holders.iter().map(|id| run_id(id)).collect::<Result<_, _>>()?,
    })
}

/// A row of [`RECALL`].
pub(crate) fn cached_result(
    (run, step, at, outputs): (String, String, i64, String),
) -> Result<CachedResult, StoreError> {
    let unreadable = |error| damaged("a cached result is not readable", error);
    Ok(CachedResult {
        run: run_id(&run)?,
        step: step.parse().map_err(|error| damaged("a step's name", error))?,
        at: timestamp(at)?,
        outputs: serde_json::from_str(&outputs).map_err(unreadable)?,
    })
}

/// Where a run stands: its last record, its epoch, its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand(pub(crate) i64, pub(crate) i64, pub(crate) Option<i64>);

impl Stand {
    /// Whether a batch of the holder of `epoch` may be written.
    pub(crate) fn takes(self, epoch: Epoch, follows: Follows) -> bool {
        let Self(seq, current, ended_at) = self;
        current == stored(epoch.0)
            && ended_at.is_none()
            && follows.before.is_none_or(|before| seq == stored(before.0))
    }

    /// Why it was not, where it was not; a run that stands nowhere is not there.
    pub(crate) fn refusal(
        stand: Option<Self>,
        run: RunId,
        held: Epoch,
        follows: Follows,
    ) -> AppendError {
        let Some(Self(seq, epoch, ended_at)) = stand else {
            return StoreError::NoSuchRun { run }.into();
        };
        let (found, current) = match (counted(seq), counted(epoch)) {
            (Ok(seq), Ok(epoch)) => (Seq(seq), Epoch(epoch)),
            (Err(damaged), _) | (_, Err(damaged)) => return damaged.into(),
        };
        if current != held {
            AppendError::Fenced { run, held, current }
        } else if ended_at.is_some() {
            AppendError::Ended { run }
        } else {
            AppendError::Conflict { run, expected: follows.expected(), found }
        }
    }
}

/// The columns of a [`RunSummary`] but the last, which says whether somebody drives the run.
macro_rules! summary_columns {
    () => {
        "SELECT id, pipeline, status, requested_by, requested_at, ended_at, group_name, origin, \
         wake_at, ended_at IS NULL AND EXISTS (SELECT 1 FROM signal WHERE signal.run = run.id), \
         number, "
    };
}

/// Asks for runs: `query` has the columns, and the rest is added. The text follows from which filters
/// are there, so that each is prepared once and uses its index.
pub(crate) fn list<DB>(
    mut query: QueryBuilder<DB>,
    filter: RunFilter,
    pipeline: Option<String>,
) -> QueryBuilder<DB>
where
    DB: Database,
    String: for<'q> Encode<'q, DB> + Type<DB>,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
{
    // Behind every id: `{` follows `z`.
    let before = filter.before.map_or_else(|| "{".to_owned(), |run| run.to_string());
    query.push(" FROM run WHERE id < ").push_bind(before);
    if let Some(pipeline) = pipeline {
        query.push(" AND pipeline = ").push_bind(pipeline);
    }
    if let Some(run) = filter.run {
        query.push(" AND id = ").push_bind(run.to_string());
    }
    if let Some(origin) = filter.origin {
        query.push(" AND origin = ").push_bind(origin.to_string());
    }
    if filter.unfinished {
        query.push(" AND ended_at IS NULL");
    }
    if let Some(since) = filter.ended_since {
        query.push(" AND ended_at >= ").push_bind(micros(since));
    }
    let limit = filter.limit.min(RunFilter::MOST);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(stored(limit as u64));
    query
}

/// A row of [`list`].
pub(crate) fn summary<'r, R>(row: &'r R) -> Result<RunSummary, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    let unreadable = |error: sqlx::Error| damaged("a run's line is not readable", error);
    let text = |column: usize| row.try_get::<Option<String>, _>(column).map_err(unreadable);
    let some = |column: usize| row.try_get::<String, _>(column).map_err(unreadable);
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(unreadable);
    let time = |column: usize| {
        let at: Option<i64> = row.try_get(column).map_err(unreadable)?;
        at.map(timestamp).transpose()
    };
    let flag = |column: usize| row.try_get::<bool, _>(column).map_err(unreadable);
    let ended_at = time(5)?;
    Ok(RunSummary {
        id: run_id(&some(0)?)?,
        pipeline: some(1)?,
        status: status(&some(2)?, ended_at.is_some()),
        by: some(3)?,
        requested_at: timestamp(number(4)?)?,
        ended_at,
        group: text(6)?,
        origin: text(7)?.as_deref().map(run_id).transpose()?,
        wake_at: time(8)?,
        signaled: flag(9)?,
        number: counted(number(10)?)?,
        held: flag(11)?,
    })
}

pub(crate) use {beside, holders, summary_columns};
