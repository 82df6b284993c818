//! The port to retention.

use std::time::Duration;

use fairlead_run::StoreError;
use fairlead_step::BoxFuture;
use serde_json::Value;

/// What may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// Runs that ended longer ago than this.
    pub older_than: Option<Duration>,
    /// Runs that are not among this many that ended last of their pipeline.
    pub keep_last: Option<usize>,
    /// Whether nothing is changed, and the same is answered.
    pub dry_run: bool,
}

/// Removes what the rules allow, with all that nobody needs any more.
pub trait Retention: Send + Sync {
    /// Answers what went, or would go, as JSON.
    ///
    /// # Errors
    /// When the store fails.
    fn prune(&self, asked: PruneRequest) -> BoxFuture<'_, Result<Value, StoreError>>;
}
