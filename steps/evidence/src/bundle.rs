//! v3: a Sigstore bundle (media type `application/vnd.dev.sigstore.bundle.v0.3+json`) with a DSSE
//! envelope, attached to the image as a referrer.

use std::collections::BTreeMap;

use bytes::Bytes;
use fairlead_oci::{Artifact, Client, Descriptor, Layer};
use fairlead_step::{Digest, Image};
use serde_json::json;

use crate::dsse::Envelope;
use crate::gather::{self, Content, PREDICATE_TYPE, Wanted};
use crate::legacy::FINGERPRINT;
use crate::statement::Statement;
use crate::{
    Answer, Demand, EvidenceError, Finding, Format, PredicateType, PublicKey, Seen, Signer, Subject,
};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The largest bundle of a signature that is read, in bytes.
const MAX_BUNDLE: u64 = 4 << 20;
/// The most bytes of signatures that are read at one image.
const BUDGET: u64 = 256 << 20;

/// The statement that `cosign sign` makes, under the name of the repository that it is made for.
fn signature(image: &Image, annotations: &BTreeMap<String, String>) -> Statement {
    let kind = PredicateType::of_uri(PredicateType::SIGNATURE);
    let annotations = annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let subject = Subject { annotations: Some(annotations), ..Subject::of(image) };
    Statement::new(subject, &kind, json!({}))
}

/// The bundle's bytes. Nothing in them depends on time; with keys that sign deterministically,
/// signing again writes the same.
async fn bundle(statement: &Statement, signer: &dyn Signer) -> Result<Bytes, EvidenceError> {
    let envelope = Envelope::sign(&statement.to_bytes()?, signer).await?;
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": signer.public_key().hint()}},
        "dsseEnvelope": envelope,
    });
    serde_json::to_vec(&bundle)
        .map(Bytes::from)
        .map_err(|error| EvidenceError::Unwritable { what: "bundle", problem: error.to_string() })
}

/// What became of a bundle.
pub(crate) struct Hung {
    /// Its manifest.
    pub(crate) digest: Digest,
    pub(crate) was_there: bool,
}

/// Attaches a signed statement to `subject`, with `marks` beside the annotations that every bundle has.
pub(crate) async fn hang(
    client: &Client,
    image: &Image,
    subject: &Descriptor,
    statement: &Statement,
    signer: &dyn Signer,
    marks: &BTreeMap<String, String>,
) -> Result<Hung, EvidenceError> {
    let bytes = bundle(statement, signer).await?;
    let mut annotations = marks.clone();
    annotations.extend([
        ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
        (PREDICATE_TYPE.to_owned(), statement.predicate_type.as_str().to_owned()),
        (FINGERPRINT.to_owned(), signer.public_key().fingerprint().to_string()),
    ]);
    let artifact = Artifact {
        artifact_type: MEDIA_TYPE.into(),
        config: None,
        layers: vec![Layer { media_type: MEDIA_TYPE.into(), bytes, annotations: BTreeMap::new() }],
        annotations,
    };
    let attached = client.attach(&image.repository, subject, &artifact).await?;
    Ok(Hung { digest: attached.descriptor.digest, was_there: attached.was_there })
}

/// Attaches a signature to `image`. The same one again is found and left alone.
///
/// # Errors
/// When the registry cannot be read or written, or the key does not sign.
pub async fn attach(
    client: &Client,
    image: &Image,
    subject: &Descriptor,
    signer: &dyn Signer,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, EvidenceError> {
    let statement = signature(image, annotations);
    let none = BTreeMap::new();
    let hung = hang(client, image, subject, &statement, signer, &none).await?;
    Ok(!hung.was_there)
}

/// Every signature bundle that is attached to `image`, judged. What cannot be read is a finding, and
/// what says that it is something else is not read.
pub async fn find(client: &Client, image: &Image, key: &PublicKey, demand: &Demand) -> Seen {
    let predicate = |kind: &str| kind == PredicateType::SIGNATURE;
    let wanted =
        Wanted { predicate: &predicate, largest: MAX_BUNDLE, budget: BUDGET, key: Some(key) };
    let gathered = gather::bundles(client, image, &wanted).await;
    let mut seen = Seen { findings: gathered.findings, failure: gathered.failure };
    let judged = gathered.held.iter().filter_map(|held| judge(&held.content, image, key, demand));
    seen.findings.extend(judged);
    seen
}

/// What one bundle is worth as a signature; `None` when it is sound and none (an attestation).
pub(crate) fn judge(
    content: &Content,
    image: &Image,
    key: &PublicKey,
    demand: &Demand,
) -> Option<Finding> {
    let finding = |answer, detail: &str| {
        Some(Finding { format: Format::V3, answer, detail: detail.to_owned() })
    };
    let (envelope, hint) = match content {
        Content::Envelope { envelope, hint } => (envelope, hint),
        Content::Message => {
            return finding(Answer::Foreign, "the bundle signs a bare message, not a statement");
        }
        Content::Malformed => return finding(Answer::Invalid, "the bundle is malformed"),
    };
    let statement = envelope.statement().and_then(|s| serde_json::from_slice::<Statement>(&s).ok());
    let Some(statement) = statement else {
        return finding(Answer::Invalid, "the statement in the bundle is malformed");
    };
    let claims_key = *hint == Some(key.hint());
    let signed = envelope.is_signed_by(key);
    const DAMAGED: &str = "it claims the key, and the signature does not fit the bytes";
    if statement.predicate_type.as_str() != PredicateType::SIGNATURE {
        // An attestation is another thing than a signature, but damage is damage.
        return if claims_key && !signed { finding(Answer::Invalid, DAMAGED) } else { None };
    }
    match (signed, statement.about(image)) {
        (true, Some(subject)) => match &demand.reference {
            Some(wanted) if !subject.names(wanted) => {
                let named = subject.name.as_deref().unwrap_or("no repository");
                let detail = format!("signed by the key, for {named} and not for {wanted}");
                finding(Answer::Foreign, &detail)
            }
            Some(_) | None if subject.carries(&demand.annotations) => {
                finding(Answer::Verified, "signed by the key")
            }
            Some(_) | None => {
                finding(Answer::Invalid, "signed by the key, without the annotations asked for")
            }
        },
        (true, None) => finding(Answer::Invalid, "signed by the key, for another digest"),
        (false, None) => finding(Answer::Invalid, "the statement is about another digest"),
        (false, Some(_)) if claims_key => finding(Answer::Invalid, DAMAGED),
        (false, Some(_)) => finding(Answer::Foreign, "signed by another key or identity"),
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

    fn signed(of: &Image, by: &SigningKey, annotations: &BTreeMap<String, String>) -> Bytes {
        futures::executor::block_on(bundle(&signature(of, annotations), by)).unwrap()
    }

    fn answer(bytes: &[u8], demand: &Demand) -> Option<Answer> {
        let content = Content::of_bundle(bytes);
        judge(&content, &image("a"), key().public_key(), demand).map(|f| f.answer)
    }

    #[test]
    fn the_bundle_has_cosigns_shape_and_names_the_repository() {
        let bytes = signed(&image("a"), &key(), &BTreeMap::new());
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let envelope: Envelope = serde_json::from_value(json["dsseEnvelope"].clone()).unwrap();
        assert_eq!(
            String::from_utf8(envelope.statement().unwrap()).unwrap(),
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"localhost/shop","digest":{{"sha256":"{}"}},"annotations":{{}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
                "a".repeat(64)
            )
        );
        assert_eq!(json["mediaType"], MEDIA_TYPE);
        assert_eq!(json["verificationMaterial"]["publicKey"]["hint"], key().public_key().hint());
    }

    #[test]
    fn changed_bytes_another_key_and_another_digest_are_told_apart() {
        let (none, any) = (BTreeMap::new(), Demand::default());
        let good = signed(&image("a"), &key(), &none);
        assert_eq!(answer(&good, &any), Some(Answer::Verified));
        let theirs = signed(&image("a"), &other_key(), &none);
        assert_eq!(answer(&theirs, &any), Some(Answer::Foreign));
        let elsewhere = signed(&image("b"), &key(), &none);
        assert_eq!(answer(&elsewhere, &any), Some(Answer::Invalid));
        // The signature of one statement under another, with the same key's hint.
        let mut changed: serde_json::Value = serde_json::from_slice(&good).unwrap();
        let other: serde_json::Value = serde_json::from_slice(&elsewhere).unwrap();
        changed["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
        assert_eq!(answer(changed.to_string().as_bytes(), &any), Some(Answer::Invalid));
        assert_eq!(answer(b"{}", &any), Some(Answer::Invalid));
        let annotations = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let prod = Demand { annotations: annotations.clone(), reference: None };
        assert_eq!(answer(&good, &prod), Some(Answer::Invalid));
        let marked = signed(&image("a"), &key(), &annotations);
        assert_eq!(answer(&marked, &prod), Some(Answer::Verified));
        // What was made for one repository is a stranger's in another.
        for (place, want) in
            [("localhost/shop", Answer::Verified), ("localhost/prod/shop", Answer::Foreign)]
        {
            let demand = Demand { reference: Some(place.parse().unwrap()), ..Demand::default() };
            assert_eq!(answer(&good, &demand), Some(want), "{place}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_changed_byte_of_what_is_signed_stays_verified(at: usize, byte in b'!'..b'~') {
            let good = signed(&image("a"), &key(), &BTreeMap::new());
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
            let any = Demand::default();
            proptest::prop_assert_eq!(answer(&bytes, &any), Some(Answer::Invalid));
        }
    }
}
