//! What else happens: at a registry, and wherever CloudEvents come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fills, Misfit, misfit};
use crate::{Custom, Globs, ImageDeleted, ImageScanned, TagPatterns};

/// Deletions of tags and manifests at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryDelete {
    /// Which repositories: globs over the path, or over the registry and the path. All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which tags: globs, or `semver(">=1")`. All when left away, and what had no tag.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// Scans that a registry has made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryScan {
    /// Which repositories: globs over the path, or over the registry and the path. All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which tags: globs, or `semver(">=1")`. All when left away, and what had no tag.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// CloudEvents of any type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Of which types: globs, in which `*` stands for anything but `/`. All when left away.
    #[serde(rename = "type", default, skip_serializing_if = "Globs::is_empty")]
    pub kind: Globs,
    /// Of which sources, as the event names its own: globs. All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub source: Globs,
    /// About what: globs over the subject. All when left away, and what has none.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub subject: Globs,
    /// The JSON Schema of the data. What does not fit it is not let in, and what an expression reads of
    /// the data is checked against it beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

fn placed<'e>(
    (repository, tags): (&Globs, &TagPatterns),
    at: &'e fairlead_step::Repository,
    tag: Option<&'e str>,
) -> Option<Misfit<'e>> {
    let name = at.to_string();
    if !repository.is_match(at.path()) && !repository.is_match(&name) {
        return misfit("repository", name);
    }
    match tag {
        _ if tags.is_empty() => None,
        Some(tag) if tags.is_match(tag) => None,
        Some(tag) => misfit("tags", tag),
        None => misfit("tags", "what has no tag"),
    }
}

impl RegistryDelete {
    pub(super) fn misfit<'e>(&self, deleted: &'e ImageDeleted) -> Option<Misfit<'e>> {
        placed((&self.repository, &self.tags), &deleted.repository, deleted.tag.as_deref())
    }
}

impl RegistryScan {
    pub(super) fn misfit<'e>(&self, scanned: &'e ImageScanned) -> Option<Misfit<'e>> {
        placed((&self.repository, &self.tags), &scanned.repository, scanned.tag.as_deref())
    }
}

impl EventFilter {
    pub(super) fn misfit<'e>(&self, event: &'e Custom) -> Option<Misfit<'e>> {
        if !self.kind.is_match(&event.r#type) {
            return misfit("type", event.r#type.as_str());
        }
        if !self.source.is_match(&event.source) {
            return misfit("source", event.source.as_str());
        }
        match event.subject.as_deref() {
            _ if self.subject.is_empty() => None,
            Some(subject) if self.subject.is_match(subject) => None,
            Some(subject) => misfit("subject", subject),
            None => misfit("subject", "what has no subject"),
        }
    }
}
