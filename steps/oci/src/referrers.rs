//! Referrers: what is attached to an image, by the referrers API or by the tag that stands in for
//! it (distribution-spec v1.1, "Listing Referrers", "Pushing Manifests with Subject").

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use fairlead_step::{Digest, Image, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Rights;
use crate::host::{Host, locked};
use crate::lists::Kind;
use crate::model::{REFERRERS_LIMIT, media_type};
use crate::request::{Call, Reply, backoff, has_code};
use crate::tags::{PAGE_LIMIT, next_page};
use crate::{Client, Descriptor, Error, Manifest};

/// What is attached to an image, as far as it can be read.
#[derive(Debug, Clone, Default)]
pub struct Referrers {
    /// The manifests that are attached, in the registry's order, each once.
    pub manifests: Vec<Descriptor>,
    /// What in the list cannot be read, as lines for people.
    pub findings: Vec<String>,
    /// Whether there are more than [`REFERRERS_LIMIT`], which are not in `manifests`.
    pub truncated: bool,
}

/// What a registry answers to who asks for referrers.
enum Answer {
    /// The list.
    Listed(Referrers),
    /// It has no such API.
    NoApi,
    /// It does not know the name. Whether it has the API stays open.
    UnknownName,
}

/// A document to attach to an image.
#[derive(Debug, Clone, Default)]
pub struct Artifact {
    /// What it is, such as `application/vnd.dev.sigstore.bundle.v0.3+json`.
    pub artifact_type: String,
    /// The config blob: its media type and bytes. Without one it is the empty config `{}`.
    pub config: Option<(String, Bytes)>,
    /// The documents.
    pub layers: Vec<Layer>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// One document of an [`Artifact`].
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
}

/// What became of an artifact that was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The artifact's manifest.
    pub descriptor: Descriptor,
    /// Whether it was there before, with the same bytes, and listed.
    pub was_there: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactManifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Descriptor,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

const EMPTY_CONFIG: &[u8] = b"{}";
/// The most findings about one list that are told.
const FINDINGS_LIMIT: usize = 100;

impl Artifact {
    fn config(&self) -> (&str, Bytes) {
        match &self.config {
            Some((media_type, bytes)) => (media_type, bytes.clone()),
            None => (media_type::OCI_EMPTY, Bytes::from_static(EMPTY_CONFIG)),
        }
    }

    /// The manifest's bytes, the same for the same artifact and subject.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be written as JSON.
    pub fn manifest(&self, subject: &Descriptor) -> Result<Bytes, Error> {
        let (config_type, config) = self.config();
        let manifest = ArtifactManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            artifact_type: &self.artifact_type,
            config: Descriptor::of(config_type, &config),
            layers: self
                .layers
                .iter()
                .map(|layer| Descriptor {
                    annotations: layer.annotations.clone(),
                    ..Descriptor::of(&layer.media_type, &layer.bytes)
                })
                .collect(),
            subject: Descriptor {
                media_type: subject.media_type.clone(),
                digest: subject.digest.clone(),
                size: subject.size,
                ..Descriptor::of("", &[])
            },
            annotations: &self.annotations,
        };
        serde_json::to_vec(&manifest).map(Bytes::from).map_err(|e| Error::Malformed {
            what: format!("the manifest of {}", self.artifact_type),
            problem: e.to_string(),
        })
    }
}

/// The tag that stands in for the referrers API.
fn fallback_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

impl Client {
    /// Everything that is attached to `image`, in the registry's order, each once.
    ///
    /// Nothing is filtered: writers disagree on the `artifactType` in the list. An entry that cannot
    /// be read is left out; [`Client::list_referrers`] tells of it. No referrers and a failure to
    /// list them are different answers.
    ///
    /// # Errors
    /// When the registry cannot say; [`Error::Malformed`] when the list is none;
    /// [`Error::TooMany`] beyond [`REFERRERS_LIMIT`].
    pub async fn referrers(&self, image: &Image) -> Result<Vec<Descriptor>, Error> {
        let host = self.host(&image.repository).await?;
        let referrers = match self.referrers_by_api(&host, image).await? {
            Answer::Listed(listed) => listed,
            Answer::NoApi | Answer::UnknownName => self.fallback_referrers(image).await?,
        };
        if referrers.truncated {
            return Err(Error::TooMany { what: what_of(image), limit: REFERRERS_LIMIT });
        }
        Ok(referrers.manifests)
    }

    /// Everything that is attached to `image`, as far as it can be read. Each entry that cannot be
    /// read is a finding, and so is a tag in place of the API that holds no list, or one that is too
    /// large: whoever may push can make those.
    ///
    /// # Errors
    /// When the registry cannot say.
    pub async fn list_referrers(&self, image: &Image) -> Result<Referrers, Error> {
        self.list_referrers_by(image, None).await
    }

    /// The same, where it may be known already which evidence tags the image has.
    pub(crate) async fn list_referrers_by(
        &self,
        image: &Image,
        tags: Option<&BTreeSet<String>>,
    ) -> Result<Referrers, Error> {
        let host = self.host(&image.repository).await?;
        match self.referrers_by_api(&host, image).await? {
            Answer::Listed(listed) => return Ok(listed),
            Answer::NoApi | Answer::UnknownName => {}
        }
        if tags.is_some_and(|tags| !tags.contains(&fallback_tag(&image.digest))) {
            return Ok(Referrers::default());
        }
        match self.fallback_referrers(image).await {
            // An answer that has no meaning here is none.
            Err(error @ Error::Refused { .. }) => Err(error),
            Err(error) if error.is_unreadable() => {
                Ok(Referrers { findings: vec![error.to_string()], ..Referrers::default() })
            }
            other => other,
        }
    }

    async fn fallback_referrers(&self, image: &Image) -> Result<Referrers, Error> {
        let tag = fallback_tag(&image.digest);
        let list = self.list_at(&image.repository, &tag, Kind::Referrers).await?;
        let mut referrers = Referrers::default();
        if let Some(list) = list {
            let (manifests, problems) = list.descriptors();
            referrers.add(manifests, problems, image);
        }
        Ok(referrers)
    }

    /// Attaches an artifact to `subject`, the manifest of an image in `repository`: the blobs
    /// first, then the manifest, then the list of referrers where the registry keeps none.
    ///
    /// The same artifact again is found and left alone; each part that is missing is mended.
    ///
    /// # Errors
    /// When the registry refuses a part; [`Error::LostUpdate`] when other writers keep
    /// overwriting the list.
    pub async fn attach(
        &self,
        repository: &Repository,
        subject: &Descriptor,
        artifact: &Artifact,
    ) -> Result<Attached, Error> {
        let bytes = artifact.manifest(subject)?;
        let descriptor = Descriptor {
            artifact_type: Some(artifact.artifact_type.clone()),
            annotations: artifact.annotations.clone(),
            ..Descriptor::of(media_type::OCI_MANIFEST, &bytes)
        };
        let image = repository.at(subject.digest.clone());
        let there = self.list_referrers(&image).await?.manifests;
        let listed = there.iter().any(|there| there.digest == descriptor.digest);
        if listed && self.has_manifest(repository, &descriptor.digest).await? {
            return Ok(Attached { descriptor, was_there: true });
        }
        let mut blobs = vec![artifact.config().1];
        blobs.extend(artifact.layers.iter().map(|layer| layer.bytes.clone()));
        stream::iter(
            blobs.into_iter().map(|blob| async move { self.put_blob(repository, &blob).await }),
        )
        .buffer_unordered(self.options().parallel_blobs.max(1))
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
        let manifest =
            Manifest::parse(descriptor.digest.clone(), None, bytes, "the artifact's manifest")?;
        self.put_referrer(repository, &manifest).await?;
        Ok(Attached { descriptor, was_there: false })
    }

    /// Writes a manifest that has a `subject`, whose blobs are there already, and sees to it that
    /// it is listed among the subject's referrers.
    ///
    /// # Errors
    /// As [`Client::attach`]; [`Error::Malformed`] when it has no subject.
    pub async fn put_referrer(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let Some(subject) = &manifest.subject else {
            return Err(Error::Malformed {
                what: format!("manifest {} for {repository}", manifest.digest),
                problem: "it has no subject".into(),
            });
        };
        let put = self
            .write_manifest(
                repository,
                &manifest.digest.to_string(),
                &manifest.media_type,
                &manifest.bytes,
                manifest.digest.clone(),
            )
            .await?;
        if put.subject_listed {
            return Ok(());
        }
        self.ensure_listed(&repository.at(subject.digest.clone()), &[manifest]).await
    }

    /// Sees to it that `manifests`, which are written and have `image` as their subject, are
    /// listed among its referrers.
    pub(crate) async fn ensure_listed(
        &self,
        image: &Image,
        manifests: &[&Manifest],
    ) -> Result<(), Error> {
        let host = self.host(&image.repository).await?;
        // A registry with the API lists what it holds, whether it said so or not.
        for attempt in 1..=self.options().attempts {
            let listed = match self.referrers_by_api(&host, image).await? {
                Answer::Listed(listed) => listed,
                // It knows the name, as something was just written under it.
                Answer::NoApi | Answer::UnknownName => {
                    *locked(&host.referrers_api) = Some(false);
                    let ours: Vec<Value> = manifests.iter().map(|m| entry(m)).collect();
                    let tag = fallback_tag(&image.digest);
                    self.grow(&image.repository, &tag, Kind::Referrers, &ours).await?;
                    return Ok(());
                }
            };
            let has = |m: &&Manifest| listed.manifests.iter().any(|r| r.digest == m.digest);
            if manifests.iter().all(has) {
                return Ok(());
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
        }
        Err(Error::NotListed { what: format!("a referrer of {image}") })
    }

    /// Asks the referrers API, unless the registry is known to have none. What it answers is
    /// remembered for the whole registry.
    async fn referrers_by_api(&self, host: &Host, image: &Image) -> Result<Answer, Error> {
        if *locked(&host.referrers_api) == Some(false) {
            return Ok(Answer::NoApi);
        }
        let what = what_of(image);
        let mut next = Some(host.url(&image.repository, &format!("referrers/{}", image.digest))?);
        let mut all = Referrers::default();
        let mut pages = 0;
        while let Some(url) = next {
            let call = Call::read(Method::GET, url.clone(), Rights::Pull(&image.repository), &what)
                .header(ACCEPT, media_type::OCI_INDEX);
            let reply = self.call(host, &call, PAGE_LIMIT).await?;
            let entries = match page(&reply) {
                Page::Entries(entries) => entries,
                Page::UnknownName if pages == 0 => return Ok(Answer::UnknownName),
                Page::NoApi if pages == 0 => {
                    // One that had it for another image has it.
                    locked(&host.referrers_api).get_or_insert(false);
                    return Ok(Answer::NoApi);
                }
                Page::Malformed(problem) => return Err(Error::Malformed { what, problem }),
                Page::NoApi | Page::UnknownName | Page::Refused => {
                    return Err(reply.refused(host, &what));
                }
            };
            *locked(&host.referrers_api) = Some(true);
            pages += 1;
            next = next_page(host, &url, &reply, &what)?.filter(|_| !entries.is_empty());
            let mut problems = Vec::new();
            let read = |entry: &Value| match Descriptor::deserialize(entry) {
                Ok(descriptor) => Some(descriptor),
                Err(error) => {
                    problems.push(format!("an entry cannot be read: {error}"));
                    None
                }
            };
            let manifests = entries.iter().filter_map(read).collect();
            all.add(manifests, problems, image);
            // Pages that only repeat themselves end here too.
            if all.truncated || pages > REFERRERS_LIMIT {
                all.truncated = true;
                break;
            }
        }
        Ok(Answer::Listed(all))
    }
}

impl Referrers {
    fn add(&mut self, manifests: Vec<Descriptor>, problems: Vec<String>, image: &Image) {
        let mut known: HashSet<Digest> = self.manifests.iter().map(|m| m.digest.clone()).collect();
        self.manifests.extend(manifests.into_iter().filter(|m| known.insert(m.digest.clone())));
        if self.manifests.len() > REFERRERS_LIMIT {
            self.manifests.truncate(REFERRERS_LIMIT);
            self.truncated = true;
        }
        let room = FINDINGS_LIMIT.saturating_sub(self.findings.len());
        let lines = problems.iter().map(|problem| format!("in {}, {problem}", what_of(image)));
        self.findings.extend(lines.take(room));
    }
}

/// One answer of the referrers API.
enum Page {
    Entries(Vec<Value>),
    NoApi,
    UnknownName,
    /// It is the API's, and cannot be read.
    Malformed(String),
    /// A status that says nothing about the API.
    Refused,
}

/// What an answer is. A registry without the API has many ways to say so: a status, a page for
/// people from a front that answers everything, another document.
fn page(reply: &Reply) -> Page {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: Option<u64>,
        media_type: Option<String>,
        manifests: Option<Vec<Value>>,
    }
    match reply.status.as_u16() {
        200 => {}
        404 if has_code(&reply.body, &["NAME_UNKNOWN", "MANIFEST_UNKNOWN"]) => {
            return Page::UnknownName;
        }
        400 if has_code(&reply.body, &["NAME_INVALID", "DIGEST_INVALID"]) => {
            return Page::UnknownName;
        }
        400 | 404 | 405 | 406 | 501 => return Page::NoApi,
        _ => return Page::Refused,
    }
    let kind = reply.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_said = kind.eq_ignore_ascii_case(media_type::OCI_INDEX);
    match serde_json::from_slice::<Index>(&reply.body) {
        Ok(index) => {
            let fits = index.media_type.is_none_or(|m| m == media_type::OCI_INDEX)
                && index.schema_version == Some(2)
                && index.manifests.is_some();
            if is_said || fits {
                Page::Entries(index.manifests.unwrap_or_default())
            } else {
                Page::NoApi
            }
        }
        Err(error) if is_said => Page::Malformed(error.to_string()),
        Err(_) => Page::NoApi,
    }
}

/// An entry of the stand-in list, with the true artifact type and the annotations, as the
/// specification asks.
fn entry(manifest: &Manifest) -> Value {
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    if let Some(artifact_type) = &manifest.artifact_type {
        entry["artifactType"] = json!(artifact_type);
    }
    if !manifest.annotations.is_empty() {
        entry["annotations"] = json!(manifest.annotations);
    }
    entry
}

fn what_of(image: &Image) -> String {
    format!("the referrers of {image}")
}
