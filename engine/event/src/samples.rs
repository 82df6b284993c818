//! One message of each kind of sender, and the proof that it would give: for the tests of whoever receives
//! them, here and in the server.

use fairlead_step::Digest;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;

use crate::SenderKind;

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
