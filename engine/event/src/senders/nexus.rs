//! Sonatype Nexus Repository's webhooks of a repository: `X-Nexus-Webhook-Signature` is an HMAC-SHA1 of
//! the body without white space. They name a tag and no digest.

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::Deserialize;

use super::image::Named;
use super::{Head, ReceiveError, Received, clip, json, line, signature, time};
use crate::{Headers, SourceEvent};

const WHAT: &str = "webhook of Nexus Repository";
const HEADER: &str = "X-Nexus-Webhook-Signature";
const NAME: &str = "x-nexus-webhook-signature";

pub(super) fn head(head: &Head<'_>) -> Result<(), ReceiveError> {
    signature::required(head.headers, NAME, HEADER).map(drop)
}

pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    let hex = signature::required(headers, NAME, HEADER)?;
    let key = secret.expose().as_bytes();
    // What is signed is the body without white space, however it is sent.
    let fits = signature::hmac_sha1_hex_fits(key, body, hex)
        || signature::hmac_sha1_hex_fits(key, &compact(body), hex);
    if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header: HEADER }) }
}

/// JSON without the white space between its parts: another way to write the same.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_text, mut escaped) = (false, false);
    let mut keeps = |byte: &u8| {
        let keep = in_text || !byte.is_ascii_whitespace();
        (in_text, escaped) = match (*byte, in_text, escaped) {
            (b'"', true, false) => (false, false),
            (b'"', false, _) => (true, false),
            (b'\\', true, false) => (true, true),
            _ => (in_text, false),
        };
        keep
    };
    json.iter().copied().filter(|byte| keeps(byte)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    initiator: Option<String>,
    repository_name: String,
    action: String,
    #[serde(default)]
    component: Option<Component>,
    #[serde(default)]
    asset: Option<Asset>,
}

#[derive(Deserialize)]
struct Component {
    format: String,
    name: String,
    #[serde(default)]
    version: Option<String>,
}

#[derive(Deserialize)]
struct Asset {
    format: String,
    name: String,
}

/// `key` is the repository that has the registry's name to itself, as with a connector of its own;
/// without it the name of the repository is the first part of each path.
pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
    key: Option<&str>,
) -> Result<Received, ReceiveError> {
    let kind = headers.get("x-nexus-webhook-id").unwrap_or("rm:repository:component");
    if !kind.starts_with("rm:repository:") {
        return Ok(Received::nothing(format!("`{}`: not of a repository", clip(kind))));
    }
    let body: Body = json(WHAT, body)?;
    let (image, reference) = match (&body.component, &body.asset) {
        (Some(component), _) if component.format == "docker" => {
            (component.name.as_str(), component.version.as_deref().unwrap_or_default())
        }
        // `v2/<name>/manifests/<tag or digest>`; blobs lie beside.
        (None, Some(asset)) if asset.format == "docker" => {
            let path = asset.name.trim_start_matches('/');
            let path = path.strip_prefix("v2/").unwrap_or(path);
            match path.rsplit_once("/manifests/") {
                Some(parts) => parts,
                None => return Ok(Received::nothing("an asset that is no manifest")),
            }
        }
        _ => return Ok(Received::nothing("an event that is of no image")),
    };
    let path = match key {
        None => format!("{}/{image}", body.repository_name),
        Some(key) if key == body.repository_name => image.to_owned(),
        Some(_) => {
            return Ok(Received::nothing(format!(
                "an image in `{}`, which is not the repository of this source",
                clip(&body.repository_name)
            )));
        }
    };
    let named = match Named::new(registry, &path, Some(reference), None) {
        Ok(named) => named,
        Err(why) => return Ok(Received::refused(why)),
    };
    let at: Option<Timestamp> = time(body.timestamp.as_deref());
    // `admin/127.0.0.1`: who, and from where.
    let actor = body.initiator.map(|text| match text.split_once('/') {
        Some((who, _)) => who.to_owned(),
        None => text,
    });
    Ok(match body.action.as_str() {
        "CREATED" | "UPDATED" => {
            Received::one(SourceEvent::ImagePushed(named.pushed(line(actor), at)))
        }
        "DELETED" | "PURGED" => {
            Received::one(SourceEvent::ImageDeleted(named.deleted(line(actor), at)))
        }
        other => Received::nothing(format!("`{}`: of no interest", clip(other))),
    })
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn send(key: Option<&str>, change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({ "timestamp": "2026-11-10T23:57:49.664+0000", "nodeId": "52905B51",
            "initiator": "admin/127.0.0.1", "repositoryName": "docker-hosted", "action": "CREATED",
            "component": { "id": "08909bf0", "componentId": "bnBt", "format": "docker",
                "name": "apps/shop", "version": "1.0" } });
        change(&mut body);
        let headers = [("X-Nexus-Webhook-Id", "rm:repository:component")].into_iter().collect();
        read(&headers, body.to_string().as_bytes(), Some("nexus.example.com"), key)
    }

    #[test]
    fn components_and_manifests_are_pushes() {
        let received = send(None, |_| ()).unwrap();
        let SourceEvent::ImagePushed(push) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!(push.reference().to_string(), "nexus.example.com/docker-hosted/apps/shop:1.0");
        assert_eq!(push.actor.as_deref(), Some("admin"));
        assert_eq!(push.at.unwrap().to_string(), "2026-11-10T23:57:49.664Z");
        let own = send(Some("docker-hosted"), |_| ()).unwrap();
        assert_eq!(own.events[0].subject(), "nexus.example.com/apps/shop:1.0");
        let digest = Digest::sha256(b"a");
        let asset = send(None, |body| {
            body.as_object_mut().unwrap().remove("component");
            let name = format!("/v2/apps/shop/manifests/{digest}");
            body["asset"] = json!({ "format": "docker", "name": name });
        });
        let want = format!("nexus.example.com/docker-hosted/apps/shop@{digest}");
        assert_eq!(asset.unwrap().events[0].subject(), want);
        let gone = send(None, |body| body["action"] = json!("DELETED")).unwrap();
        assert!(matches!(gone.events[0], SourceEvent::ImageDeleted(_)));
    }

    #[test]
    fn what_is_no_image_is_nothing_and_nonsense_is_refused() {
        for change in [
            (|body: &mut Value| body["component"]["format"] = json!("npm")) as fn(&mut Value),
            |body| body["action"] = json!("X"),
            |body| {
                body["component"] = Value::Null;
                body["asset"] = json!({ "format": "docker", "name": "v2/-/blobs/sha256:12" });
            },
            |body| body["component"] = Value::Null,
        ] {
            assert_eq!(send(None, change).unwrap().ignored.len(), 1);
        }
        for change in [
            (|body: &mut Value| body["component"]["version"] = json!("-")) as fn(&mut Value),
            |body| body["component"]["version"] = Value::Null,
            |body| body["component"]["name"] = json!("../x"),
        ] {
            assert_eq!(send(None, change).unwrap().refused.len(), 1);
        }
        assert!(send(None, |body| body["action"] = json!(1)).is_err());
        let audit = [("X-Nexus-Webhook-Id", "rm:audit")].into_iter().collect();
        assert_eq!(read(&audit, b"{}", Some("r.example.com"), None).unwrap().ignored.len(), 1);
    }

    #[test]
    fn the_signature_is_of_the_body_without_white_space() {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let sign = |body: &[u8]| {
            let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"k").unwrap();
            mac.update(body);
            hex::encode(mac.finalize().into_bytes())
        };
        let spaced = b"{ \"a\" : \"b c\\\" d\",\n \"e\" : [ 1 ] }";
        assert_eq!(compact(spaced), b"{\"a\":\"b c\\\" d\",\"e\":[1]}");
        let secret = Secret::new("k".to_owned());
        let check =
            |hex: &str, body: &[u8]| verify(&secret, &[(HEADER, hex)].into_iter().collect(), body);
        assert_eq!(check(&sign(spaced), spaced), Ok(()));
        assert_eq!(check(&sign(&compact(spaced)), spaced), Ok(()));
        assert!(check(&sign(b"{}"), spaced).is_err() && check("", spaced).is_err());
    }
}
