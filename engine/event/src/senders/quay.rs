//! Quay's notification of a push. It names tags and neither a digest nor a time, and carries no proof:
//! whoever knows the address may send it, and what the tags hold is asked at the registry.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::image::Named;
use super::{MAX_EVENTS, ReceiveError, Received, json};
use crate::SourceEvent;

const WHAT: &str = "notification of Quay";

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    updated_tags: Option<Tags>,
}

/// Very old servers name the id of an image beside each tag.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Map(BTreeMap<String, serde::de::IgnoredAny>),
}

/// The time at which it came stands for the time at which it happened: without one, a tag that is
/// pushed again would be taken for the same push told again. What the registry then holds decides.
pub(super) fn read(
    body: &[u8],
    registry: Option<&str>,
    now: Timestamp,
) -> Result<Received, ReceiveError> {
    let body: Body = json(WHAT, body)?;
    let Some(tags) = body.updated_tags else {
        return Ok(Received::nothing("a notification that is not of a push"));
    };
    let tags: Vec<String> = match tags {
        Tags::List(tags) => tags,
        Tags::Map(tags) => tags.into_keys().collect(),
    };
    if tags.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "tags" });
    }
    if tags.is_empty() {
        return Ok(Received::nothing("a push that set no tag"));
    }
    let path = body.repository.unwrap_or_default();
    let mut received = Received::default();
    for tag in tags {
        let named = Named::new(registry, &path, Some(&tag), None);
        received.add(named.map(|named| SourceEvent::ImagePushed(named.pushed(None, Some(now)))));
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn send(tags: Value) -> Result<Received, ReceiveError> {
        let body = json!({ "name": "shop", "repository": "acme/shop", "namespace": "acme",
            "docker_url": "elsewhere.example.com/acme/shop", "homepage": "https://x.example.com",
            "updated_tags": tags });
        read(body.to_string().as_bytes(), Some("quay.example.com"), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_tag_is_a_push_at_the_registry_of_the_source() {
        for tags in [json!(["latest", "1.0"]), json!({ "latest": "abc", "1.0": "def" })] {
            let received = send(tags).unwrap();
            let mut subjects: Vec<String> =
                received.events.iter().map(SourceEvent::subject).collect();
            subjects.sort();
            assert_eq!(
                subjects,
                ["quay.example.com/acme/shop:1.0", "quay.example.com/acme/shop:latest"]
            );
        }
        let mixed = send(json!(["ok", "-x"])).unwrap();
        assert_eq!((mixed.events.len(), mixed.refused.len()), (1, 1));
    }

    #[test]
    fn what_is_no_push_is_nothing_and_too_many_tags_are_refused() {
        assert_eq!(send(json!([])).unwrap().events, []);
        assert_eq!(send(json!(null)).unwrap().ignored.len(), 1);
        assert!(send(json!("latest")).is_err());
        let many: Vec<String> = (0..=MAX_EVENTS).map(|n| n.to_string()).collect();
        assert!(matches!(send(json!(many)), Err(ReceiveError::TooLarge { .. })));
    }
}
