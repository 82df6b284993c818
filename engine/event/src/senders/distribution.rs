//! The CNCF registry's notifications: `application/vnd.docker.distribution.events.v1+json` of 2.x
//! and `…v2+json` of 3.x. The shapes are the same where it matters.

use fairlead_step::{ImageRef, Repository};
use jiff::Timestamp;
use serde::Deserialize;

use super::{MAX_EVENTS, ReceiveError, Received, actor, is_manifest, json};
use crate::{ImagePushed, SourceEvent};

const WHAT: &str = "notification of the CNCF registry";

#[derive(Deserialize)]
struct Envelope {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    action: String,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    target: Target,
    #[serde(default)]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    repository: String,
    #[serde(default)]
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default)]
    name: Option<String>,
}

pub(super) fn read(body: &[u8], registry: Option<&str>) -> Result<Received, ReceiveError> {
    let envelope: Envelope = json(WHAT, body)?;
    if envelope.events.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "events" });
    }
    let mut received = Received::default();
    for event in envelope.events {
        // One event that cannot be read must not take the others with it: the registry would send
        // the whole batch again and again, and nothing behind it.
        match normalize(event, registry.unwrap_or_default()) {
            Ok(push) => received.events.push(SourceEvent::ImagePushed(push)),
            Err(why) => received.ignored.push(why),
        }
    }
    Ok(received)
}

fn normalize(event: Event, registry: &str) -> Result<ImagePushed, String> {
    let Event { action, timestamp, target, actor: who } = event;
    let clip = |text: &str| text.chars().take(120).collect::<String>();
    let name = clip(&target.repository);
    // A mount is of a blob; the push of the manifest that needs it follows.
    if action != "push" {
        return Err(format!("`{}` of `{name}`: not a push", clip(&action)));
    }
    if !is_manifest(&target.media_type) {
        return Err(format!("push of `{}` to `{name}`: not a manifest", clip(&target.media_type)));
    }
    let repository = Repository::new(registry, &target.repository).map_err(|e| e.to_string())?;
    let digest = target.digest.parse().map_err(|e| format!("push to `{name}`: {e}"))?;
    let tag = target.tag.filter(|tag| !tag.is_empty());
    if let Some(tag) = tag.as_deref().filter(|tag| !ImageRef::is_tag(tag)) {
        return Err(format!("push to `{name}`: `{}` is not a tag", clip(tag)));
    }
    Ok(ImagePushed {
        repository,
        tag,
        digest: Some(digest),
        media_type: Some(target.media_type),
        actor: actor(who.and_then(|who| who.name)),
        at: timestamp,
    })
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn only_pushes_of_manifests_are_events() {
        let digest = Digest::sha256(b"a").to_string();
        let event = |action: &str, media_type: &str, digest: &str, tag: Option<&str>| {
            json!({ "id": "1", "action": action, "timestamp": "2026-01-01T00:00:00.123456789Z",
                "target": { "mediaType": media_type, "digest": digest, "repository": "apps/shop",
                    "tag": tag }, "actor": { "name": "ci\n" } })
        };
        let body = json!({ "events": [
            event("push", MANIFEST, &digest, Some("1.0")),
            event("push", MANIFEST, &digest, None),
            event("push", "application/octet-stream", &digest, None),
            event("pull", MANIFEST, &digest, Some("1.0")),
            event("mount", "application/octet-stream", &digest, None),
            event("delete", "", "", Some("1.0")),
            event("push", MANIFEST, "sha256:12", Some("1.0")),
            event("push", MANIFEST, &digest, Some("-x")),
        ]});
        let received = read(body.to_string().as_bytes(), Some("r.example.com:5000")).unwrap();
        let subjects: Vec<String> = received.events.iter().map(SourceEvent::subject).collect();
        assert_eq!(
            subjects,
            [
                format!("r.example.com:5000/apps/shop:1.0@{digest}"),
                format!("r.example.com:5000/apps/shop@{digest}")
            ]
        );
        assert_eq!(received.ignored.len(), 6, "{:?}", received.ignored);
        let SourceEvent::ImagePushed(push) = &received.events[0] else { unreachable!() };
        assert_eq!(push.actor.as_deref(), Some("ci"));
    }

    #[test]
    fn what_is_no_notification_is_refused() {
        for body in ["", "{}", r#"{"events":{}}"#, r#"{"events":[{"action":1}]}"#] {
            assert!(
                matches!(read(body.as_bytes(), Some("r:1")), Err(ReceiveError::Malformed { .. })),
                "{body}"
            );
        }
        let one = json!({ "action": "pull", "target": {} });
        let many = json!({ "events": vec![one; MAX_EVENTS + 1] }).to_string();
        assert!(matches!(read(many.as_bytes(), Some("r:1")), Err(ReceiveError::TooLarge { .. })));
    }
}
