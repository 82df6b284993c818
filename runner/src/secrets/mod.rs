//! Where secrets come from, one file for each source.
//!
//! * `own`: the environment and files, for whoever runs the program; on a server, for the server itself.
//! * `project`: the secrets that the pipelines of a project can name, each from one of the others: `file`,
//!   `command` (a program that is asked), `vault` (a server with Vault's KV 2).

pub(crate) mod command;
pub(crate) mod file;
mod own;
pub(crate) mod project;
pub(crate) mod vault;

pub(crate) use own::{SecretSource, Secrets};

/// The most bytes of one secret.
const MAX_SECRET: u64 = 1 << 20;

/// Why a source did not give a secret. No text holds a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It does not have it; and the way to put it there.
    Missing(String),
    /// It could not be asked, or not be understood.
    Unavailable(String),
}
