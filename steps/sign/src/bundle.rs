//! v3: a Sigstore bundle (media type `application/vnd.dev.sigstore.bundle.v0.3+json`) with a DSSE
//! envelope, attached to the image as a referrer.

use std::collections::BTreeMap;

use bytes::Bytes;
use fairlead_oci::{
    Artifact, Client, Descriptor, Error, Layer, MANIFEST_LIMIT, REFERRERS_LIMIT, media_type,
};
use fairlead_step::{Algorithm, Image};
use futures::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::dsse::Envelope;
use crate::verdict::Seen;
use crate::{Answer, Finding, Format, PublicKey, SigningKey};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const MEDIA_TYPE_FAMILY: &str = "application/vnd.dev.sigstore.bundle";
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The largest bundle that is read, in bytes.
const MAX_BUNDLE: u64 = 4 << 20;

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, serde_json::Value>>,
}

/// The statement that `cosign sign` makes (in-toto Statement v1), with the fields in its order.
#[derive(Serialize)]
struct SignStatement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [SignSubject<'a>; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: BTreeMap<(), ()>,
}

#[derive(Serialize)]
struct SignSubject<'a> {
    digest: BTreeMap<&'static str, &'a str>,
    annotations: &'a BTreeMap<String, String>,
}

/// The bundle's bytes. Nothing in them depends on time or chance: signing again writes the same.
fn bundle(
    image: &Image,
    key: &SigningKey,
    annotations: &BTreeMap<String, String>,
) -> Result<Bytes, serde_json::Error> {
    let statement = serde_json::to_vec(&SignStatement {
        kind: "https://in-toto.io/Statement/v1",
        subject: [SignSubject {
            digest: BTreeMap::from([(image.digest.algorithm().name(), image.digest.hex())]),
            annotations,
        }],
        predicate_type: PREDICATE,
        predicate: BTreeMap::new(),
    })?;
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public_key().hint()}},
        "dsseEnvelope": Envelope::sign(&statement, key),
    });
    serde_json::to_vec(&bundle).map(Bytes::from)
}

/// Attaches a bundle to `image`. The same bundle again is found and left alone.
///
/// # Errors
/// When the registry cannot be read or written.
pub(crate) async fn attach(
    client: &Client,
    image: &Image,
    subject: &Descriptor,
    key: &SigningKey,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, Error> {
    let malformed = |error: serde_json::Error| Error::Malformed {
        what: "the signature bundle".into(),
        problem: error.to_string(),
    };
    let bytes = bundle(image, key, annotations).map_err(malformed)?;
    let artifact = Artifact {
        artifact_type: MEDIA_TYPE.into(),
        config: None,
        layers: vec![Layer { media_type: MEDIA_TYPE.into(), bytes, annotations: BTreeMap::new() }],
        annotations: BTreeMap::from([
            ("dev.sigstore.bundle.content".into(), "dsse-envelope".into()),
            (PREDICATE_TYPE.into(), PREDICATE.into()),
        ]),
    };
    let attached = client.attach(&image.repository, subject, &artifact).await?;
    Ok(!attached.was_there)
}

/// Every signature bundle that is attached to `image`, judged. What cannot be read is a finding, and
/// what says that it is something else is not read.
pub(crate) async fn find(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Seen {
    let listed = match client.list_referrers(image).await {
        Ok(listed) => listed,
        Err(error) => return Seen::unread(Format::V3, error),
    };
    let mut seen = Seen::default();
    for problem in listed.findings {
        seen.findings.push(Finding::unreadable(Format::V3, problem));
    }
    if listed.truncated {
        let problem = format!("of all that is attached, {REFERRERS_LIMIT} are looked at");
        seen.findings.push(Finding::unreadable(Format::V3, problem));
    }
    let asked_for = listed.manifests.into_iter().filter(may_be_signature);
    let read = asked_for.map(|entry| open(client, image, entry, key, annotations));
    let mut read = stream::iter(read).buffered(client.options().parallel.max(1));
    while let Some(found) = read.next().await {
        seen.merge(found);
    }
    seen
}

fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(MEDIA_TYPE_FAMILY)
}

/// Whether annotations leave it open that this is a signature: bundles of attestations say so.
fn may_sign(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(PREDICATE_TYPE).is_none_or(|kind| kind == PREDICATE)
}

/// Whether an entry in a list of referrers can be a signature bundle. Lists are half true: cosign
/// writes the type of the empty config there, and no annotations.
fn may_be_signature(entry: &Descriptor) -> bool {
    let kind = entry.artifact_type.as_deref().unwrap_or_default();
    let open = kind.is_empty() || kind == media_type::OCI_EMPTY || is_bundle(kind);
    open && may_sign(&entry.annotations)
}

/// Reads what one entry names, as far as it can be a signature.
async fn open(
    client: &Client,
    image: &Image,
    entry: Descriptor,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Seen {
    let mut seen = Seen::default();
    if entry.size > MANIFEST_LIMIT {
        let problem = format!("the manifest {} is larger than any", entry.digest);
        return Seen { findings: vec![Finding::unreadable(Format::V3, problem)], failure: None };
    }
    let manifest = match client.manifest(&image.repository.at(entry.digest)).await {
        Ok(manifest) => manifest,
        // A list that other writers keep by hand may name what is gone.
        Err(error) if error.is_not_found() => return seen,
        Err(error) => return Seen::unread(Format::V3, error),
    };
    if !may_sign(&manifest.annotations) {
        return seen;
    }
    let declared = manifest.artifact_type.as_deref().is_some_and(is_bundle);
    let layers = manifest.layers().iter();
    for layer in layers.filter(|layer| declared || is_bundle(&layer.media_type)).take(16) {
        match client.blob_bytes(&image.repository, layer, MAX_BUNDLE).await {
            Ok(bytes) => seen.findings.extend(judge(&bytes, image, key, annotations)),
            Err(error) => seen.merge(Seen::unread(Format::V3, error)),
        }
    }
    seen
}

/// What one bundle is worth; `None` when it is sound and no signature (an attestation).
fn judge(
    bytes: &[u8],
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Option<Finding> {
    let finding = |answer, detail: &str| {
        Some(Finding { format: Format::V3, answer, detail: detail.to_owned() })
    };
    let Ok(bundle) = serde_json::from_slice::<Bundle>(bytes) else {
        return finding(Answer::Invalid, "the bundle is malformed");
    };
    let Some(envelope) = bundle.dsse_envelope else {
        return finding(Answer::Foreign, "the bundle signs a bare message, not a statement");
    };
    let statement = envelope.statement().and_then(|s| serde_json::from_slice::<Statement>(&s).ok());
    let Some(statement) = statement else {
        return finding(Answer::Invalid, "the statement in the bundle is malformed");
    };
    let hint = bundle.verification_material.public_key.and_then(|key| key.hint);
    if statement.predicate_type != PREDICATE {
        // An attestation is another thing than a signature, but damage is damage.
        let claims_key = hint == Some(key.hint());
        return if claims_key && !envelope.is_signed_by(key) {
            finding(Answer::Invalid, "it claims the key, and the signature does not fit the bytes")
        } else {
            None
        };
    }
    let subject = statement.subject.iter().find(|subject| {
        let algorithm: Algorithm = image.digest.algorithm();
        subject.digest.get(algorithm.name()).is_some_and(|hex| hex == image.digest.hex())
    });
    match (envelope.is_signed_by(key), subject) {
        (true, Some(subject)) => {
            let has = subject.annotations.clone().unwrap_or_default();
            if annotations.iter().all(|(k, v)| has.get(k).and_then(|x| x.as_str()) == Some(v)) {
                finding(Answer::Verified, "signed by the key")
            } else {
                finding(Answer::Invalid, "signed by the key, without the annotations asked for")
            }
        }
        (true, None) => finding(Answer::Invalid, "signed by the key, for another digest"),
        (false, None) => finding(Answer::Invalid, "the statement is about another digest"),
        (false, Some(_)) if hint == Some(key.hint()) => {
            finding(Answer::Invalid, "it claims the key, and the signature does not fit the bytes")
        }
        (false, Some(_)) => finding(Answer::Foreign, "signed by another key or identity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{key, other_key};

    fn image(fill: &str) -> Image {
        format!("localhost/shop@sha256:{}", fill.repeat(64)).parse().unwrap()
    }

    fn answer(bytes: &[u8], annotations: &BTreeMap<String, String>) -> Option<Answer> {
        judge(bytes, &image("a"), &key().public_key(), annotations).map(|f| f.answer)
    }

    #[test]
    fn the_bundle_has_cosigns_shape() {
        let bytes = bundle(&image("a"), &key(), &BTreeMap::new()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let envelope: Envelope = serde_json::from_value(json["dsseEnvelope"].clone()).unwrap();
        assert_eq!(
            String::from_utf8(envelope.statement().unwrap()).unwrap(),
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}},"annotations":{{}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
                "a".repeat(64)
            )
        );
        assert_eq!(json["mediaType"], MEDIA_TYPE);
        assert_eq!(json["verificationMaterial"]["publicKey"]["hint"], key().public_key().hint());
    }

    #[test]
    fn changed_bytes_another_key_and_another_digest_are_told_apart() {
        let none = BTreeMap::new();
        let good = bundle(&image("a"), &key(), &none).unwrap();
        assert_eq!(answer(&good, &none), Some(Answer::Verified));
        let theirs = bundle(&image("a"), &other_key(), &none).unwrap();
        assert_eq!(answer(&theirs, &none), Some(Answer::Foreign));
        let elsewhere = bundle(&image("b"), &key(), &none).unwrap();
        assert_eq!(answer(&elsewhere, &none), Some(Answer::Invalid));
        // The signature of one statement under another, with the same key's hint.
        let mut changed: serde_json::Value = serde_json::from_slice(&good).unwrap();
        let other: serde_json::Value = serde_json::from_slice(&elsewhere).unwrap();
        changed["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
        assert_eq!(answer(changed.to_string().as_bytes(), &none), Some(Answer::Invalid));
        assert_eq!(answer(b"{}", &none), Some(Answer::Invalid));
        let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(answer(&good, &prod), Some(Answer::Invalid));
        let marked = bundle(&image("a"), &key(), &prod).unwrap();
        assert_eq!(answer(&marked, &prod), Some(Answer::Verified));
    }

    proptest::proptest! {
        #[test]
        fn no_changed_byte_of_what_is_signed_stays_verified(at: usize, byte in b'!'..b'~') {
            let good = bundle(&image("a"), &key(), &BTreeMap::new()).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&good).unwrap();
            let envelope = &json["dsseEnvelope"];
            let parts = [&envelope["payload"], &envelope["signatures"][0]["sig"]];
            let part = parts[at % 2].as_str().unwrap();
            let text = String::from_utf8(good.to_vec()).unwrap();
            let start = text.find(part).unwrap();
            let mut bytes = good.to_vec();
            let place = start + at % part.len();
            proptest::prop_assume!(bytes[place] != byte);
            bytes[place] = byte;
            proptest::prop_assert_eq!(answer(&bytes, &BTreeMap::new()), Some(Answer::Invalid));
        }
    }
}
