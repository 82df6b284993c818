//! How values look in a database, whichever it is: times are microseconds since 1970, counts are
//! signed.

use fairlead_plan::{ConcurrencyPolicy, RunOutcome};
use fairlead_run::{BoxError, RunStatus, Signal, SignalId, StoreError, StoredSignal};
use fairlead_step::RunId;
use jiff::Timestamp;

pub(crate) fn damaged(what: impl Into<String>, source: impl Into<BoxError>) -> StoreError {
    StoreError::Damaged { what: what.into(), source: Some(source.into()) }
}

pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| damaged("a time is out of range", error))
}

/// A stretch of time as a database stores it.
pub(crate) fn lasting(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A count as a database stores it.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn counted(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|error| damaged("a count is negative", error))
}

pub(crate) fn run_id(stored: &str) -> Result<RunId, StoreError> {
    stored.parse().map_err(|error| damaged("a run's id", error))
}

pub(crate) fn policy(stored: &str) -> Result<ConcurrencyPolicy, StoreError> {
    ConcurrencyPolicy::ALL.into_iter().find(|policy| policy.name() == stored).ok_or_else(|| {
        let what = format!("a run has the unknown policy `{stored}`");
        StoreError::Damaged { what, source: None }
    })
}

/// Where a run is. One that has not ended, and of whose status only a newer build knows, is left alone:
/// one row must not keep the others from being seen.
pub(crate) fn status(stored: &str, ended: bool) -> RunStatus {
    RunStatus::from_name(stored).unwrap_or(match ended {
        true => RunStatus::Ended(RunOutcome::Failed),
        false => RunStatus::Waiting,
    })
}

/// The signals that this build can read: number, time, and what was said. The others stay for the build
/// that posted them, and keep nobody from hearing these.
pub(crate) fn readable(
    run: &RunId,
    rows: Vec<(i64, i64, String)>,
) -> Result<Vec<StoredSignal>, StoreError> {
    let mut signals = Vec::with_capacity(rows.len());
    for (number, at, body) in rows {
        match Signal::decode(&body) {
            Ok(signal) => {
                let id = SignalId(counted(number)?);
                signals.push(StoredSignal { id, at: timestamp(at)?, signal });
            }
            Err(error) => {
                tracing::warn!(%run, "signal {number} is not readable, and stays: {error}");
            }
        }
    }
    Ok(signals)
}
