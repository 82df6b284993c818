//! The walk along the chain: from a digest alone, at whatever registry it is, back over promotion, signature,
//! findings and contents to the build and the commit, by what hangs at the image and by nothing else.

mod read;

use std::collections::BTreeMap;

use fairlead_oci::{Client, Manifest};
use fairlead_step::{Digest, Image};
use futures::stream::{self, StreamExt as _};
use serde::Serialize;
use serde_json::Value;

use crate::attestation::judge;
use crate::gather::{self, Content, Gathered, Held, Wanted};
use crate::statement::Statement;
use crate::{
    Answer, Demand, EvidenceError, Finding, Format, PredicateType, PublicKey, find_bundles,
    find_legacy,
};

/// The largest document that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// The most bytes that are read at one image.
const BUDGET: u64 = 512 << 20;
/// How many images of an index are looked at side by side.
const SIDE_BY_SIDE: usize = 4;
/// The most entries of one image.
const ENTRIES: usize = 2000;

/// A key, and what to call it.
#[derive(Debug, Clone)]
pub struct NamedKey {
    /// Such as the name of its file.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// Where in the life of an image something is said, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// What it was made from.
    Source,
    /// How it was made.
    Build,
    /// What is in it.
    Contents,
    /// What is known against that.
    Findings,
    /// How it was tried.
    Tests,
    /// Who signed it.
    Signature,
    /// Where it went.
    Promotion,
    /// Anything else.
    Other,
}

impl Stage {
    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Build => "build",
            Self::Contents => "contents",
            Self::Findings => "findings",
            Self::Tests => "tests",
            Self::Signature => "signature",
            Self::Promotion => "promotion",
            Self::Other => "other",
        }
    }
}

/// What something that is said is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Signed by one of the keys, for this digest.
    Verified,
    /// Signed by none of the keys, or by nobody.
    Unverified,
    /// It claims a key or this digest, and does not hold.
    Invalid,
}

/// One thing that is said of the image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Where in its life.
    pub stage: Stage,
    /// What, in one line.
    pub summary: String,
    /// What it is worth.
    pub standing: Standing,
    /// Why, in a few words: by which key, or why not.
    pub why: String,
    /// The digest that it is said of: the image, or one that it lists.
    pub of: Digest,
    /// The type of the predicate, for a statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
    /// The formats that it is there in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<Format>,
    /// What hangs at the image and says it: bundles, envelopes, documents.
    pub evidence: Vec<Digest>,
    /// What is told of it besides, for programs.
    pub details: BTreeMap<String, Value>,
}

/// An image's life, as far as its evidence tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The image.
    pub image: Image,
    /// What is said, in the order of its life.
    pub entries: Vec<Entry>,
    /// What hangs there and cannot be read.
    pub findings: Vec<String>,
}

impl Trace {
    /// Whether `stage` is told by something that is verified.
    #[must_use]
    pub fn has(&self, stage: Stage) -> bool {
        let good = |entry: &Entry| entry.stage == stage && entry.standing == Standing::Verified;
        self.entries.iter().any(good)
    }

    /// Whether something claims a key and does not hold.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.entries.iter().any(|entry| entry.standing == Standing::Invalid)
    }
}

/// Follows the evidence of `image`, and of the images that it lists, and holds it against `keys`.
///
/// # Errors
/// When the image is not there, or the registry cannot be asked.
pub async fn trace(
    client: &Client,
    image: &Image,
    keys: &[NamedKey],
) -> Result<Trace, EvidenceError> {
    let manifest = client.manifest(image).await?;
    let mut images = vec![image.clone()];
    let mut builtin = Vec::new();
    for child in manifest.children() {
        let child_image = image.repository.at(child.digest.clone());
        if child.platform.as_ref().is_some_and(fairlead_oci::Platform::is_unknown) {
            builtin.push(child_image);
        } else {
            images.push(child_image);
        }
    }
    let mut trace = Trace { image: image.clone(), entries: Vec::new(), findings: Vec::new() };
    let looked: Vec<_> = images.iter().map(|image| Box::pin(look(client, image, keys))).collect();
    let mut looked = stream::iter(looked).buffered(SIDE_BY_SIDE);
    while let Some(found) = looked.next().await {
        let (entries, findings) = found?;
        trace.entries.extend(entries);
        trace.findings.extend(findings);
    }
    drop(looked);
    for image in builtin {
        let manifest = client.manifest(&image).await?;
        trace.entries.extend(unsigned(client, &image, &manifest).await?);
    }
    trace.entries.truncate(ENTRIES);
    trace.entries.sort_by(|a, b| (a.stage, a.standing, &a.of).cmp(&(b.stage, b.standing, &b.of)));
    Ok(trace)
}

type Looked = (Vec<Entry>, Vec<String>);

/// What hangs at one image.
async fn look(client: &Client, image: &Image, keys: &[NamedKey]) -> Result<Looked, EvidenceError> {
    // Whatever it says, it is read; signatures are looked at by those who know them.
    let predicate = |kind: &str| kind != PredicateType::SIGNATURE;
    let key = keys.first().map(|named| &named.key);
    let wanted = Wanted { predicate: &predicate, largest: LARGEST, budget: BUDGET, key };
    let (envelopes, bundles, signatures, documents) = futures::join!(
        gather::envelopes(client, image, &wanted),
        gather::bundles(client, image, &wanted),
        signatures(client, image, keys),
        documents(client, image),
    );
    let mut gathered: Gathered = envelopes;
    gathered.merge(bundles);
    if let Some(error) = gathered.failure {
        return Err(error.into());
    }
    let findings =
        gathered.findings.iter().map(|finding: &Finding| finding.detail.clone()).collect();
    // Both formats say the same: it is told once.
    let mut told: Vec<(Statement, Vec<&Held>)> = Vec::new();
    let mut entries = Vec::new();
    for held in &gathered.held {
        match statement_of(held) {
            Some(statement) if statement.predicate_type.as_str() == PredicateType::SIGNATURE => {}
            Some(statement) => match told.iter_mut().find(|(known, _)| *known == statement) {
                Some((_, all)) => all.push(held),
                None => told.push((statement, vec![held])),
            },
            None => entries.push(Entry {
                stage: Stage::Other,
                summary: "a document that is no statement".to_owned(),
                standing: Standing::Invalid,
                why: "it cannot be read".to_owned(),
                of: image.digest.clone(),
                predicate_type: None,
                formats: vec![held.format],
                evidence: vec![held.digest.clone()],
                details: BTreeMap::new(),
            }),
        }
    }
    for (statement, held) in told {
        let (standing, why) = standing(&held, image, keys);
        let mut formats: Vec<Format> = held.iter().map(|held| held.format).collect();
        formats.sort();
        formats.dedup();
        for told in read::tell(&statement) {
            entries.push(Entry {
                stage: told.stage,
                summary: told.summary,
                standing,
                why: why.clone(),
                of: image.digest.clone(),
                predicate_type: Some(statement.predicate_type.as_str().to_owned()),
                formats: formats.clone(),
                evidence: held.iter().map(|held| held.digest.clone()).collect(),
                details: told.details,
            });
        }
    }
    entries.extend(signatures?);
    entries.extend(documents?);
    Ok((entries, findings))
}

fn statement_of(held: &Held) -> Option<Statement> {
    match &held.content {
        Content::Envelope { envelope, .. } => serde_json::from_slice(&envelope.statement()?).ok(),
        Content::Message | Content::Malformed => None,
    }
}

/// The best that any key makes of what says one thing.
fn standing(held: &[&Held], image: &Image, keys: &[NamedKey]) -> (Standing, String) {
    let demand = Demand::default();
    let mut worst = (Standing::Unverified, "signed by none of the keys given".to_owned());
    if keys.is_empty() {
        worst.1 = "no key is given to verify it with".to_owned();
    }
    for named in keys {
        for held in held {
            let (_, judged) = judge(held, image, &named.key, &demand);
            match judged.finding.answer {
                Answer::Verified => {
                    return (Standing::Verified, format!("signed by {}", named.name));
                }
                Answer::Invalid => worst = (Standing::Invalid, judged.finding.detail),
                Answer::Absent | Answer::Foreign => {}
            }
        }
    }
    worst
}

/// The signatures, by each key.
async fn signatures(
    client: &Client,
    image: &Image,
    keys: &[NamedKey],
) -> Result<Vec<Entry>, EvidenceError> {
    let demand = Demand::default();
    let mut entries = Vec::new();
    for named in keys {
        let (mut seen, bundles) = futures::join!(
            find_legacy(client, image, &named.key, &demand),
            find_bundles(client, image, &named.key, &demand),
        );
        seen.merge(bundles);
        if let Some(error) = seen.failure.take() {
            return Err(error.into());
        }
        let by = |answer: Answer| seen.findings.iter().filter(move |f| f.answer == answer);
        let mut formats: Vec<Format> = by(Answer::Verified).map(|f| f.format).collect();
        formats.sort();
        formats.dedup();
        let entry = |standing, summary: String, why: String, formats| Entry {
            stage: Stage::Signature,
            summary,
            standing,
            why,
            of: image.digest.clone(),
            predicate_type: None,
            formats,
            evidence: Vec::new(),
            details: BTreeMap::new(),
        };
        if !formats.is_empty() {
            let names: Vec<String> = formats.iter().map(ToString::to_string).collect();
            let summary = format!("signed by {} ({})", named.name, names.join(", "));
            let why = format!("{} key {}", named.key.algorithm(), named.key.fingerprint());
            entries.push(entry(Standing::Verified, summary, why, formats));
        } else if let Some(bad) = by(Answer::Invalid).next() {
            let summary = format!("no signature by {} holds", named.name);
            entries.push(entry(Standing::Invalid, summary, bad.detail.clone(), Vec::new()));
        }
    }
    Ok(entries)
}

/// What nobody signed: bills that were attached as they are, unsigned statements, records of promotions.
async fn documents(client: &Client, image: &Image) -> Result<Vec<Entry>, EvidenceError> {
    let listed = client.list_referrers(image).await?;
    let mut entries = Vec::new();
    for entry in listed.manifests {
        let kind = entry.artifact_type.as_deref().unwrap_or_default();
        if read::is_statement(kind) {
            let attached = image.repository.at(entry.digest.clone());
            match client.manifest(&attached).await {
                Ok(manifest) => entries.extend(unsigned(client, image, &manifest).await?),
                Err(error) if error.is_unreadable() => {}
                Err(error) => return Err(error.into()),
            }
        } else if let Some((stage, summary)) = read::document(kind) {
            entries.push(Entry {
                stage,
                summary,
                standing: Standing::Unverified,
                why: "nobody signed it".to_owned(),
                of: image.digest.clone(),
                predicate_type: None,
                formats: Vec::new(),
                evidence: vec![entry.digest],
                details: BTreeMap::new(),
            });
        }
    }
    Ok(entries)
}

/// The unsigned statements in the layers of a manifest, as BuildKit keeps them.
async fn unsigned(
    client: &Client,
    image: &Image,
    manifest: &Manifest,
) -> Result<Vec<Entry>, EvidenceError> {
    let mut entries = Vec::new();
    let statements = manifest.layers().iter().filter(|layer| read::is_statement(&layer.media_type));
    for layer in statements.take(16) {
        let bytes = match client.blob_bytes(&image.repository, layer, LARGEST).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_unreadable() => continue,
            Err(error) => return Err(error.into()),
        };
        let Ok(statement) = serde_json::from_slice::<Statement>(&bytes) else { continue };
        for told in read::tell(&statement) {
            entries.push(Entry {
                stage: told.stage,
                summary: told.summary,
                standing: Standing::Unverified,
                why: "nobody signed it".to_owned(),
                of: image.digest.clone(),
                predicate_type: Some(statement.predicate_type.as_str().to_owned()),
                formats: Vec::new(),
                evidence: vec![manifest.digest.clone()],
                details: told.details,
            });
        }
    }
    Ok(entries)
}
