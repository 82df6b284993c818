//! The record of a promotion, attached to the image at the destination before a channel moves.
//!
//! A registry forgets where a tag pointed. The record remembers it, for people and for an attempt
//! that was lost: the next attempt of the same step finds it by its key and answers the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use fairlead_oci::{Artifact, Client, Descriptor, Error, Layer, Manifest, media_type};
use fairlead_step::{Digest, Image, StepContext};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

/// What kind of artifact a record is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.dev.fairlead.promotion.v1+json";
/// The annotation that says which step of which run wrote it.
const KEY: &str = "dev.fairlead.promotion.key";
/// The largest record that is read, in bytes.
const RECORD_LIMIT: u64 = 1 << 20;

/// What is written down. Its shape is versioned by [`ARTIFACT_TYPE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Run and step.
    pub(crate) key: String,
    /// The pipeline.
    pub(crate) pipeline: String,
    /// Where the image came from.
    pub(crate) source: Image,
    /// Where it went.
    pub(crate) image: Image,
    /// One digest over all that was copied.
    pub(crate) closure: Digest,
    /// The version tags.
    pub(crate) tags: Vec<String>,
    /// Where each channel pointed before.
    pub(crate) channels: BTreeMap<String, Option<Digest>>,
    /// When, in RFC 3339.
    pub(crate) at: String,
}

/// The record that an earlier attempt of this very step left on `image`.
pub(crate) async fn find(
    client: &Client,
    image: &Image,
    context: &StepContext,
) -> Result<Option<Record>, Error> {
    let key = context.info().idempotency_key();
    let (repository, key) = (&image.repository, &key);
    let listed = client.list_referrers(image).await?;
    // Some lists have the type of the empty config, and no annotations: those are opened.
    let may_be_ours = |entry: &Descriptor| {
        let kind = entry.artifact_type.as_deref().unwrap_or_default();
        (kind.is_empty() || kind == media_type::OCI_EMPTY || kind == ARTIFACT_TYPE)
            && entry.annotations.get(KEY).is_none_or(|found| found == key)
    };
    let entries = listed.manifests.into_iter().filter(may_be_ours);
    let mut manifests = stream::iter(entries.map(|entry| async move {
        match client.manifest(&repository.at(entry.digest)).await {
            // What somebody attached and cannot be read is no record of ours.
            Err(error) if error.is_unreadable() => Ok(None),
            other => other.map(Some),
        }
    }))
    .buffered(client.options().parallel.max(1));
    while let Some(manifest) = manifests.try_next().await? {
        let Some(manifest) = manifest else { continue };
        let ours = manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
            && manifest.annotations.get(KEY) == Some(key);
        let (true, [layer]) = (ours, manifest.layers()) else { continue };
        let problem = match client.blob_bytes(repository, layer, RECORD_LIMIT).await {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => error.to_string(),
            },
            Err(error) if error.is_unreadable() => error.to_string(),
            Err(error) => return Err(error),
        };
        context.say(format!("the promotion record {} cannot be read: {problem}", manifest.digest));
    }
    Ok(None)
}

/// Attaches the record to the image it speaks of.
pub(crate) async fn write(
    client: &Client,
    record: &Record,
    manifest: Option<&Manifest>,
) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map(Bytes::from).map_err(|e| Error::Malformed {
        what: "the promotion record".into(),
        problem: e.to_string(),
    })?;
    let subject = match manifest {
        Some(manifest) => manifest.descriptor(),
        None => client.manifest(&record.image).await?.descriptor(),
    };
    let artifact = Artifact {
        artifact_type: ARTIFACT_TYPE.into(),
        config: None,
        layers: vec![Layer { media_type: ARTIFACT_TYPE.into(), bytes, ..Layer::default() }],
        annotations: BTreeMap::from([
            (KEY.to_owned(), record.key.clone()),
            ("org.opencontainers.image.created".to_owned(), record.at.clone()),
        ]),
    };
    client.attach(&record.image.repository, &subject, &artifact).await?;
    Ok(())
}
