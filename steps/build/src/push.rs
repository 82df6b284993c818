//! From the engine's store to the registry: push, look, and join platforms into one index.

use std::sync::Arc;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use fairlead_oci::{Client, Content, Descriptor, Manifest, Platform, media_type};
use fairlead_step::{
    Digest, Image, Log, Progress, Registries, RegistryAuth, Repository, StepError, Stream,
};
use futures::StreamExt as _;
use serde::Serialize;

use crate::hold::untag;

/// What comes before the image's id in the tag that a push needs.
const TAG_PREFIX: &str = "fairlead-";
/// How often a push is begun whose tag another build takes away.
const PUSHES: u32 = 4;
/// What the engine says then.
const TAG_GONE: &str = "tag does not exist";
/// How many hex digits of the id follow.
const TAG_DIGITS: usize = 32;

/// Brings built images to one repository.
pub(crate) struct Pusher<'a> {
    pub(crate) docker: &'a Docker,
    pub(crate) client: &'a Client,
    pub(crate) registries: &'a Arc<dyn Registries>,
    pub(crate) repository: &'a Repository,
    pub(crate) log: &'a dyn Log,
}

/// One image in the registry.
pub(crate) struct Pushed {
    /// The digest of the platform's own manifest.
    pub(crate) manifest: Digest,
    pub(crate) platform: Platform,
    /// The bytes of the config and the layers, as the registry holds them.
    pub(crate) size: u64,
    /// What an index over several platforms lists of it: the image, and what the engine attested
    /// of it.
    entries: Vec<Descriptor>,
    /// The tag under which it was pushed, and what it points to.
    tag: String,
    top: Manifest,
}

impl Pushed {
    /// What was pushed: the image, or the index that the engine put around it.
    pub(crate) const fn digest(&self) -> &Digest {
        &self.top.digest
    }
}

/// The tag under which an image with this id is pushed: the same content has the same tag, so an
/// attempt that comes after a lost one finds what that one brought.
fn content_tag(id: &Digest) -> String {
    format!("{TAG_PREFIX}{}", &id.hex()[..TAG_DIGITS])
}

impl Pusher<'_> {
    /// Pushes the image `id`, or finds that it was pushed, and reads it back from the registry.
    pub(crate) async fn push(&self, id: &Digest) -> Result<Pushed, StepError> {
        let platform = self.platform_of(id).await?;
        let tag = content_tag(id);
        let manifest = match self.look(None, &tag, id).await? {
            Some(manifest) => {
                self.say(&format!("{} already has this image", self.repository));
                manifest
            }
            None => {
                let told = self.push_as(id, &tag).await?;
                self.look(told.as_ref(), &tag, id).await?.ok_or_else(|| {
                    StepError::retryable(format!(
                        "the engine pushed {}:{tag}, and the registry has another image there",
                        self.repository
                    ))
                    .hint(
                        "does the engine reach the same registry under this name as Fairlead does?",
                    )
                })?
            }
        };
        // In the engine, the tag was for the push alone.
        untag(self.docker, &format!("{}:{tag}", self.repository)).await;
        self.pushed(manifest, platform, tag).await
    }

    /// What `manifest` is, seen from the platform that was built: engines whose store is
    /// containerd's push an index that holds the image and what they attest of it.
    async fn pushed(
        &self,
        manifest: Manifest,
        platform: Platform,
        tag: String,
    ) -> Result<Pushed, StepError> {
        let digest = manifest.digest.clone();
        let size = |config: &Descriptor, layers: &[Descriptor]| {
            layers.iter().map(|layer| layer.size).fold(config.size, u64::saturating_add)
        };
        match &manifest.content {
            Content::Image { config, layers } => {
                let entry =
                    Descriptor { platform: Some(platform.clone()), ..manifest.descriptor() };
                let size = size(config, layers);
                let (digest, entries) = (digest.clone(), vec![entry]);
                Ok(Pushed { manifest: digest, platform, size, entries, tag, top: manifest })
            }
            Content::Index { manifests } => {
                let index = self.repository.at(digest.clone());
                let image = self.client.platform(&index, &platform).await?;
                let size = size(&image.config, &image.layers);
                let (digest, entries) = (image.image.digest, manifests.clone());
                Ok(Pushed { manifest: digest, platform, size, entries, tag, top: manifest })
            }
            Content::Unknown => {
                let index = self.repository.at(digest);
                Err(StepError::terminal(format!("the engine pushed {index}, which is no image")))
            }
        }
    }

    /// Takes the tags of the pushes away again. What was pushed stays under its digest.
    pub(crate) async fn untag(&self, pushed: &[Pushed]) -> Result<(), StepError> {
        for Pushed { tag, top, .. } in pushed {
            if !self.client.untag(self.repository, tag, top).await? {
                self.say(&format!("the registry deletes no tags: {}:{tag} stays", self.repository));
            }
        }
        Ok(())
    }

    /// What the registry holds under the digest that the engine told, or else under the tag of the
    /// push, if it is the image `id`.
    async fn look(
        &self,
        told: Option<&Digest>,
        tag: &str,
        id: &Digest,
    ) -> Result<Option<Manifest>, StepError> {
        let found = match told {
            Some(digest) => Some(self.client.manifest(&self.repository.at(digest.clone())).await?),
            None => self.client.manifest_at_tag(self.repository, tag).await?,
        };
        let Some(manifest) = found else { return Ok(None) };
        // The classic store names an image by its config, the containerd store by its manifest.
        let same = manifest.digest == *id
            || match &manifest.content {
                Content::Image { config, .. } => config.digest == *id,
                Content::Index { .. } | Content::Unknown => false,
            };
        Ok(same.then_some(manifest))
    }

    async fn platform_of(&self, id: &Digest) -> Result<Platform, StepError> {
        let image =
            self.docker.inspect_image(&id.to_string()).await.map_err(|e| {
                StepError::retryable("the engine lost the image it built").because(e)
            })?;
        Ok(Platform {
            os: image.os.unwrap_or_else(|| "linux".into()),
            architecture: image.architecture.unwrap_or_default(),
            variant: image.variant.filter(|v| !v.is_empty()),
            os_version: image.os_version.filter(|v| !v.is_empty()),
        })
    }

    /// Pushes the image `id` under `tag`. Another build that pushed the same content takes the tag
    /// away in between, at worst; then it is given and pushed again. Answers the digest, where the
    /// engine tells it.
    async fn push_as(&self, id: &Digest, tag: &str) -> Result<Option<Digest>, StepError> {
        let mut left = PUSHES;
        loop {
            left -= 1;
            match self.push_once(id, tag).await {
                Err(error) if left > 0 && error.to_string().contains(TAG_GONE) => {}
                ended => return ended,
            }
        }
    }

    async fn push_once(&self, id: &Digest, tag: &str) -> Result<Option<Digest>, StepError> {
        let name = self.repository.to_string();
        let registry = self.repository.registry();
        let options = TagImageOptionsBuilder::default().repo(&name).tag(tag).build();
        self.docker.tag_image(&id.to_string(), Some(options)).await.map_err(|e| {
            StepError::retryable(format!("the engine cannot tag the image {name}:{tag}")).because(e)
        })?;

        let access = self.registries.access(registry).await?;
        let credentials = credentials(access.auth, registry);
        let options = PushImageOptionsBuilder::default().tag(tag).build();
        let mut reports = self.docker.push_image(&name, Some(options), credentials);
        self.say(&format!("pushing {name}:{tag}"));
        let mut told = None;
        while let Some(report) = reports.next().await {
            let report = report.map_err(|error| refused(&error.to_string(), &name, registry))?;
            let detail = report.progress_detail.unwrap_or_default();
            let what = report.status.unwrap_or_default();
            match detail.current.and_then(|n| u64::try_from(n).ok()) {
                Some(done) => {
                    let total = detail.total.and_then(|n| u64::try_from(n).ok());
                    self.log.progress(Progress { what, done, total });
                }
                None if what.contains("digest: ") => {
                    told = pushed_digest(&what);
                    self.say(&what);
                }
                None => {}
            }
        }
        Ok(told)
    }

    /// Writes one index over the images, in the order given, under its digest.
    pub(crate) async fn join(&self, images: &[Pushed]) -> Result<Image, StepError> {
        let bytes = index(images)?;
        let put = self.client.put_manifest(self.repository, media_type::OCI_INDEX, &bytes).await?;
        self.say(&format!("joined {} platforms in {}", images.len(), put.digest));
        Ok(self.repository.at(put.digest))
    }

    /// Points `tags` to `image`. A tag that reads as a version never moves.
    pub(crate) async fn tag(&self, image: &Image, tags: &[String]) -> Result<(), StepError> {
        for tag in tags {
            let current = self.client.tag_digest(self.repository, tag).await?;
            let expected = if is_version(tag) { None } else { current };
            self.client.move_tag(image, tag, expected.as_ref()).await?;
            self.say(&format!("tagged {}:{tag}", self.repository));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.log.line(Stream::Step, text);
    }
}

/// An OCI image index (image-spec v1.1, "Image Index").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

fn index(images: &[Pushed]) -> Result<Bytes, StepError> {
    let manifests = images.iter().flat_map(|image| image.entries.clone()).collect();
    let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    serde_json::to_vec(&index)
        .map(Bytes::from)
        .map_err(|e| StepError::terminal("cannot write the index of platforms").because(e))
}

fn credentials(auth: RegistryAuth, registry: &str) -> Option<DockerCredentials> {
    let serveraddress = Some(registry.to_owned());
    match auth {
        RegistryAuth::Anonymous => None,
        RegistryAuth::Basic { user, password } => Some(DockerCredentials {
            username: Some(user),
            password: Some(password.expose().clone()),
            serveraddress,
            ..DockerCredentials::default()
        }),
        RegistryAuth::IdentityToken(token) => Some(DockerCredentials {
            identitytoken: Some(token.expose().clone()),
            serveraddress,
            ..DockerCredentials::default()
        }),
    }
}

/// The digest in the engine's last word on a push: `TAG: digest: sha256:… size: 528`.
fn pushed_digest(said: &str) -> Option<Digest> {
    said.split_once("digest: ")?.1.split_ascii_whitespace().next()?.parse().ok()
}

/// Tells a push that the engine could not do. The engine has only words for the cause.
fn refused(said: &str, name: &str, registry: &str) -> StepError {
    let said = said.trim_start_matches("Docker stream error: ").trim();
    let text = format!("cannot push {name}: {said}");
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| said.contains(phrase));
    if has(&["unauthorized", "authentication required", "no basic auth credentials", "denied"]) {
        StepError::terminal(text).hint(format!(
            "log in with `docker login {registry}`, as somebody who may push to this repository"
        ))
    } else if has(&["HTTP response to HTTPS client"]) {
        StepError::terminal(text).hint(format!(
            "the registry speaks plain HTTP; add {registry} to the engine's `insecure-registries`"
        ))
    } else if has(&["certificate", "x509"]) {
        StepError::terminal(text)
            .hint(format!("give the engine the registry's CA under /etc/docker/certs.d/{registry}"))
    } else if has(&["invalid reference", "name invalid", "manifest invalid"]) {
        StepError::terminal(text).hint("check the name under `image:`")
    } else {
        StepError::retryable(text)
            .hint("does the engine reach this registry? see `fairlead doctor`")
    }
}

/// Whether a tag reads as a version, such as `v1.2.3` or `1.4.0-rc.1`: it names one image for good.
fn is_version(tag: &str) -> bool {
    let plain = tag.strip_prefix('v').unwrap_or(tag);
    let core = plain.split(['-', '_']).next().unwrap_or(plain);
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use fairlead_step::{ErrorClass, Secret};

    use super::*;

    #[test]
    fn versions_are_told_from_channels() {
        for tag in ["1.2.3", "v1.2.3", "v10.0.0-rc.1", "1.2.3-alpine", "1.2.3_4"] {
            assert!(is_version(tag), "{tag}");
        }
        for tag in ["main", "stable", "1.2", "v1", "1.2.x", "2026-11-22", "sha-1.2.3", "1..3"] {
            assert!(!is_version(tag), "{tag}");
        }
    }

    #[test]
    fn a_refused_push_says_what_to_do() {
        let tell = |said: &str| {
            let error = refused(said, "registry.example.com/apps/shop", "registry.example.com");
            (error.class(), error.way_out().unwrap().to_owned())
        };
        let (class, hint) = tell("Docker stream error: unauthorized: authentication required");
        assert_eq!(class, ErrorClass::Terminal);
        assert!(hint.contains("docker login registry.example.com"), "{hint}");
        let (class, hint) = tell("http: server gave HTTP response to HTTPS client");
        assert_eq!(class, ErrorClass::Terminal);
        assert!(hint.contains("insecure-registries"), "{hint}");
        let (class, _) = tell("dial tcp 10.0.0.1:443: connect: connection refused");
        assert_eq!(class, ErrorClass::Retryable);
    }

    #[test]
    fn the_engine_gets_the_login_that_fairlead_has() {
        assert_eq!(credentials(RegistryAuth::Anonymous, "r.example.com"), None);
        let auth = RegistryAuth::Basic { user: "ci".into(), password: Secret::new("pw".into()) };
        let basic = credentials(auth, "r.example.com").unwrap();
        assert_eq!(
            (basic.username.as_deref(), basic.password.as_deref(), basic.serveraddress.as_deref()),
            (Some("ci"), Some("pw"), Some("r.example.com"))
        );
        let auth = RegistryAuth::IdentityToken(Secret::new("tok".into()));
        assert_eq!(credentials(auth, "r").unwrap().identitytoken.as_deref(), Some("tok"));
    }

    #[test]
    fn the_engines_last_word_has_the_digest() {
        let digest = Digest::sha256(b"x");
        let said = format!("fairlead-0123: digest: {digest} size: 528");
        assert_eq!(pushed_digest(&said), Some(digest));
        assert_eq!(pushed_digest("Layer already exists"), None);
        assert_eq!(pushed_digest("digest: "), None);
    }

    #[test]
    fn an_index_lists_its_platforms_in_order() {
        let image = |architecture: &str, body: &str| {
            let bytes = Bytes::from(body.to_owned());
            let manifest =
                Manifest::parse(Digest::sha256(&bytes), None, bytes, "the test's manifest")
                    .unwrap();
            let platform = Platform {
                os: "linux".into(),
                architecture: architecture.into(),
                variant: None,
                os_version: None,
            };
            let entry = Descriptor { platform: Some(platform.clone()), ..manifest.descriptor() };
            Pushed {
                manifest: manifest.digest.clone(),
                platform,
                size: 0,
                entries: vec![entry],
                tag: String::new(),
                top: manifest,
            }
        };
        let body = |size: u8| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
                "digest":"{0}","size":{size}}},"layers":[]}}"#,
                Digest::sha256(b"x")
            )
        };
        let images = [image("amd64", &body(1)), image("arm64", &body(2))];
        let digests = images.each_ref().map(|image| image.manifest.to_string());
        let json: serde_json::Value = serde_json::from_slice(&index(&images).unwrap()).unwrap();
        assert_eq!(json["mediaType"], "application/vnd.oci.image.index.v1+json");
        let listed: Vec<_> = json["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                (m["platform"]["architecture"].as_str().unwrap(), m["digest"].as_str().unwrap())
            })
            .collect();
        assert_eq!(listed, [("amd64", digests[0].as_str()), ("arm64", digests[1].as_str())]);
    }
}
