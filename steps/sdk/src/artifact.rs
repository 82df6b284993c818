//! Artifacts: what a step leaves behind, by content digest.

use bytes::Bytes;
use futures::future::BoxFuture;
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
    /// The store did not answer.
    #[error("the artifact store failed: {message}")]
    Unavailable {
        /// What it said.
        message: String,
    },
}

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
}
