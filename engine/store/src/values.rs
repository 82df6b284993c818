//! How values look in a database, whichever it is: times are microseconds since 1970, counts are
//! signed.

use fairlead_plan::ConcurrencyPolicy;
use fairlead_run::{BoxError, RunStatus, StoreError};
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

pub(crate) fn status(id: &str, stored: &str) -> Result<RunStatus, StoreError> {
    RunStatus::from_name(stored).ok_or_else(|| {
        let what = format!("run {id} has the unknown status `{stored}`");
        StoreError::Damaged { what, source: None }
    })
}
