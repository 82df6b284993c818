//! [`Artifacts`] in an object store: a local folder, or memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fairlead_step::{Algorithm, Artifact, ArtifactError, Artifacts, BoxFuture, Digest};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, path};

/// The most bytes of one artifact: documents that people and tools read, not images.
pub const MAX_ARTIFACT_BYTES: usize = 256 << 20;

/// Artifacts by digest. An object is written under another name and renamed, so whoever finds it
/// finds all of it; it is synced, because the journal will speak of it.
struct Objects<S>(S);

pub(crate) fn in_folder(folder: &Path) -> std::io::Result<Arc<dyn Artifacts>> {
    std::fs::create_dir_all(folder)?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other)?;
    Ok(Arc::new(Objects(store.with_fsync(true))))
}

pub(crate) fn in_memory() -> Arc<dyn Artifacts> {
    Arc::new(Objects(InMemory::new()))
}

/// `sha256/ab/abcdef…`: no folder grows without bound.
fn place(digest: &Digest) -> path::Path {
    let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
    path::Path::from_iter([algorithm, &hex[..2], hex])
}

fn unavailable(error: object_store::Error) -> ArtifactError {
    ArtifactError::Unavailable { message: error.to_string() }
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
            let size = bytes.len();
            if size > MAX_ARTIFACT_BYTES {
                return Err(ArtifactError::Unavailable {
                    message: format!(
                        "`{name}` has {size} bytes, more than the {MAX_ARTIFACT_BYTES} of an \
                         artifact"
                    ),
                });
            }
            let digest = Digest::sha256(&bytes);
            let place = place(&digest);
            let known = self.0.head(&place).await.is_ok_and(|there| there.size == size as u64);
            if !known {
                self.0.put(&place, bytes.into()).await.map_err(unavailable)?;
            }
            Ok(Artifact { name, media_type, digest, size: size as u64 })
        })
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move {
            let found = match self.0.get(&place(&digest)).await {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => {
                    return Err(ArtifactError::NotFound { digest });
                }
                Err(error) => return Err(unavailable(error)),
            };
            if found.meta.size > MAX_ARTIFACT_BYTES as u64 {
                let message = format!("artifact {digest} is larger than any that was stored");
                return Err(ArtifactError::Unavailable { message });
            }
            let bytes = found.bytes().await.map_err(unavailable)?;
            if digest.matches(&bytes) {
                return Ok(bytes);
            }
            let found = match digest.algorithm() {
                Algorithm::Sha256 | Algorithm::Sha512 => {
                    Digest::compute(digest.algorithm(), &bytes)
                }
            };
            Err(ArtifactError::Damaged { digest, found })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(artifacts: &dyn Artifacts) {
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
    }

    #[tokio::test]
    async fn artifacts_are_found_by_digest() {
        check(&*in_memory()).await;
        let folder = tempfile::tempdir().unwrap();
        check(&*in_folder(folder.path()).unwrap()).await;
        // Another process finds them, and nothing half written lies beside.
        check(&*in_folder(folder.path()).unwrap()).await;
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
        std::fs::write(&file, b"cut").unwrap();
        artifacts.put("a", "text/plain", Bytes::from_static(b"true")).await.unwrap();
        assert_eq!(artifacts.get(&kept.digest).await.unwrap(), "true");
    }
}
