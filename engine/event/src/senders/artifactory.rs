//! JFrog Artifactory's webhooks of the domain `docker`: `X-JFrog-Event-Auth` holds an HMAC of the body
//! where the webhook was told to sign, else the secret itself.

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::Deserialize;

use super::image::Named;
use super::{Head, ReceiveError, Received, clip, json, signature};
use crate::{Headers, SourceEvent};

const WHAT: &str = "webhook of Artifactory";
const HEADER: &str = "X-JFrog-Event-Auth";
const NAME: &str = "x-jfrog-event-auth";

pub(super) fn head(head: &Head<'_>) -> Result<(), ReceiveError> {
    signature::required(head.headers, NAME, HEADER).map(drop)
}

/// Which of the two a webhook sends is set there. Neither is of use to who does not know the secret.
pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    let value = signature::required(headers, NAME, HEADER)?;
    if signature::hmac_hex_fits(secret.expose().as_bytes(), body, value) {
        return Ok(());
    }
    signature::plain_header(secret, headers, NAME, HEADER)
}

#[derive(Deserialize)]
struct Body {
    domain: String,
    event_type: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    repo_key: String,
    image_name: String,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

/// `key` is the repository that has the registry's name to itself; without it the key of the
/// repository is the first part of each path. The body says no time, so that of its coming stands for it.
pub(super) fn read(
    body: &[u8],
    registry: Option<&str>,
    key: Option<&str>,
    now: Timestamp,
) -> Result<Received, ReceiveError> {
    let body: Body = json(WHAT, body)?;
    if body.domain != "docker" {
        return Ok(Received::nothing(format!("`{}`: not of an image", clip(&body.domain))));
    }
    let Some(data) = body.data else {
        return Ok(Received::refused("there is no `data` in it"));
    };
    let path = match key {
        None => format!("{}/{}", data.repo_key, data.image_name),
        Some(key) if key == data.repo_key => data.image_name,
        Some(_) => {
            return Ok(Received::nothing(format!(
                "an image in `{}`, which is not the repository of this source",
                clip(&data.repo_key)
            )));
        }
    };
    // It is the hash of the manifest as it lies there, which is what a digest is.
    let digest = data.sha256.filter(|hex| !hex.is_empty()).map(|hex| format!("sha256:{hex}"));
    // Where there is no tag, the folder is named by the digest, with either sign.
    let tag = data.tag.map(|tag| tag.replace("sha256__", "sha256:"));
    let named = match Named::new(registry, &path, tag.as_deref(), digest.as_deref()) {
        Ok(named) => named,
        Err(why) => return Ok(Received::refused(why)),
    };
    Ok(match body.event_type.as_str() {
        "pushed" | "promoted" => {
            Received::one(SourceEvent::ImagePushed(named.pushed(None, Some(now))))
        }
        "deleted" => Received::one(SourceEvent::ImageDeleted(named.deleted(None, Some(now)))),
        other => Received::nothing(format!("`{}`: of no interest", clip(other))),
    })
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn hex() -> String {
        Digest::sha256(b"a").to_string()["sha256:".len()..].to_owned()
    }

    fn send(key: Option<&str>, change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({ "domain": "docker", "event_type": "pushed",
            "data": { "repo_key": "docker-local", "event_type": "pushed", "tag": "1.0",
                "path": "apps/shop/1.0/list.manifest.json", "name": "list.manifest.json",
                "sha256": hex(), "size": 1200, "image_name": "apps/shop", "platforms": [] },
            "subscription_key": "x", "jpd_origin": "https://jfrog.example.com" });
        change(&mut body);
        read(body.to_string().as_bytes(), Some("jfrog.example.com"), key, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_hash_of_the_manifest_is_the_digest() {
        let (plain, digest) = (send(None, |_| ()).unwrap(), Digest::sha256(b"a"));
        let want = format!("jfrog.example.com/docker-local/apps/shop:1.0@{digest}");
        assert_eq!(plain.events[0].subject(), want);
        // A registry name for one repository.
        let own = send(Some("docker-local"), |_| ()).unwrap();
        let want = format!("jfrog.example.com/apps/shop:1.0@{digest}");
        assert_eq!(own.events[0].subject(), want);
        assert_eq!(send(Some("docker-remote"), |_| ()).unwrap().ignored.len(), 1);
        let untagged = send(None, |body| body["data"]["tag"] = json!(format!("sha256__{}", hex())));
        assert!(untagged.unwrap().events[0].subject().ends_with(&format!("/shop@{digest}")));
        let gone = send(None, |body| body["event_type"] = json!("deleted")).unwrap();
        assert!(matches!(gone.events[0], SourceEvent::ImageDeleted(_)));
    }

    #[test]
    fn what_is_no_image_is_nothing_and_nonsense_is_refused() {
        assert_eq!(send(None, |body| body["domain"] = json!("artifact")).unwrap().ignored.len(), 1);
        assert_eq!(send(None, |body| body["event_type"] = json!("x")).unwrap().ignored.len(), 1);
        for change in [
            (|body: &mut Value| body["data"] = Value::Null) as fn(&mut Value),
            |body| body["data"]["sha256"] = json!("12"),
            |body| body["data"]["tag"] = json!("-"),
            |body| body["data"]["image_name"] = json!("../x"),
        ] {
            assert_eq!(send(None, change).unwrap().refused.len(), 1);
        }
        assert!(read(b"{}", Some("r.example.com"), None, Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn the_header_holds_a_signature_or_the_secret() {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").unwrap();
        mac.update(b"body");
        let signed = hex::encode(mac.finalize().into_bytes());
        let secret = Secret::new("s3cret".to_owned());
        let check = |value: &str, body: &[u8]| {
            verify(&secret, &[(HEADER, value)].into_iter().collect(), body)
        };
        assert_eq!(check(&signed, b"body"), Ok(()));
        assert_eq!(check("s3cret", b"body"), Ok(()));
        assert!(check(&signed, b"other").is_err());
        assert!(check("other", b"body").is_err() && check("", b"body").is_err());
    }
}
