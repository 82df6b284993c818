//! The policy file, read and checked as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fairlead_evidence::{PredicateType, PublicKey};
use fairlead_step::{Digest, Globs, Image};
use jiff::civil::Date;
use serde::Deserialize;

use crate::expression::Expression;
use crate::judge::RuleAnswer;

/// The largest policy file, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// The most rules, keys, exceptions or tests of one file.
const MOST: usize = 500;

/// What is wrong with a policy file: everything at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy `{file}` is wrong: {}", .problems.join("; "))]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// One line for each problem.
    pub problems: Vec<String>,
}

/// What a rule that does not hold means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    /// The answer is no.
    #[default]
    Require,
    /// It is told, and the answer may be yes.
    Warn,
    /// It is not looked at.
    Off,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    images: Globs,
    keys: BTreeMap<String, KeySource>,
    rules: Vec<RuleDocument>,
    #[serde(default)]
    exceptions: Vec<ExceptionDocument>,
    #[serde(default)]
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeySource {
    #[serde(default)]
    pem: Option<String>,
    #[serde(default)]
    file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleDocument {
    name: String,
    #[serde(default)]
    mode: RuleMode,
    #[serde(default)]
    signature: Option<SignatureDocument>,
    #[serde(default)]
    attestation: Option<AttestationDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignatureDocument {
    by: Vec<String>,
    #[serde(default = "one")]
    min: u32,
    #[serde(default)]
    here: bool,
}

const fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AttestationDocument {
    #[serde(rename = "type")]
    kind: PredicateType,
    by: Vec<String>,
    #[serde(rename = "where", default)]
    conditions: Vec<String>,
    #[serde(default)]
    here: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExceptionDocument {
    rule: String,
    #[serde(default)]
    images: Globs,
    #[serde(default)]
    digest: Option<Digest>,
    owner: String,
    reason: String,
    expires: Date,
}

/// A test that stands beside a policy: what is found at an image, and what the policy says to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The day on which it is asked.
    pub on: Option<Date>,
    /// The repository of the image; one that the policy speaks of when it is left out.
    pub repository: Option<String>,
    /// Who has signed.
    #[serde(default)]
    pub signatures: Vec<GivenSignature>,
    /// What is attested.
    #[serde(default)]
    pub attestations: Vec<GivenAttestation>,
    /// What the policy says: `true` for yes.
    pub passes: bool,
    /// What it says of single rules.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleAnswer>,
}

/// A signature in a test.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GivenSignature {
    /// By which key.
    pub by: String,
    /// Whether it names the repository that the image is in.
    #[serde(default = "yes")]
    pub here: bool,
}

/// An attestation in a test.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GivenAttestation {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: PredicateType,
    /// By which key.
    pub by: String,
    /// Whether it names the repository that the image is in.
    #[serde(default = "yes")]
    pub here: bool,
    /// What it says.
    #[serde(default)]
    pub predicate: serde_json::Value,
}

const fn yes() -> bool {
    true
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) mode: RuleMode,
    pub(crate) asks: Asks,
}

/// What a rule asks for.
#[derive(Debug)]
pub(crate) enum Asks {
    Signature { by: Vec<String>, min: u32, here: bool },
    Attestation { kind: PredicateType, by: Vec<String>, conditions: Vec<Expression>, here: bool },
}

/// Somebody answers for a rule that does not hold, until a day.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    pub(crate) rule: String,
    images: Globs,
    digest: Option<Digest>,
    pub(crate) owner: String,
    pub(crate) reason: String,
    pub(crate) expires: Date,
}

impl Exception {
    pub(crate) fn is_about(&self, rule: &str, image: &Image) -> bool {
        self.rule == rule
            && self.digest.as_ref().is_none_or(|digest| *digest == image.digest)
            && speaks_of(&self.images, image)
    }
}

fn speaks_of(images: &Globs, image: &Image) -> bool {
    images.is_match(&image.repository.to_string())
}

/// A policy that cannot be wrong.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The digest of its file: what was asked when it said yes.
    pub digest: Digest,
    images: Globs,
    pub(crate) keys: BTreeMap<String, PublicKey>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) cases: Vec<Case>,
}

impl Policy {
    /// Reads a policy. `read` gives the text of a key's file, by its path within the folder of the policy.
    ///
    /// # Errors
    /// [`PolicyError`] with everything that is wrong.
    pub fn read(
        file: &Path,
        text: &str,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, PolicyError> {
        let name = file.display().to_string();
        let wrong = |problems: Vec<String>| PolicyError { file: name.clone(), problems };
        if text.len() as u64 > MAX_FILE {
            return Err(wrong(vec!["it is over 1 MiB".to_owned()]));
        }
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| wrong(vec![error.to_string()]))?;
        let mut problems = Vec::new();
        if document.api_version != "fairlead.dev/v1" || document.kind != "Policy" {
            problems.push(format!(
                "it is `{}` of `{}`, and a policy is `Policy` of `fairlead.dev/v1`",
                document.kind, document.api_version
            ));
        }
        for (what, count) in [
            ("rules", document.rules.len()),
            ("keys", document.keys.len()),
            ("exceptions", document.exceptions.len()),
            ("tests", document.tests.len()),
        ] {
            if count > MOST {
                problems.push(format!("it has {count} {what}, and {MOST} are the most"));
            }
        }
        if document.rules.is_empty() {
            problems.push("it has no rule, and would say yes to everything".to_owned());
        }
        let mut keys = BTreeMap::new();
        for (name, source) in document.keys {
            let pem = match (source.pem, source.file) {
                (Some(pem), None) => Ok(pem),
                (None, Some(file)) => read(&file),
                _ => Err("it has either `pem` or `file`".to_owned()),
            };
            match pem.and_then(|pem| PublicKey::from_pem(&pem).map_err(|e| e.to_string())) {
                Ok(key) => drop(keys.insert(name, key)),
                Err(problem) => problems.push(format!("key `{name}`: {problem}")),
            }
        }
        let mut rules: Vec<Rule> = Vec::new();
        for rule in document.rules {
            let name = rule.name.clone();
            if rules.iter().any(|known| known.name == name) {
                problems.push(format!("rule `{name}` is there twice"));
            }
            match Rule::read(rule, &keys) {
                Ok(rule) => rules.push(rule),
                Err(found) => {
                    problems
                        .extend(found.into_iter().map(|found| format!("rule `{name}`: {found}")));
                }
            }
        }
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let mut exceptions = Vec::new();
        for exception in document.exceptions {
            let ExceptionDocument { rule, images, digest, owner, reason, expires } = exception;
            if !names.contains(rule.as_str()) {
                problems.push(format!("an exception names the rule `{rule}`, which is not there"));
            }
            if owner.trim().is_empty() || reason.trim().is_empty() {
                problems.push(format!("an exception to `{rule}` has no owner or no reason"));
            }
            exceptions.push(Exception { rule, images, digest, owner, reason, expires });
        }
        for case in &document.tests {
            let signed = case.signatures.iter().map(|given| &given.by);
            let said = case.attestations.iter().map(|given| &given.by);
            for by in signed.chain(said).filter(|by| !keys.contains_key(*by)) {
                problems
                    .push(format!("test `{}` names the key `{by}`, which is not there", case.name));
            }
            for rule in case.rules.keys().filter(|rule| !names.contains(rule.as_str())) {
                problems.push(format!(
                    "test `{}` names the rule `{rule}`, which is not there",
                    case.name
                ));
            }
        }
        if !problems.is_empty() {
            return Err(wrong(problems));
        }
        Ok(Self {
            name: document.name,
            description: document.description,
            digest: Digest::sha256(text.as_bytes()),
            images: document.images,
            keys,
            rules,
            exceptions,
            cases: document.tests,
        })
    }

    /// The policy that asks for a signature and attestations by one key.
    #[must_use]
    pub fn of_key(key: PublicKey, kinds: &[PredicateType]) -> Self {
        let by = || vec!["key".to_owned()];
        let signed = Asks::Signature { by: by(), min: 1, here: false };
        let mut rules =
            vec![Rule { name: "signature".to_owned(), mode: RuleMode::Require, asks: signed }];
        rules.extend(kinds.iter().map(|kind| Rule {
            name: kind.to_string(),
            mode: RuleMode::Require,
            asks: Asks::Attestation {
                kind: kind.clone(),
                by: by(),
                conditions: Vec::new(),
                here: false,
            },
        }));
        Self {
            name: "key".to_owned(),
            description: None,
            digest: Digest::sha256(key.to_pem().as_bytes()),
            images: Globs::default(),
            keys: BTreeMap::from([("key".to_owned(), key)]),
            rules,
            exceptions: Vec::new(),
            cases: Vec::new(),
        }
    }

    /// Whether it has something to say of `image`.
    #[must_use]
    pub fn speaks_of(&self, image: &Image) -> bool {
        speaks_of(&self.images, image)
    }
}

impl Rule {
    fn read(
        document: RuleDocument,
        keys: &BTreeMap<String, PublicKey>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut known = |by: &[String]| {
            if by.is_empty() {
                problems.push("`by` names no key".to_owned());
            }
            let unknown = by.iter().filter(|name| !keys.contains_key(*name));
            problems.extend(unknown.map(|name| format!("the key `{name}` is not there")));
        };
        let asks = match (document.signature, document.attestation) {
            (Some(signature), None) => {
                let SignatureDocument { by, min, here } = signature;
                known(&by);
                let distinct: BTreeSet<&String> = by.iter().collect();
                if min == 0 || min as usize > distinct.len() {
                    problems.push(format!("`min` is {min}, and {} keys are named", distinct.len()));
                }
                Asks::Signature { by, min, here }
            }
            (None, Some(attestation)) => {
                let AttestationDocument { kind, by, conditions, here } = attestation;
                known(&by);
                let mut read = Vec::new();
                for text in &conditions {
                    match Expression::parse(text) {
                        Ok(expression) => read.push(expression),
                        Err(problem) => problems.push(format!("`{text}`: {problem}")),
                    }
                }
                Asks::Attestation { kind, by, conditions: read, here }
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(vec!["it has either `signature` or `attestation`".to_owned()]);
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { name: document.name, mode: document.mode, asks })
    }
}
