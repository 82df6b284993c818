//! One message of each kind of sender, the proof that it would give, and what must hold whatever is sent:
//! for the tests of whoever receives them, here and in the server, and for fuzzing.

use fairlead_step::{Digest, Secret};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;

use crate::{CloudEvent, Forge, Head, Headers, Incoming, Sender, SenderKind, SourceEvent};

/// A message that a sender could have sent, without its proof.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Value,
}

/// What a sender shows for itself.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The end of the address that it sends to.
    pub address_end: Option<String>,
}

/// One message of this kind that comes to one event: a push to `apps/shop:1.0` or the like at the
/// registry of the source, or of `acme/shop` at its forge. Addresses in it are of elsewhere.
#[must_use]
pub fn message(kind: SenderKind) -> Message {
    let (a, b, digest) = ("a".repeat(40), "b".repeat(40), Digest::sha256(b"a"));
    let hex = digest.to_string()["sha256:".len()..].to_owned();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let urls = json!({ "full_name": "acme/shop", "path_with_namespace": "acme/shop" });
    let push = json!({ "object_kind": "push", "ref": "refs/heads/main", "before": a, "after": b,
        "repository": urls, "project": urls });
    let (headers, body): (&[(&'static str, &str)], Value) = match kind {
        SenderKind::Distribution => (
            &[],
            json!({ "events": [{ "action": "push", "target": { "mediaType": manifest,
                "digest": digest, "repository": "apps/shop", "tag": "1.0" } }] }),
        ),
        SenderKind::Zot => (
            &[],
            json!({ "specversion": "1.0", "id": "1", "source": "zotregistry.dev",
                "type": "zotregistry.image.updated", "data": { "name": "apps/shop",
                    "reference": "1.0", "digest": digest, "mediaType": manifest } }),
        ),
        SenderKind::Harbor => (
            &[],
            json!({ "type": "PUSH_ARTIFACT", "occur_at": 1, "operator": "ann",
                "event_data": { "resources": [{ "digest": digest, "tag": "1.0" }],
                    "repository": { "repo_full_name": "team/shop" } } }),
        ),
        SenderKind::DockerHub => (
            &[],
            json!({ "push_data": { "tag": "1.0", "pushed_at": 1 },
                "callback_url": "http://elsewhere.example.com/",
                "repository": { "repo_name": "acme/shop" } }),
        ),
        SenderKind::Ghcr => (
            &[("X-GitHub-Event", "registry_package")],
            json!({ "action": "published", "registry_package": { "name": "shop",
                "namespace": "acme", "ecosystem": "CONTAINER", "package_version": {
                    "version": digest, "container_metadata": { "tag": { "name": "1.0" } } } } }),
        ),
        SenderKind::Quay => (
            &[],
            json!({ "repository": "acme/shop", "updated_tags": ["1.0"],
                "docker_url": "elsewhere.example.com/acme/shop" }),
        ),
        SenderKind::Acr => (
            &[],
            json!({ "action": "push", "target": { "mediaType": manifest, "digest": digest,
                "repository": "shop", "tag": "1.0" },
                "request": { "host": "elsewhere.example.com" } }),
        ),
        SenderKind::Ecr => (
            &[],
            json!({ "id": "1", "detail-type": "ECR Image Action", "source": "aws.ecr",
                "detail": { "result": "SUCCESS", "repository-name": "shop", "image-tag": "1.0",
                    "image-digest": digest, "action-type": "PUSH" } }),
        ),
        SenderKind::Artifactory => (
            &[],
            json!({ "domain": "docker", "event_type": "pushed", "data": { "repo_key": "local",
                "image_name": "shop", "tag": "1.0", "sha256": hex },
                "jpd_origin": "http://elsewhere.example.com" }),
        ),
        SenderKind::Nexus => (
            &[("X-Nexus-Webhook-Id", "rm:repository:component")],
            json!({ "repositoryName": "hosted", "action": "CREATED", "component": {
                "format": "docker", "name": "shop", "version": "1.0" } }),
        ),
        SenderKind::GitHub => (&[("X-GitHub-Event", "push")], push),
        SenderKind::GitLab => (&[("X-Gitlab-Event", "Push Hook")], push),
        SenderKind::Gitea => (&[("X-Gitea-Event", "push")], push),
        SenderKind::Bitbucket => (
            &[("X-Event-Key", "repo:push")],
            json!({ "repository": { "full_name": "acme/shop" }, "push": { "changes": [{ "new": {
                "type": "branch", "name": "main", "target": { "hash": b } } }] } }),
        ),
        SenderKind::BitbucketDataCenter => (
            &[("X-Event-Key", "repo:refs_changed")],
            json!({ "repository": { "slug": "shop", "project": { "key": "ACME" } },
                "changes": [{ "refId": "refs/heads/main", "fromHash": a, "toHash": b }] }),
        ),
        SenderKind::CloudEvents => (
            &[],
            json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.x" }),
        ),
    };
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Message { headers, body }
}

/// The proof that this sender would give for `body` with `secret`.
#[must_use]
pub fn proof(kind: SenderKind, secret: &str, body: &[u8]) -> Shown {
    let header = |name, value: String| Shown { headers: vec![(name, value)], ..Shown::default() };
    let sha256 = || mac::<Hmac<Sha256>>(secret, body);
    match kind {
        SenderKind::Distribution
        | SenderKind::Zot
        | SenderKind::Harbor
        | SenderKind::Acr
        | SenderKind::CloudEvents => header("Authorization", format!("Bearer {secret}")),
        SenderKind::DockerHub | SenderKind::Quay => {
            Shown { address_end: Some(secret.to_owned()), ..Shown::default() }
        }
        SenderKind::Ecr => header("X-Webhook-Secret", secret.to_owned()),
        SenderKind::Artifactory => header("X-JFrog-Event-Auth", sha256()),
        SenderKind::Nexus => header("X-Nexus-Webhook-Signature", mac::<Hmac<Sha1>>(secret, body)),
        SenderKind::Ghcr | SenderKind::GitHub => {
            header("X-Hub-Signature-256", format!("sha256={}", sha256()))
        }
        SenderKind::GitLab => header("X-Gitlab-Token", secret.to_owned()),
        SenderKind::Gitea => header("X-Gitea-Signature", sha256()),
        SenderKind::Bitbucket | SenderKind::BitbucketDataCenter => {
            header("X-Hub-Signature", format!("sha256={}", sha256()))
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &str, body: &[u8]) -> String {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// The registry and the forge of the sources that are tried.
const REGISTRY: &str = "registry.example.com";
const FORGE: &str = "https://git.example.com";
/// Their secret. It is long enough to stand in an address.
pub const SECRET: &str = "0123456789abcdef01234567";

/// A source of this kind with the registry, the forge and the secret of these samples.
///
/// # Panics
/// Never: the settings fit every kind.
#[must_use]
pub fn sender(kind: SenderKind) -> Sender {
    let forge = if kind.reports_git() { Forge::new(FORGE, None).ok() } else { None };
    let registry = kind.reports_images().then_some(REGISTRY);
    match Sender::new(kind, Some(Secret::new(SECRET.to_owned())), registry, forge) {
        Ok(sender) => sender,
        Err(error) => panic!("{kind}: {error}"),
    }
}

/// Feeds any bytes to the proofs and normalizers: the first byte picks the kind of sender, the second what
/// is right about the message, the rest is its body, with headers before it when the second says so.
///
/// # Panics
/// When a message without a proof is taken, when an event leaves the places of its source, or when one
/// cannot be stored and read back.
pub fn exercise(data: &[u8]) {
    let [kind, how, rest @ ..] = data else { return };
    let kind = SenderKind::ALL[usize::from(*kind) % SenderKind::ALL.len()];
    let (is_proven, has_headers) = (how & 1 != 0, how & 2 != 0);
    let (mut headers, body) = if has_headers { headers_of(rest) } else { (Vec::new(), rest) };
    let sample = message(kind).headers;
    headers.extend(sample.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let shown = if is_proven { proof(kind, SECRET, body) } else { Shown::default() };
    headers.extend(shown.headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    attempt(kind, &headers.into_iter().collect(), shown.address_end.as_deref(), body, is_proven);
}

/// Lines of headers up to an empty one, and what is behind that.
fn headers_of(data: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(at);
    let text = String::from_utf8_lossy(head);
    let headers = text.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (headers, body.get(2..).unwrap_or_default())
}

/// Sends one message to a source of this kind, and looks at what came of it.
///
/// # Panics
/// As [`exercise`].
pub fn attempt(
    kind: SenderKind,
    headers: &Headers,
    address_end: Option<&str>,
    body: &[u8],
    is_proven: bool,
) {
    let (sender, now) = (sender(kind), Timestamp::UNIX_EPOCH);
    let head = sender.head(Head { headers, address_end, now });
    let message = Incoming { headers, address_end, body, now, trusted_channel: false };
    let received = match sender.receive(message) {
        Ok(received) => received,
        Err(error) => {
            assert!(!error.to_string().contains(SECRET), "{kind}: the secret is told");
            return;
        }
    };
    assert!(head.is_ok(), "{kind}: taken although its head was refused");
    let knows_secret = || headers.values().any(|value| value.contains(SECRET));
    assert!(is_proven || knows_secret(), "{kind}: taken without a proof");
    for event in received.events {
        if let Some(at) = event.forge_repository() {
            let address = at.clone_url.unwrap_or_default();
            let is_there = address.strip_prefix(FORGE).is_some_and(|rest| rest.starts_with('/'));
            assert!(is_there, "{kind}: {address} is elsewhere");
        }
        let registry = match &event {
            SourceEvent::ImagePushed(push) => Some(&push.repository),
            SourceEvent::ImageDeleted(deleted) => Some(&deleted.repository),
            SourceEvent::ImageScanned(scanned) => Some(&scanned.repository),
            SourceEvent::GitPushed(_)
            | SourceEvent::Requested(_)
            | SourceEvent::PullRequest(_)
            | SourceEvent::Comment(_)
            | SourceEvent::Release(_)
            | SourceEvent::Scheduled(_)
            | SourceEvent::RunFinished(_)
            | SourceEvent::Custom(_) => None,
        };
        let elsewhere = registry.filter(|repository| repository.registry() != REGISTRY);
        assert!(elsewhere.is_none(), "{kind}: {elsewhere:?} is elsewhere");
        assert!(!matches!(event, SourceEvent::Requested(_)), "{kind}: nobody asks for runs here");
        let stored = event.to_cloud_event("source", &event.key_from("source"), now);
        let stored = stored.map(|event| event.to_json());
        let read = stored.and_then(|text| {
            SourceEvent::from_cloud_event(&CloudEvent::from_json(text.as_bytes())?)
        });
        assert_eq!(read.as_ref(), Ok(&event), "{kind}: it is another event when it is read back");
        let seen = event.template_value();
        for field in event.kind().fields() {
            assert!(seen.get(field.name).is_some(), "{kind}: no `{}` in {seen}", field.name);
        }
    }
}
