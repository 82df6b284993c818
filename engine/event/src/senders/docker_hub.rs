//! Docker Hub's webhooks. They name no digest and carry no proof: whoever knows the address may send
//! them, and what the tag holds is asked at the registry. The `callback_url` in them is never called.

use jiff::Timestamp;
use serde::Deserialize;

use super::image::Named;
use super::{ReceiveError, Received, json, line};
use crate::SourceEvent;

const WHAT: &str = "webhook of Docker Hub";

#[derive(Deserialize)]
struct Body {
    push_data: PushData,
    repository: Repository,
}

#[derive(Deserialize)]
struct PushData {
    #[serde(default)]
    tag: Option<String>,
    /// Seconds, with or without a fraction.
    #[serde(default)]
    pushed_at: Option<serde_json::Number>,
    #[serde(default)]
    pusher: Option<String>,
    #[serde(default)]
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_name: String,
}

pub(super) fn read(body: &[u8], registry: Option<&str>) -> Result<Received, ReceiveError> {
    let Body { push_data, repository } = json(WHAT, body)?;
    // An official image is reported without the namespace that its path has.
    let path = match repository.repo_name.contains('/') {
        true => repository.repo_name,
        false => format!("library/{}", repository.repo_name),
    };
    let named = match Named::new(registry, &path, push_data.tag.as_deref(), None) {
        Ok(named) => named,
        Err(why) => return Ok(Received::refused(why)),
    };
    let seconds = push_data.pushed_at.and_then(|at| at.as_f64());
    let at = seconds.filter(|at| (1.0..1e11).contains(at)).and_then(|at| {
        #[expect(clippy::cast_possible_truncation, reason = "the range was looked at")]
        Timestamp::from_millisecond((at * 1000.0) as i64).ok()
    });
    let mut push = named.pushed(line(push_data.pusher), at);
    push.media_type = line(push_data.media_type);
    Ok(Received::one(SourceEvent::ImagePushed(push)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn send(name: &str, tag: Value, at: Value) -> Result<Received, ReceiveError> {
        let body = json!({ "callback_url": "https://hooks.example.com/u/svendowideit/testhook/hook/x/",
            "push_data": { "pushed_at": at, "pusher": "ann", "tag": tag, "images": [] },
            "repository": { "repo_name": name, "name": "shop", "namespace": "acme",
                "repo_url": "https://hub.example.com/r/acme/shop", "is_private": true,
                "status": "Active", "star_count": 0, "date_created": 1_417_494_799 } });
        read(body.to_string().as_bytes(), Some("hub.example.com"))
    }

    #[test]
    fn a_push_names_a_tag_and_no_digest() {
        let received = send("acme/shop", json!("latest"), json!(1_417_566_161.5)).unwrap();
        let SourceEvent::ImagePushed(push) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!(push.reference().to_string(), "hub.example.com/acme/shop:latest");
        assert_eq!(push.digest, None);
        assert_eq!(push.at.unwrap().as_millisecond(), 1_417_566_161_500);
        let official = send("redis", json!("7"), json!(1)).unwrap();
        assert_eq!(official.events[0].subject(), "hub.example.com/library/redis:7");
    }

    #[test]
    fn nonsense_is_refused() {
        for (name, tag, at) in [
            ("acme/shop", json!(null), json!(1)),
            ("acme/shop", json!("-x"), json!(1)),
            ("../shop", json!("1"), json!(1)),
            ("ACME/shop", json!("1"), json!(1)),
        ] {
            assert_eq!(send(name, tag.clone(), at).unwrap().refused.len(), 1, "{name} {tag}");
        }
        for at in [json!(1e300), json!(-5), json!(null)] {
            let received = send("acme/shop", json!("1"), at).unwrap();
            assert!(
                matches!(&received.events[0], SourceEvent::ImagePushed(push) if push.at.is_none())
            );
        }
        assert!(read(b"{}", Some("hub.example.com")).is_err());
        assert!(send("acme/shop", json!(7), json!(1)).is_err());
    }
}
