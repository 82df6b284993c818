//! The pipelines of a server, and where they come from: its own files, and repositories that it follows.
//! What it has is replaced as a whole: when its configuration is read again, and when a repository has
//! something new.

mod files;
mod follow;
mod kept;
mod settings;

pub use follow::{Definitions, Setup};
pub(crate) use follow::{Live, Tools};
pub use settings::{PullRequestFiles, RepositorySettings};
