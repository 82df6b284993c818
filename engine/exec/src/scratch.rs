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
    idle: Vec<TempDir>,
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
        let kept = state.idle.pop();
        // A process that fled from an earlier attempt may have written to it since.
        if let Some(folder) = kept.filter(|folder| is_empty(folder.path())) {
            return Ok(folder);
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

    /// Takes back the folder of an attempt that ended, and removes what it left there.
    pub(crate) async fn give_back(&self, folder: TempDir) {
        if is_empty(folder.path()) {
            let mut state = self.state();
            if state.idle.len() < MOST_IDLE {
                state.idle.push(folder);
            }
            return;
        }
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || folder.close()).await {
            tracing::warn!(%error, "a scratch folder could not be removed");
        }
    }

    /// Removes the folders that are kept for later.
    pub(crate) fn release(&self) {
        let kept = std::mem::take(&mut self.state().idle);
        drop(kept);
    }
}

impl Drop for ScratchFolders {
    fn drop(&mut self) {
        self.release();
        if let Some(own) = self.state().own.take() {
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
        folders.give_back(first).await;
        let second = folders.take().unwrap();
        assert_eq!(second.path(), path);

        std::fs::write(path.join("left"), "behind").unwrap();
        folders.give_back(second).await;
        assert!(!path.exists());

        let third = folders.take().unwrap();
        let path = third.path().to_owned();
        folders.give_back(third).await;
        std::fs::write(path.join("late"), "by somebody who fled").unwrap();
        assert!(is_empty(folders.take().unwrap().path()));

        let last = folders.take().unwrap();
        folders.give_back(last).await;
        let root = folders.root().to_owned();
        drop(folders);
        assert!(is_empty(&root));
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
        sweep(root.path(), &mine.lock);
        assert!(!folder.exists() && !lock.exists());
        assert!(mine.folder.exists() && mine.lock.exists());
        assert!(theirs.path().exists());
    }
}
