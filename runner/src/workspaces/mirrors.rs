//! Kept mirrors: a bare repository for each address, so that a commit is fetched once, and what has
//! been fetched before is not fetched again. They are a cache: one that is gone is made anew.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fairlead_exec::FolderLock;
use fairlead_git::Remote;
use fairlead_step::{Digest, StepError};

/// How many mirrors are kept.
const MOST: usize = 64;

/// How many bytes they may have together.
const MOST_BYTES: u64 = 20 << 30;

/// How many packs one may have. Each fetch adds one; with so many, git is slow to find things, and a
/// new mirror costs less than to pack the old one again.
const MOST_PACKS: usize = 200;

/// The mirrors in a folder.
#[derive(Debug, Clone)]
pub(super) struct Mirrors {
    folder: PathBuf,
}

/// A mirror that nobody else uses until it is dropped.
pub(super) struct Mirror {
    path: PathBuf,
    _lock: FolderLock,
}

impl Mirror {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Throws what is kept away.
    pub(super) fn remove(&self) {
        remove(&self.path);
    }
}

/// A mirror, as far as tidying goes.
struct Kept {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
    packs: usize,
}

impl Mirrors {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The mirror of an address, when nobody else uses it any more. It need not be there yet.
    pub(super) async fn take(&self, remote: &Remote) -> Result<Mirror, StepError> {
        let failed = |what: &str, path: &Path| {
            let message = format!("cannot {what} {}", path.display());
            move |error: std::io::Error| StepError::retryable(message).because(error)
        };
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(failed("make", &self.folder))?;
        let name = Digest::sha256(remote.as_str().as_bytes());
        let path = self.folder.join(format!("{}.git", &name.hex()[..32]));
        let lock = FolderLock::take(&path).await.map_err(failed("lock", &path))?;
        // What was used last is removed last.
        let _ = std::fs::File::open(&path).and_then(|it| it.set_modified(now()));
        Ok(Mirror { path, _lock: lock })
    }

    /// Removes mirrors that nobody uses until the others are within bounds.
    pub(super) async fn tidy(&self) {
        self.tidy_to(MOST, MOST_BYTES, MOST_PACKS).await;
    }

    async fn tidy_to(&self, most: usize, most_bytes: u64, most_packs: usize) {
        let this = self.clone();
        let work = move || this.remove_beyond(most, most_bytes, most_packs);
        let _ = tokio::task::spawn_blocking(work).await;
    }

    fn remove_beyond(&self, most: usize, most_bytes: u64, most_packs: usize) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut kept: Vec<Kept> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "git"))
            .filter_map(Kept::look)
            .collect();
        // The newest first: those behind the bounds go.
        kept.sort_by_key(|mirror| std::cmp::Reverse(mirror.used));
        let mut bytes = 0;
        for (index, mirror) in kept.iter().enumerate() {
            bytes += mirror.bytes;
            if (index >= most || bytes > most_bytes || mirror.packs > most_packs)
                && let Ok(Some(_lock)) = FolderLock::try_take(&mirror.path)
            {
                remove(&mirror.path);
            }
        }
    }
}

/// Removes a mirror whose lock is held. A part of one is never under its name.
fn remove(mirror: &Path) {
    let gone = mirror.with_extension("gone");
    // What a killed process left there.
    let _ = std::fs::remove_dir_all(&gone);
    let removed = std::fs::rename(mirror, &gone).and_then(|()| std::fs::remove_dir_all(&gone));
    if let Err(error) = removed {
        let folder = mirror.display();
        tracing::warn!(%error, %folder, "a mirror could not be removed");
    }
}

impl Kept {
    fn look(path: PathBuf) -> Option<Self> {
        let used = std::fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        let files = |folder: &str| {
            let entries = std::fs::read_dir(path.join(folder)).into_iter().flatten().flatten();
            entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())))
        };
        let mut packs = 0;
        let mut bytes = 0;
        for (name, size) in files("objects/pack") {
            bytes += size;
            packs += usize::from(name.as_encoded_bytes().ends_with(b".pack"));
        }
        Some(Self { path, used, bytes, packs })
    }
}

/// The time of the file system's clock, which ages are measured by.
#[expect(clippy::disallowed_methods, reason = "ages of files are by the machine's own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_that_were_used_last_stay_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(folder.path().join("mirrors"));
        let mut paths = Vec::new();
        for (number, bytes) in [10, 20, 30, 40].into_iter().enumerate() {
            let remote = format!("https://git.example.com/{number}.git").parse().unwrap();
            let mirror = mirrors.take(&remote).await.unwrap();
            let packs = mirror.path().join("objects/pack");
            std::fs::create_dir_all(&packs).unwrap();
            std::fs::write(packs.join("a.pack"), vec![0; bytes]).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            std::fs::File::open(mirror.path()).unwrap().set_modified(at).unwrap();
            paths.push(mirror.path().to_owned());
        }
        let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
        mirrors.tidy_to(3, 1000, 10).await;
        assert_eq!(there(), [false, true, true, true]);
        // One that is in use stays.
        let remote = "https://git.example.com/1.git".parse().unwrap();
        let held = mirrors.take(&remote).await.unwrap();
        std::fs::File::open(held.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        mirrors.tidy_to(3, 70, 10).await;
        assert_eq!(there(), [false, true, true, true]);
        drop(held);
        mirrors.tidy_to(3, 70, 10).await;
        assert_eq!(there(), [false, false, true, true]);
        std::fs::write(paths[3].join("objects/pack/b.pack"), "").unwrap();
        mirrors.tidy_to(3, 70, 1).await;
        assert_eq!(there(), [false, false, true, false]);
    }
}
