//! Documents that go to the registry, next to the image they describe: as they are, or as attestations.

use std::collections::BTreeMap;

use bytes::Bytes;
use fairlead_evidence::{Attestation, Format as EvidenceFormat, PredicateType, SigningKey};
use fairlead_oci::{Client, Layer, PlatformImage};
use fairlead_step::{Digest, StepContext, StepError};

use crate::document::Format;

/// One document on its way.
pub(crate) struct Document<'a> {
    pub(crate) format: Format,
    pub(crate) file: String,
    pub(crate) bytes: &'a Bytes,
}

/// Attaches a document as an OCI artifact of its media type. The same image gives the same document, and
/// that the same manifest: what an earlier attempt pushed is found by its digest and completed.
pub(crate) async fn as_referrer(
    client: &Client,
    image: &PlatformImage,
    document: Document<'_>,
    context: &StepContext,
) -> Result<Digest, StepError> {
    let Document { format, file, bytes } = document;
    let title = ("org.opencontainers.image.title".to_owned(), file);
    let layer = Layer {
        media_type: format.media_type().to_owned(),
        bytes: bytes.clone(),
        annotations: BTreeMap::from([title]),
    };
    let artifact = fairlead_oci::Artifact {
        artifact_type: format.media_type().to_owned(),
        layers: vec![layer],
        ..fairlead_oci::Artifact::default()
    };
    let subject = image.manifest.descriptor();
    let done = client.attach(&image.image.repository, &subject, &artifact).await?;
    let how = if done.was_there { "was attached before" } else { "is attached" };
    let digest = done.descriptor.digest;
    context.say(format!("{} {how} as {digest}", format.media_type()));
    Ok(digest)
}

/// Attaches a document as an attestation: signed in the formats of both cosigns where there is a key, and a
/// bare statement otherwise.
pub(crate) async fn as_attestation(
    client: &Client,
    image: &PlatformImage,
    document: Document<'_>,
    key: Option<&SigningKey>,
    context: &StepContext,
) -> Result<Digest, StepError> {
    let kind = PredicateType::of_uri(match document.format {
        Format::SpdxJson => PredicateType::SPDX,
        Format::CyclonedxJson | Format::Cyclonedx17Json => PredicateType::CYCLONEDX,
    });
    let predicate = serde_json::from_slice(document.bytes).map_err(|error| {
        StepError::terminal(format!("`{}` cannot be attested", document.file)).because(error)
    })?;
    let (image, subject) = (&image.image, image.manifest.descriptor());
    let Some(key) = key else {
        let done =
            fairlead_evidence::attach_statement(client, image, &subject, &kind, predicate).await?;
        let how = if done.was_there { "was attached before" } else { "is attached" };
        let digest = done.descriptor.digest;
        context.say(format!("`{kind}` {how}, unsigned, as {digest}"));
        return Ok(digest);
    };
    let attestation = Attestation { kind: kind.clone(), predicate, mark: None };
    let formats = [EvidenceFormat::V2, EvidenceFormat::V3];
    let done =
        fairlead_evidence::attest(client, image, &subject, key, &attestation, &formats).await?;
    let how = if done.written.iter().any(|(_, is_new)| *is_new) { "is" } else { "was" };
    let digest = done.bundle.ok_or_else(|| StepError::terminal("no bundle was attached"))?;
    context.say(format!("`{kind}` {how} attested, signed, as {digest}"));
    Ok(digest)
}
