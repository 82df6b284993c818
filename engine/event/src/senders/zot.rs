//! The zot registry's CloudEvents: structured on NATS, binary over HTTP. They name no registry.

use serde::Deserialize;

use super::image::Named;
use super::{ReceiveError, Received, clip, is_manifest};
use crate::{CloudEvent, Headers, SourceEvent};

const WHAT: &str = "CloudEvent of zot";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    name: String,
    reference: String,
    digest: String,
    #[serde(default)]
    media_type: String,
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let event = CloudEvent::read(headers, body).map_err(|e| malformed(e.to_string()))?;
    // What stands before `image.updated` is a setting of zot.
    let is_delete = event.kind.ends_with(".image.deleted");
    if !is_delete && !event.kind.ends_with(".image.updated") {
        let kind = clip(&event.kind);
        return Ok(Received::nothing(format!("`{kind}`: neither a push nor a deletion")));
    }
    let data: Data =
        serde_json::from_value(event.data).map_err(|e| malformed(clip(&e.to_string())))?;
    if !data.media_type.is_empty() && !is_manifest(&data.media_type) {
        return Ok(Received::nothing("an event of something else than a manifest"));
    }
    // An untagged push has the digest in the place of the tag.
    let named = Named::new(registry, &data.name, Some(&data.reference), Some(&data.digest))
        .map_err(malformed)?;
    if is_delete {
        return Ok(Received::one(SourceEvent::ImageDeleted(named.deleted(None, event.time))));
    }
    let mut push = named.pushed(None, event.time);
    push.media_type = (!data.media_type.is_empty()).then_some(data.media_type);
    Ok(Received::one(SourceEvent::ImagePushed(push)))
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: &serde_json::Value) -> Result<Received, ReceiveError> {
        let body = json!({ "specversion": "1.0", "id": "1", "source": "zotregistry.dev",
            "type": kind, "time": "2026-01-01T00:00:00Z", "data": data });
        read(&Headers::default(), body.to_string().as_bytes(), Some("r.example.com"))
    }

    #[test]
    fn tagged_and_untagged_pushes_are_told_apart() {
        let digest = Digest::sha256(b"a").to_string();
        let media_type = "application/vnd.oci.image.index.v1+json";
        for (reference, want) in [
            ("1.0", format!("r.example.com/apps/shop:1.0@{digest}")),
            (digest.as_str(), format!("r.example.com/apps/shop@{digest}")),
        ] {
            let data = json!({ "name": "apps/shop", "reference": reference, "digest": digest,
                "mediaType": media_type, "manifest": "{}", "request": {} });
            let received = event("zotregistry.image.updated", &data).unwrap();
            assert_eq!(received.events[0].subject(), want);
            assert_eq!(event("acme.image.updated", &data).unwrap().events.len(), 1);
            let deleted = event("zotregistry.image.deleted", &data).unwrap();
            assert!(matches!(deleted.events[0], SourceEvent::ImageDeleted(_)));
            for other in ["zotregistry.image.lint_failed", "zotregistry.repository.created"] {
                assert_eq!(event(other, &data).unwrap().events, []);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let digest = Digest::sha256(b"a");
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        for data in [
            json!(null),
            json!({ "name": "apps/shop" }),
            json!({ "name": "Apps", "reference": "1", "digest": digest, "mediaType": manifest }),
            json!({ "name": "a", "reference": "-", "digest": digest, "mediaType": manifest }),
            json!({ "name": "a", "reference": "1", "digest": "x", "mediaType": manifest }),
        ] {
            let result = event("zotregistry.image.updated", &data);
            assert!(matches!(result, Err(ReceiveError::Malformed { .. })), "{data}");
        }
    }
}
