//! The client: one value to reach every registry with, cheap to clone, with its logins, tokens and
//! connections inside.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fairlead_step::{Digest, Image, ImageRef, Registries, Repository};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{Method, StatusCode};
use url::Url;

use crate::host::{Host, locked};
use crate::model::MANIFEST_LIMIT;
use crate::request::{self, Call, Reply, backoff};
use crate::{Error, Manifest, Options, Transport};

/// The most bytes that a registry may say of itself.
const PING_LIMIT: u64 = 64 << 10;

/// A client of registries (distribution-spec v1.1). Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    registries: Arc<dyn Registries>,
    options: Options,
    hosts: tokio::sync::Mutex<HashMap<String, Arc<Host>>>,
}

/// What a reference points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The image, by digest.
    pub image: Image,
    /// The media type of its manifest, where the registry says it.
    pub media_type: String,
    /// The size of its manifest in bytes.
    pub size: u64,
}

/// Which rights a request needs.
#[derive(Clone, Copy)]
pub(crate) enum Rights<'a> {
    Pull(&'a Repository),
    Push(&'a Repository),
    /// To delete a tag.
    Delete(&'a Repository),
    /// To push to one and pull from another repository of the same registry.
    Mount {
        to: &'a Repository,
        from: &'a Repository,
    },
}

impl Rights<'_> {
    fn scopes(self) -> Vec<String> {
        let hub = |r: &Repository| {
            matches!(r.registry(), "docker.io" | "index.docker.io") && !r.path().contains('/')
        };
        let scope = |r: &Repository, actions: &str| {
            let library = if hub(r) { "library/" } else { "" };
            format!("repository:{library}{}:{actions}", r.path())
        };
        match self {
            Self::Pull(from) => vec![scope(from, "pull")],
            Self::Push(to) => vec![scope(to, "pull,push")],
            Self::Delete(of) => vec![scope(of, "delete")],
            Self::Mount { to, from } => {
                let mut scopes = vec![scope(to, "pull,push"), scope(from, "pull")];
                scopes.sort();
                scopes
            }
        }
    }
}

impl Client {
    /// A client with connections of its own and the default deadlines.
    #[must_use]
    pub fn new(registries: Arc<dyn Registries>) -> Self {
        Self::with(registries, Transport::new(), Options::default())
    }

    /// A client over `transport`, whose connections it shares.
    #[must_use]
    pub fn with(registries: Arc<dyn Registries>, transport: Transport, options: Options) -> Self {
        let hosts = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { transport, registries, options, hosts }) }
    }

    /// The deadlines and limits in use.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The registry that holds `repository`.
    pub(crate) async fn host(&self, repository: &Repository) -> Result<Arc<Host>, Error> {
        let name = repository.registry();
        let mut hosts = self.inner.hosts.lock().await;
        if let Some(host) = hosts.get(name) {
            return Ok(Arc::clone(host));
        }
        let access = self
            .inner
            .registries
            .access(name)
            .await
            .map_err(|source| Error::Access { registry: name.to_owned(), source })?;
        let host = Host::new(name, access, &self.inner.transport, &self.inner.options)?;
        let host = Arc::new(host);
        hosts.insert(name.to_owned(), Arc::clone(&host));
        Ok(host)
    }

    /// Asks the registry at `registry` (`host` or `host:port`) whether it is one, and lets us in
    /// (distribution-spec v1.1, "Determining Support").
    ///
    /// # Errors
    /// When it cannot be reached, refuses the login, or is no registry.
    pub async fn ping(&self, registry: &str) -> Result<(), Error> {
        // Settings are kept by registry; the path is not asked for.
        let any = Repository::new(registry, "ping").map_err(|e| Error::Settings {
            registry: registry.to_owned(),
            problem: e.to_string(),
        })?;
        let host = self.host(&any).await?;
        let what = format!("the registry {registry}");
        let url = host
            .base
            .join("v2/")
            .map_err(|e| Error::Malformed { what: what.clone(), problem: e.to_string() })?;
        let mut call = Call::read(Method::GET, url, Rights::Pull(&any), &what);
        call.scopes.clear();
        let reply = self.call(&host, &call, PING_LIMIT).await?;
        match reply.status {
            StatusCode::OK => Ok(()),
            _ => Err(reply.refused(&host, &what)),
        }
    }

    /// Says that images go from one repository to another: on one registry, one token is asked for where
    /// three would be.
    ///
    /// # Errors
    /// When there is no way to the registry.
    pub async fn use_together(&self, from: &Repository, to: &Repository) -> Result<(), Error> {
        if from.registry() == to.registry() && from != to {
            self.host(to).await?.use_together(Rights::Mount { to, from }.scopes());
        }
        Ok(())
    }

    pub(crate) async fn call(&self, host: &Host, call: &Call, limit: u64) -> Result<Reply, Error> {
        request::call(host, call, limit, &self.inner.options).await
    }

    /// Asks what `reference` points to, without reading it. A digest in the reference wins over
    /// its tag; with neither, the tag is `latest`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such tag or digest.
    pub async fn resolve(&self, reference: &ImageRef) -> Result<Resolved, Error> {
        let repository = &reference.repository;
        let name = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        };
        let what = format!("manifest {name} of {repository}");
        let (head, host) = self.head_manifest(repository, &name, &what).await?;
        if head.status != StatusCode::OK {
            return Err(head.refused(&host, &what));
        }
        let told = head.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        let size = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok())
            .filter(|size| *size > 0);
        let kind = head.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        let (Some(digest), Some(size), Some(media_type)) = (told, size, kind) else {
            // A registry that tells too little is asked for the whole.
            let manifest = self.get_manifest(repository, &name, reference.digest.as_ref()).await?;
            return Ok(Resolved {
                image: repository.at(manifest.digest.clone()),
                size: manifest.bytes.len() as u64,
                media_type: manifest.media_type,
            });
        };
        if let Some(expected) = reference.digest.as_ref().filter(|d| **d != digest) {
            return Err(Error::DigestMismatch { what, expected: expected.clone(), found: digest });
        }
        Ok(Resolved { image: repository.at(digest), media_type, size })
    }

    /// Where `tag` points, or `None` when there is no such tag.
    ///
    /// # Errors
    /// When the registry cannot say.
    pub async fn tag_digest(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Digest>, Error> {
        let reference =
            ImageRef { repository: repository.clone(), tag: Some(tag.to_owned()), digest: None };
        match self.resolve(&reference).await {
            Ok(resolved) => Ok(Some(resolved.image.digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the registry has the manifest `digest` in `repository`.
    ///
    /// # Errors
    /// When the registry cannot say.
    pub async fn has_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let what = format!("manifest {digest} of {repository}");
        let (head, host) = self.head_manifest(repository, &digest.to_string(), &what).await?;
        match head.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(head.refused(&host, &what)),
        }
    }

    async fn head_manifest(
        &self,
        repository: &Repository,
        name: &str,
        what: &str,
    ) -> Result<(Reply, Arc<Host>), Error> {
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("manifests/{name}"))?;
        let call =
            Call::read(Method::HEAD, url, Rights::Pull(repository), what).header(ACCEPT, ACCEPTED);
        let reply = self.call(&host, &call, 0).await?;
        Ok((reply, host))
    }

    /// Reads the manifest of `image`; its bytes are checked against the digest.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::DigestMismatch`], [`Error::Malformed`].
    pub async fn manifest(&self, image: &Image) -> Result<Manifest, Error> {
        self.get_manifest(&image.repository, &image.digest.to_string(), Some(&image.digest)).await
    }

    /// Reads the manifest that `tag` points to, or `None` when there is no such tag.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn manifest_at_tag(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Manifest>, Error> {
        match self.get_manifest(repository, tag, None).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get_manifest(
        &self,
        repository: &Repository,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<Manifest, Error> {
        let raw = self.get_raw(repository, name, expected).await?;
        let what = format!("manifest {name} of {repository}");
        Manifest::parse(raw.digest, raw.content_type.as_deref(), raw.bytes, &what)
    }

    /// Reads a manifest's bytes, checked against `expected` or else the registry's own word for
    /// their digest.
    pub(crate) async fn get_raw(
        &self,
        repository: &Repository,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<Raw, Error> {
        let what = format!("manifest {name} of {repository}");
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("manifests/{name}"))?;
        let call =
            Call::read(Method::GET, url, Rights::Pull(repository), &what).header(ACCEPT, ACCEPTED);
        let reply = self.call(&host, &call, MANIFEST_LIMIT).await?;
        if reply.status != StatusCode::OK {
            return Err(reply.refused(&host, &what));
        }
        let told = reply.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        let digest = match expected.cloned().or(told) {
            Some(claimed) => {
                let found = Digest::compute(claimed.algorithm(), &reply.body);
                if found != claimed {
                    return Err(Error::DigestMismatch { what, expected: claimed, found });
                }
                claimed
            }
            None => Digest::sha256(&reply.body),
        };
        let content_type = reply.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        Ok(Raw { digest, content_type, bytes: reply.body })
    }

    /// Writes a manifest's raw bytes under their digest.
    ///
    /// Answers whether the registry took note of its `subject` itself (`OCI-Subject`); where it
    /// has a subject and the answer is no, the writer keeps the list of referrers:
    /// [`Client::put_referrer`] does both.
    ///
    /// # Errors
    /// When the registry refuses it, or answers with another digest.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Put, Error> {
        let digest = Digest::sha256(bytes);
        self.write_manifest(repository, &digest.to_string(), media_type, bytes, digest).await
    }

    /// Writes a manifest's raw bytes under a tag. The tag is not looked at first:
    /// [`Client::move_tag`] does that.
    ///
    /// # Errors
    /// As [`Client::put_manifest`].
    pub async fn put_tag(
        &self,
        repository: &Repository,
        tag: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Put, Error> {
        self.write_manifest(repository, tag, media_type, bytes, Digest::sha256(bytes)).await
    }

    pub(crate) async fn write_manifest(
        &self,
        repository: &Repository,
        name: &str,
        media_type: &str,
        bytes: &Bytes,
        digest: Digest,
    ) -> Result<Put, Error> {
        let what = format!("writing manifest {name} to {repository}");
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(Error::TooLarge { what, limit: MANIFEST_LIMIT });
        }
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("manifests/{name}"))?;
        let mut call = Call::read(Method::PUT, url, Rights::Push(repository), &what)
            .header(CONTENT_TYPE, media_type);
        call.body = Some(bytes.clone());
        let mut reply = self.call(&host, &call, MANIFEST_LIMIT).await?;
        // A registry may not yet see a blob that it has just confirmed.
        for attempt in 1..UNSEEN_ATTEMPTS {
            if !reply.refused(&host, &what).to_string().contains("MANIFEST_BLOB_UNKNOWN") {
                break;
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
            reply = self.call(&host, &call, MANIFEST_LIMIT).await?;
        }
        if !matches!(reply.status, StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED) {
            return Err(reply.refused(&host, &what));
        }
        let told = reply.header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        // A digest of another algorithm says nothing about ours.
        let differs = |d: &Digest| d.algorithm() == digest.algorithm() && *d != digest;
        if let Some(found) = told.filter(differs) {
            return Err(Error::DigestMismatch { what, expected: digest, found });
        }
        // A registry that is known to have no list has said so without keeping one.
        let has_list = *locked(&host.referrers_api) != Some(false);
        let subject_listed = has_list && reply.header("oci-subject").is_some();
        Ok(Put { digest, subject_listed })
    }
}

/// A manifest's bytes, not yet read.
pub(crate) struct Raw {
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: Bytes,
}

/// What became of a manifest that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether the registry lists it as a referrer of its subject by itself.
    pub subject_listed: bool,
}

/// How often a manifest is written whose blobs the registry does not see.
const UNSEEN_ATTEMPTS: u32 = 4;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

impl Call {
    /// A repeatable request without headers or body.
    pub(crate) fn read(method: Method, url: Url, rights: Rights<'_>, what: &str) -> Self {
        Self {
            method,
            url,
            scopes: rights.scopes(),
            headers: Vec::new(),
            body: None,
            what: what.to_owned(),
            repeatable: true,
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
