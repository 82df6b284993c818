//! Senders: who reports events, how they prove who they are, and what they say.
//!
//! One file per sender. Each checks the proof over the raw bytes first, and only then reads them.

mod cloud_events;
mod distribution;
mod gitea;
mod github;
mod gitlab;
mod push_body;
mod signature;
mod zot;

#[cfg(test)]
mod captured;

pub use signature::same_text;

use std::fmt;

use fairlead_step::{ImageError, Repository, Secret};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::forge::check_name;
use crate::{Forge, GitPushed, Headers, SourceEvent};

/// The most bytes of one body.
pub const MAX_BODY: usize = 8 << 20;
/// The most events in one body.
const MAX_EVENTS: usize = 1000;
/// The longest text that is kept of what a sender says about people, in characters.
const MAX_ACTOR: usize = 256;

/// Who sends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// The CNCF registry (`distribution`, `docker.io/library/registry`), by its notifications.
    Distribution,
    /// The zot registry, by CloudEvents over HTTP or NATS.
    Zot,
    /// GitHub, by webhooks.
    GitHub,
    /// GitLab, by webhooks.
    GitLab,
    /// Gitea and Forgejo, by webhooks.
    Gitea,
    /// Anybody who sends CloudEvents of the types that Fairlead defines.
    CloudEvents,
}

impl SenderKind {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::Zot => "zot",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// Whether its events do not say which registry they are of, so that the configuration must.
    #[must_use]
    pub const fn needs_registry(self) -> bool {
        match self {
            Self::Distribution | Self::Zot => true,
            Self::GitHub | Self::GitLab | Self::Gitea | Self::CloudEvents => false,
        }
    }

    /// Whether it is a forge, which reports pushes of branches and tags.
    #[must_use]
    pub const fn is_forge(self) -> bool {
        match self {
            Self::GitHub | Self::GitLab | Self::Gitea => true,
            Self::Distribution | Self::Zot | Self::CloudEvents => false,
        }
    }

    /// Whether its events may be pushes of branches and tags.
    #[must_use]
    pub const fn reports_git(self) -> bool {
        match self {
            Self::GitHub | Self::GitLab | Self::Gitea | Self::CloudEvents => true,
            Self::Distribution | Self::Zot => false,
        }
    }
}

impl fmt::Display for SenderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A sender as configured.
#[derive(Debug, Clone)]
pub struct Sender {
    kind: SenderKind,
    secret: Option<Secret<String>>,
    registry: Option<Box<str>>,
    forge: Option<Forge>,
}

/// Why a sender cannot be configured so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The registry is not told.
    #[error("a `{kind}` source must say which registry it speaks of; its events do not")]
    NoRegistry {
        /// The kind.
        kind: SenderKind,
    },
    /// Neither the registry nor the forge is told.
    #[error(
        "a `{kind}` source must name the `registry` whose images it reports, the `forge` whose pushes \
         it reports, or both"
    )]
    NoPlace {
        /// The kind.
        kind: SenderKind,
    },
    /// There is a forge, and the sender reports nothing of any.
    #[error("a `{kind}` source reports nothing of a forge; take `forge` away")]
    NoForge {
        /// The kind.
        kind: SenderKind,
    },
    /// The registry is not a host.
    #[error("the registry of the source is malformed")]
    BadRegistry(#[source] ImageError),
    /// The secret is empty, or a `whsec_` key that is not base64.
    #[error("the secret of the source {problem}")]
    BadSecret {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its headers.
    pub headers: &'a Headers,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// The time now, for signatures that carry one.
    pub now: Timestamp,
    /// Whether the channel it came by has proved who sends, as a NATS subject does by its
    /// permissions. The proof in the message is then not asked for.
    pub trusted_channel: bool,
}

/// What a message said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The events in it.
    pub events: Vec<SourceEvent>,
    /// What else was in it and is of no interest, one line each: what, and why it is no event.
    pub ignored: Vec<String>,
    /// What in it may be an event and is not taken, one line each: it cannot be read, or speaks of a
    /// place that is not the source's.
    pub refused: Vec<String>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There is no proof in it of who sent it.
    #[error("the message is not signed: there is no `{header}` header")]
    Unsigned {
        /// The header that was looked for.
        header: &'static str,
    },
    /// The proof does not fit the bytes and the secret.
    #[error("the signature in `{header}` does not fit the body and the secret of the source")]
    WrongSignature {
        /// The header that was compared.
        header: &'static str,
    },
    /// The proof fits, and is of another time.
    #[error("the message was signed {seconds} s from now, outside the window of 300 s")]
    OutsideWindow {
        /// How far from now.
        seconds: u64,
    },
    /// The bytes are not what the sender promises.
    #[error("the body is not a {what}: {reason}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// It is an event, and not one that the source may report.
    #[error("the event is refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// There are too many bytes or events in it.
    #[error("the body is too large: at most {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}

impl ReceiveError {
    /// Whether it is the proof that failed, not the bytes.
    #[must_use]
    pub const fn is_signature(&self) -> bool {
        match self {
            Self::Unsigned { .. } | Self::WrongSignature { .. } | Self::OutsideWindow { .. } => {
                true
            }
            Self::Malformed { .. } | Self::Refused { .. } | Self::TooLarge { .. } => false,
        }
    }
}

impl Sender {
    /// A sender of `kind`. Without a `secret` every message is believed. `registry` is the host
    /// (`host` or `host:port`) that image events are of, `forge` the forge that pushes of branches and
    /// tags are at. Without a forge their events name no address.
    ///
    /// # Errors
    /// When the kind needs a registry or a forge and there is none, or when one is malformed.
    pub fn new(
        kind: SenderKind,
        secret: Option<Secret<String>>,
        registry: Option<&str>,
        forge: Option<Forge>,
    ) -> Result<Self, SenderError> {
        if forge.is_some() && !kind.reports_git() {
            return Err(SenderError::NoForge { kind });
        }
        if kind == SenderKind::CloudEvents && registry.is_none() && forge.is_none() {
            return Err(SenderError::NoPlace { kind });
        }
        if let Some(host) = registry {
            // Any path does; it is the host that is being checked.
            Repository::new(host, "x").map_err(SenderError::BadRegistry)?;
        } else if kind.needs_registry() {
            return Err(SenderError::NoRegistry { kind });
        }
        // What a sender is given is typed on one line.
        let secret = secret.map(|secret| Secret::new(secret.line().to_owned()));
        if let Some(secret) = &secret {
            signature::check_secret(secret)?;
        }
        Ok(Self { kind, secret, registry: registry.map(Into::into), forge })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> SenderKind {
        self.kind
    }

    /// The forge that its pushes are at.
    #[must_use]
    pub const fn forge(&self) -> Option<&Forge> {
        self.forge.as_ref()
    }

    /// The push with the addresses that the forge of this source has for its repository, whatever the
    /// message says; with none where the source names no forge.
    ///
    /// # Errors
    /// Says what does not fit: the name of the repository is none, or an address of the message is
    /// not at this forge.
    pub fn locate(&self, push: GitPushed) -> Result<GitPushed, String> {
        match &self.forge {
            Some(forge) => forge.locate(self.kind, push),
            None if self.kind.is_forge() => {
                check_name(self.kind, &push.repository)?;
                Ok(GitPushed { clone_url: None, ssh_url: None, ..push })
            }
            None => Err(format!(
                "push to `{}`: this source names no `forge` that it may be at",
                push.repository
            )),
        }
    }

    /// Checks the proof of a message and reads it.
    ///
    /// # Errors
    /// When the proof is missing or wrong, before anything of the body is read; when the body is
    /// malformed, or is one event that the source may not report. What is well-formed and of no
    /// interest is not an error. Of several events in a message each is taken or not by itself.
    pub fn receive(&self, message: Incoming<'_>) -> Result<Received, ReceiveError> {
        if message.body.len() > MAX_BODY {
            return Err(ReceiveError::TooLarge { limit: MAX_BODY, unit: "bytes" });
        }
        if let Some(secret) = &self.secret
            && !message.trusted_channel
        {
            match self.kind {
                SenderKind::Distribution | SenderKind::Zot | SenderKind::CloudEvents => {
                    signature::authorization(secret, message.headers)?;
                }
                SenderKind::GitHub => github::verify(secret, message.headers, message.body)?,
                SenderKind::GitLab => gitlab::verify(secret, &message)?,
                SenderKind::Gitea => gitea::verify(secret, message.headers, message.body)?,
            }
        }
        let registry = self.registry.as_deref();
        let mut received = match self.kind {
            SenderKind::Distribution => distribution::read(message.body, registry),
            SenderKind::Zot => zot::read(message.headers, message.body, registry),
            SenderKind::CloudEvents => cloud_events::read(message.headers, message.body, registry),
            SenderKind::GitHub => github::read(message.headers, message.body),
            SenderKind::GitLab => gitlab::read(message.headers, message.body),
            SenderKind::Gitea => gitea::read(message.headers, message.body, registry),
        }?;
        for event in std::mem::take(&mut received.events) {
            let event = match event {
                SourceEvent::GitPushed(push) => self.locate(push).map(SourceEvent::GitPushed),
                SourceEvent::ImagePushed(_) | SourceEvent::Requested(_) => Ok(event),
            };
            match event {
                Ok(event) => received.events.push(event),
                Err(why) => received.refused.push(why),
            }
        }
        // A registry sends a batch again and again until it is taken, and nothing behind it.
        if !self.sends_batches(message.headers)
            && received.events.is_empty()
            && let Some(reason) = received.refused.pop()
        {
            return Err(ReceiveError::Refused { reason });
        }
        Ok(received)
    }

    /// Whether there may be several events in this message.
    fn sends_batches(&self, headers: &Headers) -> bool {
        match self.kind {
            SenderKind::Distribution => true,
            SenderKind::CloudEvents => cloud_events::is_batch(headers),
            SenderKind::Zot | SenderKind::GitHub | SenderKind::GitLab | SenderKind::Gitea => false,
        }
    }
}

impl Received {
    fn one(event: SourceEvent) -> Self {
        Self { events: vec![event], ..Self::default() }
    }

    fn nothing(why: impl Into<String>) -> Self {
        Self { ignored: vec![why.into()], ..Self::default() }
    }

    fn refused(why: impl Into<String>) -> Self {
        Self { refused: vec![why.into()], ..Self::default() }
    }
}

/// Reads a JSON body.
fn json<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, ReceiveError> {
    serde_json::from_slice(body)
        .map_err(|e| ReceiveError::Malformed { what, reason: e.to_string() })
}

/// The name of a person as a sender gives it, without what would break a line of a log.
fn actor(name: Option<String>) -> Option<String> {
    let clean: String = name?.chars().filter(|c| !c.is_control()).take(MAX_ACTOR).collect();
    (!clean.is_empty()).then_some(clean)
}

/// Whether a manifest of this media type is an image, an index of images or an artifact.
fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KINDS: [SenderKind; 6] = [
        SenderKind::Distribution,
        SenderKind::Zot,
        SenderKind::GitHub,
        SenderKind::GitLab,
        SenderKind::Gitea,
        SenderKind::CloudEvents,
    ];

    #[test]
    fn a_source_must_say_what_its_events_do_not() {
        for kind in KINDS {
            let forge = || Some(Forge::new("https://git.example.com", None).unwrap());
            let without = Sender::new(kind, None, None, None);
            assert_eq!(without.is_ok(), kind.is_forge(), "{kind}");
            assert_eq!(
                Sender::new(kind, None, None, forge()).is_ok(),
                kind.reports_git(),
                "{kind}"
            );
            assert!(Sender::new(kind, None, Some("registry"), None).is_err(), "{kind}");
            let registry = Some("registry.example.com:5000");
            assert!(Sender::new(kind, None, registry, None).is_ok(), "{kind}");
        }
    }

    #[test]
    fn the_body_is_not_read_before_the_proof() {
        for kind in KINDS {
            let secret = Some(Secret::new("k".into()));
            let sender = Sender::new(kind, secret, Some("r.example.com"), None);
            let message = Incoming {
                headers: &Headers::default(),
                body: b"{",
                now: Timestamp::UNIX_EPOCH,
                trusted_channel: false,
            };
            let error = sender.unwrap().receive(message).unwrap_err();
            assert!(matches!(error, ReceiveError::Unsigned { .. }), "{kind}: {error}");
        }
    }

    /// A push that GitHub, Gitea or GitLab reports.
    fn push(kind: SenderKind, repository: &str, clone_url: &str) -> (Headers, String) {
        let (after, before) = ("a".repeat(40), "b".repeat(40));
        let urls = json!({ "full_name": repository, "path_with_namespace": repository,
            "clone_url": clone_url, "git_http_url": clone_url });
        let body = json!({ "object_kind": "push", "ref": "refs/heads/main", "before": before,
            "after": after, "repository": urls, "project": urls });
        let headers = [("X-GitHub-Event", "push"), ("X-Gitlab-Event", "Push Hook")];
        assert!(kind.is_forge());
        (headers.into_iter().collect(), body.to_string())
    }

    #[test]
    fn a_push_has_the_addresses_of_the_forge_of_its_source_or_none() {
        let good = "https://git.example.com/acme/shop.git";
        let elsewhere = "http://other.example.com#@git.example.com/acme/shop.git";
        for kind in [SenderKind::GitHub, SenderKind::GitLab, SenderKind::Gitea] {
            let receive = |forge: Option<&str>, repository: &str, clone_url: &str| {
                let forge = forge.map(|base| Forge::new(base, None).unwrap());
                let sender = Sender::new(kind, None, None, forge).unwrap();
                let (headers, body) = push(kind, repository, clone_url);
                let message = Incoming {
                    headers: &headers,
                    body: body.as_bytes(),
                    now: Timestamp::UNIX_EPOCH,
                    trusted_channel: false,
                };
                sender.receive(message).map(|received| match received.events.into_iter().next() {
                    Some(SourceEvent::GitPushed(push)) => push.clone_url,
                    other => panic!("{other:?}"),
                })
            };
            let forge = Some("https://git.example.com");
            assert_eq!(receive(forge, "acme/shop", good), Ok(Some(good.to_owned())), "{kind}");
            assert_eq!(receive(None, "acme/shop", good), Ok(None), "{kind}");
            assert_eq!(receive(None, "acme/shop", elsewhere), Ok(None), "{kind}");
            for (forge, repository, clone_url) in [
                (forge, "acme/shop", elsewhere),
                (forge, "acme/other", good),
                (forge, "acme/../shop", "https://git.example.com/acme/../shop.git"),
                (None, "acme/../shop", good),
            ] {
                let refused = receive(forge, repository, clone_url);
                assert!(
                    matches!(refused, Err(ReceiveError::Refused { .. })),
                    "{kind}: {refused:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_ignored(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            text in "[\\[{\":,a-z0-9}\\]]{0,60}",
            event in "push|package|Push Hook|[a-z]{0,5}",
        ) {
            for kind in KINDS {
                let sender = Sender::new(kind, None, Some("r.example.com"), None).unwrap();
                let headers: Headers =
                    ["X-GitHub-Event", "X-Gitea-Event", "X-Gitlab-Event", "Ce-Specversion"]
                        .into_iter()
                        .map(|name| (name, event.as_str()))
                        .collect();
                for body in [body.as_slice(), text.as_bytes()] {
                    let message = Incoming {
                        headers: &headers,
                        body,
                        now: Timestamp::UNIX_EPOCH,
                        trusted_channel: false,
                    };
                    if let Ok(received) = sender.receive(message) {
                        prop_assert_eq!(received.events, vec![]);
                    }
                }
            }
        }
    }
}
