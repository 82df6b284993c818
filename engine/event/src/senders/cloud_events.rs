//! CloudEvents of the types that Fairlead defines, from anybody who sends them.

use serde_json::{Map, Value};

use super::{MAX_EVENTS, ReceiveError, Received, json};
use crate::{CloudEvent, CloudEventError, Headers, SourceEvent};

const WHAT: &str = "CloudEvent";

/// The media type of the batched mode (CloudEvents JSON format 1.0, section 4).
const BATCH: &str = "application/cloudevents-batch+json";

/// Whether the message is a batch of events.
pub(super) fn is_batch(headers: &Headers) -> bool {
    headers.get("content-type").is_some_and(|kind| kind.starts_with(BATCH))
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let malformed =
        |e: CloudEventError| ReceiveError::Malformed { what: WHAT, reason: e.to_string() };
    if !is_batch(headers) {
        let event = CloudEvent::read(headers, body).map_err(malformed)?;
        return one(&event, registry).map_err(malformed);
    }
    let events: Vec<Value> = json("batch of CloudEvents", body)?;
    if events.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "events" });
    }
    let mut received = Received::default();
    for (index, event) in events.into_iter().enumerate() {
        let event = serde_json::from_value::<Map<String, Value>>(event)
            .map_err(|e| CloudEventError::NotJson { what: "event", reason: e.to_string() })
            .and_then(CloudEvent::from_object);
        // Each by itself, as if it had come alone.
        match event.and_then(|event| one(&event, registry)) {
            Ok(read) => {
                received.events.extend(read.events);
                received.ignored.extend(read.ignored);
                received.refused.extend(read.refused);
            }
            Err(why) => received.refused.push(format!("event {}: {why}", index + 1)),
        }
    }
    Ok(received)
}

/// Reads one event.
fn one(event: &CloudEvent, registry: Option<&str>) -> Result<Received, CloudEventError> {
    let event = match SourceEvent::from_cloud_event(event) {
        Ok(event) => event,
        Err(CloudEventError::ForeignType { kind }) => {
            return Ok(Received::nothing(format!("`{kind}`: not a type that Fairlead defines")));
        }
        Err(error) => return Err(error),
    };
    Ok(match event {
        SourceEvent::ImagePushed(mut push) => match registry {
            Some(registry) if registry == push.repository.registry() => {
                push.actor = super::actor(push.actor);
                Received::one(SourceEvent::ImagePushed(push))
            }
            Some(_) => Received::nothing(format!(
                "push to `{}`: this source speaks of another registry",
                push.repository
            )),
            None => Received::refused(format!(
                "push to `{}`: this source names no `registry` that it may be at",
                push.repository
            )),
        },
        SourceEvent::GitPushed(mut push) => {
            push.actor = super::actor(push.actor);
            Received::one(SourceEvent::GitPushed(push))
        }
        // Who may ask for a run is the API's business; a source is for what happened elsewhere.
        SourceEvent::Requested(_) => {
            Received::nothing("a request for a run: ask for it through the API")
        }
    })
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use jiff::Timestamp;

    use super::*;
    use crate::{ImagePushed, Requested};

    fn send(event: &SourceEvent, registry: Option<&str>) -> Received {
        let event = event.to_cloud_event("x", &event.dedup_key(), Timestamp::UNIX_EPOCH).unwrap();
        read(&Headers::default(), event.to_json().as_bytes(), registry).unwrap()
    }

    #[test]
    fn our_own_types_are_taken_within_the_registry_of_the_source() {
        let push = SourceEvent::ImagePushed(ImagePushed {
            repository: "r.example.com/apps/shop".parse().unwrap(),
            tag: Some("1".into()),
            digest: Some(Digest::sha256(b"a")),
            media_type: None,
            actor: None,
            at: None,
        });
        let nowhere = send(&push, None);
        assert_eq!((nowhere.events.len(), nowhere.refused.len()), (0, 1), "{nowhere:?}");
        assert_eq!(send(&push, Some("r.example.com")).events, std::slice::from_ref(&push));
        assert_eq!(send(&push, Some("other.example.com")).events, []);
        let request = SourceEvent::Requested(Requested {
            pipeline: "p".into(),
            params: serde_json::Map::new(),
            by: "x".into(),
            key: "k".into(),
        });
        assert_eq!(send(&request, None).events, []);
    }

    #[test]
    fn each_event_of_a_batch_is_taken_or_not_by_itself() {
        let push = |content: &[u8]| {
            let push = SourceEvent::ImagePushed(ImagePushed {
                repository: "r.example.com/apps/shop".parse().unwrap(),
                tag: Some("1".into()),
                digest: Some(Digest::sha256(content)),
                media_type: None,
                actor: None,
                at: None,
            });
            let event = push.to_cloud_event("x", &push.dedup_key(), Timestamp::UNIX_EPOCH).unwrap();
            serde_json::from_str::<Value>(&event.to_json()).unwrap()
        };
        let mut bad = push(b"b");
        bad["data"]["digest"] = Value::from("sha256:12");
        let mut other = push(b"b");
        other["type"] = Value::from("com.example.other");
        let batch = Value::from(vec![push(b"a"), bad, Value::Null, other, push(b"c")]);
        let headers = [("Content-Type", "application/cloudevents-batch+json; charset=utf-8")];
        let headers: Headers = headers.into_iter().collect();
        let received = read(&headers, batch.to_string().as_bytes(), Some("r.example.com")).unwrap();
        assert_eq!((received.events.len(), received.ignored.len()), (2, 1), "{received:?}");
        assert!(received.refused[0].starts_with("event 2: "), "{received:?}");
        assert!(received.refused[1].starts_with("event 3: "), "{received:?}");
        assert!(read(&headers, b"{}", Some("r.example.com")).is_err());
    }
}
