//! Senders: who reports events, how they prove who they are, and what they say.
//!
//! One file per sender. What of a proof stands in the head is checked by [`Sender::head`] before the
//! body is read at all, the rest over the raw bytes; only then is anything of the body looked at.

mod acr;
mod artifactory;
mod bitbucket;
mod bitbucket_data_center;
mod cloud_events;
mod distribution;
mod docker_hub;
mod ecr;
mod ghcr;
mod gitea;
mod github;
mod gitlab;
mod harbor;
mod image;
mod kind;
mod nexus;
mod pull_request_body;
mod push_body;
mod quay;
mod signature;
mod zot;

#[cfg(test)]
mod captured;
#[cfg(test)]
mod forged;

pub use kind::{Proof, SenderKind};
pub use signature::same_text;
pub(crate) use signature::webhook_key;

use fairlead_step::{ImageError, Repository, Secret};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::forge::check_name;
use crate::{Forge, ForgeRepository, GitPushed, Headers, SourceEvent};

/// The most bytes of one body.
pub const MAX_BODY: usize = 8 << 20;
/// The most events in one body.
const MAX_EVENTS: usize = 1000;
/// The longest text that is kept of what a sender says about people and titles, in characters.
const MAX_TEXT: usize = 256;

/// A sender as configured.
#[derive(Debug, Clone)]
pub struct Sender {
    kind: SenderKind,
    secret: Option<Secret<String>>,
    registry: Option<Box<str>>,
    repository_key: Option<Box<str>>,
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
    /// There is a registry, and the sender reports nothing of any.
    #[error("a `{kind}` source reports nothing of a registry; take `registry` away")]
    NotOfRegistries {
        /// The kind.
        kind: SenderKind,
    },
    /// There is a repository key, and the sender has none.
    #[error("a `{kind}` source has no repositories within its registry; take `repository` away")]
    NoRepositoryKeys {
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
    /// The secret is empty, a `whsec_` key that is not base64, or too weak for where it stands.
    #[error("the secret of the source {problem}")]
    BadSecret {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The head of a message, before anything of its body has come.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its headers.
    pub headers: &'a Headers,
    /// What stood behind the name of the source in the address that was sent to.
    pub address_end: Option<&'a str>,
    /// The time now, for signatures that carry one.
    pub now: Timestamp,
}

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its headers.
    pub headers: &'a Headers,
    /// What stood behind the name of the source in the address that was sent to.
    pub address_end: Option<&'a str>,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// The time now, for signatures that carry one and for senders that tell no time.
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
    /// What the sender wants to read as the answer, where it asks whether it may send at all.
    pub answer: Option<Value>,
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
    /// The address that was sent to does not end in the secret.
    #[error("the address that was sent to does not end in the secret of the source")]
    NoAddress,
    /// The address that was sent to ends in something else than the secret.
    #[error("the end of the address that was sent to is not the secret of the source")]
    WrongAddress,
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
            Self::Unsigned { .. }
            | Self::WrongSignature { .. }
            | Self::OutsideWindow { .. }
            | Self::NoAddress
            | Self::WrongAddress => true,
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
    /// When the kind needs a registry and there is none, or has no use for what is given, or when one
    /// of them is malformed.
    pub fn new(
        kind: SenderKind,
        secret: Option<Secret<String>>,
        registry: Option<&str>,
        forge: Option<Forge>,
    ) -> Result<Self, SenderError> {
        if forge.is_some() && !kind.reports_git() {
            return Err(SenderError::NoForge { kind });
        }
        if let Some(host) = registry {
            if !kind.reports_images() {
                return Err(SenderError::NotOfRegistries { kind });
            }
            // Any path does; it is the host that is being checked.
            Repository::new(host, "x").map_err(SenderError::BadRegistry)?;
        } else if kind.needs_registry() {
            return Err(SenderError::NoRegistry { kind });
        }
        // What a sender is given is typed on one line.
        let secret = secret.map(|secret| Secret::new(secret.line().to_owned()));
        if let Some(secret) = &secret {
            signature::check_secret(kind, secret)?;
        }
        Ok(Self { kind, secret, registry: registry.map(Into::into), repository_key: None, forge })
    }

    /// The same for one repository of the registry's software, whose name is `key` there and whose
    /// images are at the registry without that name.
    ///
    /// # Errors
    /// When the software has no such repositories, or they have no such names.
    pub fn of_repository(self, key: &str) -> Result<Self, SenderError> {
        let kind = self.kind;
        if !kind.has_repository_keys() {
            return Err(SenderError::NoRepositoryKeys { kind });
        }
        Ok(Self { repository_key: Some(key.into()), ..self })
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

    /// The registry that its images are at, as `host` or `host:port`.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The push with the addresses that the forge of this source has for its repository, whatever the
    /// message says; with none where the source names no forge.
    ///
    /// # Errors
    /// As [`Sender::located`].
    pub fn locate(&self, push: GitPushed) -> Result<GitPushed, String> {
        let ForgeRepository { name, clone_url, ssh_url } = self.repository((&push).into())?;
        Ok(GitPushed { repository: name, clone_url, ssh_url, ..push })
    }

    /// The event with the addresses that the forge of this source has for the repository which it
    /// speaks of, whatever the message says; the event as it is when it speaks of none.
    ///
    /// # Errors
    /// Says what does not fit: the name of the repository is none, an address of the message is not at
    /// this forge, or the source may not speak of this registry.
    pub fn located(&self, event: SourceEvent) -> Result<SourceEvent, String> {
        match event.forge_repository() {
            Some(at) => Ok(event.at_repository(self.repository(at)?)),
            None => Ok(event),
        }
    }

    /// A repository with the addresses that the forge of this source has for it.
    ///
    /// # Errors
    /// As [`Sender::located`].
    pub fn repository(&self, at: ForgeRepository) -> Result<ForgeRepository, String> {
        match &self.forge {
            Some(forge) => forge.repository(self.kind, at),
            None if self.kind.is_forge() => {
                check_name(self.kind, &at.name)?;
                Ok(ForgeRepository { clone_url: None, ssh_url: None, ..at })
            }
            None => {
                Err(format!("`{}`: this source names no `forge` that it may be at", clip(&at.name)))
            }
        }
    }

    /// Checks what of the proof stands in the head of a message: all of it where the sender shows a
    /// secret, that there is one and of what time it is where the sender signs the body.
    ///
    /// # Errors
    /// When the proof is missing, wrong, or of another time.
    pub fn head(&self, head: Head<'_>) -> Result<(), ReceiveError> {
        let Some(secret) = &self.secret else { return Ok(()) };
        match self.kind {
            SenderKind::Distribution | SenderKind::Zot => {
                signature::authorization(secret, head.headers)
            }
            SenderKind::Harbor => harbor::head(secret, &head),
            SenderKind::DockerHub | SenderKind::Quay => {
                signature::address(secret, head.address_end)
            }
            SenderKind::Acr => acr::head(secret, &head),
            SenderKind::Ecr => ecr::head(secret, &head),
            SenderKind::Artifactory => artifactory::head(&head),
            SenderKind::Nexus => nexus::head(&head),
            SenderKind::Ghcr | SenderKind::GitHub => github::head(&head),
            SenderKind::GitLab => gitlab::head(secret, &head),
            SenderKind::Gitea => gitea::head(&head),
            SenderKind::Bitbucket | SenderKind::BitbucketDataCenter => bitbucket::head(&head),
            SenderKind::CloudEvents => cloud_events::head(secret, &head),
        }
    }

    /// Checks what of the proof is of the body.
    fn verify(&self, secret: &Secret<String>, message: &Incoming<'_>) -> Result<(), ReceiveError> {
        let (headers, body) = (message.headers, message.body);
        match self.kind {
            // All of it stands in the head.
            SenderKind::Distribution
            | SenderKind::Zot
            | SenderKind::Harbor
            | SenderKind::DockerHub
            | SenderKind::Quay
            | SenderKind::Acr
            | SenderKind::Ecr => Ok(()),
            SenderKind::Artifactory => artifactory::verify(secret, headers, body),
            SenderKind::Nexus => nexus::verify(secret, headers, body),
            SenderKind::Ghcr | SenderKind::GitHub => github::verify(secret, headers, body),
            SenderKind::GitLab => gitlab::verify(secret, message),
            SenderKind::Gitea => gitea::verify(secret, headers, body),
            SenderKind::Bitbucket | SenderKind::BitbucketDataCenter => {
                bitbucket::verify(secret, headers, body)
            }
            SenderKind::CloudEvents => cloud_events::verify(secret, message),
        }
    }

    /// Checks the proof of a message and reads it.
    ///
    /// # Errors
    /// When the proof is missing or wrong, before anything of the body is read; when the body is
    /// malformed, or is one event that the source may not report. What is well-formed and of no
    /// interest is not an error. Of several events in a message each is taken or not by itself.
    pub fn receive(&self, message: Incoming<'_>) -> Result<Received, ReceiveError> {
        let Incoming { headers, address_end, body, now, trusted_channel } = message;
        if body.len() > MAX_BODY {
            return Err(ReceiveError::TooLarge { limit: MAX_BODY, unit: "bytes" });
        }
        if let Some(secret) = &self.secret
            && !trusted_channel
        {
            self.head(Head { headers, address_end, now })?;
            self.verify(secret, &message)?;
        }
        let registry = self.registry.as_deref();
        let key = self.repository_key.as_deref();
        let mut received = match self.kind {
            SenderKind::Distribution => distribution::read(body, registry),
            SenderKind::Zot => zot::read(headers, body, registry),
            SenderKind::Harbor => harbor::read(headers, body, registry),
            SenderKind::DockerHub => docker_hub::read(body, registry),
            SenderKind::Ghcr => ghcr::read(headers, body, registry),
            SenderKind::Quay => quay::read(body, registry, now),
            SenderKind::Acr => acr::read(headers, body, registry),
            SenderKind::Ecr => ecr::read(headers, body, registry),
            SenderKind::Artifactory => artifactory::read(body, registry, key, now),
            SenderKind::Nexus => nexus::read(headers, body, registry, key),
            SenderKind::CloudEvents => cloud_events::read(headers, body, registry),
            SenderKind::GitHub => github::read(headers, body, registry),
            SenderKind::GitLab => gitlab::read(headers, body),
            SenderKind::Gitea => gitea::read(headers, body, registry),
            SenderKind::Bitbucket => bitbucket::read(headers, body),
            SenderKind::BitbucketDataCenter => bitbucket_data_center::read(headers, body),
        }?;
        for event in std::mem::take(&mut received.events) {
            match self.located(event) {
                Ok(event) => received.events.push(event),
                Err(why) => received.refused.push(why),
            }
        }
        // A registry sends a batch again and again until it is taken, and nothing behind it.
        if !self.sends_batches(headers, body)
            && received.events.is_empty()
            && let Some(reason) = received.refused.pop()
        {
            return Err(ReceiveError::Refused { reason });
        }
        Ok(received)
    }

    /// Whether there may be several events in this message.
    fn sends_batches(&self, headers: &Headers, body: &[u8]) -> bool {
        match self.kind {
            SenderKind::Harbor => harbor::is_list(body),
            SenderKind::Distribution | SenderKind::Acr => true,
            SenderKind::CloudEvents => cloud_events::is_batch(headers),
            SenderKind::Zot
            | SenderKind::DockerHub
            | SenderKind::Ghcr
            | SenderKind::Quay
            | SenderKind::Ecr
            | SenderKind::Artifactory
            | SenderKind::Nexus
            | SenderKind::GitHub
            | SenderKind::GitLab
            | SenderKind::Gitea
            | SenderKind::Bitbucket
            | SenderKind::BitbucketDataCenter => false,
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

    /// Adds what one of several parts of a message came to.
    fn add(&mut self, part: Result<SourceEvent, String>) {
        match part {
            Ok(event) => self.events.push(event),
            Err(why) => self.refused.push(why),
        }
    }
}

/// Reads a JSON body.
fn json<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, ReceiveError> {
    serde_json::from_slice(body)
        .map_err(|e| ReceiveError::Malformed { what, reason: clip(&e.to_string()) })
}

/// The name of a person, or a title, as a sender gives it, without what would break a line of a log.
fn line(text: Option<String>) -> Option<String> {
    let clean: String = text?.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    (!clean.is_empty()).then_some(clean)
}

/// A piece of a message as it may be repeated in an answer and a log.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// A time as senders write it; none where it is no time, or the zero of the sender's language.
fn time(text: Option<&str>) -> Option<Timestamp> {
    let text = text?;
    let spaced = || {
        let text =
            text.strip_suffix(" UTC").map_or_else(|| text.to_owned(), |t| format!("{t} +0000"));
        Timestamp::strptime("%Y-%m-%d %H:%M:%S %z", text).ok()
    };
    let basic = || Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text).ok();
    let time = text.parse().ok().or_else(spaced).or_else(basic)?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
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

    /// A secret that does for every kind.
    const SECRET: &str = "0123456789abcdef01234567";

    fn registry(kind: SenderKind) -> Option<&'static str> {
        kind.reports_images().then_some("registry.example.com:5000")
    }

    #[test]
    fn a_source_must_say_what_its_events_do_not() {
        for kind in SenderKind::ALL {
            let forge = || Some(Forge::new("https://git.example.com", None).unwrap());
            let without = Sender::new(kind, None, None, None);
            assert_eq!(without.is_ok(), !kind.needs_registry(), "{kind}");
            let forged = Sender::new(kind, None, registry(kind), forge());
            assert_eq!(forged.is_ok(), kind.reports_git(), "{kind}");
            assert!(Sender::new(kind, None, Some("registry"), None).is_err(), "{kind}");
            let registry = Some("registry.example.com:5000");
            let with = Sender::new(kind, None, registry, None);
            assert_eq!(with.is_ok(), kind.reports_images(), "{kind}");
            if let Ok(sender) = with {
                assert_eq!(sender.of_repository("x").is_ok(), kind.has_repository_keys(), "{kind}");
            }
        }
    }

    #[test]
    fn the_body_is_not_read_before_the_proof() {
        for kind in SenderKind::ALL {
            let secret = Some(Secret::new(SECRET.into()));
            let sender = Sender::new(kind, secret, registry(kind), None).unwrap();
            let (headers, now) = (Headers::default(), Timestamp::UNIX_EPOCH);
            // In the head already, whatever the proof is.
            let head = Head { headers: &headers, address_end: None, now };
            let error = sender.head(head).unwrap_err();
            assert!(error.is_signature(), "{kind}: {error}");
            let message = Incoming {
                headers: &headers,
                address_end: None,
                body: b"{",
                now,
                trusted_channel: false,
            };
            assert_eq!(sender.receive(message), Err(error), "{kind}");
        }
    }

    #[test]
    fn times_are_read_as_senders_write_them() {
        let want: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for text in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01 00:00:00 UTC",
            "2026-01-01 01:00:00 +0100",
            "2026-01-01T00:00:00.000+0000",
        ] {
            assert_eq!(time(Some(text)), Some(want), "{text}");
        }
        for text in ["", "yesterday", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(time(Some(text)), None, "{text}");
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
                    address_end: None,
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
            for kind in SenderKind::ALL {
                let sender = Sender::new(kind, None, registry(kind), None).unwrap();
                let names = ["X-GitHub-Event", "X-Gitea-Event", "X-Gitlab-Event", "X-Event-Key",
                    "Ce-Specversion", "aeg-event-type"];
                let headers: Headers = names.into_iter()
                        .map(|name| (name, event.as_str()))
                        .collect();
                for body in [body.as_slice(), text.as_bytes()] {
                    let message = Incoming {
                        headers: &headers,
                        address_end: None,
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
