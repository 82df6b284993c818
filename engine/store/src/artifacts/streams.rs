//! Artifacts piece by piece: in through a file that is gone when it is closed, so that nothing stands in
//! the store whose digest is not known to be right; out with a check at the end.

use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use bytes::Bytes;
use fairlead_step::{
    Algorithm, Artifact, ArtifactError, ArtifactPieces, Digest, DigestHasher, MAX_ARTIFACT_BYTES,
};
use futures::StreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart, path};

use super::{blocking, unavailable};

/// How much of a file is read and sent at a time: the least that S3 takes for a part is 5 MiB.
const PART: usize = 8 << 20;

/// How many parts are on their way at a time.
const AT_A_TIME: usize = 4;

/// Bytes that came piece by piece, in a file without a name.
pub(super) struct Spooled {
    file: std::fs::File,
    pub(super) artifact: Artifact,
}

/// Takes pieces in, and answers what they are. Nothing is kept of what has too many bytes, or others than
/// were expected.
pub(super) async fn spool(
    folder: Option<&Path>,
    (name, media_type): (&str, &str),
    expected: Option<&Digest>,
    mut pieces: ArtifactPieces,
) -> Result<Spooled, ArtifactError> {
    let folder = folder.map(Path::to_owned);
    let mut file = blocking(move || match folder {
        Some(folder) => {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(folder)
        }
        None => tempfile::tempfile(),
    })
    .await?;
    // What is asked for is believed only when it is found.
    let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
    let mut hasher = DigestHasher::new(algorithm);
    let mut size = 0;
    while let Some(piece) = pieces.next().await {
        let piece: Bytes = piece?;
        size += piece.len() as u64;
        if size > MAX_ARTIFACT_BYTES {
            return Err(ArtifactError::TooLarge { name: name.to_owned() });
        }
        hasher.update(&piece);
        file = blocking(move || file.write_all(&piece).map(|()| file)).await?;
    }
    let digest = hasher.finish();
    if let Some(expected) = expected.filter(|expected| **expected != digest) {
        return Err(ArtifactError::Damaged { digest: expected.clone(), found: digest });
    }
    let (name, media_type) = (name.to_owned(), media_type.to_owned());
    Ok(Spooled { file, artifact: Artifact { name, media_type, digest, size } })
}

/// Brings what was taken in to its place, where it appears as a whole.
pub(super) async fn upload(
    store: &dyn ObjectStore,
    place: &path::Path,
    spooled: Spooled,
) -> Result<Artifact, ArtifactError> {
    let Spooled { mut file, artifact } = spooled;
    let mut file = blocking(move || file.rewind().map(|()| file)).await?;
    if artifact.size <= PART as u64 {
        let bytes = blocking(move || {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(|_| bytes)
        });
        store.put(place, bytes.await?.into()).await.map_err(unavailable)?;
        return Ok(artifact);
    }
    let parts = store.put_multipart(place).await.map_err(unavailable)?;
    let mut parts = WriteMultipart::new_with_chunk_size(parts, PART);
    loop {
        let read = blocking(move || {
            let mut part = Vec::with_capacity(PART);
            std::io::Read::by_ref(&mut file).take(PART as u64).read_to_end(&mut part)?;
            Ok((file, part))
        });
        let part;
        (file, part) = read.await?;
        if part.is_empty() {
            break;
        }
        if let Err(error) = parts.wait_for_capacity(AT_A_TIME).await {
            let _ = parts.abort().await;
            return Err(unavailable(error));
        }
        parts.put(part.into());
    }
    parts.finish().await.map_err(unavailable)?;
    Ok(artifact)
}

/// The bytes at a place, which are checked at their end.
pub(super) async fn download(
    store: &dyn ObjectStore,
    place: &path::Path,
    digest: &Digest,
) -> Result<ArtifactPieces, ArtifactError> {
    let found = match store.get(place).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => {
            return Err(ArtifactError::NotFound { digest: digest.clone() });
        }
        Err(error) => return Err(unavailable(error)),
    };
    let state = (found.into_stream(), Some(DigestHasher::new(digest.algorithm())), digest.clone());
    let checked = futures::stream::unfold(state, |(mut pieces, hasher, digest)| async move {
        let mut hasher = hasher?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                hasher.update(&piece);
                Some((Ok(piece), (pieces, Some(hasher), digest)))
            }
            Some(Err(error)) => Some((Err(unavailable(error)), (pieces, None, digest))),
            None => {
                let found = hasher.finish();
                (found != digest).then(|| {
                    let error = ArtifactError::Damaged { digest: digest.clone(), found };
                    (Err(error), (pieces, None, digest))
                })
            }
        }
    });
    Ok(checked.boxed())
}
