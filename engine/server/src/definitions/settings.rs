//! Which repositories are followed, as it stands in the configuration.

use std::time::Duration;

use fairlead_event::ForgeRepository;
use fairlead_run::Projects;
use fairlead_step::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ingest::Sources;

/// The shortest time between two looks at a branch: a forge is asked for its references each time.
const SHORTEST_POLL: Duration = Duration::from_secs(10);
/// The most bytes of a branch or a path.
const MAX_NAME: usize = 255;

/// A branch of a repository whose pipeline files the server follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// The source whose forge has the repository. A push that it reports is followed at once.
    pub source: String,
    /// The repository, such as `platform/pipelines`.
    pub repository: String,
    /// The branch.
    pub branch: String,
    /// The folder whose `.yaml` and `.yml` files are pipelines; `pipelines` when it is not given.
    #[serde(default = "folder")]
    pub path: String,
    /// The project that its pipelines belong to; `default` when it is not given. A file whose pipeline
    /// belongs to another project is refused.
    #[serde(default = "default_project")]
    pub project: String,
    /// How often the branch is looked at, for what no push told; 5 minutes when it is not given.
    #[serde(default = "poll")]
    pub poll: HumanDuration,
    /// Which files the pipelines of a pull request run from.
    #[serde(default)]
    pub pull_requests: PullRequestFiles,
}

/// Which files the pipelines of a pull request run from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullRequestFiles {
    /// Those of the branch that is followed.
    #[default]
    Base,
    /// Those of the pull request itself, unless it comes from a fork: who may push to the repository may
    /// then try a change of a pipeline before it is merged, with all that the project allows.
    Own,
}

fn folder() -> String {
    "pipelines".to_owned()
}

fn default_project() -> String {
    Projects::DEFAULT.to_owned()
}

const fn poll() -> HumanDuration {
    HumanDuration(Duration::from_secs(300))
}

impl RepositorySettings {
    /// What tells it from others.
    pub(super) fn key(&self) -> String {
        let Self { source, repository, branch, .. } = self;
        format!("pipelines/{source}/{repository}@{branch}:{}", self.folder())
    }

    /// The folder without slashes at its ends; empty for the repository's own.
    pub(super) fn folder(&self) -> &str {
        let folder = self.path.trim_matches('/');
        let folder = folder.strip_prefix("./").unwrap_or(folder);
        if folder == "." { "" } else { folder }
    }

    /// The full name of the branch.
    pub(super) fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// The repository with its addresses.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(super) fn check(
        &self,
        sources: &Sources,
        projects: &Projects,
    ) -> Result<ForgeRepository, String> {
        let wrong = |problem: &str| {
            Err(format!("`pipelines`: {} of source `{}`: {problem}", self.repository, self.source))
        };
        let Some(source) = sources.get(&self.source) else {
            return wrong("there is no such source");
        };
        if source.sender.forge().is_none() {
            return wrong("the source names no `forge`");
        }
        let plain = |text: &str| {
            text.len() <= MAX_NAME && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        let branch = &self.branch;
        let odd = branch.contains(['~', '^', ':', '?', '*', '[', '\\']) || branch.contains("..");
        if branch.is_empty() || !plain(branch) || odd || branch.starts_with(['-', '/']) {
            return wrong("`branch` is no name of a branch");
        }
        let parts = self.folder().split('/');
        let climbs = parts.clone().any(|part| part == ".." || part == "." || part == ".git");
        let hollow = !self.folder().is_empty() && parts.clone().any(str::is_empty);
        if !plain(&self.path) || climbs || hollow || self.path.contains('\\') {
            return wrong("`path` is no folder within a repository");
        }
        if self.poll.0 < SHORTEST_POLL {
            return wrong("`poll` is at least 10s");
        }
        if !projects.has(&self.project) {
            let problem = format!("there is no project `{}`", self.project);
            return wrong(&problem);
        }
        let at = ForgeRepository { name: self.repository.clone(), clone_url: None, ssh_url: None };
        source.sender.repository(at).or_else(|problem| wrong(&problem))
    }
}
