//! Names of images: the reference a person writes, and the digest-pinned image a step receives.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Digest;

/// A repository on a registry, such as `registry.example.com:5000/apps/shop`.
///
/// The registry's host is always written out: there is no default registry to fall into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Box<str>,
    path: Box<str>,
}

/// Why a text does not name an image or a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {problem}")]
pub struct ImageError {
    text: String,
    what: &'static str,
    problem: String,
}

fn error(text: &str, what: &'static str, problem: impl Into<String>) -> ImageError {
    ImageError { text: text.chars().take(300).collect(), what, problem: problem.into() }
}

impl Repository {
    /// Joins a registry host (`host` or `host:port`) and a repository path (`apps/shop`).
    ///
    /// # Errors
    /// When either part breaks the rules of the distribution specification (v1.1, "Pulling
    /// manifests").
    pub fn new(registry: &str, path: &str) -> Result<Self, ImageError> {
        let whole = format!("{registry}/{path}");
        let fail = |problem: &str| Err(error(&whole, "a repository", problem));
        let (host, port) = match registry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (registry, None),
        };
        let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.split('.').all(|label| {
                        !label.is_empty()
                            && !label.starts_with('-')
                            && !label.ends_with('-')
                            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    })
            }
        };
        if !host_ok {
            return fail("the registry's host name is malformed");
        }
        if port.is_some_and(|p| p.parse::<u16>().is_err()) {
            return fail("the registry's port is not a number up to 65535");
        }
        if !(host.contains('.') || host.contains('[') || port.is_some() || host == "localhost") {
            return fail(
                "it must begin with the registry's host, such as `registry.example.com/`; \
                 Fairlead has no default registry",
            );
        }
        if path.len() > 255 {
            return fail("the path is longer than 255 characters");
        }
        for part in path.split('/') {
            let mut previous_separator = true;
            let ok = !part.is_empty()
                && part.bytes().all(|b| {
                    let separator = matches!(b, b'.' | b'_' | b'-');
                    let good = b.is_ascii_lowercase() || b.is_ascii_digit() || separator;
                    let doubled = separator && previous_separator && b == b'.';
                    previous_separator = separator;
                    good && !doubled
                })
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric());
            if !ok {
                return fail(
                    "each part of the path is lower-case letters and digits, with `.`, `_` or `-` \
                     between them",
                );
            }
        }
        Ok(Self { registry: registry.into(), path: path.into() })
    }

    /// The registry's host, with its port where one is given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, such as `apps/shop`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This repository at `digest`.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Image {
        Image { repository: self.clone(), digest }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Repository {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let Some((registry, path)) = text.split_once('/') else {
            return Err(error(text, "a repository", "write `registry.example.com/path/name`"));
        };
        if path.contains(['@', ':']) {
            return Err(error(text, "a repository", "a tag or digest does not belong here"));
        }
        Self::new(registry, path)
    }
}

/// An image as a person writes it: a repository with a tag, a digest, both, or neither.
///
/// It is an address, not an identity. The door resolves it once, to an [`Image`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Where it is.
    pub repository: Repository,
    /// The tag, without the colon.
    pub tag: Option<String>,
    /// The digest, where it is pinned.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// Whether `tag` follows the distribution specification: a letter, digit or `_`, then up to
    /// 127 more with `.` and `-` allowed.
    #[must_use]
    pub fn is_tag(tag: &str) -> bool {
        tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    }

    /// Whether `tag` is one that evidence hides under, not a release: `sha256-<64 hex>`, alone (the
    /// referrers tag schema of the distribution specification) or with `.sig`, `.att` or `.sbom` behind
    /// it (cosign); or one under which a `build` step hands its image to the registry before anybody
    /// has looked at it, `fairlead-<32 hex>`.
    #[must_use]
    pub fn is_evidence_tag(tag: &str) -> bool {
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if let Some(content) = tag.strip_prefix("fairlead-") {
            return is_hex(content, 32);
        }
        let Some(rest) = tag.strip_prefix("sha256-") else { return false };
        let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(h, s)| (h, Some(s)));
        is_hex(hex, 64) && matches!(suffix, None | Some("sig" | "att" | "sbom"))
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (
                name,
                Some(digest.parse().map_err(|e: crate::DigestError| {
                    error(text, "an image reference", e.to_string())
                })?),
            ),
        };
        let Some((registry, path)) = name.split_once('/') else {
            return Err(error(
                text,
                "an image reference",
                "write `registry.example.com/path/name`, with `:tag` or `@sha256:…` behind it",
            ));
        };
        let (path, tag) = match path.split_once(':') {
            None => (path, None),
            Some((path, tag)) if Self::is_tag(tag) => (path, Some(tag.to_owned())),
            Some((_, tag)) => {
                let problem = format!("`{tag}` is not a tag");
                return Err(error(text, "an image reference", problem));
            }
        };
        Ok(Self { repository: Repository::new(registry, path)?, tag, digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// An image pinned by digest: `registry/repo@sha256:…`. The one thing that flows between steps.
///
/// Parsing refuses a tag, so no step that asks for an image is ever handed a moving name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// Where it is.
    pub repository: Repository,
    /// What it is.
    pub digest: Digest,
}

impl FromStr for Image {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let reference: ImageRef = text.parse()?;
        match reference {
            ImageRef { repository, tag: None, digest: Some(digest) } => {
                Ok(Self { repository, digest })
            }
            ImageRef { digest: Some(_), tag: Some(_), .. } => {
                Err(error(text, "an image", "it has a tag beside the digest; leave the tag away"))
            }
            ImageRef { digest: None, .. } => Err(error(
                text,
                "an image",
                "it has no digest; write `registry/repository@sha256:…`, or let a parameter of type `image` or a `resolve` step find it",
            )),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

macro_rules! as_text {
    ($name:ident, $format:expr, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    };
}
as_text!(
    Repository,
    crate::schema_format::REPOSITORY,
    "A repository, `registry.example.com/path/name`."
);
as_text!(
    ImageRef,
    crate::schema_format::IMAGE_REF,
    "An image reference, `registry.example.com/path/name:tag`, a digest allowed behind it."
);
as_text!(
    Image,
    crate::schema_format::IMAGE,
    "An image by digest, `registry.example.com/path/name@sha256:…`."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_written() {
        let digest = Digest::sha256(b"x");
        for text in [
            "registry.example.com/apps/shop".to_owned(),
            "127.0.0.1:5000/apps/shop:v1.2.3".to_owned(),
            "[::1]:5000/shop:latest".to_owned(),
            format!("localhost/shop@{digest}"),
            format!("localhost:5000/a/b__c/d-e.f:1.0@{digest}"),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        for (text, want) in [
            ("shop", "registry.example.com/path/name"),
            ("apps/shop", "no default registry"),
            ("r.example.com/Apps/shop", "lower-case"),
            ("r.example.com/apps//shop", "lower-case"),
            ("r.example.com/shop:-x", "not a tag"),
            ("r.example.com:99999/shop", "port"),
            ("-r.example.com/shop", "host name"),
            ("r.example.com/shop@sha256:12", "hex digits"),
        ] {
            let error = text.parse::<ImageRef>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn an_image_has_a_digest_and_no_tag() {
        let digest = Digest::sha256(b"x");
        assert!(format!("localhost/shop@{digest}").parse::<Image>().is_ok());
        assert!("localhost/shop:v1".parse::<Image>().is_err());
        assert!(format!("localhost/shop:v1@{digest}").parse::<Image>().is_err());
    }
}
