//! Two places of artifacts: what is put goes to the first, and what is not there is looked for in the
//! second, where it was put before there was a first.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fairlead_step::{Artifact, ArtifactError, ArtifactPieces, Artifacts, BoxFuture, Digest};
use jiff::Timestamp;

use super::ArtifactRetention;

/// The two places.
pub(crate) struct Layered {
    pub(crate) first: Arc<dyn ArtifactRetention>,
    pub(crate) second: Arc<dyn ArtifactRetention>,
}

impl Artifacts for Layered {
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        self.first.put(name, media_type, bytes)
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move {
            match self.first.get(&digest).await {
                Err(ArtifactError::NotFound { .. }) => self.second.get(&digest).await,
                found => found,
            }
        })
    }

    fn write(
        &self,
        name: &str,
        media_type: &str,
        expected: Option<&Digest>,
        pieces: ArtifactPieces,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        self.first.write(name, media_type, expected, pieces)
    }

    fn read(&self, digest: &Digest) -> BoxFuture<'_, Result<ArtifactPieces, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move {
            match self.first.read(&digest).await {
                Err(ArtifactError::NotFound { .. }) => self.second.read(&digest).await,
                found => found,
            }
        })
    }
}

impl ArtifactRetention for Layered {
    fn older(
        &self,
        before: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ArtifactError>> {
        Box::pin(async move {
            let mut all = self.second.older(before, dry).await?;
            all.extend(self.first.older(before, dry).await?);
            Ok(all)
        })
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        before: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ArtifactError>> {
        Box::pin(async move {
            let first = self.first.remove(digest, before).await?;
            Ok(self.second.remove(digest, before).await? || first)
        })
    }
}
