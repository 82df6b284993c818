//! The folder of the database: a pointer to the current file, and the file it points to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlead_step::{Digest, HumanDuration};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::{self, Reader};
use super::update::FeedState;
use crate::ecosystem::Ecosystem;
use crate::osv::Advisory;

/// The pointer's file name.
pub(super) const POINTER: &str = "current.json";
/// The extension of database files.
pub(super) const EXTENSION: &str = "advisories";
/// The pointer is small; anything larger is not one.
const MAX_POINTER: u64 = 1024 * 1024;

/// What the pointer says. Everything that is not content lives here, so that the same dumps give
/// the same database whoever compiled it, when and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The format of the database file.
    pub(super) format: u32,
    pub(super) digest: Digest,
    pub(super) source: String,
    pub(super) updated_at: Timestamp,
    #[serde(default)]
    pub(super) feeds: BTreeMap<String, FeedState>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// There is none.
    #[error("there is no advisory database in `{}`", dir.display())]
    Absent {
        /// The folder that was looked into.
        dir: PathBuf,
    },
    /// It was written by another version of Fairlead.
    #[error(
        "the advisory database `{}` has format {found}, this build reads format {readable}",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that can be read.
        readable: u32,
    },
    /// Its bytes are not the ones that were written.
    #[error("the advisory database `{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system refused.
    #[error("cannot read the advisory database `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The advisories of an ecosystem that is needed are older than is allowed.
    #[error(
        "the advisory database is too old for this bill of materials: {}; {allowed} is allowed",
        ecosystems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Stale {
        /// The ecosystems.
        ecosystems: Vec<StaleEcosystem>,
        /// The age allowed.
        allowed: HumanDuration,
    },
}

/// An ecosystem whose advisories are too old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleEcosystem {
    /// The name in OSV, without a release.
    pub ecosystem: String,
    /// When its newest record was last changed; nothing when no record has a date.
    pub newest: Option<Timestamp>,
    /// How old that is.
    pub age: Option<HumanDuration>,
}

impl fmt::Display for StaleEcosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ecosystem = &self.ecosystem;
        match (self.age, self.newest) {
            (Some(age), Some(newest)) => {
                write!(f, "{ecosystem} is {age} old (its newest record is of {newest})")
            }
            (Some(_) | None, None) | (None, Some(_)) => {
                write!(f, "no record of {ecosystem} has a date")
            }
        }
    }
}

impl DbError {
    pub(super) fn damaged(path: &Path, problem: &str) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.to_owned() }
    }

    /// The way out.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "check the permissions of the folder",
            Self::Absent { .. } => {
                "run `fairlead db update` with a folder or a URL of OSV dumps to make one"
            }
            Self::Format { .. } | Self::Damaged { .. } => {
                "run `fairlead db update` to compile it anew"
            }
            Self::Stale { .. } => {
                "run `fairlead db update`, or allow a greater age with `max_db_age`"
            }
        }
    }
}

/// What is in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseInfo {
    /// The digest of its content: the same dumps give the same digest.
    pub digest: Digest,
    /// The format of its file.
    pub format: u32,
    /// The size of its file in bytes.
    pub size: u64,
    /// When its newest record was last changed.
    pub newest: Option<Timestamp>,
    /// Distinct records.
    pub records: u64,
    /// Advisories for each ecosystem and release, such as `Debian:12`.
    pub ecosystems: BTreeMap<String, u64>,
    /// When the newest record of each ecosystem was last changed.
    pub newest_of: BTreeMap<String, String>,
    /// The folder or URL it was compiled from.
    pub source: String,
    /// When it was compiled.
    pub updated_at: Timestamp,
    /// The dumps it was compiled from.
    pub feeds: BTreeMap<String, FeedState>,
}

/// An open database. It stays readable while an update puts another in its place.
#[derive(Debug)]
pub struct Database {
    pub(super) reader: Reader,
    pub(super) pointer: Pointer,
    path: PathBuf,
}

impl Database {
    /// Opens the database in `dir`. Reads the index, not the advisories.
    ///
    /// # Errors
    /// When there is none, when it was written in another format, and when it is damaged.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        match Self::open_once(dir) {
            // An update may have removed the file between the pointer's reading and its opening.
            Err(DbError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                match Self::open_once(dir) {
                    Err(DbError::Unreadable { path, source })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        Err(DbError::Damaged { path, problem: "the file is gone".to_owned() })
                    }
                    other => other,
                }
            }
            other => other,
        }
    }

    fn open_once(dir: &Path) -> Result<Self, DbError> {
        let pointer_path = dir.join(POINTER);
        let damaged = |problem: &str| DbError::damaged(&pointer_path, problem);
        let unreadable = |source| DbError::Unreadable { path: pointer_path.clone(), source };
        match std::fs::metadata(&pointer_path) {
            Ok(metadata) if metadata.len() > MAX_POINTER => {
                return Err(damaged("it is too large for what it should be"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DbError::Absent { dir: dir.to_owned() });
            }
            Err(error) => return Err(unreadable(error)),
        }
        let text = std::fs::read(&pointer_path).map_err(unreadable)?;
        // The format is read first, so that a pointer with other fields is refused by its number.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format: found } = serde_json::from_slice(&text)
            .map_err(|_| damaged("it is not the pointer to a database"))?;
        if found != format::FORMAT {
            return Err(DbError::Format { path: pointer_path, found, readable: format::FORMAT });
        }
        let pointer: Pointer = serde_json::from_slice(&text)
            .map_err(|error| damaged(&format!("it cannot be read: {error}")))?;
        let path = file_path(dir, &pointer.digest);
        let reader = Reader::open(&path)?;
        if *reader.digest() != pointer.digest {
            let problem = format!("its content is {}, not what its name says", reader.digest());
            return Err(DbError::Damaged { path, problem });
        }
        Ok(Self { reader, pointer, path })
    }

    /// What is in it.
    #[must_use]
    pub fn info(&self) -> DatabaseInfo {
        let content = self.reader.content();
        DatabaseInfo {
            digest: self.reader.digest().clone(),
            format: format::FORMAT,
            size: self.reader.size(),
            newest: self.newest(),
            records: content.records,
            ecosystems: content.ecosystems.clone(),
            newest_of: content.newest_of.clone(),
            source: self.pointer.source.clone(),
            updated_at: self.pointer.updated_at,
            feeds: self.pointer.feeds.clone(),
        }
    }

    /// The digest of its content.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        self.reader.digest()
    }

    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.reader.content().newest.as_deref()?.parse().ok()
    }

    /// Whether it covers an ecosystem, such as `Debian:12`, at all.
    pub(crate) fn covers(&self, ecosystem: &str) -> bool {
        self.reader.content().ecosystems.contains_key(ecosystem)
    }

    /// Of the `wanted` ecosystems, those whose newest record is older than `allowed` at `now`. One
    /// without any date is as old as can be.
    pub(crate) fn stale(
        &self,
        wanted: impl IntoIterator<Item = Ecosystem>,
        allowed: Duration,
        now: Timestamp,
    ) -> Vec<StaleEcosystem> {
        let mut stale = Vec::new();
        for ecosystem in wanted {
            let newest = self.reader.content().newest_of.get(ecosystem.name());
            let newest = newest.and_then(|time| time.parse::<Timestamp>().ok());
            let age = newest.map(|newest| {
                let seconds = now.as_second().saturating_sub(newest.as_second()).max(0);
                Duration::from_secs(seconds.unsigned_abs())
            });
            if age.is_some_and(|age| age <= allowed) {
                continue;
            }
            // Days and hours say enough.
            let age = age.map(|age| match Duration::from_secs(age.as_secs() / 3600 * 3600) {
                hours if hours.is_zero() => HumanDuration(age),
                hours => HumanDuration(hours),
            });
            stale.push(StaleEcosystem { ecosystem: ecosystem.name().to_owned(), newest, age });
        }
        stale
    }

    /// The ecosystems that it has advisories for, without their releases.
    pub(crate) fn ecosystems(&self) -> BTreeSet<Ecosystem> {
        self.reader.content().ecosystems.keys().filter_map(|name| Ecosystem::of(name)).collect()
    }

    /// Refuses a database in which the advisories for one of the `wanted` ecosystems are older than
    /// `allowed` at `now`: that others are fresh says nothing about them.
    ///
    /// # Errors
    /// [`DbError::Stale`].
    pub(crate) fn check_age(
        &self,
        wanted: impl IntoIterator<Item = Ecosystem>,
        allowed: Duration,
        now: Timestamp,
    ) -> Result<(), DbError> {
        match self.stale(wanted, allowed, now) {
            stale if stale.is_empty() => Ok(()),
            ecosystems => Err(DbError::Stale { ecosystems, allowed: HumanDuration(allowed) }),
        }
    }

    /// A cursor for look-ups. It keeps the last block, so keys are best asked in order.
    pub(crate) const fn cursor(&self) -> Cursor<'_> {
        Cursor { database: self, block: None }
    }
}

/// Looks packages up.
pub(crate) struct Cursor<'a> {
    database: &'a Database,
    block: Option<(usize, Vec<u8>)>,
}

impl Cursor<'_> {
    /// The advisories of one package.
    pub(crate) fn look_up(
        &mut self,
        ecosystem: &str,
        name: &str,
    ) -> Result<Vec<Advisory>, DbError> {
        let Database { reader, path, .. } = self.database;
        let Some(number) = reader.block_of(ecosystem, name) else { return Ok(Vec::new()) };
        let block = match self.block.take() {
            Some((held, block)) if held == number => block,
            Some(_) | None => reader.block(number, path)?,
        };
        let found = format::find(&block, ecosystem, name);
        self.block = Some((number, block));
        found.map_err(|problem| DbError::damaged(path, &problem))
    }
}

/// Where the database with `digest` lies.
pub(super) fn file_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join(format!("{}-{}.{EXTENSION}", digest.algorithm().name(), digest.hex()))
}
