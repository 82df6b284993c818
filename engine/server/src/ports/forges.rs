//! What a forge says of a push.

use std::collections::BTreeMap;

use fairlead_event::{ForgeRepository, GitPushed, ObjectId};
use fairlead_step::{BoxFuture, StepError};

/// What a forge has under the name of a branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRef {
    /// The object that the name points to: a commit, or the tag object of an annotated tag.
    pub object: ObjectId,
    /// The commit behind it.
    pub commit: ObjectId,
}

/// The port to forges: what a push is compared with. The addresses of the pushes that it is given are
/// those of the source's forge.
pub trait Forges: Send + Sync {
    /// What the forge has under the pushed name now; none when it has no such branch or tag.
    ///
    /// # Errors
    /// When the forge cannot be reached, refuses, or has no such repository.
    fn find<'a>(
        &'a self,
        push: &'a GitPushed,
    ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>>;

    /// What the forge has now under the names that fit `patterns`: full names such as
    /// `refs/pull/7/head`, or all below one, as `refs/heads/*`.
    ///
    /// # Errors
    /// As [`Forges::find`].
    fn find_all<'a>(
        &'a self,
        repository: &'a ForgeRepository,
        patterns: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>>;

    /// Whether the pushed commit is in the history of the branch as it is at the forge now.
    ///
    /// # Errors
    /// As [`Forges::find`].
    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>>;
}
