//! The CNCF registry's notifications: `application/vnd.docker.distribution.events.v1+json` of 2.x
//! and `…v2+json` of 3.x. The shapes are the same where it matters.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::image::Named;
use super::{MAX_EVENTS, ReceiveError, Received, clip, is_manifest, json, line};
use crate::SourceEvent;

const WHAT: &str = "notification of the CNCF registry";

#[derive(Deserialize)]
struct Envelope {
    events: Vec<Value>,
}

#[derive(Deserialize)]
struct Event {
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
    media_type: Option<String>,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    repository: Option<String>,
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
    for (index, event) in envelope.events.into_iter().enumerate() {
        // One event that cannot be read must not take the others with it: the registry would send
        // the whole batch again and again, and nothing behind it.
        match of_interest(&event) {
            Ok(()) => {
                let event = normalize(event, registry);
                received.add(event.map_err(|why| format!("event {}: {why}", index + 1)));
            }
            Err(why) => received.ignored.push(why),
        }
    }
    Ok(received)
}

/// Whether the event is one that may start something; the text says why it does not.
fn of_interest(event: &Value) -> Result<(), String> {
    let text = |place: &str| event.pointer(place).and_then(Value::as_str);
    let name = clip(text("/target/repository").unwrap_or_default());
    // A mount is of a blob; the push of the manifest that needs it follows.
    match text("/action") {
        None | Some("push") => {}
        // By digest or by tag; 2.x tells of a tag twice, once for each. Without either it is a blob
        // or a whole repository.
        Some("delete") if has(event, "tag") || has(event, "digest") => return Ok(()),
        Some(action) => {
            return Err(format!("`{}` of `{name}`: neither a push nor a deletion", clip(action)));
        }
    }
    let media_type = text("/target/mediaType");
    if let Some(other) = media_type.filter(|media_type| !is_manifest(media_type)) {
        return Err(format!("push of `{}` to `{name}`: not a manifest", clip(other)));
    }
    Ok(())
}

/// Whether the target of an event has a text that is not empty.
fn has(event: &Value, field: &str) -> bool {
    let text = event.pointer("/target").and_then(|target| target.get(field));
    text.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

fn normalize(event: Value, registry: Option<&str>) -> Result<SourceEvent, String> {
    let is_delete = match event.get("action").and_then(Value::as_str) {
        None => return Err("there is no `action` in it".to_owned()),
        Some(action) => action == "delete",
    };
    let event: Event = serde_json::from_value(event).map_err(|e| clip(&e.to_string()))?;
    let Event { timestamp, target, actor } = event;
    let missing = |what: &str| format!("its `target` has no `{what}`");
    let path = target.repository.ok_or_else(|| missing("repository"))?;
    let who = line(actor.and_then(|actor| actor.name));
    if is_delete {
        let named = Named::new(registry, &path, target.tag.as_deref(), target.digest.as_deref())?;
        return Ok(SourceEvent::ImageDeleted(named.deleted(who, timestamp)));
    }
    let digest = target.digest.ok_or_else(|| missing("digest"))?;
    let media_type = target.media_type.ok_or_else(|| missing("mediaType"))?;
    let mut push =
        Named::new(registry, &path, target.tag.as_deref(), Some(&digest))?.pushed(who, timestamp);
    push.media_type = Some(media_type);
    Ok(SourceEvent::ImagePushed(push))
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn pushes_of_manifests_and_deletions_are_events() {
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
            event("delete", "", &digest, None),
            event("delete", "", "", None),
            event("push", MANIFEST, "sha256:12", Some("1.0")),
            event("push", MANIFEST, &digest, Some("-x")),
        ]});
        let received = read(body.to_string().as_bytes(), Some("r.example.com:5000")).unwrap();
        let subjects: Vec<String> = received.events.iter().map(SourceEvent::subject).collect();
        assert_eq!(
            subjects,
            [
                format!("r.example.com:5000/apps/shop:1.0@{digest}"),
                format!("r.example.com:5000/apps/shop@{digest}"),
                "r.example.com:5000/apps/shop:1.0".to_owned(),
                format!("r.example.com:5000/apps/shop@{digest}"),
            ]
        );
        let deleted = |event: &SourceEvent| matches!(event, SourceEvent::ImageDeleted(_));
        assert!(received.events[2..].iter().all(deleted));
        assert_eq!(received.ignored.len(), 4, "{:?}", received.ignored);
        assert_eq!(received.refused.len(), 2, "{:?}", received.refused);
        let SourceEvent::ImagePushed(push) = &received.events[0] else { unreachable!() };
        assert_eq!(push.actor.as_deref(), Some("ci"));
    }

    #[test]
    fn an_event_that_cannot_be_read_takes_no_other_with_it() {
        let digest = Digest::sha256(b"a").to_string();
        let good = |tag: &str| {
            json!({ "action": "push", "target": { "mediaType": MANIFEST, "digest": digest,
                "repository": "apps/shop", "tag": tag } })
        };
        let without = |field: &str| {
            let mut event = good("1.0");
            event["target"].as_object_mut().unwrap().remove(field);
            event
        };
        let with = |place: &str, value: Value| {
            let mut event = good("1.0");
            *event.pointer_mut(place).unwrap() = value;
            event
        };
        for (bad, want) in [
            (json!({ "action": "push", "id": "1" }), "target"),
            (json!({ "action": "push", "target": null }), "invalid type: null"),
            (json!({ "action": "push", "target": {} }), "repository"),
            (json!({ "action": 1 }), "action"),
            (json!({ "target": good("1.0")["target"] }), "action"),
            (json!(null), "action"),
            (json!("push"), "action"),
            (json!([]), "action"),
            (without("repository"), "repository"),
            (without("digest"), "digest"),
            (without("mediaType"), "mediaType"),
            (with("/target/digest", json!(null)), "digest"),
            (with("/target/digest", json!(7)), "integer"),
            (with("/target/tag", json!(["1.0"])), "sequence"),
            (with("/target/repository", json!("Apps/..")), "Apps/.."),
            (
                json!({ "action": "push", "timestamp": "yesterday", "target": good("1")["target"] }),
                "",
            ),
        ] {
            let body = json!({ "events": [good("1.0"), bad, good("1.1")] }).to_string();
            let received = read(body.as_bytes(), Some("r.example.com")).unwrap();
            assert_eq!(received.events.len(), 2, "{bad}");
            let [why] = received.refused.as_slice() else { panic!("{bad}: {received:?}") };
            assert!(why.starts_with("event 2: ") && why.contains(want), "{bad}: {why}");
        }
        // What is of no interest need not be whole.
        let pull = json!({ "events": [{ "action": "pull" }] }).to_string();
        let received = read(pull.as_bytes(), Some("r.example.com")).unwrap();
        assert_eq!((received.refused.len(), received.ignored.len()), (0, 1));
    }

    #[test]
    fn what_is_no_notification_is_refused() {
        for body in ["", "{}", "[]", r#"{"events":{}}"#, r#"{"events":null}"#] {
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
