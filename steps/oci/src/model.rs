//! The documents of the image specification (image-spec v1.1) as Fairlead reads them: descriptors,
//! platforms and manifests. The raw bytes are always kept; nothing here is ever written back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use fairlead_step::Digest;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The media types that decide how bytes are read.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The two-byte config `{}` of artifacts that need none.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// An OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

    /// Whether it names an index or a manifest list.
    #[must_use]
    pub fn is_index(text: &str) -> bool {
        matches!(text, OCI_INDEX | DOCKER_LIST)
    }

    /// Whether it names a manifest of one image or artifact.
    #[must_use]
    pub fn is_manifest(text: &str) -> bool {
        matches!(text, OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// The largest manifest that is read or written, in bytes.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest blob that is streamed, in bytes.
pub const BLOB_LIMIT: u64 = 32 << 30;
/// The most children that an index may have.
pub const CHILDREN_LIMIT: usize = 64;
/// The most referrers that one subject may have.
pub const REFERRERS_LIMIT: usize = 1000;

/// A pointer to content (image-spec v1.1, "OCI Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact it is. Not to be trusted in a list of referrers: some writers put
    /// the config's media type here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Other places that hold the content.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub urls: Vec<String>,
}

/// Go writers put `null` where a list or map is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Descriptor {
    /// A descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::sha256(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }

    /// Whether the content lives elsewhere and need not be in the registry (a "foreign" or
    /// non-distributable layer).
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.")
            || self.media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    }
}

/// What an image runs on, such as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, as Go names it.
    pub os: String,
    /// The processor architecture, as Go names it.
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    /// Whether an image of `self` serves a wish for `wanted`: the same system and architecture,
    /// and the same variant where both name one. `arm64` without a variant is `arm64/v8`.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        let implied = |p: &Self| match (p.architecture.as_str(), &p.variant) {
            ("arm64", None) => Some("v8".to_owned()),
            (_, variant) => variant.clone(),
        };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && match (implied(self), implied(wanted)) {
                (Some(has), Some(wants)) => has == wants,
                (None | Some(_), None) | (None, Some(_)) => true,
            }
    }

    /// Whether this is the `unknown/unknown` of an attestation inside an index.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: write `linux/amd64` or `linux/arm/v7`")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |w: &str| {
            (!w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
                .then(|| w.to_owned())
        };
        let fail = || PlatformError(text.chars().take(80).collect());
        let mut parts = text.split('/').map(|w| word(w).ok_or_else(fail));
        let mut next = || parts.next().transpose();
        match (next()?, next()?, next()?, next()?) {
            (Some(os), Some(architecture), variant, None) => {
                Ok(Self { os, architecture, variant, os_version: None })
            }
            _ => Err(fail()),
        }
    }
}

/// A manifest or index: its raw bytes, checked against its digest, and what they say.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest of the raw bytes.
    pub digest: Digest,
    /// The media type: the document's own word for it, or the registry's where it has none.
    pub media_type: String,
    /// The raw bytes, exactly as the registry holds them.
    pub bytes: Bytes,
    /// What kind of artifact it says it is: `artifactType`, else the config's media type.
    pub artifact_type: Option<String>,
    /// What it is attached to.
    pub subject: Option<Descriptor>,
    /// Its annotations, sorted by key.
    pub annotations: BTreeMap<String, String>,
    /// What it points to.
    pub content: Content,
}

/// What a manifest points to.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there are few, and readers take them apart")]
pub enum Content {
    /// An index: manifests of platforms, attestations, or anything else.
    Index {
        /// The children, in the order of the document.
        manifests: Vec<Descriptor>,
    },
    /// One image or artifact.
    Image {
        /// The config blob.
        config: Descriptor,
        /// The layers, base first.
        layers: Vec<Descriptor>,
    },
    /// A document that Fairlead does not read, which an index lists. [`Manifest::parse`] never
    /// answers this: only who copies bytes as they are needs no more than them.
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest. `content_type` is the registry's word for its media type, used where the
    /// document has none. `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no manifest, or could be read as both an image and an index
    /// (CVE-2021-41190); [`Error::TooMany`] beyond [`CHILDREN_LIMIT`] children; [`Error::TooLarge`]
    /// beyond [`MANIFEST_LIMIT`].
    pub fn parse(
        digest: Digest,
        content_type: Option<&str>,
        bytes: Bytes,
        what: &str,
    ) -> Result<Self, Error> {
        let malformed = |problem: String| Error::Malformed { what: what.to_owned(), problem };
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(Error::TooLarge { what: what.to_owned(), limit: MANIFEST_LIMIT });
        }
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        if document.schema_version != Some(2) {
            return Err(malformed(
                "its schemaVersion is not 2; images of the old Docker schema 1 must be pushed anew"
                    .into(),
            ));
        }
        let declared = document.media_type.filter(|m| !m.is_empty());
        let given = content_type.map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
        let (content, default_type) = match (document.manifests, document.config, document.layers) {
            (Some(manifests), None, None) => {
                if manifests.len() > CHILDREN_LIMIT {
                    return Err(Error::TooMany {
                        what: format!("manifests in {what}"),
                        limit: CHILDREN_LIMIT,
                    });
                }
                (Content::Index { manifests }, media_type::OCI_INDEX)
            }
            (None, Some(config), layers) => (
                Content::Image { config, layers: layers.unwrap_or_default() },
                media_type::OCI_MANIFEST,
            ),
            (Some(_), _, _) => {
                return Err(malformed("it claims to be an index and an image at once".into()));
            }
            (None, None, _) => {
                return Err(malformed("it has neither `manifests` nor `config`".into()));
            }
        };
        let media_type = declared
            .or_else(|| given.filter(|g| media_type::is_index(g) || media_type::is_manifest(g)))
            .unwrap_or_else(|| default_type.to_owned());
        let fits = match &content {
            Content::Index { .. } => media_type::is_index(&media_type),
            Content::Image { .. } => media_type::is_manifest(&media_type),
            Content::Unknown => false,
        };
        if !fits {
            return Err(malformed(format!("its content is not what `{media_type}` has")));
        }
        let artifact_type = document.artifact_type.or_else(|| match &content {
            Content::Image { config, .. } => Some(config.media_type.clone()),
            Content::Index { .. } | Content::Unknown => None,
        });
        Ok(Self {
            digest,
            media_type,
            bytes,
            artifact_type,
            subject: document.subject,
            annotations: document.annotations.unwrap_or_default(),
            content,
        })
    }

    /// The descriptor of this manifest: media type, digest, size.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }

    /// The children, where this is an index.
    #[must_use]
    pub fn children(&self) -> &[Descriptor] {
        match &self.content {
            Content::Index { manifests } => manifests,
            Content::Image { .. } | Content::Unknown => &[],
        }
    }

    /// The layers, where this is an image or an artifact.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { layers, .. } => layers,
            Content::Index { .. } | Content::Unknown => &[],
        }
    }

    /// The config and the layers that the registry must hold, config first.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        match &self.content {
            Content::Index { .. } | Content::Unknown => Vec::new(),
            Content::Image { config, layers } => {
                std::iter::once(config).chain(layers).filter(|d| !d.is_foreign()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, Error> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Manifest::parse(Digest::sha256(&bytes), None, bytes, "the manifest")
    }

    const BLOB: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;

    #[test]
    fn what_is_no_manifest_is_refused_with_the_reason() {
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{BLOB},"layers":[]}}"#);
        let confused = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{BLOB},"layers":[]}}"#,
            media_type::OCI_INDEX
        );
        let crowded =
            format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![BLOB; 65].join(","));
        for (text, want) in [
            ("[]", "malformed"),
            (r#"{"schemaVersion":1}"#, "schema 1"),
            (r#"{"schemaVersion":2}"#, "neither"),
            (&both, "an index and an image at once"),
            (&confused, "not what"),
            (&crowded, "limit of 64"),
            (r#"{"schemaVersion":2,"config":{"digest":"md5:0","size":1}}"#, "sha256 or sha512"),
            (r#"{"schemaVersion":2,"config":{"digest":"x","size":-1}}"#, "malformed"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn nulls_of_go_writers_are_read_as_empty() {
        let text =
            format!(r#"{{"schemaVersion":2,"config":{BLOB},"layers":null,"annotations":null}}"#);
        let manifest = parse(&text).unwrap();
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
        assert_eq!(manifest.blobs().len(), 1);
        assert_eq!(manifest.artifact_type.as_deref(), Some(media_type::OCI_CONFIG));
    }

    #[test]
    fn platforms_read_back_and_match() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in ["", "linux", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        let serves = |has: &str, wants: &str| {
            has.parse::<Platform>().unwrap().serves(&wants.parse().unwrap())
        };
        assert!(serves("linux/arm64/v8", "linux/arm64"));
        assert!(serves("linux/arm64", "linux/arm64/v8"));
        assert!(!serves("linux/arm/v6", "linux/arm/v7"));
        assert!(!serves("linux/amd64", "linux/arm64"));
    }
}
