//! Types of predicates: the names that people write for them, and the URIs that statements hold.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a statement says about its subject: a URI. It is written as that, or as one of the short names
/// that cosign has for those of its own, and a few more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredicateType(String);

/// Short names. The first of those with one URI is the one that is shown.
const NAMES: [(&str, &str); 17] = [
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("provenance", "https://slsa.dev/provenance/v1"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("test-result", "https://in-toto.io/attestation/test-result/v0.1"),
    ("release", "https://in-toto.io/attestation/release/v0.1"),
    ("reference", "https://in-toto.io/attestation/reference/v0.1"),
    ("vsa", "https://slsa.dev/verification_summary/v1"),
    ("svr", "https://in-toto.io/attestation/svr/v0.1"),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("signature", PredicateType::SIGNATURE),
];

/// The longest URI that is taken.
const LONGEST: usize = 400;

impl PredicateType {
    /// A signature: the statement of cosign 3 that says no more than that it was signed.
    pub const SIGNATURE: &'static str = "https://sigstore.dev/cosign/sign/v1";
    /// Of SPDX documents.
    pub const SPDX: &'static str = "https://spdx.dev/Document";
    /// Of CycloneDX documents.
    pub const CYCLONEDX: &'static str = "https://cyclonedx.org/bom";
    /// Of cosign's reports of vulnerabilities.
    pub const VULN: &'static str = "https://cosign.sigstore.dev/attestation/vuln/v1";
    /// Of SLSA provenance v1.
    pub const PROVENANCE: &'static str = "https://slsa.dev/provenance/v1";
    /// Of results of tests.
    pub const TEST_RESULT: &'static str = "https://in-toto.io/attestation/test-result/v0.1";
    /// Of releases.
    pub const RELEASE: &'static str = "https://in-toto.io/attestation/release/v0.1";
    /// Of documents that stand elsewhere.
    pub const REFERENCE: &'static str = "https://in-toto.io/attestation/reference/v0.1";
    /// Of whatever cosign calls custom.
    pub const CUSTOM: &'static str = "https://cosign.sigstore.dev/attestation/v1";

    /// The type that has this URI, as a statement holds it.
    #[must_use]
    pub fn of_uri(uri: impl Into<String>) -> Self {
        Self(uri.into())
    }

    /// Its URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.0
    }

    /// Its short name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        NAMES.iter().find(|(_, uri)| *uri == self.0).map(|(name, _)| *name)
    }
}

/// Why a text is no type of a predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no type of a predicate: write a URI, or one of spdx, cyclonedx, vuln, provenance, \
     test-result, release, reference, vsa, svr, openvex, link, custom"
)]
pub struct PredicateTypeError(String);

impl FromStr for PredicateType {
    type Err = PredicateTypeError;

    fn from_str(text: &str) -> Result<Self, PredicateTypeError> {
        if let Some((_, uri)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self((*uri).to_owned()));
        }
        let plain = text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic());
        let is_uri = text.split_once(':').is_some_and(|(scheme, rest)| {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(word)
                && !rest.is_empty()
        });
        if plain && is_uri {
            return Ok(Self(text.to_owned()));
        }
        Err(PredicateTypeError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for PredicateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name().unwrap_or(&self.0))
    }
}

impl Serialize for PredicateType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PredicateType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PredicateType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PredicateType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A type of a predicate: a URI, or one of spdx, cyclonedx, vuln, provenance, \
                test-result, release, reference, vsa, svr, openvex, link, custom.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uris_are_read_and_nothing_else() {
        for (text, uri, shown) in [
            ("spdxjson", "https://spdx.dev/Document", "spdx"),
            ("slsaprovenance1", "https://slsa.dev/provenance/v1", "provenance"),
            ("https://example.com/p/v1", "https://example.com/p/v1", "https://example.com/p/v1"),
            ("urn:x", "urn:x", "urn:x"),
        ] {
            let read: PredicateType = text.parse().unwrap();
            assert_eq!((read.uri(), read.to_string().as_str()), (uri, shown));
        }
        for text in
            ["", "sbom", "https://a b", ":x", "1a:b", "x:", &format!("u:{}", "x".repeat(400))]
        {
            assert!(text.parse::<PredicateType>().is_err(), "{text}");
        }
    }
}
