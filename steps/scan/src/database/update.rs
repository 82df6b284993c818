//! Brings the database up to date from a folder or a server with the layout of the OSV dumps.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairlead_step::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::compile::Compiler;
use super::feed::{self, Feed};
use super::format::FORMAT;
use super::http::{Fetched, Server};
use super::store::{Database, EXTENSION, POINTER, Pointer, file_path};
use crate::ecosystem::Ecosystem;

/// Where fetched dumps are kept, within the folder of the database.
const FEEDS: &str = "feeds";

/// Where the dumps come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with `<ECOSYSTEM>/all.zip`.
    Folder(PathBuf),
    /// The address of a server with `<ECOSYSTEM>/all.zip` and perhaps `ecosystems.txt`.
    Url(String),
}

impl Source {
    /// Takes what begins with `http://` or `https://` for an address, anything else for a folder.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match lower.starts_with("http://") || lower.starts_with("https://") {
            true => Self::Url(text.to_owned()),
            false => Self::Folder(text.into()),
        }
    }
}

/// Told what an update is doing, one line at a time.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How to update.
#[derive(Clone)]
pub struct UpdateOptions {
    /// The ecosystems to take (`PyPI`, `Debian`, …). Without them: every one that the source has
    /// and a scan can match.
    pub ecosystems: Option<Vec<String>>,
    /// The time now.
    pub now: Timestamp,
    /// Who is told what is being done.
    pub progress: Option<Progress>,
}

impl UpdateOptions {
    /// Every ecosystem, nobody told.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { ecosystems: None, now, progress: None }
    }

    fn say(&self, text: &str) {
        if let Some(progress) = &self.progress {
            progress(text);
        }
    }
}

/// What a server said of a dump that was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    /// The entity tag, to ask with next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The date, to ask with next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// What became of one dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FeedReport {
    /// The ecosystem.
    pub ecosystem: String,
    /// Whether it came over the network this time.
    pub fetched: bool,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Records taken.
    pub records: u64,
    /// Records left out because their publisher took them back.
    pub withdrawn: u64,
    /// Records left out because they cannot be read.
    pub bad: u64,
    /// The first of those, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<String>,
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdateReport {
    /// The digest of the database that is now current.
    pub digest: Digest,
    /// The digest before, where there was a database.
    pub previous: Option<Digest>,
    /// Distinct records.
    pub records: u64,
    /// When the newest record was last changed.
    pub newest: Option<Timestamp>,
    /// The size of the database file in bytes.
    pub size: u64,
    /// What became of each dump; empty when the server had nothing new.
    pub feeds: Vec<FeedReport>,
    /// Ecosystems that the source has and no scan can match.
    pub skipped: Vec<String>,
    /// Ranges that contradict themselves; they are kept, told in reports, and flag nothing.
    pub faults: u64,
    /// The first of those.
    pub faults_named: Vec<String>,
}

impl UpdateReport {
    /// Whether the content is another than before.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.previous.as_ref() != Some(&self.digest)
    }
}

/// Why an update did not happen. The database before it stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// An ecosystem was asked for that no scan can match.
    #[error("`{name}` is not an ecosystem that can be matched")]
    Ecosystem {
        /// What was asked for.
        name: String,
    },
    /// The source has no dump of an ecosystem that was asked for, or none at all.
    #[error("`{place}` has no `{what}`")]
    Missing {
        /// The folder or address.
        place: String,
        /// What was looked for.
        what: String,
    },
    /// The address is not one.
    #[error("`{url}` is not an address to update from: {problem}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server could not be reached, broke off, or said to come back later.
    #[error("cannot fetch `{url}`")]
    Http {
        /// The address.
        url: String,
        /// What happened.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refused.
    #[error("cannot fetch `{url}`: the server answered {status}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file is larger than such a file may be.
    #[error("`{url}` is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// A dump is no archive, or nothing in it can be used.
    #[error("the dump `{}` cannot be read: {problem}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another update of the same database is running.
    #[error("another update of the database in `{}` is running", dir.display())]
    Busy {
        /// The folder of the database.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl UpdateError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Ecosystem { .. } => {
                format!("the ecosystems are {}", Ecosystem::ALL.map(Ecosystem::name).join(", "))
            }
            Self::Missing { .. } => {
                "the source must have the layout of the OSV dumps: `<ECOSYSTEM>/all.zip`".into()
            }
            Self::Url { .. } => "write an address such as `https://osv.example.com/dumps/`".into(),
            Self::Http { .. } => "check the address and the network, then try again".into(),
            Self::Refused { .. } => "check the address and who may read there".into(),
            Self::TooLarge { .. } => "check that the address is that of OSV dumps".into(),
            Self::Archive { .. } => "fetch the dump again; the database was left as it was".into(),
            Self::Busy { .. } => "wait until it has ended".into(),
            Self::Io { .. } => "check the path, its permissions and the space on the disk".into(),
        }
    }
}

impl Database {
    /// Brings the database in `dir` up to date. A new database is put in place whole, by a rename;
    /// whoever has the old one open keeps it. From a server only what changed is fetched.
    ///
    /// # Errors
    /// [`UpdateError`]; the database is then what it was.
    pub async fn update(
        source: Source,
        dir: &Path,
        options: UpdateOptions,
    ) -> Result<UpdateReport, UpdateError> {
        fs::create_dir_all(dir).map_err(|source| UpdateError::io(dir, source))?;
        let _lock = lock(dir)?;
        let previous = Self::open(dir).ok();
        let wanted = options.ecosystems.as_deref().map(named).transpose()?;
        let gathered = match &source {
            Source::Folder(folder) => gather_folder(folder, wanted.as_deref())?,
            Source::Url(url) => {
                gather_url(url, wanted.as_deref(), dir, previous.as_ref(), &options).await?
            }
        };
        let unchanged = gathered.feeds.iter().all(|feed| !feed.fetched);
        if let (Source::Url(_), Some(held), true) = (&source, &previous, unchanged) {
            let same = held.pointer.source == gathered.place
                && held.pointer.feeds.keys().eq(gathered.states.keys());
            if same {
                options.say("nothing has changed");
                return Ok(unchanged_report(held, gathered.skipped));
            }
        }
        let dir = dir.to_owned();
        let work = move || compile(&dir, gathered, previous.as_ref(), &options);
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(UpdateError::io(Path::new("."), io::Error::other(error))),
        }
    }
}

/// The dumps of a source, on disk.
struct Gathered {
    place: String,
    feeds: Vec<Feed>,
    states: BTreeMap<String, FeedState>,
    skipped: Vec<String>,
}

fn lock(dir: &Path) -> Result<File, UpdateError> {
    let path = dir.join("update.lock");
    let file = File::create(&path).map_err(|source| UpdateError::io(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(UpdateError::Busy { dir: dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(UpdateError::io(&path, source)),
    }
}

fn named(names: &[String]) -> Result<Vec<Ecosystem>, UpdateError> {
    let known = |name: &String| {
        let found = Ecosystem::ALL.into_iter().find(|e| e.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UpdateError::Ecosystem { name: name.chars().take(80).collect() })
    };
    names.iter().map(known).collect()
}

fn gather_folder(folder: &Path, wanted: Option<&[Ecosystem]>) -> Result<Gathered, UpdateError> {
    let place = folder.display().to_string();
    let entries = fs::read_dir(folder).map_err(|source| UpdateError::io(folder, source))?;
    let mut present: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(feed::ARCHIVE).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    present.sort();
    let (ecosystems, skipped) = choose(&present, wanted);
    let mut gathered = Gathered { place, feeds: Vec::new(), states: BTreeMap::new(), skipped };
    for ecosystem in ecosystems {
        let archive = folder.join(ecosystem.name()).join(feed::ARCHIVE);
        let Ok(metadata) = fs::metadata(&archive) else {
            return Err(missing(&gathered.place, Some(ecosystem)));
        };
        let state = FeedState { size: metadata.len(), ..FeedState::default() };
        gathered.states.insert(ecosystem.name().to_owned(), state);
        gathered.feeds.push(Feed { ecosystem, archive, fetched: false });
    }
    if gathered.feeds.is_empty() {
        return Err(missing(&gathered.place, None));
    }
    Ok(gathered)
}

async fn gather_url(
    url: &str,
    wanted: Option<&[Ecosystem]>,
    dir: &Path,
    previous: Option<&Database>,
    options: &UpdateOptions,
) -> Result<Gathered, UpdateError> {
    let server = Server::new(url)?;
    let place = server.shown();
    let listed = match wanted {
        Some(_) => None,
        None => server.ecosystems().await?,
    };
    // Without a list, ask for everything that can be matched and take what is there.
    let may_miss = wanted.is_none() && listed.is_none();
    let (ecosystems, skipped) = match &listed {
        Some(listed) => choose(listed, None),
        None => (wanted.map_or_else(|| Ecosystem::ALL.to_vec(), <[Ecosystem]>::to_vec), Vec::new()),
    };
    let folder = dir.join(FEEDS);
    fs::create_dir_all(&folder).map_err(|source| UpdateError::io(&folder, source))?;
    let mut gathered = Gathered { place, feeds: Vec::new(), states: BTreeMap::new(), skipped };
    for ecosystem in ecosystems {
        let name = ecosystem.name();
        let archive = folder.join(format!("{name}.zip"));
        let held = previous
            .filter(|database| database.pointer.source == gathered.place)
            .and_then(|database| database.pointer.feeds.get(name))
            .filter(|state| fs::metadata(&archive).is_ok_and(|m| m.len() == state.size));
        options.say(&format!("fetching {name}"));
        let (state, fetched) = match (server.fetch(name, held, &archive).await?, held) {
            (Fetched::New(state), _) => (state, true),
            (Fetched::Unchanged, Some(held)) => (held.clone(), false),
            (Fetched::Missing, _) if may_miss => continue,
            (Fetched::Missing | Fetched::Unchanged, _) => {
                return Err(missing(&gathered.place, Some(ecosystem)));
            }
        };
        gathered.states.insert(name.to_owned(), state);
        gathered.feeds.push(Feed { ecosystem, archive, fetched });
    }
    if gathered.feeds.is_empty() {
        return Err(missing(&gathered.place, None));
    }
    Ok(gathered)
}

/// What to take of the ecosystems that a source has, and what of them cannot be matched.
/// `Debian:12` in a list is a part of `Debian`.
fn choose(present: &[String], wanted: Option<&[Ecosystem]>) -> (Vec<Ecosystem>, Vec<String>) {
    if let Some(wanted) = wanted {
        return (wanted.to_vec(), Vec::new());
    }
    let has = |ecosystem: &Ecosystem| present.iter().any(|name| name == ecosystem.name());
    let taken = Ecosystem::ALL.into_iter().filter(has).collect();
    let unknown = |name: &&String| Ecosystem::of(name).is_none();
    (taken, present.iter().filter(unknown).cloned().collect())
}

fn missing(place: &str, ecosystem: Option<Ecosystem>) -> UpdateError {
    let name = ecosystem.map_or("<ECOSYSTEM>", Ecosystem::name);
    UpdateError::Missing { place: place.to_owned(), what: format!("{name}/{}", feed::ARCHIVE) }
}

fn unchanged_report(held: &Database, skipped: Vec<String>) -> UpdateReport {
    let info = held.info();
    UpdateReport {
        digest: info.digest.clone(),
        previous: Some(info.digest),
        records: info.records,
        newest: info.newest,
        size: info.size,
        feeds: Vec::new(),
        skipped,
        faults: 0,
        faults_named: Vec::new(),
    }
}

fn compile(
    dir: &Path,
    gathered: Gathered,
    previous: Option<&Database>,
    options: &UpdateOptions,
) -> Result<UpdateReport, UpdateError> {
    let failed = |source| UpdateError::io(dir, source);
    let mut compiler = Compiler::default();
    let mut feeds = Vec::new();
    for feed in &gathered.feeds {
        options.say(&format!("reading {}", feed.ecosystem.name()));
        feeds.push(feed::read(feed, &mut compiler)?);
    }
    if compiler.records() == 0 {
        return Err(missing(&gathered.place, None));
    }
    let (faults, faults_named) = (compiler.faults, std::mem::take(&mut compiler.faults_named));

    let mut file = NamedTempFile::new_in(dir).map_err(failed)?;
    let mut out = io::BufWriter::new(file.as_file_mut());
    let (digest, content) = compiler.write(&mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    file.as_file().sync_all().map_err(failed)?;
    let path = file_path(dir, &digest);
    file.persist(&path).map_err(|error| failed(error.error))?;
    let size = fs::metadata(&path).map_err(failed)?.len();

    let pointer = Pointer {
        format: FORMAT,
        digest: digest.clone(),
        source: gathered.place,
        updated_at: options.now,
        feeds: gathered.states,
    };
    let mut file = NamedTempFile::new_in(dir).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, &pointer).map_err(|error| failed(error.into()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(dir.join(POINTER)).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed)?;

    let previous = previous.map(|database| database.pointer.digest.clone());
    remove_old(dir, &digest);
    let newest = content.newest.as_deref().and_then(|time| time.parse().ok());
    Ok(UpdateReport {
        digest,
        previous,
        records: content.records,
        newest,
        size,
        feeds,
        skipped: gathered.skipped,
        faults,
        faults_named,
    })
}

/// Removes the databases that are no longer current. One that cannot be removed now goes with a
/// later update.
fn remove_old(dir: &Path, current: &Digest) {
    let keep = file_path(dir, current);
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path != keep && path.extension().is_some_and(|extension| extension == EXTENSION) {
            let _ = fs::remove_file(path);
        }
    }
}
