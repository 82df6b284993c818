//! Azure Container Registry: its own webhooks, and what Event Grid passes on, in the schema of Event
//! Grid or as CloudEvents. Neither signs; the proof is a header of the webhook, or the address.

use fairlead_step::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::image::Named;
use super::{
    Head, MAX_EVENTS, ReceiveError, Received, clip, is_manifest, json as read_json, line,
    signature, time,
};
use crate::{Headers, SourceEvent};

const WHAT: &str = "webhook of Azure Container Registry";
/// How the types of Event Grid begin.
const GRID: &str = "Microsoft.ContainerRegistry.";
/// The longest code of a validation that is repeated.
const MAX_CODE: usize = 512;

/// Event Grid can send a header of one's own, or none; then the address is the proof.
pub(super) fn head(secret: &Secret<String>, head: &Head<'_>) -> Result<(), ReceiveError> {
    if head.headers.get("authorization").is_some() {
        return signature::authorization(secret, head.headers);
    }
    match head.address_end {
        Some(end) => signature::address(secret, Some(end)),
        None => Err(ReceiveError::Unsigned { header: "Authorization" }),
    }
}

/// One event, whoever wraps it.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    target: Option<Target>,
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

/// Event Grid's wrapping: its own schema says `eventType`, CloudEvents say `type`.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(alias = "eventType")]
    r#type: String,
    #[serde(default)]
    data: Value,
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let body: Value = read_json(WHAT, body)?;
    // A subscription that is being made asks whether the address wants its events.
    let validation =
        headers.get("aeg-event-type").is_some_and(|kind| kind == "SubscriptionValidation");
    if validation {
        return validate(&body);
    }
    let parts = if let Value::Array(parts) = body { parts } else { vec![body] };
    if parts.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "events" });
    }
    let is_one = parts.len() == 1;
    let mut received = Received::default();
    for part in parts {
        match event(part, registry) {
            Ok(Ok(event)) => received.events.push(event),
            Ok(Err(why)) => received.ignored.push(why),
            Err(why) if is_one => {
                return Err(ReceiveError::Malformed { what: WHAT, reason: why });
            }
            Err(why) => received.refused.push(why),
        }
    }
    Ok(received)
}

/// Answers Event Grid with the code that it sent. The address that it offers instead is not called:
/// whoever sends may name any.
fn validate(body: &Value) -> Result<Received, ReceiveError> {
    let event = body.get(0).unwrap_or(body);
    let code = event.pointer("/data/validationCode").and_then(Value::as_str);
    let fits = |code: &&str| code.len() <= MAX_CODE && code.bytes().all(|b| b.is_ascii_graphic());
    let code = code.filter(fits).ok_or_else(|| ReceiveError::Malformed {
        what: "validation of a subscription",
        reason: "there is no `validationCode` in it".into(),
    })?;
    Ok(Received {
        answer: Some(json!({ "validationResponse": code })),
        ..Received::nothing("the validation of a subscription")
    })
}

/// One event; the inner text says why it is none, the outer one why it cannot be read.
fn event(value: Value, registry: Option<&str>) -> Result<Result<SourceEvent, String>, String> {
    let text = |e: serde_json::Error| clip(&e.to_string());
    let is_wrapped = value.get("eventType").is_some() || value.get("specversion").is_some();
    let (event, chart) = if is_wrapped {
        let wrapped: Wrapped = serde_json::from_value(value).map_err(text)?;
        let Some(what) = wrapped.r#type.strip_prefix(GRID) else {
            return Ok(Err(format!("`{}`: not of a registry", clip(&wrapped.r#type))));
        };
        let chart = what.starts_with("Chart");
        let mut event: Event = serde_json::from_value(wrapped.data).map_err(text)?;
        event.action = match what {
            "ImagePushed" => Some("push".into()),
            "ImageDeleted" => Some("delete".into()),
            _ => event.action,
        };
        (event, chart)
    } else {
        (serde_json::from_value::<Event>(value).map_err(text)?, false)
    };
    let action = event.action.ok_or("there is no `action` in it")?;
    if chart || !matches!(action.as_str(), "push" | "delete") {
        return Ok(Err(format!("`{}`: neither a push nor a deletion of an image", clip(&action))));
    }
    let target = event.target.ok_or("there is no `target` in it")?;
    let media_type = line(target.media_type);
    if let Some(other) = media_type.as_deref().filter(|kind| !is_manifest(kind)) {
        return Ok(Err(format!("`{}`: not a manifest", clip(other))));
    }
    let path = target.repository.unwrap_or_default();
    let named = Named::new(registry, &path, target.tag.as_deref(), target.digest.as_deref())?;
    let at = time(event.timestamp.as_deref());
    Ok(Ok(if action == "push" {
        let mut push = named.pushed(None, at);
        push.media_type = media_type;
        SourceEvent::ImagePushed(push)
    } else {
        SourceEvent::ImageDeleted(named.deleted(None, at))
    }))
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;

    use super::*;

    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn inner(action: &str) -> Value {
        json!({ "id": "cb8c3971-9adc-488b-xxxx", "timestamp": "2026-11-17T16:52:01.343145347Z",
            "action": action, "target": { "mediaType": MANIFEST, "size": 524, "length": 524,
                "digest": Digest::sha256(b"a"), "repository": "hello-world", "tag": "v1" },
            "request": { "id": "3cbb6949", "host": "elsewhere.example.com", "method": "PUT" } })
    }

    fn send(headers: &[(&str, &str)], body: &Value) -> Result<Received, ReceiveError> {
        let headers = headers.iter().copied().collect();
        read(&headers, body.to_string().as_bytes(), Some("acr.example.com"))
    }

    fn grid(kind: &str, action: &str) -> Value {
        json!({ "id": "831e1650", "topic": "/subscriptions/x", "subject": "hello-world:v1",
            "eventType": kind, "eventTime": "2026-04-25T21:39:47.6549614Z",
            "data": inner(action), "dataVersion": "1.0" })
    }

    #[test]
    fn however_it_is_wrapped_it_is_the_same_push() {
        let mut cloud_event = grid("Microsoft.ContainerRegistry.ImagePushed", "push");
        cloud_event["type"] = cloud_event.as_object_mut().unwrap().remove("eventType").unwrap();
        cloud_event["specversion"] = json!("1.0");
        let want = format!("acr.example.com/hello-world:v1@{}", Digest::sha256(b"a"));
        for body in [
            inner("push"),
            json!([grid("Microsoft.ContainerRegistry.ImagePushed", "push")]),
            cloud_event,
        ] {
            let received = send(&[], &body).unwrap();
            assert_eq!(received.events[0].subject(), want, "{body}");
            assert!(matches!(received.events[0], SourceEvent::ImagePushed(_)));
        }
        let gone = send(&[], &json!([grid("Microsoft.ContainerRegistry.ImageDeleted", "delete")]));
        assert!(matches!(gone.unwrap().events[0], SourceEvent::ImageDeleted(_)));
    }

    #[test]
    fn charts_pings_and_others_are_nothing() {
        for body in [
            inner("chart_push"),
            inner("quarantine"),
            inner("ping"),
            json!({ "id": "1", "action": "ping" }),
            json!([grid("Microsoft.ContainerRegistry.ChartPushed", "push")]),
            json!([grid("Microsoft.Storage.BlobCreated", "push")]),
        ] {
            let received = send(&[], &body).unwrap();
            assert_eq!((received.events.len(), received.ignored.len()), (0, 1), "{body}");
        }
        for body in [json!({}), json!("x"), json!({ "action": "push" }), json!([null])] {
            assert!(send(&[], &body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_subscription_is_answered_with_its_code_and_nothing_is_called() {
        let event = |data: Value| {
            json!([{ "id": "2d1781af", "topic": "/subscriptions/x", "subject": "",
                "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": data }])
        };
        let headers = [("aeg-event-type", "SubscriptionValidation")];
        let data = json!({ "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
            "validationUrl": "https://elsewhere.example.com/validate" });
        let received = send(&headers, &event(data)).unwrap();
        let want = json!({ "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" });
        assert_eq!((received.answer, received.events), (Some(want), vec![]));
        for data in [json!({}), json!({ "validationCode": "a\nb" }), json!(null)] {
            assert!(send(&headers, &event(data)).is_err());
        }
    }
}
