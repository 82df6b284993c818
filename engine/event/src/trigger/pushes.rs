//! Pushes: to a registry, and to git.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fills, Misfit, is_false, misfit};
use crate::{ChangedPaths, GitPushed, GitRef, Globs, ImagePushed, TagPatterns};

/// Pushes of manifests to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryPush {
    /// Which repositories: globs over the path (`apps/*`), or over the registry and the path
    /// (`registry.example.com/apps/*`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which tags: globs, or `semver(">=1")`. All when left away.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// Whether manifests pushed by digest, without a tag, are let in too. Each platform of an index
    /// is such a push. Off by default; `tags` does not apply to them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub untagged: bool,
    /// Whether tags that signatures and attestations hide under (`sha256-….sig`) are let in too.
    /// Off by default; `tags` does not apply to them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub evidence: bool,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// Pushes of branches and tags to a git repository. A deleted branch or tag starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitPush {
    /// Which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which branches. When only `tags` is given, none; when neither is, all.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub branches: Globs,
    /// Which tags: globs, or `semver(">=1")`. When only `branches` is given, none; when neither is,
    /// all.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// Which files must be touched, at least one of them. Where the sender cannot say what was
    /// touched (a new branch, a tag, a rewritten history, a long push) the push is let in.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub paths: Globs,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// Pushes of tags to a git repository, and of nothing else. A deleted tag starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitTag {
    /// Which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which tags: globs, or `semver(">=1")`. All when left away.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

impl RegistryPush {
    pub(super) fn misfit<'e>(&self, push: &'e ImagePushed) -> Option<Misfit<'e>> {
        let name = push.repository.to_string();
        if !self.repository.is_match(push.repository.path()) && !self.repository.is_match(&name) {
            return misfit("repository", name);
        }
        match &push.tag {
            None if self.untagged => None,
            None => misfit("untagged", "a push by digest"),
            Some(_) if push.is_evidence() && self.evidence => None,
            Some(tag) if push.is_evidence() => misfit("evidence", tag.as_str()),
            Some(tag) if self.tags.is_match(tag) => None,
            Some(tag) => misfit("tags", tag.as_str()),
        }
    }
}

impl GitPush {
    pub(super) fn misfit<'e>(&self, push: &'e GitPushed) -> Option<Misfit<'e>> {
        if push.deleted() {
            return misfit("git.push", "what is gone");
        }
        if !self.repository.is_match(&push.repository) {
            return misfit("repository", push.repository.as_str());
        }
        let any = self.branches.is_empty() && self.tags.is_empty();
        match &push.reference {
            GitRef::Branch(name) if !any && !has(&self.branches, name) => {
                return misfit("branches", name.as_str());
            }
            GitRef::Tag(name) if !any && (self.tags.is_empty() || !self.tags.is_match(name)) => {
                return misfit("tags", name.as_str());
            }
            GitRef::Branch(_) | GitRef::Tag(_) => {}
        }
        if touched(&self.paths, &push.paths) { None } else { misfit("paths", "what was touched") }
    }
}

impl GitTag {
    pub(super) fn misfit<'e>(&self, push: &'e GitPushed) -> Option<Misfit<'e>> {
        let name = match &push.reference {
            GitRef::Tag(name) => name.as_str(),
            GitRef::Branch(name) => return misfit("git.tag", format!("branch {name}")),
        };
        if push.deleted() {
            return misfit("git.tag", "what is gone");
        }
        if !self.repository.is_match(&push.repository) {
            return misfit("repository", push.repository.as_str());
        }
        if self.tags.is_match(name) { None } else { misfit("tags", name) }
    }
}

fn has(globs: &Globs, name: &str) -> bool {
    !globs.is_empty() && globs.is_match(name)
}

/// Whether a filter by path lets in what was touched. What is not known is let in: nobody can say that
/// nothing was touched.
pub(super) fn touched(filter: &Globs, paths: &ChangedPaths) -> bool {
    match paths {
        _ if filter.is_empty() => true,
        ChangedPaths::Known(paths) => paths.iter().any(|path| filter.is_match(path)),
        ChangedPaths::Unknown => true,
    }
}
