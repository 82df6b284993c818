//! v2: signatures as layers of the manifest under the tag `sha256-<hex>.sig`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fairlead_oci::{Client, Content, Descriptor, Error, Manifest, media_type};
use fairlead_step::{Digest, Image, Repository};
use serde_json::{Value, json};

use crate::payload::Payload;
use crate::{Answer, Finding, Format, PublicKey, SigningKey};

const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Our own: the fingerprint of the key, so that damage and a stranger are told apart later.
const FINGERPRINT: &str = "dev.fairlead.key";

/// How often a signature is added anew when other writers move the tag in between.
const MAX_RACES: u32 = 8;

/// The largest payload that is read, in bytes.
const MAX_PAYLOAD: u64 = 1 << 20;

/// The most signatures that are looked at.
const MAX_SIGNATURES: usize = 1000;

fn tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

async fn read(client: &Client, image: &Image) -> Result<Option<Manifest>, Error> {
    client.manifest_at_tag(&image.repository, &tag(&image.digest)).await
}

/// Adds a signature to `image`, behind those of others. Answers whether it had to: a signature by
/// the key with the same annotations is found and left alone.
///
/// # Errors
/// When the registry cannot be read or written, or other writers keep moving the tag.
pub(crate) async fn attach(
    client: &Client,
    image: &Image,
    key: &SigningKey,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, Error> {
    let payload = Payload::new(image, annotations).to_bytes().map_err(|error| malformed(&error))?;
    let payload = Bytes::from(payload);
    let layer = json!({
        "mediaType": PAYLOAD_TYPE,
        "size": payload.len(),
        "digest": Digest::sha256(&payload),
        "annotations": {
            SIGNATURE: BASE64.encode(key.sign(&payload)),
            FINGERPRINT: key.public_key().fingerprint(),
        },
    });
    let mut races = 0;
    loop {
        let current = read(client, image).await?;
        if let Some(manifest) = &current {
            let findings = judge(client, image, manifest, &key.public_key(), annotations).await?;
            if findings.iter().any(|finding| finding.answer == Answer::Verified) {
                return Ok(false);
            }
        }
        client.put_blob(&image.repository, &payload).await?;
        let expected = current.as_ref().map(|manifest| manifest.digest.clone());
        let manifest = with_layer(current.as_ref(), &layer).map_err(|error| malformed(&error))?;
        match publish(client, &image.repository, &tag(&image.digest), &manifest, expected).await {
            Ok(()) => return Ok(true),
            Err(Error::TagMoved { .. }) if races < MAX_RACES => races += 1,
            Err(error) => return Err(error),
        }
    }
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::Malformed { what: "the v2 signature".into(), problem: error.to_string() }
}

/// The manifest and config of the layers that are there, untouched, and one more.
fn with_layer(
    current: Option<&Manifest>,
    layer: &Value,
) -> Result<(Bytes, Bytes), serde_json::Error> {
    let mut document: Value = match current {
        Some(manifest) => serde_json::from_slice(&manifest.bytes)?,
        None => json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": []}),
    };
    let mut layers = document["layers"].as_array().cloned().unwrap_or_default();
    layers.push(layer.clone());
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let created = "0001-01-01T00:00:00Z";
    let config = serde_json::to_vec(&json!({
        "architecture": "",
        "created": created,
        "history": layers.iter().map(|_| json!({"created": created})).collect::<Vec<_>>(),
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {},
    }))?;
    document["config"] = serde_json::to_value(Descriptor::of(media_type::OCI_CONFIG, &config))?;
    document["layers"] = layers.into();
    Ok((serde_json::to_vec(&document)?.into(), config.into()))
}

/// Config, manifest by digest, then the tag: whoever reads the tag finds everything.
async fn publish(
    client: &Client,
    repository: &Repository,
    tag: &str,
    (manifest, config): &(Bytes, Bytes),
    expected: Option<Digest>,
) -> Result<(), Error> {
    client.put_blob(repository, config).await?;
    let put = client.put_manifest(repository, media_type::OCI_MANIFEST, manifest).await?;
    client.move_tag(&repository.at(put.digest), tag, expected.as_ref()).await?;
    Ok(())
}

/// Every v2 signature of `image`, judged.
///
/// # Errors
/// When the registry cannot be read. A malformed signature is a finding, no error.
pub(crate) async fn find(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Finding>, Error> {
    match read(client, image).await? {
        Some(manifest) => judge(client, image, &manifest, key, annotations).await,
        None => Ok(Vec::new()),
    }
}

async fn judge(
    client: &Client,
    image: &Image,
    manifest: &Manifest,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let Content::Image { layers, .. } = &manifest.content else { return Ok(findings) };
    let signatures = layers.iter().filter(|layer| layer.media_type == PAYLOAD_TYPE);
    for layer in signatures.take(MAX_SIGNATURES) {
        let payload = client.blob_bytes(&image.repository, layer, MAX_PAYLOAD).await?;
        let (answer, detail) = judge_layer(layer, &payload, image, key, annotations);
        findings.push(Finding { format: Format::V2, answer, detail: detail.into() });
    }
    Ok(findings)
}

fn judge_layer(
    layer: &Descriptor,
    payload: &[u8],
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> (Answer, &'static str) {
    let signature = layer.annotations.get(SIGNATURE).and_then(|text| BASE64.decode(text).ok());
    let Some(signature) = signature else {
        return (Answer::Invalid, "the signature is missing or not base64");
    };
    let Ok(claim) = serde_json::from_slice::<Payload>(payload) else {
        return (Answer::Invalid, "the payload is malformed");
    };
    let about_this = claim.claims(image, &BTreeMap::new());
    let ours = layer.annotations.get(FINGERPRINT) == Some(&key.fingerprint().to_string())
        && !layer.annotations.contains_key(CERTIFICATE);
    match (key.verifies(payload, &signature), about_this) {
        (true, true) if claim.claims(image, annotations) => (Answer::Verified, "signed by the key"),
        (true, true) => (Answer::Invalid, "signed by the key, without the annotations asked for"),
        (true, false) => (Answer::Invalid, "signed by the key, for another digest"),
        (false, false) => (Answer::Invalid, "the payload is about another digest"),
        (false, true) if ours => {
            (Answer::Invalid, "it claims the key, and the signature does not fit the bytes")
        }
        (false, true) => (Answer::Foreign, "signed by another key or identity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{key, other_key};

    fn image(fill: &str) -> Image {
        format!("localhost/shop@sha256:{}", fill.repeat(64)).parse().unwrap()
    }

    fn signed(by: &SigningKey, of: &Image, marked: bool) -> (Descriptor, Vec<u8>) {
        let payload = Payload::new(of, &BTreeMap::new()).to_bytes().unwrap();
        let mut layer = Descriptor::of(PAYLOAD_TYPE, &payload);
        layer.annotations.insert(SIGNATURE.into(), BASE64.encode(by.sign(&payload)));
        if marked {
            let fingerprint = by.public_key().fingerprint().to_string();
            layer.annotations.insert(FINGERPRINT.into(), fingerprint);
        }
        (layer, payload)
    }

    #[test]
    fn changed_bytes_another_key_and_another_digest_are_told_apart() {
        let answer = |(layer, payload): &(Descriptor, Vec<u8>)| {
            judge_layer(layer, payload, &image("a"), &key().public_key(), &BTreeMap::new()).0
        };
        assert_eq!(answer(&signed(&key(), &image("a"), false)), Answer::Verified);
        assert_eq!(answer(&signed(&other_key(), &image("a"), true)), Answer::Foreign);
        assert_eq!(answer(&signed(&key(), &image("b"), true)), Answer::Invalid);
        assert_eq!(answer(&signed(&other_key(), &image("b"), true)), Answer::Invalid);
        let (layer, payload) = signed(&key(), &image("a"), true);
        let text = String::from_utf8(payload).unwrap();
        let changed = text.replace("localhost/shop", "localhost/shoq").into_bytes();
        assert_eq!(answer(&(layer.clone(), changed)), Answer::Invalid);
        assert_eq!(answer(&(layer.clone(), b"{".to_vec())), Answer::Invalid);
        let unsigned = Descriptor { annotations: BTreeMap::new(), ..layer };
        assert_eq!(answer(&(unsigned, text.into_bytes())), Answer::Invalid);
    }

    #[test]
    fn a_signature_is_added_behind_those_of_others() {
        let theirs = json!({"mediaType": PAYLOAD_TYPE, "size": 1, "digest": Digest::sha256(b"1"),
            "annotations": {"dev.sigstore.cosign/bundle": "kept"}, "data": "also kept"});
        let (first, _) = with_layer(None, &theirs).unwrap();
        let first = Manifest::parse(Digest::sha256(&first), None, first, "the first").unwrap();
        let ours = json!({"mediaType": PAYLOAD_TYPE, "size": 1, "digest": Digest::sha256(b"2")});
        let (both, config) = with_layer(Some(&first), &ours).unwrap();
        let both: Value = serde_json::from_slice(&both).unwrap();
        assert_eq!(both["layers"], json!([theirs, ours]));
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([Digest::sha256(b"1"), Digest::sha256(b"2")])
        );
        assert_eq!(config["history"].as_array().map(Vec::len), Some(2));
    }
}
