//! The `gitops` step: edits files of a repository without touching a byte they do not mean,
//! commits them with trailers, and pushes. No stable API.
//!
//! Look first, then act: a commit of this run's step that the branch already has is the answer; an
//! edit that changes nothing is a success without a commit; a push that lost the race is tried
//! again by making the *edit* again on the new head, never by merging text.

mod block;
mod edit;
mod file;
mod image;
mod reading;
mod repository;
mod route;
mod scalar;
mod source;
mod step;
#[cfg(test)]
mod suite;

pub use edit::{Aliases, DocumentName, Edit, EditError, Edited, Value, apply};
pub use route::{Path, PathError};
pub use step::{Gitops, Input, Output};
