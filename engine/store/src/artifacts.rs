//! [`Artifacts`] in an object store: a local folder, memory, or storage that speaks S3.

mod layered;
mod s3;
mod streams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fairlead_step::{Artifact, ArtifactError, ArtifactPieces, Artifacts, BoxFuture, Digest};
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, path};

pub(crate) use layered::Layered;
pub(crate) use s3::Bucket;
pub use s3::S3Options;

/// The most bytes of one artifact that is held in memory as a whole: documents that people and tools read.
/// What is larger comes and goes piece by piece.
const MAX_WHOLE_BYTES: u64 = 256 << 20;

/// Artifacts by digest. An object is written under another name and renamed, so whoever finds it
/// finds all of it; it is synced, because the journal will speak of it.
struct Objects<S> {
    store: S,
    /// Where the objects are files, their folder.
    folder: Option<PathBuf>,
}

/// Artifacts, and what retention does with them.
pub(crate) trait ArtifactRetention: Artifacts {
    /// The artifacts that were last put before `before`, by the text of their digest, with their
    /// sizes.
    fn older(
        &self,
        before: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ArtifactError>>;

    /// Removes an artifact, unless it was put again after `before`. Answers whether it did.
    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        before: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ArtifactError>>;
}

/// Where an artifact stands while it is being removed. Whoever puts it again meanwhile does not find
/// it, and writes it anew.
const LEAVING: &str = ".leaving";
/// Where artifacts are gathered that come piece by piece.
const INCOMING: &str = ".incoming";

pub(crate) fn in_folder(folder: &Path) -> std::io::Result<Arc<dyn ArtifactRetention>> {
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(std::io::Error::other)?;
    Ok(Arc::new(Objects { store: store.with_fsync(true), folder: Some(folder) }))
}

pub(crate) fn in_memory() -> Arc<dyn ArtifactRetention> {
    Arc::new(Objects { store: InMemory::new(), folder: None })
}

/// `sha256/ab/abcdef…`: no folder grows without bound.
fn place(digest: &Digest) -> path::Path {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    path::Path::from_iter([algorithm, &hex[..2], hex])
}

/// The digest of what stands at a place, as text.
fn digest_at(place: &path::Path) -> Option<String> {
    let mut parts = place.parts();
    let (algorithm, _, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let digest: Digest = format!("{}:{}", algorithm.as_ref(), hex.as_ref()).parse().ok()?;
    parts.next().is_none().then(|| digest.to_string())
}

fn unavailable(error: object_store::Error) -> ArtifactError {
    ArtifactError::Unavailable { message: error.to_string() }
}

fn io_unavailable(error: std::io::Error) -> ArtifactError {
    ArtifactError::Unavailable { message: error.to_string() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ArtifactError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten();
    done.map_err(io_unavailable)
}

impl<S: ObjectStore> Objects<S> {
    /// Whether the artifact is there already. What is there is young again from now on, so that
    /// retention does not take it before it is written down who needs it.
    async fn renewed(&self, place: &path::Path, size: u64) -> bool {
        let known = self.store.head(place).await.is_ok_and(|there| there.size == size);
        // In memory it is simply put again.
        let Some(folder) = self.folder.as_ref().filter(|_| known) else { return false };
        let file = folder.join(place.as_ref());
        let renew = move || {
            let file = std::fs::File::options().append(true).open(file)?;
            rustix::fs::futimens(&file, &NOW).map_err(std::io::Error::from)
        };
        blocking(renew).await.is_ok()
    }

    async fn older(&self, before: Timestamp) -> Result<BTreeMap<String, u64>, ArtifactError> {
        let mut old = BTreeMap::new();
        let mut all = self.store.list(None);
        while let Some(object) = all.next().await {
            let object = object.map_err(unavailable)?;
            if is_before(&object, before)
                && let Some(digest) = digest_at(&object.location)
            {
                old.insert(digest, object.size);
            }
        }
        Ok(old)
    }

    /// Puts back what a pass that was killed had taken away: it is looked at like any other.
    async fn put_back(&self, folder: &Path) -> Result<(), ArtifactError> {
        let leaving = folder.join(LEAVING);
        let folder = folder.to_owned();
        blocking(move || {
            let entries = match std::fs::read_dir(&leaving) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(|name| name.replace('-', ":").parse().ok());
                if let Some(digest) = digest {
                    restore(&entry.path(), &folder.join(place(&digest).as_ref()))?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// The access time is left as it is.
const NOW: rustix::fs::Timestamps = rustix::fs::Timestamps {
    last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
};

fn is_before(object: &ObjectMeta, before: Timestamp) -> bool {
    object.last_modified.timestamp_micros() < before.as_microsecond()
}

/// Moves a file back to where it was, unless it was put there again.
fn restore(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::remove_file(from)
}

/// Moves the file away, and only then looks how old it is: nobody can renew it in between. Answers
/// whether it is gone.
fn remove_file(file: &Path, leaving: &Path, before: Timestamp) -> std::io::Result<bool> {
    if let Some(folder) = leaving.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::rename(file, leaving) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        moved => moved?,
    }
    let modified = Timestamp::try_from(std::fs::metadata(leaving)?.modified()?);
    if modified.is_ok_and(|modified| modified < before) {
        std::fs::remove_file(leaving)?;
        Ok(true)
    } else {
        restore(leaving, file)?;
        Ok(false)
    }
}

impl<S: ObjectStore> ArtifactRetention for Objects<S> {
    fn older(
        &self,
        before: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ArtifactError>> {
        Box::pin(async move {
            if let Some(folder) = self.folder.as_ref().filter(|_| !dry) {
                self.put_back(folder).await?;
            }
            self.older(before).await
        })
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        before: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ArtifactError>> {
        let place = place(digest);
        Box::pin(async move {
            if let Some(folder) = &self.folder {
                let file = folder.join(place.as_ref());
                let leaving = folder.join(LEAVING).join(digest.to_string().replace(':', "-"));
                return blocking(move || remove_file(&file, &leaving, before)).await;
            }
            match self.store.head(&place).await {
                Ok(object) if is_before(&object, before) => {
                    self.store.delete(&place).await.map_err(unavailable)?;
                    Ok(true)
                }
                Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(unavailable(error)),
            }
        })
    }
}

impl<S: ObjectStore> Artifacts for Objects<S> {
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        Box::pin(async move {
            let size = bytes.len() as u64;
            if size > MAX_WHOLE_BYTES {
                return Err(ArtifactError::TooLarge { name });
            }
            let digest = Digest::sha256(&bytes);
            let place = place(&digest);
            if !self.renewed(&place, size).await {
                self.store.put(&place, bytes.into()).await.map_err(unavailable)?;
            }
            Ok(Artifact { name, media_type, digest, size })
        })
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move { whole(&self.store, &digest).await })
    }

    fn write(
        &self,
        name: &str,
        media_type: &str,
        expected: Option<&Digest>,
        pieces: ArtifactPieces,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        let expected = expected.cloned();
        Box::pin(async move {
            let folder = self.folder.as_ref().map(|folder| folder.join(INCOMING));
            let what = (name.as_str(), media_type.as_str());
            let spooled =
                streams::spool(folder.as_deref(), what, expected.as_ref(), pieces).await?;
            let artifact = spooled.artifact.clone();
            let place = place(&artifact.digest);
            if self.renewed(&place, artifact.size).await {
                return Ok(artifact);
            }
            streams::upload(&self.store, &place, spooled).await
        })
    }

    fn read(&self, digest: &Digest) -> BoxFuture<'_, Result<ArtifactPieces, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move { streams::download(&self.store, &place(&digest), &digest).await })
    }
}

/// The bytes of an artifact, checked.
async fn whole(store: &dyn ObjectStore, digest: &Digest) -> Result<Bytes, ArtifactError> {
    let found = match store.get(&place(digest)).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => {
            return Err(ArtifactError::NotFound { digest: digest.clone() });
        }
        Err(error) => return Err(unavailable(error)),
    };
    if found.meta.size > MAX_WHOLE_BYTES {
        let message = format!("artifact {digest} is larger than any that is read as a whole");
        return Err(ArtifactError::Unavailable { message });
    }
    let bytes = found.bytes().await.map_err(unavailable)?;
    if digest.matches(&bytes) {
        return Ok(bytes);
    }
    let found = Digest::compute(digest.algorithm(), &bytes);
    Err(ArtifactError::Damaged { digest: digest.clone(), found })
}

#[cfg(test)]
mod tests {
    use fairlead_step::Algorithm;
    use futures::stream;

    use super::*;

    /// What every place of artifacts does. What is written in pieces is made of `fill`.
    pub(super) async fn check(artifacts: &dyn Artifacts, fill: u8) {
        let bytes = Bytes::from_static(b"a document");
        let one = artifacts.put("a.txt", "text/plain", bytes.clone()).await.unwrap();
        assert_eq!(one.digest, Digest::sha256(&bytes));
        assert_eq!(one.size, 10);
        let two = artifacts.put("b.txt", "text/plain", bytes.clone()).await.unwrap();
        assert_eq!((two.name.as_str(), &two.digest), ("b.txt", &one.digest));
        assert_eq!(artifacts.get(&one.digest).await.unwrap(), bytes);
        let none = Digest::sha256(b"none");
        assert!(matches!(artifacts.get(&none).await, Err(ArtifactError::NotFound { .. })));
        let long = Digest::compute(Algorithm::Sha512, b"none");
        assert!(matches!(artifacts.get(&long).await, Err(ArtifactError::NotFound { .. })));
        assert!(matches!(artifacts.read(&none).await, Err(ArtifactError::NotFound { .. })));
        assert_eq!(gathered(artifacts, &one.digest).await.unwrap(), b"a document");

        // Piece by piece: small, and larger than is sent at a time.
        for count in [3, 200] {
            let piece = Bytes::from(vec![fill; 100_000]);
            let all: Vec<u8> = piece.repeat(count);
            let digest = Digest::sha256(&all);
            let pieces = || {
                let piece = piece.clone();
                stream::iter((0..count).map(move |_| Ok(piece.clone()))).boxed()
            };
            let wrong = artifacts.write("x", "text/plain", Some(&none), pieces()).await;
            assert!(matches!(wrong, Err(ArtifactError::Damaged { .. })), "{wrong:?}");
            assert!(artifacts.get(&digest).await.is_err(), "nothing is kept of it");
            let cut = pieces().chain(stream::once(async {
                Err(ArtifactError::Unavailable { message: "the client went".into() })
            }));
            assert!(artifacts.write("x", "text/plain", None, cut.boxed()).await.is_err());
            assert!(artifacts.get(&digest).await.is_err(), "nor of that");
            for expected in [None, Some(&digest)] {
                let kept = artifacts.write("x", "text/plain", expected, pieces()).await.unwrap();
                assert_eq!((kept.size, &kept.digest), (all.len() as u64, &digest));
            }
            assert_eq!(gathered(artifacts, &digest).await.unwrap(), all);
        }
    }

    pub(super) async fn gathered(
        artifacts: &dyn Artifacts,
        digest: &Digest,
    ) -> Result<Vec<u8>, ArtifactError> {
        let mut all = Vec::new();
        let mut pieces = artifacts.read(digest).await?;
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn artifacts_are_found_by_digest() {
        check(&*in_memory(), 1).await;
        let folder = tempfile::tempdir().unwrap();
        check(&*in_folder(folder.path()).unwrap(), 1).await;
        // Another process finds them, and nothing half written lies beside.
        check(&*in_folder(folder.path()).unwrap(), 2).await;
        let hex = Digest::sha256(b"a document").hex().to_owned();
        let names: Vec<_> = std::fs::read_dir(folder.path().join("sha256").join(&hex[..2]))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, [hex]);
    }

    #[tokio::test]
    async fn a_damaged_artifact_is_told_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = in_folder(folder.path()).unwrap();
        let kept = artifacts.put("a", "text/plain", Bytes::from_static(b"true")).await.unwrap();
        let hex = kept.digest.hex();
        let file = folder.path().join("sha256").join(&hex[..2]).join(hex);
        std::fs::write(&file, b"lies").unwrap();
        match artifacts.get(&kept.digest).await {
            Err(ArtifactError::Damaged { digest, found }) => {
                assert_eq!((digest, found), (kept.digest.clone(), Digest::sha256(b"lies")));
            }
            other => panic!("{other:?}"),
        }
        let read = gathered(&*artifacts, &kept.digest).await;
        assert!(matches!(read, Err(ArtifactError::Damaged { .. })), "{read:?}");
        std::fs::write(&file, b"cut").unwrap();
        artifacts.put("a", "text/plain", Bytes::from_static(b"true")).await.unwrap();
        assert_eq!(artifacts.get(&kept.digest).await.unwrap(), "true");
    }

    #[tokio::test]
    async fn what_was_put_again_in_the_meantime_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        for artifacts in [in_memory(), in_folder(folder.path()).unwrap()] {
            let bytes = Bytes::from_static(b"a document");
            let kept = artifacts.put("a", "text/plain", bytes.clone()).await.unwrap();
            // To a pass that believes it to be old.
            let removed = artifacts.remove(&kept.digest, Timestamp::UNIX_EPOCH).await.unwrap();
            assert!(!removed);
            assert_eq!(artifacts.get(&kept.digest).await.unwrap(), bytes);
            assert!(artifacts.remove(&kept.digest, Timestamp::MAX).await.unwrap());
            assert!(artifacts.get(&kept.digest).await.is_err());
            assert!(!artifacts.remove(&kept.digest, Timestamp::MAX).await.unwrap());
        }
        assert_eq!(std::fs::read_dir(folder.path().join(LEAVING)).unwrap().count(), 0);
    }
}
