//! The port to cached results, so that the same work is not done twice.

use std::sync::Arc;

use fairlead_step::{BoxFuture, Digest, RunId, StepId};
use jiff::Timestamp;
use serde_json::Value;

use crate::StoreError;

/// The result of a step that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedResult {
    /// The run that made it.
    pub run: RunId,
    /// The step of that run.
    pub step: StepId,
    /// When it was made.
    pub at: Timestamp,
    /// What the step gave.
    pub outputs: Value,
}

/// Results of kinds that are pure, by the digest of all that went in. Forgetting one costs time and
/// nothing else.
pub trait ResultCache: Send + Sync {
    /// The result under `key`.
    ///
    /// # Errors
    /// When the store fails.
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>>;

    /// Keeps a result under `key`, in the place of an older one.
    ///
    /// # Errors
    /// When the store fails.
    fn remember(&self, key: &Digest, result: CachedResult)
    -> BoxFuture<'_, Result<(), StoreError>>;
}

impl<R: ResultCache + ?Sized> ResultCache for Arc<R> {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        (**self).recall(key)
    }

    fn remember(
        &self,
        key: &Digest,
        result: CachedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).remember(key, result)
    }
}
