//! Scratch folders: each attempt has one of its own, empty when the attempt begins.
//!
//! Most attempts leave theirs empty, and an empty one is kept for the next attempt: where every step
//! syncs the disk, making and removing a folder costs as much as starting a process.
//!
//! The folders of one process stand in a folder of that process, beside a file that it has locked
//! for as long as it lives: what a killed process left is known by its lock, and removed by the next.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tokio::task::JoinSet;

/// The most empty folders that are kept.
const MOST_IDLE: usize = 16;

/// The scratch folders of an engine.
pub(crate) struct ScratchFolders {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    own: Option<Own>,
    /// Given back, and not looked into yet.
    returned: Vec<TempDir>,
    /// Empty when last looked into.
    idle: Vec<TempDir>,
    /// The removals under way.
    removals: JoinSet<()>,
}

impl State {
    /// Removes a folder and what is in it, on a thread of its own.
    fn remove(&mut self, folder: TempDir) {
        // Those that are done are forgotten here, so that they do not pile up.
        while self.removals.try_join_next().is_some() {}
        self.removals.spawn_blocking(move || {
            if let Err(error) = folder.close() {
                tracing::warn!(%error, "a scratch folder could not be removed");
            }
        });
    }
}

/// The folder of this process. It is others' to remove when the lock goes.
struct Own {
    folder: PathBuf,
    lock: PathBuf,
    _locked: File,
}

impl ScratchFolders {
    /// Folders in `root`, which is made when it is not there.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, state: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty folder. Dropped, it is removed with all that is in it.
    pub(crate) fn take(&self) -> io::Result<TempDir> {
        let mut state = self.state();
        while let Some(folder) = state.returned.pop().or_else(|| state.idle.pop()) {
            // Of an idle one, too: a process that fled from an earlier attempt may have written to it.
            if is_empty(folder.path()) {
                return Ok(folder);
            }
            state.remove(folder);
        }
        let make = |own: &Own| tempfile::Builder::new().prefix("attempt-").tempdir_in(&own.folder);
        if let Some(folder) = state.own.as_ref().and_then(|own| make(own).ok()) {
            return Ok(folder);
        }
        let own = Own::new(&self.root)?;
        let (root, mine) = (self.root.clone(), own.lock.clone());
        tokio::task::spawn_blocking(move || sweep(&root, &mine));
        make(state.own.insert(own))
    }

    /// Takes back the folder of an attempt that ended. What it left there is removed by the next that
    /// looks into it, which is not left to chance: see [`ScratchFolders::tidy`].
    pub(crate) fn give_back(&self, folder: TempDir) {
        self.state().returned.push(folder);
    }

    /// Looks into the folders that were given back: an empty one is kept for later, and what is in the
    /// others is removed.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        for folder in std::mem::take(&mut state.returned) {
            if !is_empty(folder.path()) {
                state.remove(folder);
            } else if state.idle.len() < MOST_IDLE {
                state.idle.push(folder);
            }
        }
    }

    /// Removes the folders that are kept for later, and waits until all that is to be removed is gone.
    pub(crate) async fn release(&self) {
        self.tidy();
        let (kept, removals) = {
            let mut state = self.state();
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.removals))
        };
        drop(kept);
        removals.join_all().await;
    }
}

impl Drop for ScratchFolders {
    fn drop(&mut self) {
        let mut state = self.state();
        state.returned.clear();
        state.idle.clear();
        if let Some(own) = state.own.take() {
            // Where an attempt still has a folder in it, the next process finds it.
            let _ = std::fs::remove_dir(&own.folder).and_then(|()| std::fs::remove_file(&own.lock));
        }
    }
}

impl Own {
    fn new(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        loop {
            let folder = root.join(format!("engine-{:016x}", rand::random::<u64>()));
            let lock = folder.with_extension("lock");
            let file = File::create_new(&lock)?;
            // Whoever sweeps may have seen it before it was locked, and taken it for a dead one's.
            match file.try_lock() {
                Ok(()) if lock.exists() => {}
                Ok(()) | Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            std::fs::create_dir(&folder)?;
            return Ok(Self { folder, lock, _locked: file });
        }
    }
}

/// Removes what processes left that live no longer.
fn sweep(root: &Path, mine: &Path) {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    for lock in entries.map(|entry| entry.path()) {
        if lock == mine || lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(file) = File::open(&lock) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        let folder = lock.with_extension("");
        let removed = match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::remove_file(&lock),
        };
        if let Err(error) = removed {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "what a killed process left could not be removed");
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_used_again_only_when_it_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let folders = ScratchFolders::new(root.path().join("scratch"));
        let first = folders.take().unwrap();
        let path = first.path().to_owned();
        folders.give_back(first);
        let second = folders.take().unwrap();
        assert_eq!(second.path(), path);

        std::fs::write(path.join("left"), "behind").unwrap();
        folders.give_back(second);
        let third = folders.take().unwrap();
        assert!(is_empty(third.path()));
        let path = third.path().to_owned();
        folders.give_back(third);
        folders.tidy();
        std::fs::write(path.join("late"), "by somebody who fled").unwrap();
        assert!(is_empty(folders.take().unwrap().path()));

        let last = folders.take().unwrap();
        folders.give_back(last);
        let root = folders.root().to_owned();
        folders.release().await;
        drop(folders);
        assert!(is_empty(&root));
    }

    #[tokio::test]
    async fn what_attempts_left_is_gone_when_the_folders_are_released() {
        let root = tempfile::tempdir().unwrap();
        let folders = ScratchFolders::new(root.path().to_owned());
        let taken: Vec<TempDir> = (0..3).map(|_| folders.take().unwrap()).collect();
        let paths: Vec<PathBuf> = taken.iter().map(|folder| folder.path().to_owned()).collect();
        std::fs::write(paths[1].join("left"), "behind").unwrap();
        taken.into_iter().for_each(|folder| folders.give_back(folder));
        folders.tidy();
        folders.release().await;
        assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        // As a killed process leaves it: the lock is gone, the files are there.
        let dead = Own::new(root.path()).unwrap();
        std::fs::create_dir(dead.folder.join("attempt-1")).unwrap();
        std::fs::write(dead.folder.join("attempt-1/part"), "of something").unwrap();
        let Own { folder, lock, _locked } = dead;
        drop(_locked);
        let alive = ScratchFolders::new(root.path().to_owned());
        let theirs = alive.take().unwrap();

        let mine = Own::new(root.path()).unwrap();
        // A program that another test starts has what is open here for a moment, the lock of the dead one
        // with it; and `alive` sweeps, too.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while lock.exists() && std::time::Instant::now() < until {
            sweep(root.path(), &mine.lock);
            tokio::task::yield_now().await;
        }
        assert!(!folder.exists() && !lock.exists());
        assert!(mine.folder.exists() && mine.lock.exists());
        assert!(theirs.path().exists());
    }
}
