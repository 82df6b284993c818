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

use crate::{Headers, SourceEvent};

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
    /// What else was in it, one line each: what, and why it is no event.
    pub ignored: Vec<String>,
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
            Self::Malformed { .. } | Self::TooLarge { .. } => false,
        }
    }
}

impl Sender {
    /// A sender of `kind`. Without a `secret` every message is believed. `registry` is the host
    /// (`host` or `host:port`) that image events are of.
    ///
    /// # Errors
    /// When the kind needs a registry and there is none, or when either is malformed.
    pub fn new(
        kind: SenderKind,
        secret: Option<Secret<String>>,
        registry: Option<&str>,
    ) -> Result<Self, SenderError> {
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
        Ok(Self { kind, secret, registry: registry.map(Into::into) })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> SenderKind {
        self.kind
    }

    /// Checks the proof of a message and reads it.
    ///
    /// # Errors
    /// When the proof is missing or wrong, before anything of the body is read; when the body is
    /// malformed. What is well-formed and of no interest is not an error.
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
        match self.kind {
            SenderKind::Distribution => distribution::read(message.body, registry),
            SenderKind::Zot => zot::read(message.headers, message.body, registry),
            SenderKind::CloudEvents => cloud_events::read(message.headers, message.body, registry),
            SenderKind::GitHub => github::read(message.headers, message.body),
            SenderKind::GitLab => gitlab::read(message.headers, message.body),
            SenderKind::Gitea => gitea::read(message.headers, message.body, registry),
        }
    }
}

impl Received {
    fn one(event: SourceEvent) -> Self {
        Self { events: vec![event], ignored: Vec::new() }
    }

    fn nothing(why: impl Into<String>) -> Self {
        Self { events: Vec::new(), ignored: vec![why.into()] }
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
            let without = Sender::new(kind, None, None);
            assert_eq!(without.is_err(), kind.needs_registry(), "{kind}");
            assert!(Sender::new(kind, None, Some("registry")).is_err(), "{kind}");
            assert!(Sender::new(kind, None, Some("registry.example.com:5000")).is_ok(), "{kind}");
        }
    }

    #[test]
    fn the_body_is_not_read_before_the_proof() {
        for kind in KINDS {
            let sender = Sender::new(kind, Some(Secret::new("k".into())), Some("r.example.com"));
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

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_ignored(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            text in "[\\[{\":,a-z0-9}\\]]{0,60}",
            event in "push|package|Push Hook|[a-z]{0,5}",
        ) {
            for kind in KINDS {
                let sender = Sender::new(kind, None, Some("r.example.com")).unwrap();
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
