//! The kinds of senders, and what is known of each before it sends anything.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who sends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// The CNCF registry (`distribution`, also in the registry of GitLab), by its notifications.
    Distribution,
    /// The zot registry, by CloudEvents over HTTP or NATS.
    Zot,
    /// Harbor, by the webhooks of a project, in its own form or as CloudEvents.
    Harbor,
    /// Docker Hub, by the webhooks of a repository.
    DockerHub,
    /// GitHub's container registry, by the `registry_package` webhooks of GitHub.
    Ghcr,
    /// Quay, by the notifications of a repository.
    Quay,
    /// Azure Container Registry, by its webhooks or through Event Grid.
    Acr,
    /// Amazon ECR, through EventBridge, as it is or as CloudEvents.
    Ecr,
    /// JFrog Artifactory, by its webhooks for Docker.
    Artifactory,
    /// Sonatype Nexus Repository, by the webhooks of a repository.
    Nexus,
    /// GitHub, by webhooks.
    GitHub,
    /// GitLab, by webhooks.
    GitLab,
    /// Gitea and Forgejo, by webhooks.
    Gitea,
    /// Bitbucket Cloud, by webhooks.
    Bitbucket,
    /// Bitbucket Data Center, by webhooks.
    #[serde(rename = "bitbucket-datacenter")]
    BitbucketDataCenter,
    /// Anybody who sends CloudEvents.
    CloudEvents,
}

/// Where in a message its proof stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A header holds an HMAC of the body, so the body must be read for it.
    Signature,
    /// A header holds the secret itself.
    Header,
    /// The address that is sent to ends in the secret: the sender has no proof of its own.
    Address,
    /// As [`Proof::Header`] or [`Proof::Address`], as the sender is set up.
    HeaderOrAddress,
}

impl Proof {
    /// Whether the secret may stand in the address.
    #[must_use]
    pub const fn in_address(self) -> bool {
        match self {
            Self::Address | Self::HeaderOrAddress => true,
            Self::Signature | Self::Header => false,
        }
    }
}

impl SenderKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Distribution,
        Self::Zot,
        Self::Harbor,
        Self::DockerHub,
        Self::Ghcr,
        Self::Quay,
        Self::Acr,
        Self::Ecr,
        Self::Artifactory,
        Self::Nexus,
        Self::GitHub,
        Self::GitLab,
        Self::Gitea,
        Self::Bitbucket,
        Self::BitbucketDataCenter,
        Self::CloudEvents,
    ];

    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::Zot => "zot",
            Self::Harbor => "harbor",
            Self::DockerHub => "dockerhub",
            Self::Ghcr => "ghcr",
            Self::Quay => "quay",
            Self::Acr => "acr",
            Self::Ecr => "ecr",
            Self::Artifactory => "artifactory",
            Self::Nexus => "nexus",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
            Self::BitbucketDataCenter => "bitbucket-datacenter",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// Whether it is a registry: its events are of images, and which registry they are of must be said
    /// in the configuration.
    #[must_use]
    pub const fn needs_registry(self) -> bool {
        !self.is_forge() && !matches!(self, Self::CloudEvents)
    }

    /// Whether its events may be of images.
    #[must_use]
    pub const fn reports_images(self) -> bool {
        self.needs_registry() || matches!(self, Self::GitHub | Self::Gitea | Self::CloudEvents)
    }

    /// Whether it is a forge, which reports pushes of branches and tags.
    #[must_use]
    pub const fn is_forge(self) -> bool {
        match self {
            Self::GitHub
            | Self::GitLab
            | Self::Gitea
            | Self::Bitbucket
            | Self::BitbucketDataCenter => true,
            Self::Distribution
            | Self::Zot
            | Self::Harbor
            | Self::DockerHub
            | Self::Ghcr
            | Self::Quay
            | Self::Acr
            | Self::Ecr
            | Self::Artifactory
            | Self::Nexus
            | Self::CloudEvents => false,
        }
    }

    /// Whether its events may be pushes of branches and tags.
    #[must_use]
    pub const fn reports_git(self) -> bool {
        self.is_forge() || matches!(self, Self::CloudEvents)
    }

    /// Whether it can publish on a NATS subject.
    #[must_use]
    pub const fn is_on_nats(self) -> bool {
        matches!(self, Self::Zot | Self::CloudEvents)
    }

    /// Whether one name of its registry may hold many repositories that have names of their own, of
    /// which the source may be of one alone.
    #[must_use]
    pub const fn has_repository_keys(self) -> bool {
        matches!(self, Self::Artifactory | Self::Nexus)
    }

    /// Where its proof stands.
    #[must_use]
    pub const fn proof(self) -> Proof {
        match self {
            Self::Distribution | Self::Zot | Self::Harbor => Proof::Header,
            // With a key that begins with `whsec_`, a signature.
            Self::CloudEvents | Self::GitLab => Proof::Header,
            Self::DockerHub | Self::Quay => Proof::Address,
            Self::Acr | Self::Ecr => Proof::HeaderOrAddress,
            Self::Ghcr
            | Self::Artifactory
            | Self::Nexus
            | Self::GitHub
            | Self::Gitea
            | Self::Bitbucket
            | Self::BitbucketDataCenter => Proof::Signature,
        }
    }

    /// Under which names its forge shows the head of a pull request to whoever reads the repository;
    /// none when it does not.
    #[must_use]
    pub fn pull_request_refs(self, number: u64) -> Vec<String> {
        let (github, gitlab, bitbucket) = (
            format!("refs/pull/{number}/head"),
            format!("refs/merge-requests/{number}/head"),
            format!("refs/pull-requests/{number}/from"),
        );
        match self {
            Self::GitHub | Self::Gitea => vec![github],
            Self::GitLab => vec![gitlab],
            Self::BitbucketDataCenter => vec![bitbucket],
            // Which forge is behind it nobody says.
            Self::CloudEvents => vec![github, gitlab, bitbucket],
            Self::Bitbucket
            | Self::Distribution
            | Self::Zot
            | Self::Harbor
            | Self::DockerHub
            | Self::Ghcr
            | Self::Quay
            | Self::Acr
            | Self::Ecr
            | Self::Artifactory
            | Self::Nexus => Vec::new(),
        }
    }

    /// The folder in which a forge of this kind has its repositories over HTTP.
    pub(crate) const fn folder(self) -> &'static str {
        if matches!(self, Self::BitbucketDataCenter) { "/scm" } else { "" }
    }
}

impl fmt::Display for SenderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
