//! The four answers of a verification.

use std::collections::BTreeMap;

use fairlead_oci::Error;
use fairlead_step::Repository;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of signatures and attestations.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// cosign 2's: a layer under the tag `sha256-….sig` or `sha256-….att`.
    V2,
    /// cosign 3's: a Sigstore bundle, attached as a referrer.
    V3,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

/// What is asked of a signature besides its key and digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Annotations that it must carry.
    pub annotations: BTreeMap<String, String>,
    /// The repository that it must name. One that was made for another place, and came here with a copy of
    /// the image, is a stranger's.
    pub reference: Option<Repository>,
}

/// What verification has to say. "Could not look" is none of these: it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// There is no signature.
    Absent,
    /// There are signatures, well-formed and for this digest, and none of them is by the key, or for
    /// the repository that is asked for.
    Foreign,
    /// There is a signature that claims the key or this image and does not hold: changed bytes,
    /// another digest, a malformed document, or one that cannot be read.
    Invalid,
    /// There is a signature by the key, for this digest.
    Verified,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Foreign => "foreign",
            Self::Invalid => "invalid",
            Self::Verified => "verified",
        })
    }
}

/// One signature that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// `v2` (a `.sig` tag) or `v3` (a bundle).
    pub format: Format,
    /// What it is worth.
    pub answer: Answer,
    /// One line for people.
    pub detail: String,
}

impl Finding {
    /// What cannot be read is no signature, and is not passed over in silence either.
    #[must_use]
    pub fn unreadable(format: Format, problem: impl std::fmt::Display) -> Self {
        let detail = format!("it cannot be read: {problem}");
        Self { format, answer: Answer::Invalid, detail }
    }
}

/// What was seen of an image's signatures.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each signature or attestation.
    pub findings: Vec<Finding>,
    /// Why not everything could be looked at: a registry that cannot be reached, is busy or lets
    /// nobody in. It matters only as long as no good signature was seen.
    pub failure: Option<Error>,
}

impl Seen {
    /// Nothing but an error: a finding where it says that what is there cannot be read, and a
    /// failure to look otherwise.
    #[must_use]
    pub fn unread(format: Format, error: Error) -> Self {
        if error.is_unreadable() {
            let findings = vec![Finding::unreadable(format, error)];
            return Self { findings, failure: None };
        }
        Self { findings: Vec::new(), failure: Some(error) }
    }

    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.failure = self.failure.take().or(other.failure);
    }

    /// Whether a good one is among them.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        overall(&self.findings) == Answer::Verified
    }
}

/// The answer that several findings amount to: one good signature is enough, and a broken one
/// weighs more than a stranger's.
#[must_use]
pub fn overall(findings: &[Finding]) -> Answer {
    findings.iter().map(|finding| finding.answer).max().unwrap_or(Answer::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_is_enough_and_none_is_absent() {
        let finding = |answer| Finding { format: Format::V2, answer, detail: String::new() };
        assert_eq!(overall(&[]), Answer::Absent);
        let mixed = [Answer::Foreign, Answer::Invalid].map(finding);
        assert_eq!(overall(&mixed), Answer::Invalid);
        let good = [Answer::Invalid, Answer::Verified, Answer::Foreign].map(finding);
        assert_eq!(overall(&good), Answer::Verified);
    }
}
