//! The `git` program, behind typed operations. No stable API.
//!
//! Fairlead speaks to git remotes through the program that everybody already has configured:
//! ssh settings, proxies, partial clones and transports come with it. Nothing else in Fairlead
//! starts `git`, and what reaches its command line is made here: fixed argument lists, names that
//! were checked, a private home, no prompts, no hooks.

mod checkout;
mod error;
mod program;
mod refs;
mod remote;
mod workspace;

pub use checkout::{Checkout, Commit, Entry, EntryKind, Identity, Push};
pub use error::GitError;
pub use program::{Git, MINIMUM_VERSION};
pub use refs::RefTarget;
pub use remote::{Branch, GitAuth, Remote, RemoteError, Transport};
pub use workspace::Wanted;
