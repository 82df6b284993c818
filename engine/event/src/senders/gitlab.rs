//! GitLab's webhooks: the plain `X-Gitlab-Token`, or an HMAC over id, time and body as Standard
//! Webhooks 1.0 has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`). Pushes, merge requests,
//! comments with a command, releases.

use fairlead_step::Secret;
use serde::Deserialize;

use super::pull_request_body::{branch, commented, labels, released};
use super::push_body::{self, Commit, Extent};
use super::signature::StandardWebhook;
use super::{Head, Incoming, ReceiveError, Received, clip, json, line, signature, time};
use crate::{
    Association, Comment, ForgeRepository, GitPushed, GitRef, Headers, ObjectId, PullRequest,
    PullRequestAction, PullRequestHead, Release, ReleaseAction, SourceEvent,
};

const WHAT: &str = "push of GitLab";
/// What of the proof stands in the head: all of a plain token, of a signature its id and its time.
///
/// A secret that begins with `whsec_` is a key for signatures, and then a plain token is not taken:
/// whoever can choose between the two proofs would choose the weaker one.
pub(super) fn head(secret: &Secret<String>, head: &Head<'_>) -> Result<(), ReceiveError> {
    if signature::webhook_key(secret).is_some() {
        return StandardWebhook::of(head.headers, head.now).map(drop);
    }
    signature::plain_header(secret, head.headers, "x-gitlab-token", "X-Gitlab-Token")
}

pub(super) fn verify(secret: &Secret<String>, message: &Incoming<'_>) -> Result<(), ReceiveError> {
    let Some(key) = signature::webhook_key(secret) else { return Ok(()) };
    StandardWebhook::of(message.headers, message.now)?.fits(&key, message.body)
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
        // A hook of the whole server sends under one name; the body says what it is.
        Some("System Hook") => match json::<Kind>(WHAT, body)?.object_kind.as_deref() {
            Some("push" | "tag_push") => push(body),
            Some("merge_request") => merge_request(body),
            _ => Ok(Received::nothing("a system hook of no interest")),
        },
        Some("Push Hook" | "Tag Push Hook") => push(body),
        Some("Merge Request Hook") => merge_request(body),
        Some("Note Hook") => note(body),
        Some("Release Hook") => release(body),
        Some(other) => Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
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
        actor: line(body.user_username),
    })))
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    object_kind: Option<String>,
}

impl From<Project> for ForgeRepository {
    fn from(project: Project) -> Self {
        let Project { path_with_namespace, git_http_url, git_ssh_url } = project;
        Self { name: path_with_namespace, clone_url: git_http_url, ssh_url: git_ssh_url }
    }
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: Option<String>,
}

fn username(user: Option<User>) -> Option<String> {
    line(user.and_then(|user| user.username))
}

#[derive(Deserialize)]
struct MergeRequestBody {
    object_attributes: MergeRequest,
    project: Project,
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    labels: Option<Vec<Label>>,
}

#[derive(Deserialize)]
struct Label {
    #[serde(default)]
    title: Option<String>,
}

/// A merge request, as it is told of itself and beside its comments.
#[derive(Deserialize)]
struct MergeRequest {
    iid: u64,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    action: Option<String>,
    /// What its head was, when that is what changed.
    #[serde(default)]
    oldrev: Option<String>,
    source_branch: String,
    target_branch: String,
    #[serde(default)]
    source: Option<Named>,
    #[serde(default)]
    last_commit: Option<LastCommit>,
    #[serde(default)]
    merge_commit_sha: Option<String>,
    #[serde(default)]
    draft: Option<bool>,
    #[serde(default)]
    work_in_progress: Option<bool>,
    #[serde(default)]
    updated_at: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    path_with_namespace: Option<String>,
}

#[derive(Deserialize)]
struct LastCommit {
    id: String,
}

impl MergeRequest {
    fn head(&self) -> Result<PullRequestHead, String> {
        let id = |commit: &LastCommit| commit.id.parse::<ObjectId>().map_err(|e| e.to_string());
        let source = self.source.as_ref().and_then(|source| source.path_with_namespace.as_deref());
        Ok(PullRequestHead {
            repository: source.map(clip),
            branch: Some(branch(&self.source_branch)?),
            commit: self.last_commit.as_ref().map(id).transpose()?,
            abbreviated: None,
        })
    }
}

fn merge_request(body: &[u8]) -> Result<Received, ReceiveError> {
    const WHAT: &str = "merge request of GitLab";
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let MergeRequestBody { object_attributes: request, project, user, labels: tags } =
        json(WHAT, body)?;
    let action = match request.action.as_deref() {
        Some("open" | "reopen") => PullRequestAction::Opened,
        Some("update") if request.oldrev.is_some() => PullRequestAction::Updated,
        // Ready after having been a draft is an update like any other here.
        Some("update") => PullRequestAction::Edited,
        Some("merge") => PullRequestAction::Merged,
        Some("close") => PullRequestAction::Closed,
        other => {
            let other = clip(other.unwrap_or("nothing"));
            return Ok(Received::nothing(format!("`{other}` of a merge request")));
        }
    };
    let head = request.head().map_err(malformed)?;
    let merge_commit = (action == PullRequestAction::Merged)
        .then(|| request.merge_commit_sha.and_then(|sha| sha.parse().ok()))
        .flatten();
    let is_fork = head.repository.as_deref() != Some(project.path_with_namespace.as_str());
    Ok(Received::one(SourceEvent::PullRequest(PullRequest {
        repository: project.into(),
        number: request.iid,
        action,
        title: line(request.title),
        head,
        base_branch: branch(&request.target_branch).map_err(malformed)?,
        base_commit: None,
        merge_commit,
        is_fork,
        draft: request.draft.or(request.work_in_progress).unwrap_or(false),
        labels: labels(tags.into_iter().flatten().map(|label| label.title)),
        // GitLab tells the number of who opened it and not the name.
        author: None,
        actor: username(user),
        at: time(request.updated_at.as_deref()),
    })))
}

#[derive(Deserialize)]
struct NoteBody {
    object_attributes: Note,
    project: Project,
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    merge_request: Option<MergeRequest>,
}

#[derive(Deserialize)]
struct Note {
    id: u64,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    noteable_type: Option<String>,
    #[serde(default)]
    action: Option<String>,
}

fn note(body: &[u8]) -> Result<Received, ReceiveError> {
    const WHAT: &str = "comment of GitLab";
    let NoteBody { object_attributes: note, project, user, merge_request } = json(WHAT, body)?;
    // Older versions do not say `create`, and tell of new comments alone.
    if note.action.as_deref().is_some_and(|action| action != "create") {
        return Ok(Received::nothing("a comment that is not new"));
    }
    let on_request = note.noteable_type.as_deref() == Some("MergeRequest");
    let Some(request) = merge_request.filter(|_| on_request) else {
        return Ok(Received::nothing("a comment on something else than a merge request"));
    };
    let head = request.head().map_err(|reason| ReceiveError::Malformed { what: WHAT, reason })?;
    Ok(commented(&note.note.unwrap_or_default(), |command| Comment {
        repository: project.into(),
        number: request.iid,
        id: note.id.to_string(),
        command,
        author: username(user),
        association: Association::Unknown,
        head,
        is_fork: true,
    }))
}

#[derive(Deserialize)]
struct ReleaseBody {
    action: String,
    tag: String,
    #[serde(default)]
    name: Option<String>,
    project: Project,
    #[serde(default)]
    released_at: Option<String>,
}

fn release(body: &[u8]) -> Result<Received, ReceiveError> {
    let body: ReleaseBody = json("release of GitLab", body)?;
    let action = match body.action.as_str() {
        "create" => ReleaseAction::Published,
        "update" => ReleaseAction::Updated,
        "delete" => ReleaseAction::Deleted,
        other => return Ok(Received::nothing(format!("`{}` of a release", clip(other)))),
    };
    Ok(released(Release {
        repository: body.project.into(),
        action,
        tag: body.tag,
        name: line(body.name),
        draft: false,
        prerelease: false,
        commit: None,
        actor: None,
        at: time(body.released_at.as_deref()),
    }))
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
        let secret = Secret::new(secret.to_owned());
        head(&secret, &Head { headers: &headers, address_end: None, now })?;
        let message = Incoming {
            headers: &headers,
            address_end: None,
            body: b"body",
            now,
            trusted_channel: false,
        };
        verify(&secret, &message)
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
        assert_eq!(send("Pipeline Hook", |_| ()).unwrap().events, []);
        assert!(send("Push Hook", |b| b["object_kind"] = json!("issue")).is_err());
    }

    fn project() -> Value {
        json!({ "path_with_namespace": "acme/team/shop",
            "git_http_url": "https://gitlab.example.com/acme/team/shop.git" })
    }

    fn merge_request(change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({ "object_kind": "merge_request", "user": { "username": "ann" },
            "project": project(), "labels": [{ "title": "ci" }],
            "object_attributes": { "iid": 3, "title": "Add b", "action": "open",
                "source_branch": "feature/x", "target_branch": "main", "draft": false,
                "source": { "path_with_namespace": "acme/team/shop" }, "last_commit": { "id": B },
                "updated_at": "2026-01-01 00:00:00 UTC", "merge_commit_sha": A } });
        change(&mut body);
        let headers = [("X-Gitlab-Event", "Merge Request Hook")].into_iter().collect();
        read(&headers, body.to_string().as_bytes())
    }

    #[test]
    fn merge_requests_are_read() {
        let only = |received: Result<Received, ReceiveError>| {
            let received = received.unwrap();
            let SourceEvent::PullRequest(request) = &received.events[0] else {
                panic!("{received:?}")
            };
            request.clone()
        };
        let opened = only(merge_request(|_| ()));
        assert_eq!((opened.number, opened.action), (3, PullRequestAction::Opened));
        assert_eq!(opened.head.commit.as_ref().unwrap().as_str(), B);
        assert_eq!((opened.is_fork, opened.merge_commit.is_none()), (false, true));
        assert_eq!(opened.at.unwrap().to_string(), "2026-01-01T00:00:00Z");
        for (action, oldrev, want) in [
            ("update", Some(A), PullRequestAction::Updated),
            ("update", None, PullRequestAction::Edited),
            ("merge", None, PullRequestAction::Merged),
            ("close", None, PullRequestAction::Closed),
            ("reopen", None, PullRequestAction::Opened),
        ] {
            let request = only(merge_request(|body| {
                body["object_attributes"]["action"] = json!(action);
                body["object_attributes"]["oldrev"] = json!(oldrev);
            }));
            assert_eq!(request.action, want, "{action}");
        }
        for source in [json!({ "path_with_namespace": "mallory/shop" }), Value::Null] {
            let fork = merge_request(|body| body["object_attributes"]["source"] = source);
            assert!(only(fork).is_fork);
        }
        let approved =
            merge_request(|body| body["object_attributes"]["action"] = json!("approved"));
        assert_eq!(approved.unwrap().ignored.len(), 1);
        for (field, value) in [
            ("source_branch", json!("a..b")),
            ("last_commit", json!({ "id": "x" })),
            ("iid", json!("3")),
        ] {
            let bad = merge_request(|body| body["object_attributes"][field] = value);
            assert!(matches!(bad, Err(ReceiveError::Malformed { .. })), "{field}");
        }
    }

    #[test]
    fn comments_and_releases_are_read() {
        let send = |event: &str, body: Value| {
            let headers = [("X-Gitlab-Event", event)].into_iter().collect();
            read(&headers, body.to_string().as_bytes())
        };
        let note = |kind: &str, text: &str| {
            json!({ "object_kind": "note", "user": { "username": "ann" }, "project": project(),
                "object_attributes": { "id": 9, "note": text, "noteable_type": kind },
                "merge_request": { "iid": 3, "source_branch": "x", "target_branch": "main",
                    "last_commit": { "id": B } } })
        };
        let received = send("Note Hook", note("MergeRequest", "/fairlead run release")).unwrap();
        let SourceEvent::Comment(comment) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!((comment.number, comment.id.as_str()), (3, "9"));
        assert_eq!(comment.head.commit.as_ref().unwrap().as_str(), B);
        for body in [note("Issue", "/fairlead run release"), note("MergeRequest", "nice")] {
            assert_eq!(send("Note Hook", body).unwrap().ignored.len(), 1);
        }
        let release = json!({ "object_kind": "release", "action": "create", "tag": "v1.0",
            "name": "One", "released_at": "2026-01-01T00:00:00Z", "project": project() });
        let received = send("Release Hook", release).unwrap();
        assert!(
            matches!(&received.events[0], SourceEvent::Release(release) if release.tag == "v1.0")
        );
    }
}
