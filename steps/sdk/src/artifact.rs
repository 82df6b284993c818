//! Artifacts: what a step leaves behind, by content digest.

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Digest;

/// A document that a step produced: an SBOM, a report, a diff. The bytes are in the artifact
/// store under their digest; this is the small fact that flows and is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The file name to offer a person, such as `shop.spdx.json`.
    pub name: String,
    /// The IANA or OCI media type of the bytes.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
}

impl JsonSchema for Artifact {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Artifact".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let digest = generator.subschema_for::<Digest>();
        json_schema!({
            "type": "object",
            "format": crate::schema_format::ARTIFACT,
            "description": "A stored document, by digest.",
            "properties": {
                "name": { "type": "string" },
                "media_type": { "type": "string" },
                "digest": digest,
                "size": { "type": "integer", "minimum": 0 },
            },
            "required": ["name", "media_type", "digest", "size"],
            "additionalProperties": false,
        })
    }
}

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// No artifact has this digest.
    #[error("artifact {digest} is not in the store")]
    NotFound {
        /// What was asked for.
        digest: Digest,
    },
    /// The stored bytes are not what their name says.
    #[error("artifact {digest} is damaged: its bytes hash to {found}")]
    Damaged {
        /// What was asked for.
        digest: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
    /// There is more than an artifact may have.
    #[error("`{name}` has more than the {MAX_ARTIFACT_BYTES} bytes of an artifact")]
    TooLarge {
        /// What it is called.
        name: String,
    },
    /// The store did not answer.
    #[error("the artifact store failed: {message}")]
    Unavailable {
        /// What it said.
        message: String,
    },
}

/// The most bytes of one artifact: documents that people and tools read and packed sources, not images.
pub const MAX_ARTIFACT_BYTES: u64 = 1 << 30;

/// The bytes of an artifact, piece by piece. Behind an error nothing follows.
pub type ArtifactPieces = BoxStream<'static, Result<Bytes, ArtifactError>>;

/// The port to the artifact store.
pub trait Artifacts: Send + Sync {
    /// Stores `bytes` and answers the fact to pass on. Storing the same bytes again is free.
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>>;

    /// The bytes of `digest`, checked against it.
    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>>;

    /// Stores bytes that come piece by piece, as [`Artifacts::put`] does. Where `expected` is given and
    /// the bytes are others, nothing is stored. A store that can keeps no more than a piece in memory.
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
            let bytes = gathered(&name, pieces).await?;
            let found = Digest::sha256(&bytes);
            match expected {
                Some(digest) if digest != found => Err(ArtifactError::Damaged { digest, found }),
                Some(_) | None => self.put(&name, &media_type, bytes).await,
            }
        })
    }

    /// The bytes of `digest` piece by piece. Whether they are the right ones is known at their end, where
    /// the stream fails if they are not.
    fn read(&self, digest: &Digest) -> BoxFuture<'_, Result<ArtifactPieces, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move {
            let bytes = self.get(&digest).await?;
            Ok(stream::once(async { Ok(bytes) }).boxed())
        })
    }
}

async fn gathered(name: &str, mut pieces: ArtifactPieces) -> Result<Bytes, ArtifactError> {
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if (all.len() + piece.len()) as u64 > MAX_ARTIFACT_BYTES {
            return Err(ArtifactError::TooLarge { name: name.to_owned() });
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
