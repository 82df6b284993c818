//! Statements (in-toto Statement v1, and v0.1 where others still write it): which predicate is said of
//! which digests.

use std::collections::BTreeMap;

use fairlead_step::{Image, Repository};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EvidenceError, PredicateType};

/// The type of what this build writes.
const V1: &str = "https://in-toto.io/Statement/v1";

/// What somebody says of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// `https://in-toto.io/Statement/v1`, or an older form.
    #[serde(rename = "_type", default)]
    kind: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What is said.
    pub predicate_type: PredicateTypeUri,
    /// What is said in full.
    #[serde(default)]
    pub predicate: Value,
}

/// The URI of a predicate's type as it stands in a statement, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PredicateTypeUri(String);

impl PredicateTypeUri {
    /// The URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One thing that a statement is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// What it is called: for images, the repository that it was seen in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digests, by algorithm.
    #[serde(default)]
    pub digest: BTreeMap<String, String>,
    /// What the signature of an image is annotated with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, Value>>,
}

impl Subject {
    /// `image`, under the name of its repository.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let digest = &image.digest;
        Self {
            name: Some(image.repository.to_string()),
            digest: BTreeMap::from([(
                digest.algorithm().name().to_owned(),
                digest.hex().to_owned(),
            )]),
            annotations: None,
        }
    }

    fn is(&self, image: &Image) -> bool {
        let hex = self.digest.get(image.digest.algorithm().name());
        hex.is_some_and(|hex| hex == image.digest.hex())
    }

    /// Whether it carries these annotations.
    pub(crate) fn carries(&self, wanted: &BTreeMap<String, String>) -> bool {
        let has = self.annotations.as_ref();
        wanted.iter().all(|(key, value)| {
            has.and_then(|has| has.get(key)).and_then(Value::as_str) == Some(value)
        })
    }

    /// Whether it names `repository`.
    pub(crate) fn names(&self, repository: &Repository) -> bool {
        self.name.as_deref() == Some(repository.to_string().as_str())
    }
}

impl Statement {
    /// A statement about `subject`.
    #[must_use]
    pub fn new(subject: Subject, kind: &PredicateType, predicate: Value) -> Self {
        Self {
            kind: V1.to_owned(),
            subject: vec![subject],
            predicate_type: PredicateTypeUri(kind.uri().to_owned()),
            predicate,
        }
    }

    /// Its bytes: the same for the same statement.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        serde_json::to_vec(self).map_err(|error| EvidenceError::Unwritable {
            what: "statement",
            problem: error.to_string(),
        })
    }

    /// The subject that is `image`.
    #[must_use]
    pub fn about(&self, image: &Image) -> Option<&Subject> {
        self.subject.iter().take(SUBJECTS).find(|subject| subject.is(image))
    }
}

/// The most subjects of one statement that are looked at.
const SUBJECTS: usize = 10_000;
