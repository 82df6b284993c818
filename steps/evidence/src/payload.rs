//! The payload of a v2 signature: cosign's "simple signing" document.

use std::collections::BTreeMap;

use fairlead_step::Image;
use serde::{Deserialize, Serialize};

/// What a v2 signature says: this digest, seen under this name, with these annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: ImageClaim,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageClaim {
    docker_manifest_digest: String,
}

const KIND: &str = "cosign container image signature";

impl Payload {
    pub(crate) fn new(image: &Image, annotations: &BTreeMap<String, String>) -> Self {
        let optional = annotations.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        Self {
            critical: Critical {
                identity: Identity { docker_reference: image.repository.to_string() },
                image: ImageClaim { docker_manifest_digest: image.digest.to_string() },
                kind: KIND.into(),
            },
            optional: (!annotations.is_empty()).then_some(optional),
        }
    }

    /// The exact bytes that are signed: no space, fields in cosign's order.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Whether it is a signature of `image`'s digest.
    pub(crate) fn is_about(&self, image: &Image) -> bool {
        self.critical.kind == KIND
            && self.critical.image.docker_manifest_digest == image.digest.to_string()
    }

    /// The repository that it names.
    pub(crate) fn reference(&self) -> &str {
        &self.critical.identity.docker_reference
    }

    /// Whether it carries `annotations`.
    pub(crate) fn carries(&self, annotations: &BTreeMap<String, String>) -> bool {
        let optional = self.optional.as_ref();
        annotations.iter().all(|(key, value)| {
            optional.and_then(|o| o.get(key)).and_then(|v| v.as_str()) == Some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_cosigns() {
        let image: Image =
            format!("127.0.0.1:5601/demo/app@sha256:{}", "a".repeat(64)).parse().unwrap();
        let payload = Payload::new(&image, &BTreeMap::new());
        assert_eq!(
            String::from_utf8(payload.to_bytes().unwrap()).unwrap(),
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"127.0.0.1:5601/demo/app"}},"image":{{"docker-manifest-digest":"sha256:{}"}},"type":"cosign container image signature"}},"optional":null}}"#,
                "a".repeat(64)
            )
        );
        assert!(payload.is_about(&image) && payload.reference() == "127.0.0.1:5601/demo/app");
        let wanted = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert!(!payload.carries(&wanted));
        assert!(Payload::new(&image, &wanted).carries(&wanted));
    }
}
