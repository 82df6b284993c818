//! Reading what hangs at an image: bundles among its referrers, documents under its legacy tags.
//!
//! Only what is asked for is downloaded. A bundle says in its annotations what it is; where it does not, it
//! is opened. What is ours by its own word comes first, so that no number of others keeps it from being
//! read within the budget of bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fairlead_oci::{
    Client, Descriptor, Error, LegacyTag, MANIFEST_LIMIT, REFERRERS_LIMIT, media_type,
};
use fairlead_step::{Digest, Image};
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;

use crate::dsse::Envelope;
use crate::legacy::FINGERPRINT;
use crate::{Finding, Format, PublicKey};

/// Sigstore's bundles, whatever their version.
const BUNDLE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation of a bundle's manifest that says what it holds.
pub(crate) const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// The annotation of an envelope under an `.att` tag that says the same.
pub(crate) const LEGACY_PREDICATE_TYPE: &str = "predicateType";
/// The media type of an envelope under an `.att` tag.
pub(crate) const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The most layers of one manifest that are looked at.
const LAYERS: usize = 16;
/// The most envelopes under one tag that are read.
const DOCUMENTS: usize = 1000;

/// What is looked for.
pub(crate) struct Wanted<'a> {
    /// Whether a predicate of this type is asked for.
    pub(crate) predicate: &'a (dyn Fn(&str) -> bool + Sync),
    /// The largest document that is read, in bytes.
    pub(crate) largest: u64,
    /// The most bytes that are read in all.
    pub(crate) budget: u64,
    /// Whose come first.
    pub(crate) key: Option<&'a PublicKey>,
}

/// A document that was found, not yet judged.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) format: Format,
    /// The digest of the bundle's manifest, or of the envelope under the tag.
    pub(crate) digest: Digest,
    /// The annotations of the same.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) content: Content,
}

/// What is in it.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A statement in an envelope, and whose key the bundle says signed it.
    Envelope { envelope: Envelope, hint: Option<String> },
    /// A bundle that signs bare bytes.
    Message,
    /// Nothing that can be read.
    Malformed,
}

/// What was found, and what not.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) held: Vec<Held>,
    pub(crate) findings: Vec<Finding>,
    /// Why not everything could be looked at.
    pub(crate) failure: Option<Error>,
}

impl Gathered {
    fn unread(format: Format, error: Error) -> Self {
        if error.is_unreadable() {
            let findings = vec![Finding::unreadable(format, error)];
            return Self { findings, ..Self::default() };
        }
        Self { failure: Some(error), ..Self::default() }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.held.extend(other.held);
        self.findings.extend(other.findings);
        self.failure = self.failure.take().or(other.failure);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    verification_material: VerificationMaterial,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    public_key: Option<KeyHint>,
}

#[derive(Deserialize)]
struct KeyHint {
    hint: Option<String>,
}

impl Content {
    /// What a bundle's bytes hold.
    pub(crate) fn of_bundle(bytes: &[u8]) -> Self {
        match serde_json::from_slice::<Bundle>(bytes) {
            Ok(Bundle { dsse_envelope: Some(envelope), verification_material }) => {
                let hint = verification_material.public_key.and_then(|key| key.hint);
                Self::Envelope { envelope, hint }
            }
            Ok(Bundle { dsse_envelope: None, .. }) => Self::Message,
            Err(_) => Self::Malformed,
        }
    }
}

/// The bytes that may still be read.
struct Budget(AtomicU64);

impl Budget {
    /// Takes `size` bytes out of it, where there are so many.
    fn take(&self, size: u64) -> bool {
        let left = |left: u64| left.checked_sub(size);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(BUNDLE_FAMILY)
}

impl Wanted<'_> {
    /// Whether annotations leave it open that this is asked for.
    fn may_be(&self, annotations: &BTreeMap<String, String>, name: &str) -> bool {
        annotations.get(name).is_none_or(|kind| (self.predicate)(kind))
    }

    fn is_strangers(&self, annotations: &BTreeMap<String, String>) -> bool {
        let key = self.key.map(|key| key.fingerprint().to_string());
        key.is_some() && annotations.get(FINGERPRINT) != key.as_ref()
    }
}

/// The bundles among the referrers of `image`.
pub(crate) async fn bundles(client: &Client, image: &Image, wanted: &Wanted<'_>) -> Gathered {
    const FORMAT: Format = Format::V3;
    let listed = match client.list_referrers(image).await {
        Ok(listed) => listed,
        Err(error) => return Gathered::unread(FORMAT, error),
    };
    let mut gathered = Gathered::default();
    let findings = listed.findings.iter().map(|problem| Finding::unreadable(FORMAT, problem));
    gathered.findings.extend(findings);
    if listed.truncated {
        let problem = format!("of all that is attached, {REFERRERS_LIMIT} are looked at");
        gathered.findings.push(Finding::unreadable(FORMAT, problem));
    }
    let budget = Budget(AtomicU64::new(wanted.budget));
    // Lists are half true: cosign writes the type of the empty config there, and no annotations.
    let may_be = |entry: &Descriptor| {
        let kind = entry.artifact_type.as_deref().unwrap_or_default();
        let open = kind.is_empty() || kind == media_type::OCI_EMPTY || is_bundle(kind);
        open && wanted.may_be(&entry.annotations, PREDICATE_TYPE)
    };
    let mut entries: Vec<Descriptor> = listed.manifests.into_iter().filter(may_be).collect();
    entries.sort_by_key(|entry| wanted.is_strangers(&entry.annotations));
    let read: Vec<_> =
        entries.into_iter().map(|entry| open(client, image, entry, wanted, &budget)).collect();
    let mut read = stream::iter(read).buffered(client.options().parallel.max(1));
    while let Some(found) = read.next().await {
        gathered.merge(found);
    }
    gathered
}

/// Reads what one entry of the list names, as far as it can be what is asked for.
async fn open(
    client: &Client,
    image: &Image,
    entry: Descriptor,
    wanted: &Wanted<'_>,
    budget: &Budget,
) -> Gathered {
    const FORMAT: Format = Format::V3;
    let unreadable = |problem: String| Gathered {
        findings: vec![Finding::unreadable(FORMAT, problem)],
        ..Gathered::default()
    };
    if entry.size > MANIFEST_LIMIT {
        return unreadable(format!("the manifest {} is larger than any", entry.digest));
    }
    let manifest = match client.manifest(&image.repository.at(entry.digest)).await {
        Ok(manifest) => manifest,
        // A list that other writers keep by hand may name what is gone.
        Err(error) if error.is_not_found() => return Gathered::default(),
        Err(error) => return Gathered::unread(FORMAT, error),
    };
    let mut gathered = Gathered::default();
    if !wanted.may_be(&manifest.annotations, PREDICATE_TYPE) {
        return gathered;
    }
    let declared = manifest.artifact_type.as_deref().is_some_and(is_bundle);
    let layers = manifest.layers().iter();
    for layer in layers.filter(|layer| declared || is_bundle(&layer.media_type)).take(LAYERS) {
        match document(client, image, layer, wanted, budget).await {
            Ok(bytes) => gathered.held.push(Held {
                format: FORMAT,
                digest: manifest.digest.clone(),
                annotations: manifest.annotations.clone(),
                content: Content::of_bundle(&bytes),
            }),
            Err(error) => gathered.merge(Gathered::unread(FORMAT, error)),
        }
    }
    gathered
}

/// The envelopes under the `.att` tag of `image`.
pub(crate) async fn envelopes(client: &Client, image: &Image, wanted: &Wanted<'_>) -> Gathered {
    const FORMAT: Format = Format::V2;
    let documents = match client.documents(image, LegacyTag::Att).await {
        Ok(Some(documents)) => documents,
        Ok(None) => return Gathered::default(),
        Err(error) => return Gathered::unread(FORMAT, error),
    };
    let mut gathered = Gathered::default();
    let findings = documents.findings.iter().map(|problem| Finding::unreadable(FORMAT, problem));
    gathered.findings.extend(findings);
    let mut layers: Vec<Descriptor> = documents
        .layers
        .into_iter()
        .filter(|layer| layer.media_type == ENVELOPE)
        .filter(|layer| wanted.may_be(&layer.annotations, LEGACY_PREDICATE_TYPE))
        .collect();
    layers.sort_by_key(|layer| wanted.is_strangers(&layer.annotations));
    if layers.len() > DOCUMENTS {
        let problem = format!("of {} envelopes, {DOCUMENTS} are read", layers.len());
        gathered.findings.push(Finding::unreadable(FORMAT, problem));
        layers.truncate(DOCUMENTS);
    }
    let budget = Budget(AtomicU64::new(wanted.budget));
    let budget = &budget;
    let read: Vec<_> = layers
        .into_iter()
        .map(|layer| async move {
            let bytes = document(client, image, &layer, wanted, budget).await;
            (layer, bytes)
        })
        .collect();
    let mut read = stream::iter(read).buffered(client.options().parallel.max(1));
    while let Some((layer, bytes)) = read.next().await {
        match bytes {
            Ok(bytes) => {
                let hint = layer.annotations.get(FINGERPRINT).cloned();
                let content = match serde_json::from_slice(&bytes) {
                    Ok(envelope) => Content::Envelope { envelope, hint },
                    Err(_) => Content::Malformed,
                };
                let Descriptor { digest, annotations, .. } = layer;
                gathered.held.push(Held { format: FORMAT, digest, annotations, content });
            }
            Err(error) => gathered.merge(Gathered::unread(FORMAT, error)),
        }
    }
    gathered
}

async fn document(
    client: &Client,
    image: &Image,
    layer: &Descriptor,
    wanted: &Wanted<'_>,
    budget: &Budget,
) -> Result<Bytes, Error> {
    if layer.size <= wanted.largest && !budget.take(layer.size) {
        let what = format!("all that is attached to {image}");
        return Err(Error::TooLarge { what, limit: wanted.budget });
    }
    client.blob_bytes(&image.repository, layer, wanted.largest).await
}
