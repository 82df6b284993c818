//! The folder that a run works in, when a git push started it: the pushed commit, checked out.

use std::path::PathBuf;

use fairlead_event::GitPushed;
use fairlead_step::{BoxFuture, StepError};

/// The port to checkouts of what was pushed.
pub trait Workspaces: Send + Sync {
    /// A folder with the files of the pushed commit; none when the push left nothing to check out,
    /// because it deleted what it is about. `key` is the identity of the event: asked again with the
    /// same key, it answers the same folder.
    ///
    /// # Errors
    /// When the forge cannot be reached, refuses, or has no such commit.
    fn checkout<'a>(
        &'a self,
        push: &'a GitPushed,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, StepError>>;
}
