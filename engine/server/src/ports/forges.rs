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

/// Which files of a repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesAt {
    /// The source in the configuration whose forge has the repository.
    pub source: String,
    /// The repository.
    pub repository: ForgeRepository,
    /// The commit.
    pub commit: ObjectId,
    /// A name under which the forge has the commit, such as `refs/heads/main`.
    pub reference: String,
    /// The folder within the repository; its own when it is empty.
    pub folder: String,
}

/// The text of files by their path; for one that cannot be taken as text: why.
pub type PipelineFiles = BTreeMap<String, Result<String, String>>;

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

    /// The pipeline files right in a folder of a repository, by their path in it: those that end in `.yaml`
    /// or `.yml`. For one that cannot be taken as text: why.
    ///
    /// # Errors
    /// As [`Forges::find`], and when there is no such folder at that commit.
    fn files<'a>(&'a self, at: &'a FilesAt) -> BoxFuture<'a, Result<PipelineFiles, StepError>>;

    /// Whether the pushed commit is in the history of the branch as it is at the forge now.
    ///
    /// # Errors
    /// As [`Forges::find`].
    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>>;
}
