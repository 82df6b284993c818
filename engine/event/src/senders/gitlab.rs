//! GitLab's webhooks: the plain `X-Gitlab-Token`, or an HMAC over id, time and body as Standard
//! Webhooks 1.0 has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`).

use fairlead_step::Secret;
use serde::Deserialize;

use super::push_body::{self, Commit, Extent};
use super::{Incoming, ReceiveError, Received, actor, json, signature};
use crate::{GitPushed, GitRef, Headers, ObjectId, SourceEvent};

const WHAT: &str = "push of GitLab";
/// How far the time of a signature may be from now, in seconds.
const WINDOW: u64 = 300;

/// A secret that begins with `whsec_` is a key for signatures, and then a plain token is not taken:
/// whoever can choose between the two proofs would choose the weaker one.
pub(super) fn verify(secret: &Secret<String>, message: &Incoming<'_>) -> Result<(), ReceiveError> {
    let Some(key) = signature::webhook_key(secret) else {
        const HEADER: &str = "X-Gitlab-Token";
        let token = message.headers.get("x-gitlab-token");
        let token = token.ok_or(ReceiveError::Unsigned { header: HEADER })?;
        return if signature::same_text(secret.expose(), token) {
            Ok(())
        } else {
            Err(ReceiveError::WrongSignature { header: HEADER })
        };
    };
    const HEADER: &str = "webhook-signature";
    let header =
        |name, shown| message.headers.get(name).ok_or(ReceiveError::Unsigned { header: shown });
    let signatures = header("webhook-signature", HEADER)?;
    let id = header("webhook-id", "webhook-id")?;
    let time = header("webhook-timestamp", "webhook-timestamp")?;
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", message.body];
    // While a key is being changed there is one signature for each.
    let fits = signatures.split(' ').take(16).any(|one| {
        one.strip_prefix("v1,")
            .is_some_and(|base64| signature::hmac_base64_fits(key.expose(), &parts, base64))
    });
    let wrong = ReceiveError::WrongSignature { header: HEADER };
    if !fits {
        return Err(wrong);
    }
    let signed: i64 = time.parse().map_err(|_| wrong)?;
    let seconds = message.now.as_second().abs_diff(signed);
    if seconds > WINDOW { Err(ReceiveError::OutsideWindow { seconds }) } else { Ok(()) }
}

#[derive(Deserialize)]
struct Body {
    object_kind: String,
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    checkout_sha: Option<String>,
    project: Project,
    #[serde(default)]
    commits: Option<Vec<Commit>>,
    #[serde(default)]
    total_commits_count: Option<u64>,
    #[serde(default)]
    user_username: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    #[serde(default)]
    git_http_url: Option<String>,
    #[serde(default)]
    git_ssh_url: Option<String>,
}

pub(super) fn read(headers: &Headers, body: &[u8]) -> Result<Received, ReceiveError> {
    match headers.get("x-gitlab-event") {
        Some("Push Hook" | "Tag Push Hook") => push(body),
        Some(other) => {
            let other: String = other.chars().take(120).collect();
            Ok(Received::nothing(format!("`{other}`: not a push")))
        }
        None => Err(ReceiveError::Malformed {
            what: "webhook of GitLab",
            reason: "there is no `X-Gitlab-Event` header".into(),
        }),
    }
}

fn push(body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let body: Body = json(WHAT, body)?;
    if !matches!(body.object_kind.as_str(), "push" | "tag_push") {
        return Err(malformed("its `object_kind` is neither `push` nor `tag_push`".into()));
    }
    let before = ObjectId::parse_end(&body.before).map_err(|e| malformed(e.to_string()))?;
    let after = ObjectId::parse_end(&body.after).map_err(|e| malformed(e.to_string()))?;
    if before.is_none() && after.is_none() {
        return Err(malformed("`before` and `after` are both zero".into()));
    }
    let Ok(reference) = body.reference.parse::<GitRef>() else {
        return Ok(Received::nothing(push_body::other_reference(&body.reference)));
    };
    let plain = before.is_some() && after.is_some() && matches!(reference, GitRef::Branch(_));
    let extent = Extent { total: body.total_commits_count, plain };
    // `after` of an annotated tag is the tag; `checkout_sha` is the commit behind it.
    let checkout = body.checkout_sha.and_then(|sha| sha.parse().ok());
    let commit = match &reference {
        GitRef::Branch(_) => after.clone(),
        GitRef::Tag(_) => after.is_some().then_some(checkout).flatten(),
    };
    Ok(Received::one(SourceEvent::GitPushed(GitPushed {
        repository: body.project.path_with_namespace,
        clone_url: body.project.git_http_url,
        ssh_url: body.project.git_ssh_url,
        reference,
        before,
        after,
        commit,
        forced: false,
        paths: push_body::changed_paths(body.commits.unwrap_or_default(), &extent),
        actor: actor(body.user_username),
    })))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::ChangedPaths;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn check(secret: &str, headers: &[(&str, &str)], now: i64) -> Result<(), ReceiveError> {
        let headers = headers.iter().copied().collect();
        let now = Timestamp::from_second(now).unwrap();
        let message = Incoming { headers: &headers, body: b"body", now, trusted_channel: false };
        verify(&Secret::new(secret.to_owned()), &message)
    }

    #[test]
    fn a_plain_token_is_compared() {
        assert_eq!(check("tok", &[("X-Gitlab-Token", "tok")], 0), Ok(()));
        assert_eq!(
            check("tok", &[("X-Gitlab-Token", "other")], 0),
            Err(ReceiveError::WrongSignature { header: "X-Gitlab-Token" })
        );
        assert_eq!(check("tok", &[], 0), Err(ReceiveError::Unsigned { header: "X-Gitlab-Token" }));
    }

    #[test]
    fn a_signature_covers_id_time_and_body_within_the_window() {
        let secret = format!("whsec_{}", STANDARD.encode("the key"));
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"the key").unwrap();
        mac.update(b"msg_1.1700000000.body");
        let base64 = STANDARD.encode(mac.finalize().into_bytes());
        let (good, two) = (format!("v1,{base64}"), format!("v1,AAAA v1,{base64}"));
        let send = |id: &str, time: &str, signature: &str, now| {
            let headers = [
                ("webhook-id", id),
                ("webhook-timestamp", time),
                ("webhook-signature", signature),
                ("X-Gitlab-Token", secret.as_str()),
            ];
            check(&secret, &headers, now)
        };
        let wrong = Err(ReceiveError::WrongSignature { header: "webhook-signature" });
        assert_eq!(send("msg_1", "1700000000", &good, 1_700_000_300), Ok(()));
        assert_eq!(send("msg_1", "1700000000", &two, 1_699_999_700), Ok(()));
        assert_eq!(
            send("msg_1", "1700000000", &good, 1_700_000_301),
            Err(ReceiveError::OutsideWindow { seconds: 301 })
        );
        assert_eq!(send("msg_2", "1700000000", &good, 1_700_000_000), wrong);
        assert_eq!(send("msg_1", "1700000001", &good, 1_700_000_000), wrong);
        assert_eq!(send("msg_1", "1700000000", &base64, 1_700_000_000), wrong);
        // The token alone does not do where a key is configured.
        assert_eq!(
            check(&secret, &[("X-Gitlab-Token", &secret)], 0),
            Err(ReceiveError::Unsigned { header: "webhook-signature" })
        );
    }

    fn send(event: &str, change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({
            "object_kind": "push", "ref": "refs/heads/main", "before": A, "after": B,
            "checkout_sha": B, "user_username": "ann", "total_commits_count": 1,
            "project": { "path_with_namespace": "acme/team/shop",
                "git_http_url": "https://gitlab.example.com/acme/team/shop.git",
                "git_ssh_url": "git@gitlab.example.com:acme/team/shop.git" },
            "commits": [{ "id": B, "added": [], "modified": ["src/a"], "removed": [] }],
        });
        change(&mut body);
        read(&[("X-Gitlab-Event", event)].into_iter().collect(), body.to_string().as_bytes())
    }

    fn only(received: Received) -> GitPushed {
        match received.events.into_iter().next() {
            Some(SourceEvent::GitPushed(push)) => push,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pushes_of_branches_and_tags_are_read() {
        let push = only(send("Push Hook", |_| ()).unwrap());
        assert_eq!(push.repository, "acme/team/shop");
        assert_eq!(push.paths, ChangedPaths::Known(["src/a".to_owned()].into()));
        let cut = only(send("Push Hook", |b| b["total_commits_count"] = json!(21)).unwrap());
        assert_eq!(cut.paths, ChangedPaths::Unknown);
        let tag = send("Tag Push Hook", |body| {
            body["object_kind"] = json!("tag_push");
            body["ref"] = json!("refs/tags/v1");
            body["before"] = json!("0".repeat(40));
            body["checkout_sha"] = json!(A);
        });
        let tag = only(tag.unwrap());
        assert_eq!((tag.reference.tag(), tag.commit.unwrap().as_str()), (Some("v1"), A));
        let gone = send("Push Hook", |body| {
            body["after"] = json!("0".repeat(40));
            body["checkout_sha"] = json!(null);
        });
        assert!(only(gone.unwrap()).deleted());
        assert_eq!(send("Merge Request Hook", |_| ()).unwrap().events, []);
        assert!(send("Push Hook", |b| b["object_kind"] = json!("issue")).is_err());
    }
}
