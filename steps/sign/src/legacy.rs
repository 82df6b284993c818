//! v2: signatures as layers of the manifest under the tag `sha256-<hex>.sig`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fairlead_oci::{Client, Descriptor, Error, Landed, LegacyTag};
use fairlead_step::{Digest, Image};
use futures::stream::{self, StreamExt as _};

use crate::payload::Payload;
use crate::verdict::Seen;
use crate::{Answer, Finding, Format, PublicKey, SigningKey};

const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Our own: the fingerprint of the key, so that damage and a stranger are told apart later.
const FINGERPRINT: &str = "dev.fairlead.key";

/// The largest payload that is read, in bytes.
const MAX_PAYLOAD: u64 = 1 << 20;

/// The most payloads that are read. Signatures of one image under one name share theirs.
const MAX_PAYLOADS: usize = 1000;

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
    let there = find(client, image, &key.public_key(), annotations).await;
    if there.is_verified() {
        return Ok(false);
    }
    // A signature that could not be looked at may be ours.
    if let Some(error) = there.failure {
        return Err(error);
    }
    let payload = Payload::new(image, annotations).to_bytes().map_err(|error| {
        Error::Malformed { what: "the v2 signature".into(), problem: error.to_string() }
    })?;
    let payload = Bytes::from(payload);
    let mut layer = Descriptor::of(PAYLOAD_TYPE, &payload);
    layer.annotations = BTreeMap::from([
        (SIGNATURE.to_owned(), BASE64.encode(key.sign(&payload))),
        (FINGERPRINT.to_owned(), key.public_key().fingerprint().to_string()),
    ]);
    let (to, subject) = (&image.repository, &image.digest);
    client.put_blob(to, &payload).await?;
    let landed = client.add_documents(to, subject, LegacyTag::Sig, &[layer]).await?;
    Ok(landed != Landed::Present)
}

/// Every v2 signature of `image`, judged. What cannot be read is a finding.
pub(crate) async fn find(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Seen {
    let documents = match client.documents(image, LegacyTag::Sig).await {
        Ok(Some(documents)) => documents,
        Ok(None) => return Seen::default(),
        Err(error) => return Seen::unread(Format::V2, error),
    };
    let mut seen = Seen::default();
    for problem in documents.findings {
        seen.findings.push(Finding::unreadable(Format::V2, problem));
    }
    // One payload may have many signatures; it is read once. Ours come first, so that no number of
    // others keeps them from being read.
    let mut payloads: BTreeMap<(bool, Digest, u64), Vec<Descriptor>> = BTreeMap::new();
    let fingerprint = key.fingerprint().to_string();
    for layer in documents.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD_TYPE) {
        if !layer.annotations.contains_key(SIGNATURE) {
            let detail = "the signature is missing or not base64".into();
            seen.findings.push(Finding { format: Format::V2, answer: Answer::Invalid, detail });
            continue;
        }
        let stranger = layer.annotations.get(FINGERPRINT) != Some(&fingerprint);
        payloads.entry((stranger, layer.digest.clone(), layer.size)).or_default().push(layer);
    }
    if payloads.len() > MAX_PAYLOADS {
        let problem = format!("of {} different payloads, {MAX_PAYLOADS} are read", payloads.len());
        seen.findings.push(Finding::unreadable(Format::V2, problem));
    }
    let read = payloads.into_values().take(MAX_PAYLOADS).map(|layers| async move {
        let payload = match layers.first() {
            Some(layer) => client.blob_bytes(&image.repository, layer, MAX_PAYLOAD).await,
            None => Ok(Bytes::new()),
        };
        (layers, payload)
    });
    let mut read = stream::iter(read).buffered(client.options().parallel.max(1));
    while let Some((layers, payload)) = read.next().await {
        match payload {
            Ok(payload) => seen.findings.extend(layers.iter().map(|layer| {
                let (answer, detail) = judge_layer(layer, &payload, image, key, annotations);
                Finding { format: Format::V2, answer, detail: detail.into() }
            })),
            Err(error) => seen.merge(Seen::unread(Format::V2, error)),
        }
    }
    seen
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
}
