//! What a forge says of a push, and the folder that a run works in when a push started it: the pushed
//! commit, checked out.

use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// The port to forges: what a push is compared with, and checkouts of what was pushed. The addresses
/// of the pushes that it is given are those of the source's forge.
pub trait Workspaces: Send + Sync {
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
    /// As [`Workspaces::find`].
    fn find_all<'a>(
        &'a self,
        repository: &'a ForgeRepository,
        patterns: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>>;

    /// Whether the pushed commit is in the history of the branch as it is at the forge now.
    ///
    /// # Errors
    /// As [`Workspaces::find`].
    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>>;

    /// A folder with the files of the pushed commit; none when the push left nothing to check out,
    /// because it deleted what it is about. `key` is the identity of the event: asked again with the
    /// same key, at the same time, too, it answers the same folder, which is whole.
    ///
    /// # Errors
    /// When the forge cannot be reached, refuses, or has no such commit.
    fn checkout<'a>(
        &'a self,
        push: &'a GitPushed,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, StepError>>;
}
