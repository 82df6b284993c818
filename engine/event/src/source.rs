//! What happened: one typed event for whatever registries, forges and people send.

use std::collections::BTreeSet;
use std::fmt;

use fairlead_step::{Digest, ImageRef, Repository};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Comment, Custom, ForgeRepository, GitRef, ImageDeleted, ImageScanned, ObjectId, PullRequest,
    Release, RunFinished, Scheduled, TriggerKind,
};

/// One thing that happened, whoever told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum SourceEvent {
    /// A manifest was pushed to a registry.
    #[serde(rename = "registry.push")]
    ImagePushed(ImagePushed),
    /// A branch or a tag was pushed to a forge.
    #[serde(rename = "git.push")]
    GitPushed(GitPushed),
    /// Somebody asked for a run.
    #[serde(rename = "manual")]
    Requested(Requested),
    /// A pull request at a forge was opened, changed, merged or closed.
    #[serde(rename = "git.pull_request")]
    PullRequest(PullRequest),
    /// A command stands in a comment on a pull request.
    #[serde(rename = "git.comment")]
    Comment(Comment),
    /// A release at a forge was published, changed or deleted.
    #[serde(rename = "git.release")]
    Release(Release),
    /// A tag or a manifest was deleted at a registry.
    #[serde(rename = "registry.delete")]
    ImageDeleted(ImageDeleted),
    /// A registry's scanner has looked at a manifest.
    #[serde(rename = "registry.scan")]
    ImageScanned(ImageScanned),
    /// Something else, as its sender tells it.
    #[serde(rename = "event")]
    Custom(Custom),
    /// The time of a schedule has come.
    #[serde(rename = "schedule")]
    Scheduled(Scheduled),
    /// A run has ended.
    #[serde(rename = "run.finished")]
    RunFinished(RunFinished),
}

/// A manifest that arrived at a registry. A hint: the digest is looked up before anything acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePushed {
    /// The registry and the path within it. The registry is the one that the configuration of the
    /// source names, for senders say nothing or what their client happened to call them.
    pub repository: Repository,
    /// The tag, where the push had one.
    pub tag: Option<String>,
    /// The digest of the manifest, where the sender says it.
    pub digest: Option<Digest>,
    /// The media type of the manifest, where the sender says it.
    pub media_type: Option<String>,
    /// Who pushed, as the sender calls them.
    pub actor: Option<String>,
    /// When the sender says that it happened.
    pub at: Option<Timestamp>,
}

/// A branch or tag that moved at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitPushed {
    /// The full name of the repository at its forge, such as `acme/shop`.
    pub repository: String,
    /// Where to clone it over HTTP.
    pub clone_url: Option<String>,
    /// Where to clone it over ssh.
    pub ssh_url: Option<String>,
    /// What moved.
    pub reference: GitRef,
    /// What it pointed to; none when it is new.
    pub before: Option<ObjectId>,
    /// What it points to; none when it is gone. For an annotated tag this is the tag object.
    pub after: Option<ObjectId>,
    /// The commit to check out, where the sender says it or `after` is one.
    pub commit: Option<ObjectId>,
    /// Whether the sender says that history was rewritten.
    pub forced: bool,
    /// Which files changed.
    pub paths: ChangedPaths,
    /// Who pushed, as the sender calls them.
    pub actor: Option<String>,
}

/// Which files a push changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedPaths {
    /// These, and no others.
    Known(BTreeSet<String>),
    /// The sender did not or could not say: a filter by path then lets the push in, for it cannot
    /// say that nothing was touched.
    Unknown,
}

/// A person or a program that asked for a run of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The pipeline.
    pub pipeline: String,
    /// The parameters given.
    pub params: serde_json::Map<String, Value>,
    /// Who asked.
    pub by: String,
    /// What tells this request from another: the `Idempotency-Key` that came with it, or a key made
    /// for it. The same key for the same pipeline is the same request.
    pub key: String,
}

/// The identity of what happened: a SHA-256 over the facts, in lower-case hex. It is also the id of
/// the CloudEvent and the `Nats-Msg-Id` of its message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DedupKey(String);

impl DedupKey {
    /// Hashes the facts, each with its length before it, so that no two lists of facts collide.
    pub(crate) fn of(facts: &[impl AsRef<str>]) -> Self {
        let mut hasher = Sha256::new();
        for fact in facts.iter().map(AsRef::as_ref) {
            hasher.update((fact.len() as u64).to_be_bytes());
            hasher.update(fact.as_bytes());
        }
        Self(hex::encode(hasher.finalize()))
    }

    /// The hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A place whose content changes and may change back: a tag in a repository, as
/// `registry/repository:tag`.
///
/// The facts of a push alone cannot tell a report that comes twice from a tag that was set to
/// another digest and back. So the store keeps a history of each tag, in which a push has a number;
/// [`crate::repeated`] decides whether a report deserves the next one. The store gives each number
/// once, so exactly one of two racing writers has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(String);

impl Place {
    /// The tag, as the store's history names it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the push that has this number here. The number alone would not do: when a history
    /// is forgotten, numbers begin anew, while the key of an older push may still be known.
    #[must_use]
    pub fn key(&self, number: u64, digest: &Digest, received_at: Timestamp) -> DedupKey {
        let (number, digest, at) =
            (number.to_string(), digest.to_string(), received_at.to_string());
        DedupKey::of(&["tag", self.0.as_str(), &number, &digest, &at])
    }
}

impl SourceEvent {
    /// Which trigger it is for.
    #[must_use]
    pub const fn kind(&self) -> TriggerKind {
        match self {
            Self::ImagePushed(_) => TriggerKind::RegistryPush,
            Self::GitPushed(_) => TriggerKind::GitPush,
            Self::Requested(_) => TriggerKind::Manual,
            Self::PullRequest(_) => TriggerKind::PullRequest,
            Self::Comment(_) => TriggerKind::Comment,
            Self::Release(_) => TriggerKind::Release,
            Self::ImageDeleted(_) => TriggerKind::RegistryDelete,
            Self::ImageScanned(_) => TriggerKind::RegistryScan,
            Self::Custom(_) => TriggerKind::Event,
            Self::Scheduled(_) => TriggerKind::Schedule,
            Self::RunFinished(_) => TriggerKind::RunFinished,
        }
    }

    /// The identity of what happened: of the facts alone, never of the sender's id for its message
    /// and never of a time, so that two senders, two hooks and two deliveries agree.
    ///
    /// Exceptions are what may happen again in just the same way: a push whose sender names no digest,
    /// a pull request that is closed and opened again, a deletion, an edit. There the time that the
    /// sender gives is one of the facts.
    ///
    /// Of a [`Custom`] event the facts are what its sender chose; see [`SourceEvent::key_from`].
    #[must_use]
    pub fn dedup_key(&self) -> DedupKey {
        match self {
            Self::ImagePushed(push) => {
                let digest = push.digest.as_ref().map(ToString::to_string);
                let at = match digest {
                    Some(_) => None,
                    None => push.at.as_ref().map(ToString::to_string),
                };
                DedupKey::of(&[
                    "registry.push",
                    push.repository.registry(),
                    push.repository.path(),
                    digest.as_deref().unwrap_or_default(),
                    push.tag.as_deref().unwrap_or_default(),
                    at.as_deref().unwrap_or_default(),
                ])
            }
            Self::GitPushed(push) => {
                let end = |id: &Option<ObjectId>| id.as_ref().map(ToString::to_string);
                DedupKey::of(&[
                    "git.push",
                    // The clone address tells apart two forges that both have an `acme/shop`.
                    push.clone_url.as_deref().or(push.ssh_url.as_deref()).unwrap_or_default(),
                    push.repository.as_str(),
                    push.reference.to_string().as_str(),
                    end(&push.before).as_deref().unwrap_or_default(),
                    end(&push.after).as_deref().unwrap_or_default(),
                ])
            }
            Self::Requested(request) => {
                DedupKey::of(&["manual", request.pipeline.as_str(), request.key.as_str()])
            }
            Self::PullRequest(request) => DedupKey::of(&request.facts()),
            Self::Comment(comment) => DedupKey::of(&comment.facts()),
            Self::Release(release) => DedupKey::of(&release.facts()),
            Self::ImageDeleted(deleted) => DedupKey::of(&deleted.facts()),
            Self::ImageScanned(scanned) => DedupKey::of(&scanned.facts()),
            Self::Custom(event) => DedupKey::of(&event.facts()),
            Self::Scheduled(at) => DedupKey::of(&[
                "schedule",
                at.pipeline.as_str(),
                at.schedule.as_str(),
                at.due.to_string().as_str(),
            ]),
            Self::RunFinished(ended) => DedupKey::of(&["run.finished", ended.run.as_str()]),
        }
    }

    /// The identity under which the source called `source` is believed. Whatever speaks of a registry
    /// or a forge is bound to that of its source, so that two sources which agree mean the same thing.
    /// Nothing binds a [`Custom`] event, and whoever may send some could take the identity of
    /// another's, which would then be lost as a repetition: so there the source is one of the facts.
    #[must_use]
    pub fn key_from(&self, source: &str) -> DedupKey {
        let key = self.dedup_key();
        match self {
            Self::Custom(_) => DedupKey::of(&["source", source, key.as_str()]),
            Self::ImagePushed(_)
            | Self::GitPushed(_)
            | Self::Requested(_)
            | Self::PullRequest(_)
            | Self::Comment(_)
            | Self::Release(_)
            | Self::ImageDeleted(_)
            | Self::ImageScanned(_)
            | Self::Scheduled(_)
            | Self::RunFinished(_) => key,
        }
    }

    /// The repository at a forge that the event speaks of, where it speaks of one.
    #[must_use]
    pub fn forge_repository(&self) -> Option<ForgeRepository> {
        match self {
            Self::GitPushed(push) => Some(push.into()),
            Self::PullRequest(request) => Some(request.repository.clone()),
            Self::Comment(comment) => Some(comment.repository.clone()),
            Self::Release(release) => Some(release.repository.clone()),
            Self::ImagePushed(_)
            | Self::Requested(_)
            | Self::ImageDeleted(_)
            | Self::ImageScanned(_)
            | Self::Custom(_)
            | Self::Scheduled(_)
            | Self::RunFinished(_) => None,
        }
    }

    /// The commit that a run of the event works on, as a push to where it is; none where there is none.
    #[must_use]
    pub fn as_push(&self) -> Option<GitPushed> {
        match self {
            Self::GitPushed(push) => Some(push.clone()),
            Self::PullRequest(request) => Some(request.as_push()),
            Self::Comment(comment) => Some(comment.as_push()),
            Self::Release(release) => Some(release.as_push()),
            Self::ImagePushed(_)
            | Self::Requested(_)
            | Self::ImageDeleted(_)
            | Self::ImageScanned(_)
            | Self::Custom(_)
            | Self::Scheduled(_)
            | Self::RunFinished(_) => None,
        }
    }

    /// The same event with this repository, where it speaks of one.
    #[must_use]
    pub fn at_repository(mut self, at: ForgeRepository) -> Self {
        match &mut self {
            Self::GitPushed(push) => {
                (push.repository, push.clone_url, push.ssh_url) =
                    (at.name, at.clone_url, at.ssh_url);
            }
            Self::PullRequest(request) => request.repository = at,
            Self::Comment(comment) => comment.repository = at,
            Self::Release(release) => release.repository = at,
            Self::ImagePushed(_)
            | Self::Requested(_)
            | Self::ImageDeleted(_)
            | Self::ImageScanned(_)
            | Self::Custom(_)
            | Self::Scheduled(_)
            | Self::RunFinished(_) => {}
        }
        self
    }

    /// The place of a push to a tag whose digest is known; none of anything else, whose
    /// [`SourceEvent::dedup_key`] is all there is to say.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let Self::ImagePushed(push) = self else { return None };
        let ImagePushed { repository, tag: Some(tag), digest: Some(_), .. } = push else {
            return None;
        };
        Some(Place(format!("{repository}:{tag}")))
    }

    /// What the event is about, for people and for the `subject` of its CloudEvent: the image with
    /// its tag, the repository with its reference, the pipeline.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::ImagePushed(push) => push.reference().to_string(),
            Self::GitPushed(push) => format!("{}@{}", push.repository, push.reference),
            Self::Requested(request) => request.pipeline.clone(),
            Self::PullRequest(request) => request.subject(),
            Self::Comment(comment) => comment.subject(),
            Self::Release(release) => release.subject(),
            Self::ImageDeleted(deleted) => deleted.subject(),
            Self::ImageScanned(scanned) => scanned.subject(),
            Self::Custom(event) => event.subject(),
            Self::Scheduled(at) => format!("{}@{}", at.pipeline, at.due),
            Self::RunFinished(ended) => format!("{}/{}", ended.pipeline, ended.run),
        }
    }

    /// What expressions see as `event`. Every key of the kind is there, null where nothing is
    /// known; [`TriggerKind::fields`] lists them.
    #[must_use]
    pub fn template_value(&self) -> Value {
        match self {
            Self::ImagePushed(push) => json!({
                "kind": self.kind().key(),
                "registry": push.repository.registry(),
                "repository": push.repository.to_string(),
                "path": push.repository.path(),
                "tag": push.tag,
                "digest": push.digest,
                "image": push.digest.clone().map(|digest| push.repository.at(digest)),
                "media_type": push.media_type,
                "actor": push.actor,
            }),
            Self::GitPushed(push) => json!({
                "kind": self.kind().key(),
                "repository": push.repository,
                "clone_url": push.clone_url,
                "ssh_url": push.ssh_url,
                "ref": push.reference,
                "branch": push.reference.branch(),
                "tag": push.reference.tag(),
                "before": push.before,
                "after": push.after,
                // What a branch points to is a commit, whether or not the sender says it twice.
                "commit": push.commit.as_ref().or(match &push.reference {
                    GitRef::Branch(_) => push.after.as_ref(),
                    GitRef::Tag(_) => None,
                }),
                "created": push.created(),
                "forced": push.forced,
                "paths": match &push.paths {
                    ChangedPaths::Known(paths) => json!(paths),
                    ChangedPaths::Unknown => Value::Null,
                },
                "actor": push.actor,
            }),
            Self::Requested(request) => json!({
                "kind": self.kind().key(),
                "actor": request.by,
            }),
            Self::PullRequest(request) => request.template(self.kind().key()),
            Self::Comment(comment) => comment.template(self.kind().key()),
            Self::Release(release) => release.template(self.kind().key()),
            Self::ImageDeleted(deleted) => deleted.template(self.kind().key()),
            Self::ImageScanned(scanned) => scanned.template(self.kind().key()),
            Self::Custom(event) => event.template(self.kind().key()),
            Self::Scheduled(at) => at.template_value(self.kind().key()),
            Self::RunFinished(ended) => ended.template_value(self.kind().key()),
        }
    }
}

impl ImagePushed {
    /// Whether the tag is one that evidence hides under, not a release: see
    /// [`ImageRef::is_evidence_tag`].
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.tag.as_deref().is_some_and(ImageRef::is_evidence_tag)
    }

    /// The image as a reference: repository, tag and digest, as far as they are known.
    #[must_use]
    pub fn reference(&self) -> ImageRef {
        ImageRef {
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            digest: self.digest.clone(),
        }
    }
}

impl GitPushed {
    /// Whether the reference is new.
    #[must_use]
    pub const fn created(&self) -> bool {
        self.before.is_none()
    }

    /// Whether the reference is gone.
    #[must_use]
    pub const fn deleted(&self) -> bool {
        self.after.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tag: Option<&str>, digest: Option<&[u8]>, at: Option<&str>) -> SourceEvent {
        SourceEvent::ImagePushed(ImagePushed {
            repository: "r.example.com/apps/shop".parse().unwrap(),
            tag: tag.map(Into::into),
            digest: digest.map(Digest::sha256),
            media_type: None,
            actor: None,
            at: at.map(|at| at.parse().unwrap()),
        })
    }

    fn git() -> GitPushed {
        GitPushed {
            repository: "acme/shop".into(),
            clone_url: Some("https://git.example.com/acme/shop.git".into()),
            ssh_url: None,
            reference: GitRef::Branch("main".into()),
            before: ObjectId::parse_end(&"a".repeat(40)).unwrap(),
            after: ObjectId::parse_end(&"b".repeat(40)).unwrap(),
            commit: None,
            forced: false,
            paths: ChangedPaths::Unknown,
            actor: Some("ann".into()),
        }
    }

    #[test]
    fn the_key_is_of_what_happened_and_of_nothing_else() {
        let once = image(Some("1.0"), Some(b"a"), Some("2026-01-01T00:00:00Z"));
        let again = image(Some("1.0"), Some(b"a"), Some("2026-01-02T00:00:00Z"));
        assert_eq!(once.dedup_key(), again.dedup_key());
        for other in [
            image(Some("1.1"), Some(b"a"), None),
            image(None, Some(b"a"), None),
            image(Some("1.0"), Some(b"b"), None),
            image(Some("1.0"), None, None),
        ] {
            assert_ne!(once.dedup_key(), other.dedup_key(), "{other:?}");
        }
        let push = git();
        let told_by_another = GitPushed { actor: None, forced: true, ..push.clone() };
        let back = GitPushed { before: push.after.clone(), after: push.before.clone(), ..git() };
        let key = |push: GitPushed| SourceEvent::GitPushed(push).dedup_key();
        assert_eq!(key(push.clone()), key(told_by_another));
        assert_ne!(key(push), key(back));
    }

    #[test]
    fn without_a_digest_the_time_tells_pushes_apart() {
        let first = image(Some("1.0"), None, Some("2026-01-01T00:00:00Z"));
        let second = image(Some("1.0"), None, Some("2026-01-02T00:00:00Z"));
        assert_ne!(first.dedup_key(), second.dedup_key());
    }

    #[test]
    fn evidence_hides_under_tags_of_digests() {
        let hex = "a".repeat(64);
        let tagged = |tag: &str| {
            let event = image(Some(tag), Some(b"a"), None);
            matches!(&event, SourceEvent::ImagePushed(push) if push.is_evidence())
        };
        for tag in ["", ".sig", ".att", ".sbom"] {
            assert!(tagged(&format!("sha256-{hex}{tag}")), "{tag}");
        }
        assert!(tagged(&format!("fairlead-{}", "0f".repeat(16))));
        for tag in ["1.0.0", "fairlead-1.0", "sha256-abc", &format!("sha256-{hex}.txt"), "latest"] {
            assert!(!tagged(tag), "{tag}");
        }
    }

    #[test]
    fn events_survive_storage() {
        for event in [
            image(Some("1.0"), Some(b"a"), Some("2026-01-01T00:00:00Z")),
            SourceEvent::GitPushed(GitPushed {
                paths: ChangedPaths::Known(["a".into()].into()),
                ..git()
            }),
            SourceEvent::Requested(Requested {
                pipeline: "release".into(),
                params: serde_json::Map::new(),
                by: "ann".into(),
                key: "k".into(),
            }),
        ] {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(serde_json::from_value::<SourceEvent>(json).unwrap(), event);
        }
    }

    #[test]
    fn expressions_see_every_field_that_is_listed_and_no_other() {
        for event in [image(None, None, None), SourceEvent::GitPushed(git())] {
            let value = event.template_value();
            let seen: BTreeSet<&str> =
                value.as_object().unwrap().keys().map(String::as_str).collect();
            let listed: BTreeSet<&str> = event.kind().fields().iter().map(|f| f.name).collect();
            assert_eq!(seen, listed);
        }
    }
}
