//! CloudEvents from anybody who sends them: one by one in either mode, in batches, over HTTP or NATS.
//! Those of Fairlead's own types are what they say, within the registry and the forge of the source;
//! all others are taken as they are told.
//!
//! The proof is a token in `Authorization`, or a signature of Standard Webhooks where the secret is a
//! key for those.

use fairlead_step::Secret;
use serde_json::{Map, Value};

use super::signature::{self, StandardWebhook};
use super::{Head, Incoming, MAX_EVENTS, ReceiveError, Received, clip, json, line};
use crate::{Association, CloudEvent, CloudEventError, Custom, Headers, SourceEvent};

const WHAT: &str = "CloudEvent";

/// The media type of the batched mode (CloudEvents JSON format 1.0, section 4).
const BATCH: &str = "application/cloudevents-batch+json";

/// How the types begin that Fairlead defines, now or later. Nobody else's events are taken for them.
const OWN: &str = "dev.fairlead.";

/// As at GitLab: where there is a key for signatures, a plain token does not do.
pub(super) fn head(secret: &Secret<String>, head: &Head<'_>) -> Result<(), ReceiveError> {
    if signature::webhook_key(secret).is_some() {
        return StandardWebhook::of(head.headers, head.now).map(drop);
    }
    signature::authorization(secret, head.headers)
}

pub(super) fn verify(secret: &Secret<String>, message: &Incoming<'_>) -> Result<(), ReceiveError> {
    let Some(key) = signature::webhook_key(secret) else { return Ok(()) };
    StandardWebhook::of(message.headers, message.now)?.fits(&key, message.body)
}

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
        Err(CloudEventError::ForeignType { kind }) if kind.starts_with(OWN) => {
            return Ok(Received::nothing(format!(
                "`{kind}`: not a type that this version defines"
            )));
        }
        Err(CloudEventError::ForeignType { .. }) => return Ok(custom(event)),
        Err(error) => return Err(error),
    };
    let place = match &event {
        SourceEvent::ImagePushed(push) => Some(push.repository.clone()),
        SourceEvent::ImageDeleted(deleted) => Some(deleted.repository.clone()),
        SourceEvent::ImageScanned(scanned) => Some(scanned.repository.clone()),
        SourceEvent::GitPushed(_)
        | SourceEvent::PullRequest(_)
        | SourceEvent::Comment(_)
        | SourceEvent::Release(_) => None,
        // Who may ask for a run is the API's business; a source is for what happened elsewhere. What
        // another server was told is no event of its own.
        SourceEvent::Requested(_) => {
            return Ok(Received::nothing("a request for a run: ask for it through the API"));
        }
        // Whoever could report these could start what is started by nobody but this server.
        SourceEvent::Scheduled(_) | SourceEvent::RunFinished(_) => {
            return Ok(Received::nothing("what happens within Fairlead is not taken from others"));
        }
        SourceEvent::Custom(_) => {
            return Ok(Received::nothing("an event in a wrapping of Fairlead's: send it as it is"));
        }
    };
    if let Some(repository) = place {
        match registry {
            Some(registry) if registry == repository.registry() => {}
            Some(_) => {
                return Ok(Received::nothing(format!(
                    "event of `{repository}`: this source speaks of another registry"
                )));
            }
            None => {
                return Ok(Received::refused(format!(
                    "event of `{repository}`: this source names no `registry` that it may be at"
                )));
            }
        }
    }
    Ok(Received::one(tidy(event)))
}

/// The event without what would break a line of a log, and not believed beyond what its forge confirms.
fn tidy(mut event: SourceEvent) -> SourceEvent {
    match &mut event {
        SourceEvent::ImagePushed(push) => push.actor = line(push.actor.take()),
        SourceEvent::GitPushed(push) => push.actor = line(push.actor.take()),
        SourceEvent::ImageDeleted(deleted) => deleted.actor = line(deleted.actor.take()),
        SourceEvent::PullRequest(request) => {
            request.actor = line(request.actor.take());
            request.author = line(request.author.take());
            request.title = line(request.title.take());
        }
        SourceEvent::Comment(comment) => {
            comment.author = line(comment.author.take());
            comment.is_fork = true;
            // Whoever belongs to the repository may let a run read secrets: that is for a forge to say.
            comment.association = Association::Unknown;
        }
        SourceEvent::Release(release) => {
            release.actor = line(release.actor.take());
            release.name = line(release.name.take());
        }
        SourceEvent::ImageScanned(_)
        | SourceEvent::Requested(_)
        | SourceEvent::Scheduled(_)
        | SourceEvent::RunFinished(_)
        | SourceEvent::Custom(_) => {}
    }
    event
}

/// An event of a type that is not ours.
fn custom(event: &CloudEvent) -> Received {
    let harmless = |text: &str| !text.chars().any(char::is_control);
    for (name, text) in [("type", &event.kind), ("source", &event.source), ("id", &event.id)] {
        if !harmless(text) {
            return Received::refused(format!(
                "the attribute `{name}` of `{}` holds control characters",
                clip(&event.kind)
            ));
        }
    }
    Received::one(SourceEvent::Custom(Custom {
        r#type: event.kind.clone(),
        source: event.source.clone(),
        subject: line(event.subject.clone()),
        id: event.id.clone(),
        time: event.time,
        data: event.data.clone(),
    }))
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
        let mut ours = push(b"b");
        ours["type"] = Value::from("dev.fairlead.other.v9");
        let batch = Value::from(vec![push(b"a"), bad, Value::Null, other, push(b"c"), ours]);
        let headers = [("Content-Type", "application/cloudevents-batch+json; charset=utf-8")];
        let headers: Headers = headers.into_iter().collect();
        let received = read(&headers, batch.to_string().as_bytes(), Some("r.example.com")).unwrap();
        assert_eq!((received.events.len(), received.ignored.len()), (3, 1), "{received:?}");
        assert!(
            matches!(&received.events[1], SourceEvent::Custom(it) if it.r#type.ends_with("other"))
        );
        assert!(received.refused[0].starts_with("event 2: "), "{received:?}");
        assert!(received.refused[1].starts_with("event 3: "), "{received:?}");
        assert!(read(&headers, b"{}", Some("r.example.com")).is_err());
    }

    #[test]
    fn what_others_define_is_taken_as_it_is_told() {
        let body = br#"{"specversion":"1.0","id":"7","source":"/builds","type":"com.example.built",
            "subject":"shop","time":"2026-01-01T00:00:00Z","data":{"a":[1]}}"#;
        let received = read(&Headers::default(), body, None).unwrap();
        let SourceEvent::Custom(event) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!((event.r#type.as_str(), event.id.as_str()), ("com.example.built", "7"));
        assert_eq!(event.data, serde_json::json!({ "a": [1] }));
        // It is the same event for one source, and another for the next.
        let event = &received.events[0];
        assert_eq!(event.key_from("a"), event.key_from("a"));
        assert_ne!(event.key_from("a"), event.key_from("b"));
        let wrapped = send(event, None);
        assert_eq!((wrapped.events.len(), wrapped.ignored.len()), (0, 1));
        let hostile = br#"{"specversion":"1.0","id":"7\u001b","source":"/b","type":"t"}"#;
        assert_eq!(read(&Headers::default(), hostile, None).unwrap().refused.len(), 1);
    }

    #[test]
    fn a_key_for_signatures_takes_signatures_alone() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let secret = Secret::new(format!("whsec_{}", STANDARD.encode("the key")));
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"the key").unwrap();
        mac.update(b"m.1700000000.{}");
        let good = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let check = |headers: &[(&str, &str)], second: i64| {
            let headers: Headers = headers.iter().copied().collect();
            let now = Timestamp::from_second(second).unwrap();
            head(&secret, &Head { headers: &headers, address_end: None, now })?;
            verify(
                &secret,
                &Incoming {
                    headers: &headers,
                    address_end: None,
                    body: b"{}",
                    now,
                    trusted_channel: false,
                },
            )
        };
        let signed = [
            ("webhook-id", "m"),
            ("webhook-timestamp", "1700000000"),
            ("webhook-signature", good.as_str()),
        ];
        assert_eq!(check(&signed, 1_700_000_000), Ok(()));
        let late = check(&signed, 1_700_000_400);
        assert_eq!(late, Err(ReceiveError::OutsideWindow { seconds: 400 }));
        let bearer = format!("Bearer {}", secret.expose());
        let plain = check(&[("Authorization", bearer.as_str())], 1_700_000_000);
        assert_eq!(plain, Err(ReceiveError::Unsigned { header: "webhook-signature" }));
    }
}
