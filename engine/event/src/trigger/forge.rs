//! What happens at a forge besides pushes: pull requests, comments with a command, releases.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Fills, Misfit, misfit, word_schema, words};
use crate::{Association, Comment, Globs, PullRequest, Release, TagPatterns};

/// Pull requests, which some forges call merge requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequestFilter {
    /// Into which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Into which branches. All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub branches: Globs,
    /// What was done: `opened`, `updated`, `edited`, `merged`, `closed`. `opened` and `updated` when
    /// left away.
    #[serde(default, deserialize_with = "actions", skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "actions_schema")]
    pub actions: BTreeSet<String>,
    /// Which labels, at least one of them.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub labels: Globs,
    /// Only drafts, or none of them. Both when left away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<bool>,
    /// What becomes of those whose commits come from elsewhere.
    #[serde(default, skip_serializing_if = "Forks::is_default")]
    pub forks: Forks,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// What becomes of a pull request whose commits are on no branch of the repository itself, so that
/// anybody may have made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forks {
    /// It starts a run that is given no secrets.
    #[default]
    WithoutSecrets,
    /// It starts nothing; a member may ask for a run with a comment.
    Ignore,
}

impl Forks {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::WithoutSecrets)
    }
}

const ACTIONS: [&str; 5] = ["opened", "updated", "edited", "merged", "closed"];
const USUAL_ACTIONS: [&str; 2] = ["opened", "updated"];

fn actions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    words(deserializer, &ACTIONS)
}

fn actions_schema(_: &mut SchemaGenerator) -> Schema {
    word_schema(&ACTIONS)
}

impl PullRequestFilter {
    pub(super) fn misfit<'e>(&self, request: &'e PullRequest) -> Option<Misfit<'e>> {
        let action = request.action.name();
        let usual = self.actions.is_empty() && USUAL_ACTIONS.contains(&action);
        if !self.repository.is_match(&request.repository.name) {
            return misfit("repository", request.repository.name.as_str());
        }
        if !self.branches.is_match(&request.base_branch) {
            return misfit("branches", request.base_branch.as_str());
        }
        if !usual && !self.actions.contains(action) {
            return misfit("actions", action);
        }
        if !self.labels.is_empty()
            && !request.labels.iter().any(|label| self.labels.is_match(label))
        {
            return misfit("labels", "what it is labeled");
        }
        if self.draft.is_some_and(|draft| draft != request.draft) {
            return misfit("draft", if request.draft { "a draft" } else { "what is no draft" });
        }
        match self.forks {
            Forks::Ignore if request.is_fork => misfit("forks", "what comes from a fork"),
            Forks::Ignore | Forks::WithoutSecrets => None,
        }
    }
}

/// Commands in comments on pull requests, such as `/fairlead run NAME key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentFilter {
    /// In which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// The word behind `/fairlead`. When left away it is `run`, and the name of the pipeline must
    /// stand behind that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// From whom: `owner`, `member`, `collaborator`, `contributor`, `anyone`. The first three when
    /// left away.
    #[serde(default, deserialize_with = "authors", skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "authors_schema")]
    pub from: BTreeSet<String>,
    /// To which parameters the arguments of the command (`key=value`) are given. All when left away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<BTreeSet<String>>,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`. An argument of the command goes
    /// before it.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

const AUTHORS: [&str; 5] = ["owner", "member", "collaborator", "contributor", "anyone"];

fn authors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    words(deserializer, &AUTHORS)
}

fn authors_schema(_: &mut SchemaGenerator) -> Schema {
    word_schema(&AUTHORS)
}

impl CommentFilter {
    /// The word behind `/fairlead` that it waits for.
    #[must_use]
    pub fn command(&self) -> &str {
        self.command.as_deref().unwrap_or("run")
    }

    pub(super) fn misfit<'e>(&self, comment: &'e Comment) -> Option<Misfit<'e>> {
        if !self.repository.is_match(&comment.repository.name) {
            return misfit("repository", comment.repository.name.as_str());
        }
        if self.command() != comment.command.verb {
            return misfit("command", comment.command.verb.as_str());
        }
        let who = comment.association;
        let may = match who {
            Association::Owner
            | Association::Member
            | Association::Collaborator
            | Association::Contributor => self.from.contains(who.name()),
            Association::Stranger | Association::Unknown => false,
        };
        let usual = self.from.is_empty() && who.is_insider();
        if may || usual || self.from.contains("anyone") {
            return None;
        }
        misfit("from", format!("{} ({})", comment.author.as_deref().unwrap_or("?"), who.name()))
    }
}

/// Releases at a forge. Drafts start nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFilter {
    /// Of which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Of which tags: globs, or `semver(">=1")`. All when left away.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// What was done: `published`, `updated`, `deleted`. `published` when left away.
    #[serde(default, deserialize_with = "changes", skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "changes_schema")]
    pub actions: BTreeSet<String>,
    /// Only pre-releases, or none of them. Both when left away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prerelease: Option<bool>,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

const CHANGES: [&str; 3] = ["published", "updated", "deleted"];

fn changes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    words(deserializer, &CHANGES)
}

fn changes_schema(_: &mut SchemaGenerator) -> Schema {
    word_schema(&CHANGES)
}

impl ReleaseFilter {
    pub(super) fn misfit<'e>(&self, release: &'e Release) -> Option<Misfit<'e>> {
        let action = release.action.name();
        let usual = self.actions.is_empty() && action == CHANGES[0];
        if !self.repository.is_match(&release.repository.name) {
            return misfit("repository", release.repository.name.as_str());
        }
        if !self.tags.is_match(&release.tag) {
            return misfit("tags", release.tag.as_str());
        }
        if release.draft {
            return misfit("git.release", "a draft");
        }
        if !usual && !self.actions.contains(action) {
            return misfit("actions", action);
        }
        if self.prerelease.is_some_and(|wanted| wanted != release.prerelease) {
            let what = if release.prerelease { "a pre-release" } else { "what is no pre-release" };
            return misfit("prerelease", what);
        }
        None
    }
}
