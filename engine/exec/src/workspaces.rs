//! Workspaces, laid out: a run has a folder of its own on each machine that makes attempts of it, and
//! its steps there share it.
//!
//! The first attempt of a run lays the folder out, in its own log; those that come meanwhile wait for
//! it, also in another process on the same state folder. The folder is filled under another name and
//! appears as a whole. It stays while the run goes on, whatever steps leave in it and however often the
//! run is parked, and goes when the run ends; what killed processes left goes with a later sweep.

mod lock;

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fairlead_run::{Journal, RunFilter, RunStatus, StoreError};
use fairlead_step::{BoxFuture, CancelToken, Log, RunId, StepError, Stream, Workspace};

pub use lock::FolderLock;

/// What the names of folders begin with in which somebody works. They are never a run's.
const UNFINISHED: &str = ".unfinished-";

/// How old what nobody finished has to be before it is swept: longer than any lay-out may take.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How old the folder of a run has to be that this store does not know: another store may use the same
/// state folder.
const STRANGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A workspace to lay out.
pub struct Layout<'a> {
    /// The run whose folder it is.
    pub run: &'a RunId,
    /// What is to be in it.
    pub workspace: &'a Workspace,
    /// The log of the attempt that asks. What laying out says is written there.
    pub log: Arc<dyn Log>,
    /// The signal to stop.
    pub cancel: CancelToken,
}

/// The port to what lays workspaces out.
pub trait WorkspaceLayout: Send + Sync {
    /// The folder that the attempts of a run work in on this machine, laid out when it is not there yet.
    /// Asked again, also at the same time, it answers the same folder, which is whole.
    ///
    /// # Errors
    /// When the files cannot be had. The step fails with that, or is tried again.
    fn lay_out<'a>(&'a self, layout: Layout<'a>) -> BoxFuture<'a, Result<PathBuf, StepError>>;

    /// Takes the folder of a run back that has ended: it is removed with all that is in it. Does nothing
    /// for a run that has none. What cannot be removed is told in the log of the process and left to a
    /// sweep.
    fn give_back<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, ()>;
}

/// What fetching works with.
pub struct Fetch<'a> {
    /// What is fetched.
    pub workspace: &'a Workspace,
    /// Where its files go: an empty folder.
    pub into: &'a Path,
    /// A folder to work in that goes afterwards. Nobody else can read it.
    pub scratch: &'a Path,
    /// Where to say what is done.
    pub log: Arc<dyn Log>,
    /// The signal to stop.
    pub cancel: CancelToken,
}

/// The port to what brings the files of a workspace that is kept elsewhere: at a forge, among the
/// artifacts.
pub trait WorkspaceFetcher: Send + Sync {
    /// Fills the folder.
    ///
    /// # Errors
    /// When the files cannot be had. What the folder holds then is thrown away.
    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<(), StepError>>;
}

/// A fetcher where there is nothing to fetch from: runs work in folders of the machine, or in empty ones.
pub struct FetchesNothing;

impl WorkspaceFetcher for FetchesNothing {
    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            Err(StepError::terminal(format!("{} cannot be fetched here", fetch.workspace)))
        })
    }
}

/// The run's folder, as far as this process knows. Held while it is laid out.
type Slot = Arc<tokio::sync::Mutex<()>>;

/// The folders of runs on this machine, each by the run's id below one folder.
pub struct RunFolders {
    root: PathBuf,
    fetcher: Arc<dyn WorkspaceFetcher>,
    takes_local: bool,
    slots: std::sync::Mutex<HashMap<RunId, Slot>>,
}

impl RunFolders {
    /// Folders in `root`, which is made when it is needed and not there.
    #[must_use]
    pub fn new(root: PathBuf, fetcher: Arc<dyn WorkspaceFetcher>) -> Self {
        Self { root, fetcher, takes_local: true, slots: std::sync::Mutex::default() }
    }

    /// The same where runs come from elsewhere: a path is then a folder of another machine, and is
    /// refused.
    #[must_use]
    pub fn refusing_local(self) -> Self {
        Self { takes_local: false, ..self }
    }

    /// A folder for other work of this machine that nobody else may read. It goes when it is dropped; what
    /// a killed process leaves goes with a sweep.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> std::io::Result<tempfile::TempDir> {
        self.make_root()?;
        scratch_in(&self.root)
    }

    fn folder(&self, run: &RunId) -> PathBuf {
        self.root.join(run.as_str())
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn own(&self, layout: Layout<'_>) -> Result<PathBuf, StepError> {
        let folder = self.folder(layout.run);
        let slot = Arc::clone(self.slots().entry(layout.run.clone()).or_default());
        let _turn = match slot.try_lock() {
            Ok(slot) => slot,
            Err(_) => {
                layout.log.line(Stream::Step, "another step of the run lays its workspace out");
                slot.lock().await
            }
        };
        if !folder.is_dir() {
            self.make(&folder, layout).await?;
        }
        Ok(folder)
    }

    async fn make(&self, folder: &Path, layout: Layout<'_>) -> Result<(), StepError> {
        self.make_root().map_err(failed("make", &self.root))?;
        if let Workspace::Empty {} = layout.workspace {
            return match std::fs::DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                made => made.map_err(failed("make", folder)),
            };
        }
        let _lock = FolderLock::take(folder).await.map_err(failed("lock", folder))?;
        if folder.is_dir() {
            return Ok(());
        }
        let scratch = scratch_in(&self.root).map_err(failed("make a folder in", &self.root))?;
        let into = scratch.path().join("files");
        std::fs::create_dir(&into).map_err(failed("make", &into))?;
        let Layout { workspace, log, cancel, .. } = layout;
        log.line(Stream::Step, &format!("the workspace is {workspace}"));
        self.fetcher
            .fetch(Fetch { workspace, into: &into, scratch: scratch.path(), log, cancel })
            .await?;
        std::fs::rename(&into, folder).map_err(failed("name", &into))
    }

    /// What runs work on is nobody else's to read.
    fn make_root(&self) -> std::io::Result<()> {
        if self.root.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)
    }

    /// Removes the folders of runs that have ended, and what nobody finished. It may run beside
    /// processes that use the same folder.
    ///
    /// # Errors
    /// When the journal cannot be asked.
    pub async fn sweep(&self, journal: &dyn Journal) -> Result<(), StoreError> {
        let entries: Vec<_> =
            std::fs::read_dir(&self.root).into_iter().flatten().flatten().collect();
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Ok(run) = name.parse::<RunId>() else {
                // A lock is its holder's to remove; a folder has nobody left who works in it.
                if name.starts_with(UNFINISHED) && is_older(&entry.path(), ABANDONED) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
                continue;
            };
            let this = RunFilter { run: Some(run), limit: 1, ..RunFilter::default() };
            let goes = match journal.list(this).await?.first() {
                Some(found) => matches!(found.status, RunStatus::Ended(_)),
                None => is_older(&entry.path(), STRANGE),
            };
            if goes {
                remove(&self.root, &entry.path());
            }
        }
        Ok(())
    }
}

impl WorkspaceLayout for RunFolders {
    fn lay_out<'a>(&'a self, layout: Layout<'a>) -> BoxFuture<'a, Result<PathBuf, StepError>> {
        Box::pin(async move {
            match layout.workspace {
                Workspace::Local { path } if self.takes_local => Ok(path.clone()),
                Workspace::Local { path } => Err(StepError::terminal(format!(
                    "the run works in the folder {}, which is one of another machine",
                    path.display()
                ))
                .hint("`fairlead --server URL run` packs the folder and sends it along")),
                Workspace::Empty {} | Workspace::Git(_) | Workspace::Archive { .. } => {
                    self.own(layout).await
                }
            }
        })
    }

    fn give_back<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.slots().remove(run);
            let folder = self.folder(run);
            // An empty one goes at once; the usual one was never made.
            match std::fs::remove_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                _ => return,
            }
            let root = self.root.clone();
            let _ = tokio::task::spawn_blocking(move || remove(&root, &folder)).await;
        })
    }
}

fn scratch_in(root: &Path) -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(root)
}

/// Removes a folder. It is gone under its name at once.
fn remove(root: &Path, folder: &Path) {
    let gone = scratch_in(root).and_then(|scratch| {
        match std::fs::rename(folder, scratch.path().join("gone")) {
            // Somebody else has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }?;
        scratch.close()
    });
    if let Err(error) = gone {
        let folder = folder.display();
        tracing::warn!(%error, %folder, "the workspace of a run could not be removed");
    }
}

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    let message = format!("cannot {what} {}", path.display());
    move |error| StepError::retryable(message).because(error)
}

/// By the file system's own clock.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|found| found.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|found| found > age)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fairlead_step::{CancelHandle, Digest, Progress};

    use super::*;

    /// Brings a file, slowly, and counts how often it was asked.
    #[derive(Default)]
    struct Slow(AtomicUsize);

    impl WorkspaceFetcher for Slow {
        fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<(), StepError>> {
            Box::pin(async move {
                let count = self.0.fetch_add(1, Ordering::SeqCst);
                std::fs::write(fetch.into.join("half"), "").unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
                if count == 0 {
                    return Err(StepError::retryable("the forge is away"));
                }
                std::fs::write(fetch.into.join("whole"), "").unwrap();
                Ok(())
            })
        }
    }

    struct Silent;

    impl Log for Silent {
        fn line(&self, _: Stream, _: &str) {}

        fn progress(&self, _: Progress) {}
    }

    fn run_id(number: u64) -> RunId {
        RunId::mint(1_790_000_000_000 + number, number)
    }

    async fn laid(
        folders: &RunFolders,
        run: &RunId,
        workspace: &Workspace,
    ) -> Result<PathBuf, StepError> {
        let (_handle, cancel): (CancelHandle, _) = CancelToken::new();
        folders.lay_out(Layout { run, workspace, log: Arc::new(Silent), cancel }).await
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn the_steps_of_a_run_share_a_folder_that_appears_whole_and_goes_with_the_run() {
        let root = tempfile::tempdir().unwrap();
        let fetcher = Arc::new(Slow::default());
        let archive = Workspace::Archive { digest: Digest::sha256(b"packed") };
        // Two processes on one state folder.
        let folders = || Arc::new(RunFolders::new(root.path().join("runs"), fetcher.clone()));
        let (one, two) = (folders(), folders());
        let error = laid(&one, &run_id(1), &archive).await.unwrap_err();
        assert_eq!(error.to_string(), "the forge is away");
        assert_eq!(names(&root.path().join("runs")), [""; 0], "what failed leaves nothing");
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let folders = Arc::clone(if number % 2 == 0 { &one } else { &two });
                let archive = archive.clone();
                tokio::spawn(async move {
                    let folder = laid(&folders, &run_id(1), &archive).await.unwrap();
                    assert_eq!(names(&folder), ["half", "whole"]);
                    folder
                })
            })
            .collect();
        let mut found = Vec::new();
        for task in tasks {
            found.push(task.await.unwrap());
        }
        found.dedup();
        assert_eq!(found, [root.path().join("runs").join(run_id(1).as_str())]);
        assert_eq!(fetcher.0.load(Ordering::SeqCst), 2, "one of them made it");

        // What a step leaves is there for the next; another run sees nothing of it.
        std::fs::write(found[0].join("left"), "behind").unwrap();
        assert_eq!(names(&laid(&two, &run_id(1), &archive).await.unwrap()).len(), 3);
        assert_eq!(names(&laid(&two, &run_id(2), &archive).await.unwrap()).len(), 2);
        one.give_back(&run_id(1)).await;
        assert_eq!(names(&root.path().join("runs")), [run_id(2).as_str()]);
        one.give_back(&run_id(1)).await;
        assert_eq!(names(&laid(&one, &run_id(1), &archive).await.unwrap()).len(), 2);
    }

    #[tokio::test]
    async fn a_folder_of_the_machine_is_used_as_it_is_or_refused() {
        let root = tempfile::tempdir().unwrap();
        let folders = RunFolders::new(root.path().join("runs"), Arc::new(FetchesNothing));
        let local = Workspace::local(root.path());
        assert_eq!(laid(&folders, &run_id(1), &local).await.unwrap(), root.path());
        folders.give_back(&run_id(1)).await;
        assert!(root.path().is_dir(), "it is not the run's to remove");
        let empty = laid(&folders, &run_id(2), &Workspace::EMPTY).await.unwrap();
        assert_eq!(names(&empty), [""; 0]);
        folders.give_back(&run_id(2)).await;
        assert!(!empty.exists());
        let error = laid(&folders.refusing_local(), &run_id(1), &local).await.unwrap_err();
        assert!(error.to_string().contains("one of another machine"), "{error}");
    }

    #[tokio::test]
    async fn what_killed_processes_left_is_swept_and_nothing_that_is_needed() {
        let store = fairlead_store::Store::memory();
        let root = tempfile::tempdir().unwrap();
        let runs = root.path().join("runs");
        let folders = RunFolders::new(runs.clone(), Arc::new(FetchesNothing));
        laid(&folders, &run_id(1), &Workspace::EMPTY).await.unwrap();
        std::fs::create_dir(runs.join(".unfinished-young")).unwrap();
        std::fs::create_dir(runs.join(".unfinished-old")).unwrap();
        std::fs::create_dir(runs.join(run_id(2).as_str())).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        for name in [".unfinished-old", run_id(2).as_str()] {
            std::fs::File::open(runs.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        folders.sweep(&*store.journal()).await.unwrap();
        // The first one's journal may be in another store.
        assert_eq!(names(&runs), [".unfinished-young", run_id(1).as_str()]);
    }
}
