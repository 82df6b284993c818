//! Gitea's and Forgejo's webhooks: `X-Gitea-Signature` over the raw body; pushes, pull requests, comments
//! with a command, releases, and images that arrive at the registry inside.

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::Deserialize;

use super::image::Named;
use super::pull_request_body::{self, Kind};
use super::{Head, ReceiveError, Received, clip, github, json, line, push_body, signature};
use crate::{Headers, SourceEvent};

const WHAT: &str = "webhook of Gitea";

/// Gitea sends GitHub's headers besides, so its own is looked for first.
const OWN: [(&str, &str); 2] =
    [("x-gitea-signature", "X-Gitea-Signature"), ("x-forgejo-signature", "X-Forgejo-Signature")];

pub(super) fn head(head: &Head<'_>) -> Result<(), ReceiveError> {
    if OWN.iter().any(|(name, _)| head.headers.get(name).is_some()) {
        return Ok(());
    }
    github::head(head).map_err(|_| ReceiveError::Unsigned { header: OWN[0].1 })
}

pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    for (name, header) in OWN {
        if let Some(hex) = headers.get(name) {
            let fits = signature::hmac_hex_fits(secret.expose().as_bytes(), body, hex);
            return if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header }) };
        }
    }
    match github::verify(secret, headers, body) {
        Err(ReceiveError::Unsigned { .. }) => {
            Err(ReceiveError::Unsigned { header: "X-Gitea-Signature" })
        }
        other => other,
    }
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let event = ["x-gitea-event", "x-forgejo-event", "x-github-event"]
        .iter()
        .find_map(|name| headers.get(name));
    match event {
        Some("push") => Ok(match push_body::read("push of Gitea", body)? {
            Ok(push) => Received::one(SourceEvent::GitPushed(push)),
            Err(why) => Received::nothing(why),
        }),
        Some("package") => package(body, registry),
        // A deleted branch sends `delete` alone; what is gone starts nothing anyway.
        Some(other) => match Kind::of(other) {
            Some(kind) => pull_request_body::read(kind, WHAT, body),
            None => Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
        },
        None => Err(ReceiveError::Malformed {
            what: WHAT,
            reason: "there is no `X-Gitea-Event` header".into(),
        }),
    }
}

#[derive(Deserialize)]
struct PackageBody {
    action: String,
    package: Package,
    #[serde(default)]
    sender: Option<Person>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    version: String,
    owner: Person,
    #[serde(default)]
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Person {
    login: String,
}

/// An image at Gitea's own registry. The event names the tag and no digest.
fn package(body: &[u8], registry: Option<&str>) -> Result<Received, ReceiveError> {
    let body: PackageBody = json("package event of Gitea", body)?;
    let package = body.package;
    if body.action != "created" || package.kind != "container" {
        return Ok(Received::nothing("a package event that is no push of an image"));
    }
    let Some(registry) = registry else {
        return Ok(Received::nothing(
            "a push to Gitea's registry: the source does not say under which name it is reached",
        ));
    };
    // Names of people have upper-case letters, names of repositories have none.
    let path = format!("{}/{}", package.owner.login, package.name).to_lowercase();
    let named = Named::new(Some(registry), &path, Some(&package.version), None);
    Ok(match named {
        Ok(named) => {
            let actor = line(body.sender.map(|sender| sender.login));
            Received::one(SourceEvent::ImagePushed(named.pushed(actor, package.created_at)))
        }
        Err(why) => Received::refused(why),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hex(secret: &str, body: &[u8]) -> String {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    #[test]
    fn the_header_of_gitea_counts_before_that_of_github() {
        let secret = Secret::new("k".to_owned());
        let (good, bad) = (hex("k", b"body"), hex("x", b"body"));
        let check = |headers: &[(&str, &str)]| {
            verify(&secret, &headers.iter().copied().collect::<Headers>(), b"body")
        };
        let hub = format!("sha256={good}");
        assert_eq!(check(&[("X-Gitea-Signature", &good)]), Ok(()));
        assert_eq!(check(&[("X-Forgejo-Signature", &good)]), Ok(()));
        assert_eq!(check(&[("X-Hub-Signature-256", &hub)]), Ok(()));
        assert_eq!(
            check(&[("X-Gitea-Signature", &bad), ("X-Hub-Signature-256", &hub)]),
            Err(ReceiveError::WrongSignature { header: "X-Gitea-Signature" })
        );
        assert_eq!(check(&[]), Err(ReceiveError::Unsigned { header: "X-Gitea-Signature" }));
    }

    #[test]
    fn an_image_at_its_registry_is_a_push_without_a_digest() {
        let headers: Headers = [("X-Gitea-Event", "package")].into_iter().collect();
        let body = json!({ "action": "created", "repository": null, "sender": { "login": "Ann" },
            "package": { "type": "container", "name": "shop", "version": "1.0",
                "owner": { "login": "Acme" }, "created_at": "2026-01-01T00:00:00Z" } });
        let bytes = body.to_string();
        let received = read(&headers, bytes.as_bytes(), Some("git.example.com")).unwrap();
        assert_eq!(received.events[0].subject(), "git.example.com/acme/shop:1.0");
        assert_eq!(read(&headers, bytes.as_bytes(), None).unwrap().events, []);
    }
}
