//! Scratch folders: each attempt has one of its own, empty when the attempt begins.
//!
//! Most attempts leave theirs empty, and an empty one is kept for the next attempt: where every step
//! syncs the disk, making and removing a folder costs as much as starting a process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// The most empty folders that are kept.
const MOST_IDLE: usize = 16;

/// The scratch folders of an engine.
pub(crate) struct ScratchFolders {
    root: PathBuf,
    idle: Mutex<Vec<TempDir>>,
}

impl ScratchFolders {
    /// Folders in `root`, which is made when it is not there.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, idle: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn idle(&self) -> MutexGuard<'_, Vec<TempDir>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty folder. Dropped, it is removed with all that is in it.
    pub(crate) fn take(&self) -> io::Result<TempDir> {
        let kept = self.idle().pop();
        // A process that fled from an earlier attempt may have written to it since.
        if let Some(folder) = kept.filter(|folder| is_empty(folder.path())) {
            return Ok(folder);
        }
        let make = || tempfile::Builder::new().prefix("attempt-").tempdir_in(&self.root);
        make().or_else(|_| {
            std::fs::create_dir_all(&self.root)?;
            make()
        })
    }

    /// Takes back the folder of an attempt that ended, and removes what it left there.
    pub(crate) async fn give_back(&self, folder: TempDir) {
        if is_empty(folder.path()) {
            let mut idle = self.idle();
            if idle.len() < MOST_IDLE {
                idle.push(folder);
            }
            return;
        }
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || folder.close()).await {
            tracing::warn!(%error, "a scratch folder could not be removed");
        }
    }

    /// Removes the folders that are kept for later.
    pub(crate) fn release(&self) {
        let kept = std::mem::take(&mut *self.idle());
        drop(kept);
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
        folders.release();
        assert!(is_empty(folders.root()));
    }
}
