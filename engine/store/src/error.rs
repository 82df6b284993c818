//! Why a store was not opened.

use std::fmt;
use std::path::PathBuf;

/// Where a store keeps its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// On a server: who and where, as far as it may be shown. It never has the password.
    Server(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => f.pad(server),
        }
    }
}

/// Why a store was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be made or used.
    #[error("cannot use the folder {}", .path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What was given is not the address of a database. The address is not repeated: it may hold a
    /// password.
    #[error("the address of the database is not usable: {problem}")]
    Address {
        /// What is wrong with it.
        problem: String,
    },
    /// What was given is not the address of storage for artifacts. The address is not repeated.
    #[error("the address for artifacts is not usable: {problem}")]
    ArtifactAddress {
        /// What is wrong with it.
        problem: String,
    },
    /// The storage for artifacts is not there, or refuses us.
    #[error("artifacts cannot be kept at the address that is given for them")]
    Artifacts {
        /// What it said.
        #[source]
        source: object_store::Error,
    },
    /// It is a database of somebody else's.
    #[error("{place} is a database of another program")]
    Foreign {
        /// Where.
        place: Place,
    },
    /// A newer build wrote it.
    #[error("{place} has version {found}, and this build knows up to {known}")]
    Newer {
        /// Where.
        place: Place,
        /// Its version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// It cannot keep a journal, whoever asks and however often.
    #[error("{place} cannot be used: {problem}")]
    Unfit {
        /// Where.
        place: Place,
        /// Why.
        problem: &'static str,
    },
    /// It is damaged, or no database at all.
    #[error("{place} is damaged, or is not a database")]
    Damaged {
        /// Where.
        place: Place,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// It cannot be opened now.
    #[error("cannot open {place}")]
    Unavailable {
        /// Where.
        place: Place,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
}

impl OpenError {
    /// The way out.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "give a folder that this user may write to",
            Self::Address { .. } => "say postgres://USER@HOST:PORT/DATABASE",
            Self::ArtifactAddress { .. } => "say s3://BUCKET/PREFIX?endpoint=URL&region=NAME",
            Self::Artifacts { .. } => {
                "is the bucket there, and may this key read, write, list and delete in it?"
            }
            Self::Foreign { place: Place::File(_) } => {
                "give a folder of Fairlead's own, or an empty one"
            }
            Self::Foreign { place: Place::Server(_) } => {
                "give a database, or a schema, of Fairlead's own, or an empty one"
            }
            Self::Newer { .. } => "use the newer build of Fairlead that wrote it",
            Self::Unfit { .. } => "give another database",
            Self::Damaged { .. } => {
                "put a backup in its place, or move it away to begin with an empty store"
            }
            Self::Unavailable { place: Place::File(_), .. } => {
                "is the disk full, or does another process hold the file?"
            }
            Self::Unavailable { place: Place::Server(_), .. } => {
                "does the server run, and may this user connect to it with this password?"
            }
        }
    }
}
