//! v2: signatures as layers of the manifest under the tag `sha256-<hex>.sig`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fairlead_oci::{Client, Descriptor, Landed, LegacyTag};
use fairlead_step::{Digest, Image};
use futures::stream::{self, StreamExt as _};

use crate::payload::Payload;
use crate::{Answer, Demand, EvidenceError, Finding, Format, PublicKey, Seen, Signer};

const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Our own: the fingerprint of the key, so that damage and a stranger are told apart later.
pub(crate) const FINGERPRINT: &str = "dev.fairlead.key";

/// The largest payload that is read, in bytes.
const MAX_PAYLOAD: u64 = 1 << 20;

/// The most payloads that are read. Signatures of one image under one name share theirs.
const MAX_PAYLOADS: usize = 1000;

/// Adds a signature to `image`, behind those of others. Answers whether it had to: a signature by
/// the key that names the same repository, with the same annotations, is found and left alone.
///
/// # Errors
/// When the registry cannot be read or written, or other writers keep moving the tag.
pub async fn attach(
    client: &Client,
    image: &Image,
    signer: &dyn Signer,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, EvidenceError> {
    let key = signer.public_key();
    let reference = Some(image.repository.clone());
    let demand = Demand { annotations: annotations.clone(), reference };
    let there = find(client, image, key, &demand).await;
    if there.is_verified() {
        return Ok(false);
    }
    // A signature that could not be looked at may be ours.
    if let Some(error) = there.failure {
        return Err(error.into());
    }
    let payload = Payload::new(image, annotations).to_bytes().map_err(|error| {
        EvidenceError::Unwritable { what: "v2 signature", problem: error.to_string() }
    })?;
    let payload = Bytes::from(payload);
    let mut layer = Descriptor::of(PAYLOAD_TYPE, &payload);
    layer.annotations = BTreeMap::from([
        (SIGNATURE.to_owned(), BASE64.encode(signer.sign(&payload).await?)),
        (FINGERPRINT.to_owned(), key.fingerprint().to_string()),
    ]);
    let (to, subject) = (&image.repository, &image.digest);
    client.put_blob(to, &payload).await?;
    let landed = client.add_documents(to, subject, LegacyTag::Sig, &[layer]).await?;
    Ok(landed != Landed::Present)
}

/// Every v2 signature of `image`, judged. What cannot be read is a finding.
pub async fn find(client: &Client, image: &Image, key: &PublicKey, demand: &Demand) -> Seen {
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
                let (answer, detail) = judge_layer(layer, &payload, image, key, demand);
                Finding { format: Format::V2, answer, detail }
            })),
            Err(error) => seen.merge(Seen::unread(Format::V2, error)),
        }
    }
    seen
}

/// What one signature is worth.
pub(crate) fn judge_layer(
    layer: &Descriptor,
    payload: &[u8],
    image: &Image,
    key: &PublicKey,
    demand: &Demand,
) -> (Answer, String) {
    let signature = layer.annotations.get(SIGNATURE).and_then(|text| BASE64.decode(text).ok());
    let Some(signature) = signature else {
        return (Answer::Invalid, "the signature is missing or not base64".into());
    };
    let Ok(claim) = serde_json::from_slice::<Payload>(payload) else {
        return (Answer::Invalid, "the payload is malformed".into());
    };
    let ours = layer.annotations.get(FINGERPRINT) == Some(&key.fingerprint().to_string())
        && !layer.annotations.contains_key(CERTIFICATE);
    match (key.verifies(payload, &signature), claim.is_about(image)) {
        (true, true) => match &demand.reference {
            Some(wanted) if claim.reference() != wanted.to_string() => {
                let named = claim.reference();
                (Answer::Foreign, format!("signed by the key, for {named} and not for {wanted}"))
            }
            Some(_) | None if claim.carries(&demand.annotations) => {
                (Answer::Verified, "signed by the key".into())
            }
            Some(_) | None => {
                (Answer::Invalid, "signed by the key, without the annotations asked for".into())
            }
        },
        (true, false) => (Answer::Invalid, "signed by the key, for another digest".into()),
        (false, false) => (Answer::Invalid, "the payload is about another digest".into()),
        (false, true) if ours => {
            (Answer::Invalid, "it claims the key, and the signature does not fit the bytes".into())
        }
        (false, true) => (Answer::Foreign, "signed by another key or identity".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::kit::{key, other_key};

    fn image(fill: &str) -> Image {
        format!("localhost/shop@sha256:{}", fill.repeat(64)).parse().unwrap()
    }

    fn signed(by: &SigningKey, of: &Image, marked: bool) -> (Descriptor, Vec<u8>) {
        let payload = Payload::new(of, &BTreeMap::new()).to_bytes().unwrap();
        let mut layer = Descriptor::of(PAYLOAD_TYPE, &payload);
        let signature = by.sign_now(&payload).unwrap();
        layer.annotations.insert(SIGNATURE.into(), BASE64.encode(signature));
        if marked {
            let fingerprint = by.public_key().fingerprint().to_string();
            layer.annotations.insert(FINGERPRINT.into(), fingerprint);
        }
        (layer, payload)
    }

    #[test]
    fn changed_bytes_another_key_and_another_digest_are_told_apart() {
        let answer = |(layer, payload): &(Descriptor, Vec<u8>)| {
            judge_layer(layer, payload, &image("a"), key().public_key(), &Demand::default()).0
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
        let elsewhere =
            Demand { reference: Some("localhost/elsewhere".parse().unwrap()), ..Demand::default() };
        let (signed, bytes) = signed(&key(), &image("a"), true);
        let replayed = judge_layer(&signed, &bytes, &image("a"), key().public_key(), &elsewhere);
        assert_eq!(replayed.0, Answer::Foreign);
        assert!(replayed.1.contains("for localhost/shop and not for"), "{}", replayed.1);
        let unsigned = Descriptor { annotations: BTreeMap::new(), ..layer };
        assert_eq!(answer(&(unsigned, text.into_bytes())), Answer::Invalid);
    }
}
