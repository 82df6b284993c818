//! CloudEvents of the types that Fairlead defines, from anybody who sends them.

use super::{MAX_ACTOR, ReceiveError, Received};
use crate::{CloudEvent, CloudEventError, Headers, SourceEvent};

const WHAT: &str = "CloudEvent";

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let malformed =
        |e: CloudEventError| ReceiveError::Malformed { what: WHAT, reason: e.to_string() };
    let event = CloudEvent::read(headers, body).map_err(malformed)?;
    let event = match SourceEvent::from_cloud_event(&event) {
        Ok(event) => event,
        Err(CloudEventError::ForeignType { kind }) => {
            return Ok(Received::nothing(format!("`{kind}`: not a type that Fairlead defines")));
        }
        Err(error) => return Err(malformed(error)),
    };
    Ok(match event {
        SourceEvent::ImagePushed(push)
            if registry.is_some_and(|registry| registry != push.repository.registry()) =>
        {
            Received::nothing(format!(
                "push to `{}`: this source speaks of another registry",
                push.repository
            ))
        }
        SourceEvent::ImagePushed(mut push) => {
            push.actor = super::actor(push.actor);
            Received::one(SourceEvent::ImagePushed(push))
        }
        SourceEvent::GitPushed(mut push) => {
            if push.repository.is_empty() || push.repository.chars().count() > MAX_ACTOR {
                return Err(ReceiveError::Malformed {
                    what: WHAT,
                    reason: "the name of the repository is empty or too long".into(),
                });
            }
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
        assert_eq!(send(&push, None).events, std::slice::from_ref(&push));
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
}
