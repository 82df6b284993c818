//! The sources: from whom events are taken, by which door, with which proof.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_event::{Forge, ForgeError, Sender, SenderError, SenderKind};
use fairlead_exec::{SecretError, SecretProvider};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One source, as it stands in the configuration under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Who sends: a registry (`distribution`, `zot`, `harbor`, `dockerhub`, `ghcr`, `quay`, `acr`, `ecr`,
    /// `artifactory`, `nexus`), a forge (`github`, `gitlab`, `gitea`, `bitbucket`,
    /// `bitbucket-datacenter`), or anybody with `cloudevents`.
    pub kind: SenderKind,
    /// The name of the secret with which the sender proves itself: the key of a webhook's
    /// signature, the token in a header of its messages, or the end of the address that it sends to
    /// (`/webhooks/NAME/SECRET`) where it has no other proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Takes messages over HTTP without any proof. Whoever reaches the port can then start
    /// pipelines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    /// The registry that image events are of, as `host` or `host:port`. Registries do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Of `artifactory` and `nexus`: the name of the one repository there whose images `registry` has,
    /// under their own names. Without it, their paths begin with the name of their repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The base URL of the forge that pushes of branches and tags are at, such as
    /// `https://git.example.com`. Addresses of repositories are built from it; those in a message are
    /// compared and not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<String>,
    /// Where the forge is over ssh, such as `ssh://git@git.example.com:2222`, when that is not the
    /// host of `forge` with the user `git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge_ssh: Option<String>,
    /// Whether a run that a git push starts works on the pushed commit. Otherwise it begins with an empty
    /// folder.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub checkout: bool,
    /// Whether the forge is told how the runs of a commit stand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub statuses: bool,
    /// The name of the secret with the token for the forge's API; when it is not given, the `password` of the
    /// forge under `forges`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where the forge's API is, when that is not where forges of its kind have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// A NATS subject on which the sender publishes, besides or instead of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl SourceSettings {
    /// The forge that pushes of branches and tags are at, where there is one.
    ///
    /// # Errors
    /// When an address of it is malformed.
    pub fn forge(&self) -> Result<Option<Forge>, ForgeError> {
        let forge = self.forge.as_deref().map(|base| Forge::new(base, self.forge_ssh.as_deref()));
        forge.transpose()
    }
}

const fn yes() -> bool {
    true
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceProblem {
    /// Its name would not do in a URL.
    #[error("`{name}` cannot name a source: use at most 63 lower-case letters, digits and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// There is neither a proof nor the word that none is wanted.
    #[error("source `{name}` names no `secret`; set `unsigned: true` to take whatever is sent")]
    NoSecret {
        /// The source.
        name: String,
    },
    /// There is both.
    #[error("source `{name}` names a `secret` and says `unsigned: true`; take one away")]
    SecretAndUnsigned {
        /// The source.
        name: String,
    },
    /// The subject is not one that NATS takes.
    #[error("source `{name}`: `{subject}` is not a NATS subject")]
    Subject {
        /// The source.
        name: String,
        /// The subject.
        subject: String,
    },
    /// A NATS subject carries CloudEvents, and this sender sends none.
    #[error("source `{name}`: `{kind}` does not publish on NATS; take `subject` away")]
    NotOnNats {
        /// The source.
        name: String,
        /// The kind.
        kind: SenderKind,
    },
    /// The secret was not given.
    #[error("source `{name}`")]
    Secret {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// Runs work on commits, and nobody says where from.
    #[error(
        "source `{name}` names no `forge`, the base URL that its repositories are fetched from; name \
         it, or set `checkout: false`"
    )]
    NoForge {
        /// The source.
        name: String,
    },
    /// The address over ssh has nothing to stand beside.
    #[error("source `{name}` has a `forge_ssh` and no `forge`")]
    SshAlone {
        /// The source.
        name: String,
    },
    /// The forge cannot be where it is to be.
    #[error("source `{name}`")]
    Forge {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: ForgeError,
    },
    /// The sender cannot be what it is to be.
    #[error("source `{name}`")]
    Sender {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: SenderError,
    },
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) sender: Sender,
    pub(crate) subject: Option<String>,
    /// Whether runs work on what it reports as pushed.
    pub(crate) checkout: bool,
    /// Whether it may be sent to over HTTP.
    pub(crate) http: bool,
}

/// The sources of a server, ready to receive.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, Arc<Source>>);

impl Sources {
    /// Checks the settings and asks `secrets` for every secret that they name.
    ///
    /// # Errors
    /// Every problem found.
    pub async fn open(
        settings: &BTreeMap<String, SourceSettings>,
        secrets: &dyn SecretProvider,
    ) -> Result<Self, Vec<SourceProblem>> {
        let (mut sources, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, settings) in settings {
            match open(name, settings, secrets).await {
                Ok(source) => {
                    sources.insert(name.clone(), Arc::new(source));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self(sources)) } else { Err(problems) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Source> {
        self.0.get(name).map(|source| &**source)
    }

    /// The source called `name`, for whoever goes on with it although it is replaced.
    pub(super) fn shared(&self, name: &str) -> Option<Arc<Source>> {
        self.0.get(name).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.0.iter().map(|(name, source)| (name.as_str(), &**source))
    }
}

async fn open(
    name: &str,
    settings: &SourceSettings,
    secrets: &dyn SecretProvider,
) -> Result<Source, SourceProblem> {
    let name = name.to_owned();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        return Err(SourceProblem::Name { name: name.chars().take(80).collect() });
    }
    if let Some(subject) = &settings.subject {
        if !settings.kind.is_on_nats() {
            return Err(SourceProblem::NotOnNats { name, kind: settings.kind });
        }
        if !is_subject(subject) {
            let subject = subject.chars().take(80).collect();
            return Err(SourceProblem::Subject { name, subject });
        }
    }
    // On NATS it is the server's permissions that say who may publish on a subject.
    let http = settings.secret.is_some() || settings.unsigned;
    if !http && settings.subject.is_none() {
        return Err(SourceProblem::NoSecret { name });
    }
    let secret = match &settings.secret {
        Some(_) if settings.unsigned => return Err(SourceProblem::SecretAndUnsigned { name }),
        Some(secret) => match secrets.get(secret).await {
            Ok(secret) => Some(secret),
            Err(source) => return Err(SourceProblem::Secret { name, source }),
        },
        None => None,
    };
    let forge = match settings.forge() {
        Ok(forge) => forge,
        Err(source) => return Err(SourceProblem::Forge { name, source }),
    };
    match forge {
        Some(_) => {}
        None if settings.forge_ssh.is_some() => return Err(SourceProblem::SshAlone { name }),
        None if settings.kind.is_forge() && settings.checkout => {
            return Err(SourceProblem::NoForge { name });
        }
        None => {}
    }
    let sender = Sender::new(settings.kind, secret, settings.registry.as_deref(), forge);
    let sender = sender.and_then(|sender| match &settings.repository {
        Some(key) => sender.of_repository(key),
        None => Ok(sender),
    });
    match sender {
        Ok(sender) => {
            let (subject, checkout) = (settings.subject.clone(), settings.checkout);
            Ok(Source { sender, subject, checkout, http })
        }
        Err(source) => Err(SourceProblem::Sender { name, source }),
    }
}

/// Whether `text` is a subject to publish on: tokens with dots between them, no wildcards.
fn is_subject(text: &str) -> bool {
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b))
    };
    text.len() <= 255 && text.split('.').all(token) && !text.starts_with('$')
}

#[cfg(test)]
mod tests {
    use fairlead_step::{BoxFuture, Secret};

    use super::*;

    struct Known;

    impl SecretProvider for Known {
        fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
            Box::pin(async move {
                match name {
                    "known" => Ok(Secret::new("s3cret".to_owned())),
                    "long" => Ok(Secret::new("0123456789abcdef01234567".to_owned())),
                    _ => Err(SecretError::Missing { name: name.into(), hint: "set it".into() }),
                }
            })
        }
    }

    #[tokio::test]
    async fn every_bad_source_is_told() {
        let settings = |json: serde_json::Value| -> BTreeMap<String, SourceSettings> {
            serde_json::from_value(json).unwrap()
        };
        let forge = "https://git.example.com";
        let bad = settings(serde_json::json!({
            "a": { "kind": "github", "forge": forge },
            "b": { "kind": "github", "secret": "unknown", "forge": forge },
            "c": { "kind": "github", "secret": "known", "unsigned": true, "forge": forge },
            "d": { "kind": "distribution", "secret": "known" },
            "e": { "kind": "gitea", "secret": "known", "subject": "x", "forge": forge },
            "f": { "kind": "zot", "registry": "r.example.com", "subject": "a.>" },
            "G": { "kind": "github", "secret": "known", "forge": forge },
            "h": { "kind": "github", "secret": "known" },
            "i": { "kind": "gitea", "secret": "known", "registry": "r.example.com" },
            "j": { "kind": "cloudevents", "secret": "known", "repository": "x" },
            "k": { "kind": "gitlab", "secret": "known", "forge": "file:///srv/git" },
            "l": { "kind": "gitlab", "secret": "known", "forge": "https://x:y@git.example.com" },
            "m": { "kind": "gitlab", "secret": "known", "forge": forge, "forge_ssh": "git@x:y" },
            "n": { "kind": "gitlab", "secret": "known", "checkout": false,
                "forge_ssh": "ssh://git@git.example.com" },
            "o": { "kind": "distribution", "secret": "known", "registry": "r.example.com",
                "forge": forge },
            "p": { "kind": "harbor", "secret": "known" },
            "q": { "kind": "dockerhub", "secret": "known", "registry": "r.example.com" },
            "r": { "kind": "quay", "secret": "long", "registry": "r.example.com", "subject": "x" },
            "s": { "kind": "gitlab", "secret": "known", "registry": "r.example.com",
                "forge": forge },
            "t": { "kind": "harbor", "secret": "known", "registry": "r.example.com",
                "repository": "x" },
            "u": { "kind": "bitbucket", "secret": "known" },
        }));
        let problems = Sources::open(&bad, &Known).await.unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 21, "{told:?}");
        let good = settings(serde_json::json!({
            "hub": { "kind": "github", "secret": "known", "forge": forge },
            "zot": { "kind": "zot", "registry": "r.example.com:5000", "subject": "zot.events" },
            "lab": { "kind": "gitlab", "unsigned": true, "checkout": false },
            "tea": { "kind": "gitea", "secret": "known", "forge": "http://git.example.com:3000/tea",
                "forge_ssh": "ssh://git@git.example.com:2222" },
            "images": { "kind": "cloudevents", "secret": "known", "registry": "r.example.com" },
            "pushes": { "kind": "cloudevents", "secret": "known", "forge": forge },
            "anything": { "kind": "cloudevents", "secret": "known" },
            "hub-images": { "kind": "dockerhub", "secret": "long", "registry": "r.example.com" },
            "own": { "kind": "nexus", "secret": "known", "registry": "r.example.com:8083",
                "repository": "hosted" },
            "bucket": { "kind": "bitbucket-datacenter", "secret": "known", "forge": forge },
        }));
        let sources = Sources::open(&good, &Known).await.unwrap();
        assert!(!sources.get("zot").unwrap().http, "without a secret it is heard on NATS alone");
        assert!(
            serde_json::from_str::<SourceSettings>(r#"{"kind":"github","sekret":"x"}"#).is_err()
        );
    }
}
