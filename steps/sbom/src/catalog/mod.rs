//! One reader for each kind of package database: text in, facts out, no I/O.

pub(crate) mod apk;
mod control;
pub(crate) mod dpkg;
pub(crate) mod node;
pub(crate) mod os_release;
pub(crate) mod python;

/// Why a file says nothing of packages, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It has the name of a package's description and is none: its own tools would not read it
    /// either, so no package is missing from the bill.
    NoPackage(String),
    /// Packages may be missing from the bill.
    Lost(String),
}

impl Unreadable {
    /// What is wrong with the file.
    pub(crate) fn problem(&self) -> &str {
        match self {
            Self::NoPackage(problem) | Self::Lost(problem) => problem,
        }
    }
}
