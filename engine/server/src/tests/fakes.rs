//! Small fakes of what is of no account to the tests.

use fairlead_exec::{Fetch, WorkspaceFetcher};
use fairlead_step::{BoxFuture, StepError};
use serde_json::Value;

/// A store that keeps everything.
pub(super) struct NothingToPrune;

impl crate::Retention for NothingToPrune {
    fn prune(
        &self,
        asked: crate::PruneRequest,
    ) -> BoxFuture<'_, Result<Value, fairlead_run::StoreError>> {
        Box::pin(async move { Ok(serde_json::json!({ "removed": !asked.dry_run, "runs": [] })) })
    }
}

/// What steps work on is of no account here: every commit is an empty folder.
pub(super) struct Fetched;

impl WorkspaceFetcher for Fetched {
    fn fetch<'a>(&'a self, _: Fetch<'a>) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}
