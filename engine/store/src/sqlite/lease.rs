//! Leases beside the database: one file for each run that somebody drives, locked by the process
//! that does. The operating system unlocks it when the process dies, however it dies.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlead_run::{LeaseError, StoreError};
use fairlead_step::{CancelHandle, RunId};

/// Looking whether a lease is held locks it for a moment, so a lock is asked for this often before
/// it counts as held.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

/// A locked file, removed and unlocked when dropped.
pub(super) struct Guard {
    file: File,
    path: PathBuf,
}

/// A lease that is held as long as its file is locked. The lock cannot be lost while the process
/// lives, so nobody ever hears from the handle.
pub(super) struct Held {
    _guard: Guard,
    _never: CancelHandle,
}

impl Held {
    pub(super) const fn new(guard: Guard, never: CancelHandle) -> Self {
        Self { _guard: guard, _never: never }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Removed while it is locked: whoever waits for it finds that it is another file now.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

pub(super) async fn take(folder: &Path, run: &RunId) -> Result<Guard, LeaseError> {
    let path = folder.join(format!("{run}.lock"));
    let taken = tokio::task::spawn_blocking(move || lock(path)).await;
    match taken.map_err(io::Error::other).flatten() {
        Ok(Some(guard)) => Ok(guard),
        Ok(None) => Err(LeaseError::Held { run: run.clone() }),
        Err(source) => Err(LeaseError::Store(StoreError::Unavailable {
            doing: format!("lock run {run}"),
            source: source.into(),
        })),
    }
}

fn lock(path: PathBuf) -> io::Result<Option<Guard>> {
    for _ in 0..TRIES {
        let file = File::options().create(true).append(true).open(&path)?;
        match file.try_lock() {
            // The file may have been removed between opening and locking it.
            Ok(()) if is_at(&file, &path)? => return Ok(Some(Guard { file, path })),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a live process holds the lease of `run`, as far as can be seen.
pub(super) fn is_held(folder: &Path, run: &RunId) -> bool {
    let Ok(file) = File::open(folder.join(format!("{run}.lock"))) else { return false };
    match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}
