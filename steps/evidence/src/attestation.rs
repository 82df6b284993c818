//! Attestations: signed statements about an image, in both formats.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fairlead_oci::{Client, Descriptor, Error, LegacyTag};
use fairlead_step::{Digest, Image};
use serde_json::Value;

use crate::bundle::hang;
use crate::dsse::{Envelope, IN_TOTO};
use crate::gather::{self, Content, ENVELOPE, Gathered, Held, LEGACY_PREDICATE_TYPE, Wanted};
use crate::legacy::FINGERPRINT;
use crate::statement::Statement;
use crate::{
    Answer, Demand, EvidenceError, Finding, Format, PredicateType, PublicKey, Signer, Subject,
    overall,
};

/// The annotation that names the step of the run that made it, so that an attempt after a lost one finds
/// what that one wrote.
const MARK: &str = "dev.fairlead.attestation.key";
/// cosign's annotation for a bare signature; an envelope holds its own.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The largest statement that is signed, in bytes: what is larger is referred to by digest.
pub const MAX_STATEMENT: u64 = 32 << 20;
/// The largest document that is read: base64 and an envelope around the same.
const MAX_DOCUMENT: u64 = 64 << 20;
/// The most bytes of attestations that are read at one image.
const BUDGET: u64 = 512 << 20;

/// Something to say of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// What kind of thing.
    pub kind: PredicateType,
    /// The thing itself.
    pub predicate: Value,
    /// Which step of which run says it, where one does: the same step says it once.
    pub mark: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attested {
    /// The formats, and whether each had to be written.
    pub written: Vec<(Format, bool)>,
    /// The bundle's manifest, where v3 was asked for.
    pub bundle: Option<Digest>,
    /// What is said now: what the same step said before, where it did.
    pub statement: Statement,
}

/// One attestation that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it is worth.
    pub finding: Finding,
    /// Its bundle's manifest, or its envelope.
    pub digest: Option<Digest>,
    /// What it says, where it can be believed.
    pub statement: Option<Statement>,
    /// The step that says it, as it claims.
    pub(crate) mark: Option<String>,
}

/// What is known of one kind of attestation.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// The kind.
    pub kind: PredicateType,
    /// Each that was found, in a stable order.
    pub found: Vec<Judged>,
}

impl Proven {
    /// What they amount to: one good one is enough.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let findings: Vec<Finding> = self.found.iter().map(|one| one.finding.clone()).collect();
        overall(&findings)
    }

    /// What the good ones say.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.found.iter().filter_map(|one| one.statement.as_ref())
    }
}

/// Says `attestation` of `image`, whose manifest is `subject`, in each of `formats`. What the same step
/// said before, and what was said by the key in the same words, is found and left alone.
///
/// # Errors
/// When the registry cannot be read or written, the key does not sign, or it is too much to say.
pub async fn attest(
    client: &Client,
    image: &Image,
    subject: &Descriptor,
    signer: &dyn Signer,
    attestation: &Attestation,
    formats: &[Format],
) -> Result<Attested, EvidenceError> {
    let key = signer.public_key();
    let reference = Some(image.repository.clone());
    let demand = Demand { reference, ..Demand::default() };
    let kinds = std::slice::from_ref(&attestation.kind);
    let (proven, failure) = look(client, image, key, kinds, &demand, formats).await;
    // One that could not be looked at may be ours.
    if let Some(error) = failure {
        return Err(error.into());
    }
    let there: Vec<&Judged> = proven.iter().flat_map(|proven| &proven.found).collect();
    let is_marked = |one: &Judged| attestation.mark.is_some() && one.mark == attestation.mark;
    // What the step began to say it says to the end, in both formats.
    let said = there.iter().find(|one| is_marked(one) && one.statement.is_some());
    let statement = said.and_then(|one| one.statement.clone()).unwrap_or_else(|| {
        Statement::new(Subject::of(image), &attestation.kind, attestation.predicate.clone())
    });
    let bytes = statement.to_bytes()?;
    if bytes.len() as u64 > MAX_STATEMENT {
        let size = bytes.len() as u64;
        return Err(EvidenceError::TooLarge { what: "statement", size, limit: MAX_STATEMENT });
    }
    let mark = attestation.mark.iter().map(|mark| (MARK.to_owned(), mark.clone()));
    let marks: BTreeMap<String, String> = mark.collect();
    let (mut written, mut bundle) = (Vec::new(), None);
    for format in [Format::V2, Format::V3].into_iter().filter(|f| formats.contains(f)) {
        let same = there
            .iter()
            .find(|one| one.finding.format == format && one.statement.as_ref() == Some(&statement));
        let is_new = match (same, format) {
            (Some(same), Format::V3) => {
                bundle = same.digest.clone();
                false
            }
            (Some(_), Format::V2) => false,
            (None, Format::V2) => {
                let envelope = Envelope::sign(&bytes, signer).await?;
                legacy(client, image, &envelope, &statement, key, marks.clone()).await?;
                true
            }
            (None, Format::V3) => {
                let hung = hang(client, image, subject, &statement, signer, &marks).await?;
                bundle = Some(hung.digest);
                !hung.was_there
            }
        };
        written.push((format, is_new));
    }
    Ok(Attested { written, bundle, statement })
}

/// Attaches a statement that nobody signs, as an in-toto document of its own: what it says counts for as
/// much as whoever may push there is believed.
///
/// # Errors
/// When the registry cannot be read or written, or it is too much to say.
pub async fn attach_statement(
    client: &Client,
    image: &Image,
    subject: &Descriptor,
    kind: &PredicateType,
    predicate: Value,
) -> Result<fairlead_oci::Attached, EvidenceError> {
    let bytes = Statement::new(Subject::of(image), kind, predicate).to_bytes()?;
    if bytes.len() as u64 > MAX_STATEMENT {
        let size = bytes.len() as u64;
        return Err(EvidenceError::TooLarge { what: "statement", size, limit: MAX_STATEMENT });
    }
    let said = BTreeMap::from([("in-toto.io/predicate-type".to_owned(), kind.uri().to_owned())]);
    let layer = fairlead_oci::Layer {
        media_type: IN_TOTO.to_owned(),
        bytes: bytes.into(),
        annotations: said.clone(),
    };
    let artifact = fairlead_oci::Artifact {
        artifact_type: IN_TOTO.to_owned(),
        config: None,
        layers: vec![layer],
        annotations: said,
    };
    Ok(client.attach(&image.repository, subject, &artifact).await?)
}

/// Puts an envelope behind those of others under the `.att` tag.
async fn legacy(
    client: &Client,
    image: &Image,
    envelope: &Envelope,
    statement: &Statement,
    key: &PublicKey,
    marks: BTreeMap<String, String>,
) -> Result<(), EvidenceError> {
    let bytes = serde_json::to_vec(envelope).map(Bytes::from).map_err(|error| {
        EvidenceError::Unwritable { what: "envelope", problem: error.to_string() }
    })?;
    let mut layer = Descriptor::of(ENVELOPE, &bytes);
    layer.annotations = marks;
    layer.annotations.extend([
        (SIGNATURE.to_owned(), String::new()),
        (LEGACY_PREDICATE_TYPE.to_owned(), statement.predicate_type.as_str().to_owned()),
        (FINGERPRINT.to_owned(), key.fingerprint().to_string()),
    ]);
    client.put_blob(&image.repository, &bytes).await?;
    client.add_documents(&image.repository, &image.digest, LegacyTag::Att, &[layer]).await?;
    Ok(())
}

/// What `key` says of `image`, of each of `kinds`, in both formats. Nothing of another kind is read.
/// The error says why not everything could be looked at; what was seen all the same counts.
pub async fn attestations(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    kinds: &[PredicateType],
    demand: &Demand,
) -> (Vec<Proven>, Option<Error>) {
    look(client, image, key, kinds, demand, &[Format::V2, Format::V3]).await
}

async fn look(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    kinds: &[PredicateType],
    demand: &Demand,
    formats: &[Format],
) -> (Vec<Proven>, Option<Error>) {
    let asked: BTreeSet<&str> = kinds.iter().map(PredicateType::uri).collect();
    let predicate = |kind: &str| asked.contains(kind);
    let wanted =
        Wanted { predicate: &predicate, largest: MAX_DOCUMENT, budget: BUDGET, key: Some(key) };
    let (v2, v3) = futures::join!(
        async {
            let is_asked = formats.contains(&Format::V2);
            if is_asked {
                gather::envelopes(client, image, &wanted).await
            } else {
                Gathered::default()
            }
        },
        async {
            let is_asked = formats.contains(&Format::V3);
            if is_asked {
                gather::bundles(client, image, &wanted).await
            } else {
                Gathered::default()
            }
        },
    );
    let mut gathered = v2;
    gathered.merge(v3);
    let mut proven: Vec<Proven> =
        kinds.iter().map(|kind| Proven { kind: kind.clone(), found: Vec::new() }).collect();
    for finding in gathered.findings {
        // What cannot be read may be of any kind.
        for proven in &mut proven {
            let finding = finding.clone();
            proven.found.push(Judged { finding, digest: None, statement: None, mark: None });
        }
    }
    for held in &gathered.held {
        let (kind, judged) = judge(held, image, key, demand);
        for proven in &mut proven {
            if kind.as_deref().is_none_or(|kind| kind == proven.kind.uri()) {
                proven.found.push(judged.clone());
            }
        }
    }
    for proven in &mut proven {
        proven.found.sort_by(|a, b| {
            let key = |one: &Judged| (one.finding.format, one.finding.answer, one.digest.clone());
            key(a).cmp(&key(b))
        });
    }
    (proven, gathered.failure)
}

/// What one attestation is worth, and of which kind it is; `None` where that cannot be told.
pub(crate) fn judge(
    held: &Held,
    image: &Image,
    key: &PublicKey,
    demand: &Demand,
) -> (Option<String>, Judged) {
    let told = [gather::PREDICATE_TYPE, LEGACY_PREDICATE_TYPE]
        .iter()
        .find_map(|name| held.annotations.get(*name).cloned());
    let judged = |answer, detail: &str| Judged {
        finding: Finding { format: held.format, answer, detail: detail.to_owned() },
        digest: Some(held.digest.clone()),
        statement: None,
        mark: held.annotations.get(MARK).cloned(),
    };
    let (envelope, hint) = match &held.content {
        Content::Envelope { envelope, hint } => (envelope, hint),
        Content::Message => {
            return (told, judged(Answer::Foreign, "it signs a bare message, not a statement"));
        }
        Content::Malformed => return (told, judged(Answer::Invalid, "it is malformed")),
    };
    let statement = envelope.statement().and_then(|s| serde_json::from_slice::<Statement>(&s).ok());
    let Some(statement) = statement else {
        return (told, judged(Answer::Invalid, "its statement is malformed"));
    };
    // The statement decides of which kind it is, and not who attached it.
    let kind = Some(statement.predicate_type.as_str().to_owned());
    let fingerprint = key.fingerprint().to_string();
    let claims_key = hint.as_ref().is_some_and(|hint| *hint == key.hint() || *hint == fingerprint);
    let judged = match (envelope.is_signed_by(key), statement.about(image)) {
        (true, Some(subject)) => match &demand.reference {
            // Those that name no repository are bound to the digest alone.
            Some(wanted) if subject.name.is_some() && !subject.names(wanted) => {
                let named = subject.name.as_deref().unwrap_or_default();
                let detail = format!("signed by the key, for {named} and not for {wanted}");
                judged(Answer::Foreign, &detail)
            }
            Some(_) | None => {
                let good = judged(Answer::Verified, "signed by the key");
                Judged { statement: Some(statement), ..good }
            }
        },
        (true, None) => judged(Answer::Invalid, "signed by the key, for another digest"),
        (false, None) => judged(Answer::Invalid, "the statement is about another digest"),
        (false, Some(_)) if claims_key => {
            judged(Answer::Invalid, "it claims the key, and the signature does not fit the bytes")
        }
        (false, Some(_)) => judged(Answer::Foreign, "signed by another key or identity"),
    };
    (kind, judged)
}
