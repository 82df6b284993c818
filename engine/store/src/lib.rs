//! The ports of `fairlead-run` in memory and in SQLite: the journal, events, logs and artifacts.
//! No stable API.
//!
//! A store is one folder: `fairlead.db` with the journal and the events, `leases/` with a locked
//! file for each run that a process drives, `logs/` with a text file for each attempt, and
//! `artifacts/` with what steps left behind, by digest.

mod artifacts;
mod logs;
mod memory;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairlead_run::{
    AppendError, EventStore, Journal, LogStore, NewEvent, NewRun, Record, RunEvent, Seq, StoreError,
};
use fairlead_step::{Artifacts, RunId};

pub use artifacts::MAX_ARTIFACT_BYTES;
pub use sqlite::OpenError;

/// A store, opened: every port that keeps something. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    journal: Arc<dyn Journal>,
    events: Arc<dyn EventStore>,
    logs: Arc<dyn LogStore>,
    artifacts: Arc<dyn Artifacts>,
    sqlite: Option<Arc<sqlite::Sqlite>>,
}

impl Store {
    /// Opens the store in `folder`, making it when there is none, and bringing it forward when an
    /// older build made it. Must be called within a tokio runtime, whose tasks do the writing.
    ///
    /// # Errors
    /// When the folder cannot be used, or holds a database that is foreign, damaged, or of a newer
    /// build.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        let fail = |path: PathBuf| move |source| OpenError::Folder { path, source };
        std::fs::create_dir_all(folder).map_err(fail(folder.to_owned()))?;
        let folder = folder.canonicalize().map_err(fail(folder.to_owned()))?;
        let sqlite = sqlite::open(folder.join("fairlead.db"), folder.join("leases")).await?;
        let sqlite = Arc::new(sqlite);
        let kept = folder.join("artifacts");
        let artifacts = artifacts::in_folder(&kept).map_err(fail(kept))?;
        Ok(Self {
            journal: sqlite.clone(),
            events: sqlite.clone(),
            logs: Arc::new(logs::Files::new(folder.join("logs"))),
            artifacts,
            sqlite: Some(sqlite),
        })
    }

    /// A store that is gone when its last clone is dropped.
    #[must_use]
    pub fn memory() -> Self {
        let memory = Arc::new(memory::Memory::default());
        Self {
            journal: memory.clone(),
            events: memory,
            logs: Arc::new(logs::Memory::default()),
            artifacts: artifacts::in_memory(),
            sqlite: None,
        }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Arc<dyn EventStore> {
        Arc::clone(&self.events)
    }

    /// The logs.
    #[must_use]
    pub fn logs(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.logs)
    }

    /// The artifacts.
    #[must_use]
    pub fn artifacts(&self) -> Arc<dyn Artifacts> {
        Arc::clone(&self.artifacts)
    }

    /// Finishes what is being written and closes the files. What is asked of a clone afterwards
    /// fails. A store that is merely dropped has lost nothing either: success was told after the
    /// sync.
    pub async fn close(&self) {
        if let Some(sqlite) = &self.sqlite {
            sqlite.close().await;
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("in_memory", &self.sqlite.is_none()).finish_non_exhaustive()
    }
}

/// What every journal refuses about a new run.
fn check_new_run(run: &NewRun) -> Result<(), StoreError> {
    let fail =
        |problem: &str| StoreError::BadRun { run: run.id.clone(), problem: problem.to_owned() };
    match run.first.event() {
        RunEvent::Requested(request) if request.plan == *run.plan.digest() => {}
        RunEvent::Requested(_) => return Err(fail("its request names another plan")),
        RunEvent::Resumed { .. }
        | RunEvent::Started { .. }
        | RunEvent::Finished { .. }
        | RunEvent::AttemptLost { .. }
        | RunEvent::RetryScheduled { .. }
        | RunEvent::Skipped { .. }
        | RunEvent::NotStarted { .. }
        | RunEvent::CancelRequested { .. }
        | RunEvent::Ended { .. } => return Err(fail("its first record is not a request")),
    }
    if run.first.seq() == Seq(1) { Ok(()) } else { Err(fail("its first record is not number 1")) }
}

/// The place behind which `records` are to stand, when they follow one another; none when there
/// are none.
fn place_before(run: &RunId, records: &[Record]) -> Result<Option<Seq>, AppendError> {
    let Some(first) = records.first() else { return Ok(None) };
    for pair in records.windows(2) {
        let (expected, found) = (pair[0].seq().next(), pair[1].seq());
        if expected != found {
            return Err(AppendError::Conflict { run: run.clone(), expected, found });
        }
    }
    Ok(Some(Seq(first.seq().0.saturating_sub(1))))
}

/// What every event store refuses about a new event.
fn check_new_event(event: &NewEvent) -> Result<(), StoreError> {
    let size = event.document.len();
    if size > NewEvent::MAX_BYTES {
        return Err(StoreError::TooLarge {
            what: format!("event `{}`", event.id),
            size,
            limit: NewEvent::MAX_BYTES,
        });
    }
    Ok(())
}
