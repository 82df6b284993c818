//! Referrers: what is attached to an image, by the referrers API or by the tag that stands in for
//! it (distribution-spec v1.1, "Listing Referrers", "Pushing Manifests with Subject").

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use fairlead_step::{Digest, Image, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::header::ACCEPT;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Rights;
use crate::host::{Host, locked};
use crate::model::{REFERRERS_LIMIT, media_type};
use crate::request::{Call, backoff};
use crate::tags::{PAGE_LIMIT, lock_for, next_page, settle};
use crate::{Client, Descriptor, Error, Manifest};

/// How often the stand-in list is written when other writers keep overwriting it.
const WRITES: u32 = 8;

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
    /// Nothing is filtered: writers disagree on the `artifactType` in the list, so who looks for
    /// one kind opens each manifest. No referrers and a failure to list them are different
    /// answers.
    ///
    /// # Errors
    /// When the registry cannot say; [`Error::TooMany`] beyond [`REFERRERS_LIMIT`].
    pub async fn referrers(&self, image: &Image) -> Result<Vec<Descriptor>, Error> {
        let host = self.host(&image.repository).await?;
        let known = locked(&host.referrers_api).get(image.repository.path()).copied();
        if known != Some(false) {
            let listed = self.referrers_by_api(&host, image).await?;
            let has_api = listed.is_some();
            locked(&host.referrers_api).insert(image.repository.path().to_owned(), has_api);
            if let Some(listed) = listed {
                return Ok(listed);
            }
        }
        let list = self.fallback_list(image).await?;
        list.entries.iter().map(|entry| read_entry(entry, &what_of(image))).collect()
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
        let listed = self.referrers(&image).await?.iter().any(|r| r.digest == descriptor.digest);
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
            let known = locked(&host.referrers_api).get(image.repository.path()).copied();
            let listed = match known {
                Some(false) => None,
                Some(true) | None => self.referrers_by_api(&host, image).await?,
            };
            locked(&host.referrers_api)
                .insert(image.repository.path().to_owned(), listed.is_some());
            let Some(listed) = listed else {
                return self.list_in_fallback(image, manifests).await;
            };
            if manifests.iter().all(|m| listed.iter().any(|r| r.digest == m.digest)) {
                return Ok(());
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
        }
        Err(Error::NotListed { what: format!("a referrer of {image}") })
    }

    /// `None` when the registry has no referrers API.
    async fn referrers_by_api(
        &self,
        host: &Host,
        image: &Image,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        #[derive(Deserialize)]
        struct Page {
            manifests: Option<Vec<Value>>,
        }
        let what = what_of(image);
        let mut next = Some(host.url(&image.repository, &format!("referrers/{}", image.digest))?);
        let mut all: Vec<Descriptor> = Vec::new();
        let mut pages = 0;
        while let Some(url) = next {
            let call = Call::read(Method::GET, url.clone(), Rights::Pull(&image.repository), &what)
                .header(ACCEPT, media_type::OCI_INDEX);
            let reply = self.call(host, &call, PAGE_LIMIT).await?;
            match reply.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED
                    if pages == 0 =>
                {
                    return Ok(None);
                }
                _ => return Err(reply.refused(host, &what)),
            }
            pages += 1;
            let page: Page = serde_json::from_slice(&reply.body)
                .map_err(|e| Error::Malformed { what: what.clone(), problem: e.to_string() })?;
            let entries = page.manifests.unwrap_or_default();
            next = next_page(host, &url, &reply, &what)?.filter(|_| !entries.is_empty());
            for entry in &entries {
                let descriptor = read_entry(entry, &what)?;
                if !all.iter().any(|known| known.digest == descriptor.digest) {
                    all.push(descriptor);
                }
                // Pages that only repeat themselves end here too.
                if all.len() > REFERRERS_LIMIT || pages > REFERRERS_LIMIT {
                    return Err(Error::TooMany { what, limit: REFERRERS_LIMIT });
                }
            }
        }
        Ok(Some(all))
    }

    /// The stand-in list; empty when there is none.
    async fn fallback_list(&self, image: &Image) -> Result<Fallback, Error> {
        let tag = fallback_tag(&image.digest);
        let raw = match self.get_raw(&image.repository, &tag, None).await {
            Ok(raw) => raw,
            Err(error) if error.is_not_found() => return Ok(Fallback::empty()),
            Err(error) => return Err(error),
        };
        let what = format!("the list of referrers at tag {tag} of {}", image.repository);
        Fallback::parse(&raw.bytes, what)
    }

    /// Adds `manifests` to the stand-in list. The entries of others stay as they are. Read, changed
    /// and written under a lock of this process, then read again: a writer elsewhere who came
    /// between and left ours out is answered by doing it again.
    async fn list_in_fallback(&self, image: &Image, manifests: &[&Manifest]) -> Result<(), Error> {
        let tag = fallback_tag(&image.digest);
        let lock = lock_for(&format!("{}:{tag}", image.repository));
        let _held = lock.lock().await;
        for attempt in 1..=WRITES {
            let begun = Instant::now();
            let mut list = self.fallback_list(image).await?;
            let before = list.entries.len();
            for manifest in manifests {
                if !list.has(&manifest.digest) {
                    list.add(manifest);
                }
            }
            if list.entries.len() == before {
                return Ok(());
            }
            if list.entries.len() > REFERRERS_LIMIT {
                return Err(Error::TooMany { what: what_of(image), limit: REFERRERS_LIMIT });
            }
            let bytes = list.bytes();
            self.put_tag(&image.repository, &tag, media_type::OCI_INDEX, &bytes).await?;
            settle(begun.elapsed()).await;
            let after = self.fallback_list(image).await?;
            if manifests.iter().all(|m| after.has(&m.digest)) {
                return Ok(());
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
        }
        Err(Error::LostUpdate {
            what: format!("the list of referrers at tag {tag} of {}", image.repository),
            attempts: WRITES,
        })
    }
}

fn what_of(image: &Image) -> String {
    format!("the referrers of {image}")
}

fn read_entry(entry: &Value, what: &str) -> Result<Descriptor, Error> {
    Descriptor::deserialize(entry)
        .map_err(|e| Error::Malformed { what: what.to_owned(), problem: e.to_string() })
}

/// The index that stands in for the referrers API. What others wrote into it is carried along
/// whole, whether Fairlead knows the fields or not.
struct Fallback {
    document: serde_json::Map<String, Value>,
    entries: Vec<Value>,
}

impl Fallback {
    fn empty() -> Self {
        Self { document: serde_json::Map::new(), entries: Vec::new() }
    }

    fn parse(bytes: &[u8], what: String) -> Result<Self, Error> {
        let malformed = |problem: String| Error::Malformed { what: what.clone(), problem };
        let mut document: serde_json::Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        match document.remove("manifests") {
            Some(Value::Array(entries)) if entries.len() > REFERRERS_LIMIT => {
                Err(Error::TooMany { what, limit: REFERRERS_LIMIT })
            }
            Some(Value::Array(entries)) => Ok(Self { document, entries }),
            Some(Value::Null) => Ok(Self { document, entries: Vec::new() }),
            Some(_) | None => Err(malformed("it is not an index".into())),
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        let text = digest.to_string();
        self.entries.iter().any(|entry| entry["digest"].as_str() == Some(&text))
    }

    /// Adds an entry with the true artifact type and the annotations, as the specification asks.
    fn add(&mut self, manifest: &Manifest) {
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
        self.entries.push(entry);
    }

    fn bytes(&self) -> Bytes {
        let mut document = self.document.clone();
        document.insert("schemaVersion".into(), json!(2));
        document.insert("mediaType".into(), json!(media_type::OCI_INDEX));
        document.insert("manifests".into(), Value::Array(self.entries.clone()));
        Bytes::from(Value::Object(document).to_string())
    }
}
