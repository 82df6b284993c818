//! Closures: an image with everything that belongs to it, and one digest over the whole.
//!
//! What belongs to an image: its manifest, the children of an index, the referrers of each, the
//! tags `sha256-<hex>.sig`, `.att` and `.sbom` of each, and the same of every one of those.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fairlead_step::{Digest, Image, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use crate::lists::{Kind, List};
use crate::model::media_type;
use crate::tag_index::TagIndex;
use crate::{Client, Content, Descriptor, Error, Manifest};

/// The most manifests that one closure may have.
pub const MEMBERS_LIMIT: usize = 2000;
/// The most findings that one closure tells.
const FINDINGS_LIMIT: usize = 1000;
/// The most bytes that the manifests of one closure may have together.
pub const CLOSURE_LIMIT: u64 = 256 << 20;

/// The tags that older signing tools keep beside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LegacyTag {
    /// Signatures.
    Sig,
    /// Attestations.
    Att,
    /// Bills of material.
    Sbom,
}

impl LegacyTag {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sig, Self::Att, Self::Sbom];

    /// What stands behind the dot.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Sig => "sig",
            Self::Att => "att",
            Self::Sbom => "sbom",
        }
    }

    /// The tag that goes with `subject`.
    #[must_use]
    pub fn of(self, subject: &Digest) -> String {
        format!("{}-{}.{}", subject.algorithm().name(), subject.hex(), self.suffix())
    }
}

/// How a manifest belongs to a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// It is the image itself.
    Root,
    /// An index lists it.
    Child {
        /// The index.
        of: Digest,
    },
    /// It is attached to another.
    Referrer {
        /// What it is attached to.
        of: Digest,
    },
    /// A legacy tag points to it.
    Legacy {
        /// What the tag goes with.
        of: Digest,
        /// Which tag.
        tag: LegacyTag,
    },
}

/// One manifest of a closure.
#[derive(Debug, Clone)]
pub struct Member {
    /// The manifest.
    pub manifest: Manifest,
    /// How it belongs.
    pub relation: Relation,
    /// How many steps from manifest to attachment lead to it.
    pub generation: usize,
    /// How many steps from index to child lead to it, since the last attachment.
    pub depth: usize,
    /// Whether it belongs as the bytes it is. Of a legacy tag, documents that cannot be read or
    /// copied are left out, and then only those count that are in its layers.
    pub whole: bool,
}

impl Member {
    /// The blobs that it needs.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        if self.whole {
            return self.manifest.blobs();
        }
        self.manifest.layers().iter().filter(|layer| !layer.is_foreign()).collect()
    }
}

/// An image and everything that belongs to it.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The image.
    pub image: Image,
    /// The manifests: the image first, then as they were found.
    pub members: Vec<Member>,
    /// Referrers that a list names and that the registry does not have any more.
    pub dangling: Vec<Descriptor>,
    /// What is attached and not in here because it cannot be read, and what is in here without
    /// being understood, as lines for people. What somebody attached is never the end of the work.
    pub findings: Vec<String>,
}

/// A manifest to be read.
struct Lead {
    digest: Option<Digest>,
    relation: Relation,
    generation: usize,
    depth: usize,
}

/// What one manifest led to.
#[derive(Default)]
struct Found {
    member: Option<Member>,
    dangling: Option<Digest>,
    referrers: Vec<Descriptor>,
    /// Which evidence tags it has, where that is known.
    tags: Option<BTreeSet<String>>,
    findings: Vec<String>,
}

impl Closure {
    /// Every blob that the closure needs, each once.
    #[must_use]
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut blobs = BTreeMap::new();
        for member in &self.members {
            for blob in member.blobs() {
                blobs.entry(blob.digest.clone()).or_insert_with(|| blob.clone());
            }
        }
        blobs.into_values().collect()
    }

    /// One digest over the whole: the root of a Merkle tree (hashed as in RFC 6962, section 2.1)
    /// over the sorted descriptors of all manifests and blobs.
    ///
    /// It does not depend on how a registry keeps its lists, so it is the same at the source and
    /// at the destination of a copy. Of a legacy tag the layers count, with their annotations, and
    /// not the manifest around them, which grows when somebody signs again.
    #[must_use]
    pub fn digest(&self) -> Digest {
        merkle_root(self.leaves().iter().map(String::as_bytes))
    }

    /// What of this closure `other` does not have, as lines for people.
    #[must_use]
    pub fn missing_from(&self, other: &Self) -> Vec<String> {
        let there = other.leaves();
        self.leaves().into_iter().filter(|leaf| !there.contains(leaf)).collect()
    }

    fn leaves(&self) -> BTreeSet<String> {
        let line =
            |what: &str, d: &Descriptor| format!("{what} {} {} {}", d.digest, d.size, d.media_type);
        let mut leaves = BTreeSet::new();
        for Member { manifest, relation, .. } in &self.members {
            match (relation, &manifest.content) {
                (Relation::Legacy { of, tag }, Content::Image { layers, .. }) => {
                    for layer in layers {
                        let annotations = serde_json::json!(layer.annotations);
                        let what = line(tag.suffix(), layer);
                        leaves.insert(format!("{what} of {of} {annotations}"));
                    }
                }
                (
                    Relation::Legacy { .. }
                    | Relation::Root
                    | Relation::Child { .. }
                    | Relation::Referrer { .. },
                    _,
                ) => {
                    leaves.insert(line("manifest", &manifest.descriptor()));
                    leaves.extend(manifest.blobs().into_iter().map(|blob| line("blob", blob)));
                }
            }
        }
        leaves
    }
}

/// The root of the Merkle tree over `leaves` in their order.
fn merkle_root<'a>(leaves: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut level: Vec<[u8; 32]> = leaves
        .map(|leaf| Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
        .collect();
    if level.is_empty() {
        return Digest::sha256(b"");
    }
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Sha256::new()
                    .chain_update([1])
                    .chain_update(left)
                    .chain_update(right)
                    .finalize()
                    .into(),
                [alone, ..] => *alone,
                [] => [0; 32],
            })
            .collect();
    }
    Digest::from_sha256(&level[0])
}

impl Client {
    /// Finds everything that belongs to `image`. Attachments that cannot be read are findings.
    ///
    /// # Errors
    /// What reading the image itself fails with, above all [`Error::NotFound`] for a child that is
    /// missing; a registry that cannot be reached, is busy or lets nobody in;
    /// [`Error::TooMany`] beyond [`MEMBERS_LIMIT`] manifests; [`Error::TooLarge`] beyond
    /// [`CLOSURE_LIMIT`] bytes of them.
    pub async fn closure(&self, image: &Image) -> Result<Closure, Error> {
        let repository = &image.repository;
        let mut closure = Closure {
            image: image.clone(),
            members: Vec::new(),
            dangling: Vec::new(),
            findings: Vec::new(),
        };
        let mut seen: HashSet<Digest> = HashSet::from([image.digest.clone()]);
        let mut expanded: HashSet<Digest> = HashSet::new();
        let mut bytes: u64 = 0;
        // The list of tags is asked for while the image is read.
        let mut index = None;
        let mut leads = vec![Lead {
            digest: Some(image.digest.clone()),
            relation: Relation::Root,
            generation: 0,
            depth: 0,
        }];
        while !leads.is_empty() {
            let known = match index.take() {
                Some(index) => index,
                None => self.tag_index(repository).await?,
            };
            let wave: Vec<Found> = stream::iter(
                leads
                    .into_iter()
                    .map(|lead| self.follow(repository, &known, lead))
                    .collect::<Vec<_>>(),
            )
            .buffered(self.options().parallel.max(1))
            .try_collect()
            .await?;
            index = Some(known);
            leads = Vec::new();
            for found in wave {
                if let Some(digest) = found.dangling {
                    let lost = Descriptor { digest, ..Descriptor::of("", &[]) };
                    closure.dangling.push(lost);
                }
                let room = FINDINGS_LIMIT.saturating_sub(closure.findings.len());
                closure.findings.extend(found.findings.into_iter().take(room));
                let Some(member) = found.member else { continue };
                // A tag may point anywhere, also back to where it was found.
                if expanded.insert(member.manifest.digest.clone()) {
                    leads.extend(next_leads(
                        &member,
                        &found.referrers,
                        found.tags.as_ref(),
                        &mut seen,
                    ));
                }
                bytes += member.manifest.bytes.len() as u64;
                closure.members.push(member);
            }
            let what = || format!("everything that belongs to {image}");
            if closure.members.len() + leads.iter().filter(|l| l.digest.is_some()).count()
                > MEMBERS_LIMIT
            {
                return Err(Error::TooMany { what: what(), limit: MEMBERS_LIMIT });
            }
            if bytes > CLOSURE_LIMIT {
                return Err(Error::TooLarge { what: what(), limit: CLOSURE_LIMIT });
            }
        }
        Ok(closure)
    }

    /// Reads one manifest and lists its referrers.
    async fn follow(
        &self,
        repository: &Repository,
        index: &TagIndex,
        lead: Lead,
    ) -> Result<Found, Error> {
        let Lead { digest, relation, generation, depth } = lead;
        let (manifest, whole, mut findings) = match (&relation, digest) {
            (Relation::Legacy { of, tag }, _) => {
                match self.legacy_manifest(repository, &tag.of(of)).await? {
                    (Some((manifest, whole)), findings) => (manifest, whole, findings),
                    (None, findings) => return Ok(Found { findings, ..Found::default() }),
                }
            }
            (Relation::Referrer { of }, Some(digest)) => {
                let image = repository.at(digest.clone());
                let left = |why: String| Found {
                    findings: vec![format!("an attachment of {of} is left where it is: {why}")],
                    ..Found::default()
                };
                let manifest = match self.manifest(&image).await {
                    Ok(manifest) => manifest,
                    // A list may outlive what it lists.
                    Err(error) if error.is_not_found() => {
                        return Ok(Found { dangling: Some(digest), ..Found::default() });
                    }
                    Err(error) if error.is_unreadable() => return Ok(left(error.to_string())),
                    Err(error) => return Err(error),
                };
                // Only what says itself that it is attached is: a list can name anything.
                if manifest.subject.as_ref().map(|s| &s.digest) != Some(of) {
                    return Ok(left(format!("{digest} is listed, but is not attached to it")));
                }
                (manifest, true, Vec::new())
            }
            (Relation::Child { .. }, Some(digest)) => {
                let (manifest, findings) = self.child_manifest(repository, &digest).await?;
                (manifest, true, findings)
            }
            (Relation::Root, Some(digest)) => {
                (self.manifest(&repository.at(digest)).await?, true, Vec::new())
            }
            (Relation::Root | Relation::Child { .. } | Relation::Referrer { .. }, None) => {
                return Ok(Found::default());
            }
        };
        let image = repository.at(manifest.digest.clone());
        let tags = self.evidence_tags(repository, index, &image.digest).await?;
        let listed = self.list_referrers_by(&image, tags.as_ref()).await?;
        if listed.truncated {
            return Err(Error::TooMany {
                what: format!("the referrers of {image}"),
                limit: crate::REFERRERS_LIMIT,
            });
        }
        findings.extend(listed.findings);
        let member = Some(Member { manifest, relation, generation, depth, whole });
        Ok(Found { member, dangling: None, referrers: listed.manifests, tags, findings })
    }

    /// What is under a legacy tag, whether all of it, and what cannot be read of it.
    async fn legacy_manifest(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<(Option<(Manifest, bool)>, Vec<String>), Error> {
        let left = |why: &dyn std::fmt::Display| format!("{why}; it is left where it is");
        let raw = match self.get_raw(repository, tag, None).await {
            Ok(raw) => raw,
            Err(error) if error.is_not_found() => return Ok((None, Vec::new())),
            Err(error) if error.is_unreadable() => return Ok((None, vec![left(&error)])),
            Err(error) => return Err(error),
        };
        let what = format!("manifest {tag} of {repository}");
        let (digest, bytes) = (raw.digest.clone(), raw.bytes.clone());
        let error = match Manifest::parse(digest, raw.content_type.as_deref(), bytes, &what) {
            Ok(manifest) => return Ok((Some((manifest, true)), Vec::new())),
            Err(error) => error,
        };
        // One document that cannot be read takes no other with it.
        let kind = Kind::Documents { whole: None, joins: true };
        let Ok(list) = List::parse(&raw, kind, &what) else {
            return Ok((None, vec![left(&error)]));
        };
        let (layers, problems) = list.descriptors();
        let mut findings = vec![error.to_string()];
        findings.extend(problems.iter().map(|problem| left(&format!("in {what}, {problem}"))));
        if layers.is_empty() {
            return Ok((None, findings));
        }
        let manifest = Manifest {
            digest: raw.digest,
            media_type: list.media_type,
            bytes: raw.bytes,
            artifact_type: None,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
            content: Content::Image { config: Descriptor::of("", &[]), layers },
        };
        Ok((Some((manifest, false)), findings))
    }

    /// A child of an index. One that is no manifest that Fairlead reads travels as the bytes it is:
    /// the index is not whole without it.
    async fn child_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(Manifest, Vec<String>), Error> {
        let name = digest.to_string();
        let raw = self.get_raw(repository, &name, Some(digest)).await?;
        let what = format!("manifest {name} of {repository}");
        let kind = raw.content_type.clone();
        match Manifest::parse(raw.digest, kind.as_deref(), raw.bytes.clone(), &what) {
            Ok(manifest) => Ok((manifest, Vec::new())),
            Err(error @ Error::Malformed { .. }) => {
                let manifest = Manifest {
                    digest: digest.clone(),
                    media_type: kind.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
                    bytes: raw.bytes,
                    artifact_type: None,
                    subject: None,
                    annotations: std::collections::BTreeMap::new(),
                    content: Content::Unknown,
                };
                Ok((manifest, vec![format!("{error}; it is taken as the bytes it is")]))
            }
            Err(error) => Err(error),
        }
    }
}

impl Closure {
    /// Takes out what needs one of the `lost` blobs, with all that hangs on it, and says so.
    ///
    /// # Errors
    /// The reason why a blob is lost that the image itself needs.
    pub(crate) fn without_blobs(&mut self, mut lost: BTreeMap<Digest, Error>) -> Result<(), Error> {
        let own = self.members.iter().filter(|member| member.generation == 0);
        let needed: Vec<Digest> =
            own.flat_map(Member::blobs).map(|blob| blob.digest.clone()).collect();
        if let Some(error) = needed.iter().find_map(|digest| lost.remove(digest)) {
            return Err(error);
        }
        let mut gone = vec![false; self.members.len()];
        for (member, gone) in self.members.iter_mut().zip(&mut gone) {
            let missing: Vec<Digest> = member
                .blobs()
                .into_iter()
                .filter(|blob| lost.contains_key(&blob.digest))
                .map(|blob| blob.digest.clone())
                .collect();
            let Some(first) = missing.first().and_then(|digest| lost.get(digest)) else { continue };
            if let (Relation::Legacy { .. }, Content::Image { layers, .. }) =
                (&member.relation, &mut member.manifest.content)
            {
                layers.retain(|layer| !missing.contains(&layer.digest));
                member.whole = false;
                if !layers.is_empty() {
                    let text = format!(
                        "a document of the legacy tag with {} is left where it is: {first}",
                        member.manifest.digest
                    );
                    self.findings.push(text);
                    continue;
                }
            }
            let digest = &member.manifest.digest;
            self.findings.push(format!("attachment {digest} is left where it is: {first}"));
            *gone = true;
        }
        self.remove(gone);
        Ok(())
    }

    /// Takes out the members that `gone` marks, with all that hangs on them. The image itself stays.
    pub(crate) fn remove(&mut self, mut gone: Vec<bool>) {
        loop {
            let before = gone.clone();
            let members = || self.members.iter().zip(&before);
            // The same manifest may belong in several ways.
            let there: HashSet<&Digest> =
                members().filter(|(_, gone)| !**gone).map(|(m, _)| &m.manifest.digest).collect();
            // An index is not whole without its child.
            let halved: HashSet<&Digest> = members()
                .filter(|(_, gone)| **gone)
                .filter_map(|(member, _)| match &member.relation {
                    Relation::Child { of } => Some(of),
                    Relation::Root | Relation::Referrer { .. } | Relation::Legacy { .. } => None,
                })
                .collect();
            for (member, gone) in self.members.iter().zip(&mut gone) {
                let hangs = match &member.relation {
                    Relation::Root => false,
                    Relation::Child { of }
                    | Relation::Referrer { of }
                    | Relation::Legacy { of, .. } => !there.contains(of),
                };
                *gone |= hangs || halved.contains(&member.manifest.digest);
                *gone &= member.generation > 0;
            }
            if gone == before {
                break;
            }
        }
        let mut gone = gone.into_iter();
        self.members.retain(|_| gone.next() == Some(false));
    }
}

/// What `member` leads to and nobody has looked at yet.
fn next_leads(
    member: &Member,
    referrers: &[Descriptor],
    tags: Option<&BTreeSet<String>>,
    seen: &mut HashSet<Digest>,
) -> Vec<Lead> {
    let of = &member.manifest.digest;
    let mut leads = Vec::new();
    for child in member.manifest.children() {
        if seen.insert(child.digest.clone()) {
            leads.push(Lead {
                digest: Some(child.digest.clone()),
                relation: Relation::Child { of: of.clone() },
                generation: member.generation,
                depth: member.depth + 1,
            });
        }
    }
    for referrer in referrers {
        if seen.insert(referrer.digest.clone()) {
            leads.push(Lead {
                digest: Some(referrer.digest.clone()),
                relation: Relation::Referrer { of: of.clone() },
                generation: member.generation + 1,
                depth: 0,
            });
        }
    }
    let may_be = |tag: &LegacyTag| tags.is_none_or(|tags| tags.contains(&tag.of(of)));
    for tag in LegacyTag::ALL.into_iter().filter(may_be) {
        leads.push(Lead {
            digest: None,
            relation: Relation::Legacy { of: of.clone(), tag },
            generation: member.generation + 1,
            depth: 0,
        });
    }
    leads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_hashed_as_certificate_transparency_hashes_it() {
        // The roots for the first entries of the tree that RFC 6962 implementations are tested with.
        let inputs: [&[u8]; 3] = [b"", &[0], &[0x10]];
        for (count, want) in [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        ] {
            assert_eq!(merkle_root(inputs[..count].iter().copied()).hex(), want);
        }
    }
}
