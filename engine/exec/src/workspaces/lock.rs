//! The lock of a folder: of two that want it made, also in two processes on one state folder, one makes
//! it and the other waits for that.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that another holds is asked for.
const AGAIN: Duration = Duration::from_millis(100);

/// How long it is asked for: longer than a fetch may take. Whoever is still there then is stuck, and
/// the step is tried again later.
const PATIENCE: Duration = Duration::from_secs(400);

/// A lock on a name. The file beside it goes with the lock; a process that ends leaves no lock behind.
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Waits for the lock of `folder`, which need not exist. The folder above it must.
    ///
    /// # Errors
    /// When the file beside the folder cannot be used, or somebody holds the lock for too long.
    pub async fn take(folder: &Path) -> io::Result<Self> {
        let waiting = async {
            loop {
                if let Some(lock) = Self::try_take(folder)? {
                    return Ok(lock);
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(lock) => lock,
            Err(_) => Err(io::Error::other("somebody else has held its lock for too long")),
        }
    }

    /// The lock of `folder`, when nobody has it.
    ///
    /// # Errors
    /// When the file beside the folder cannot be used.
    pub fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        let mut name = OsString::from(".");
        name.push(folder.file_name().unwrap_or_default());
        name.push(".lock");
        let path = folder.with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last holder may have removed the file between our two calls; then nobody else would
        // ever see this one.
        let ours = file.metadata()?;
        let is_ours = std::fs::metadata(&path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
        Ok(is_ours.then_some(Self { path, _file: file }))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed before it is let go: what is then created under the name is another file.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_has_the_lock_and_no_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("folder");
        let held = FolderLock::take(&name).await.unwrap();
        assert!(FolderLock::try_take(&name).unwrap().is_none());
        drop(held);
        let inside = Arc::new(AtomicUsize::new(0));
        let all = (0..16).map(|_| {
            let (name, inside) = (name.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let _lock = FolderLock::take(&name).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(2)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in all.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
