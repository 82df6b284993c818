//! Bitbucket Cloud's webhooks: `X-Hub-Signature` over the raw body, `X-Event-Key` says what it is. Pushes,
//! pull requests, comments with a command. Bitbucket Data Center signs in the same way.

use fairlead_step::Secret;
use serde::Deserialize;

use super::pull_request_body::{branch, commented};
use super::{Head, MAX_EVENTS, ReceiveError, Received, clip, json, line, signature, time};
use crate::{
    Association, ChangedPaths, Comment, ForgeRepository, GitPushed, GitRef, Headers, ObjectId,
    PullRequest, PullRequestAction, PullRequestHead, SourceEvent,
};

const WHAT: &str = "webhook of Bitbucket";
const SIGNATURE: &str = "X-Hub-Signature";
const NAME: &str = "x-hub-signature";

pub(super) fn head(head: &Head<'_>) -> Result<(), ReceiveError> {
    signature::required(head.headers, NAME, SIGNATURE).map(drop)
}

pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    signature::hub(secret, headers, body, (NAME, SIGNATURE))
}

/// What a webhook says that it is.
pub(super) fn event(headers: &Headers) -> Result<&str, ReceiveError> {
    headers.get("x-event-key").ok_or(ReceiveError::Malformed {
        what: WHAT,
        reason: "there is no `X-Event-Key` header".into(),
    })
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

impl From<Repository> for ForgeRepository {
    fn from(repository: Repository) -> Self {
        Self { name: repository.full_name, clone_url: None, ssh_url: None }
    }
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    nickname: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
}

/// There are no names of users any more: what is shown is what they chose to be called.
fn name(person: Option<Person>) -> Option<String> {
    line(person.and_then(|person| person.nickname.or(person.display_name)))
}

#[derive(Deserialize)]
struct PushBody {
    push: Push,
    repository: Repository,
    #[serde(default)]
    actor: Option<Person>,
}

#[derive(Deserialize)]
struct Push {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    new: Option<State>,
    #[serde(default)]
    old: Option<State>,
    #[serde(default)]
    forced: Option<bool>,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    hash: String,
}

#[derive(Deserialize)]
struct PullRequestBody {
    pullrequest: Request,
    repository: Repository,
    #[serde(default)]
    actor: Option<Person>,
    #[serde(default)]
    comment: Option<CommentText>,
}

#[derive(Deserialize)]
struct Request {
    id: u64,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    draft: Option<bool>,
    #[serde(default)]
    author: Option<Person>,
    source: End,
    destination: End,
    #[serde(default)]
    updated_on: Option<String>,
}

#[derive(Deserialize)]
struct End {
    branch: Branch,
    #[serde(default)]
    commit: Option<Target>,
    #[serde(default)]
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Branch {
    name: String,
}

#[derive(Deserialize)]
struct CommentText {
    id: u64,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    raw: Option<String>,
}

pub(super) fn read(headers: &Headers, body: &[u8]) -> Result<Received, ReceiveError> {
    let action = match event(headers)? {
        "repo:push" => return push(body),
        "pullrequest:comment_created" => return comment(body),
        "pullrequest:created" => PullRequestAction::Opened,
        // It is not said whether the commits changed or the title did.
        "pullrequest:updated" => PullRequestAction::Updated,
        "pullrequest:fulfilled" => PullRequestAction::Merged,
        "pullrequest:rejected" => PullRequestAction::Closed,
        other => return Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
    };
    pull_request(action, body)
}

fn push(body: &[u8]) -> Result<Received, ReceiveError> {
    let PushBody { push, repository, actor } = json(WHAT, body)?;
    if push.changes.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "changes" });
    }
    let actor = name(actor);
    let mut received = Received::default();
    for change in push.changes {
        received.add(changed(change, &repository.full_name, actor.clone()));
    }
    if received.events.is_empty() && received.refused.is_empty() {
        received.ignored.push("a push that changed nothing".to_owned());
    }
    Ok(received)
}

fn changed(change: Change, name: &str, actor: Option<String>) -> Result<SourceEvent, String> {
    let state = change.new.as_ref().or(change.old.as_ref()).ok_or("a change of nothing")?;
    let folder = match state.kind.as_str() {
        "branch" | "named_branch" => "refs/heads/",
        "tag" | "annotated_tag" => "refs/tags/",
        other => return Err(format!("`{}` is neither a branch nor a tag", clip(other))),
    };
    let reference: GitRef =
        format!("{folder}{}", state.name).parse().map_err(|e| format!("{e}"))?;
    let hash = |state: &Option<State>| -> Result<Option<ObjectId>, String> {
        let hash = state.as_ref().map(|state| state.target.hash.parse::<ObjectId>());
        hash.transpose().map_err(|e| e.to_string())
    };
    let (before, after) = (hash(&change.old)?, hash(&change.new)?);
    Ok(SourceEvent::GitPushed(GitPushed {
        repository: name.to_owned(),
        clone_url: None,
        ssh_url: None,
        reference,
        before,
        // Also of an annotated tag the commit is told.
        commit: after.clone(),
        after,
        forced: change.forced.unwrap_or(false),
        // No files are told at all.
        paths: ChangedPaths::Unknown,
        actor,
    }))
}

/// Where the commits come from. Of the commit Bitbucket Cloud tells the first twelve digits.
fn head_of(source: End) -> Result<PullRequestHead, String> {
    let hash = source.commit.map(|commit| commit.hash).filter(|hash| !hash.is_empty());
    let hex = |hash: &String| {
        (7..=64).contains(&hash.len())
            && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let (commit, abbreviated) = match hash {
        Some(hash) if !hex(&hash) => {
            return Err(format!("`{}` is not a git object id", clip(&hash)));
        }
        Some(hash) => match hash.parse() {
            Ok(commit) => (Some(commit), None),
            Err(_) => (None, Some(hash)),
        },
        None => (None, None),
    };
    Ok(PullRequestHead {
        repository: source.repository.map(|repository| clip(&repository.full_name)),
        branch: Some(branch(&source.branch.name)?),
        commit,
        abbreviated,
    })
}

fn pull_request(action: PullRequestAction, body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let PullRequestBody { pullrequest: request, repository, actor, .. } = json(WHAT, body)?;
    let head = head_of(request.source).map_err(malformed)?;
    Ok(Received::one(SourceEvent::PullRequest(PullRequest {
        number: request.id,
        action,
        title: line(request.title),
        is_fork: head.repository.as_ref() != Some(&repository.full_name),
        head,
        repository: repository.into(),
        base_branch: branch(&request.destination.branch.name).map_err(malformed)?,
        base_commit: None,
        merge_commit: None,
        draft: request.draft.unwrap_or(false),
        labels: std::collections::BTreeSet::new(),
        author: name(request.author),
        actor: name(actor),
        // So it is the commit alone that tells one update from another.
        at: time(request.updated_on.as_deref()).filter(|_| action != PullRequestAction::Updated),
    })))
}

fn comment(body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let PullRequestBody { pullrequest: request, repository, actor, comment } = json(WHAT, body)?;
    let comment = comment.ok_or_else(|| malformed("there is no `comment` in it".into()))?;
    let head = head_of(request.source).map_err(malformed)?;
    let text = comment.content.and_then(|content| content.raw).unwrap_or_default();
    Ok(commented(&text, |command| Comment {
        repository: repository.into(),
        number: request.id,
        id: comment.id.to_string(),
        command,
        author: name(actor),
        association: Association::Unknown,
        head,
        is_fork: true,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn send(event: &str, body: &Value) -> Result<Received, ReceiveError> {
        read(&[("X-Event-Key", event)].into_iter().collect(), body.to_string().as_bytes())
    }

    fn state(kind: &str, name: &str, hash: &str) -> Value {
        json!({ "type": kind, "name": name, "target": { "type": "commit", "hash": hash } })
    }

    fn pushes(changes: Value) -> Value {
        json!({ "actor": { "nickname": "ann", "display_name": "Ann" },
            "repository": { "full_name": "acme/shop", "uuid": "{x}" },
            "push": { "changes": changes } })
    }

    #[test]
    fn each_change_of_a_push_is_an_event() {
        let body = pushes(json!([
            { "new": state("branch", "main", B), "old": state("branch", "main", A) },
            { "new": state("annotated_tag", "v1", B), "old": null, "created": true },
            { "new": null, "old": state("branch", "gone", A), "closed": true },
        ]));
        let received = send("repo:push", &body).unwrap();
        let subjects: Vec<String> = received.events.iter().map(SourceEvent::subject).collect();
        assert_eq!(
            subjects,
            ["acme/shop@refs/heads/main", "acme/shop@refs/tags/v1", "acme/shop@refs/heads/gone"]
        );
        let SourceEvent::GitPushed(gone) = &received.events[2] else { panic!() };
        assert!(gone.deleted() && !gone.created());
        let SourceEvent::GitPushed(main) = &received.events[0] else { panic!() };
        assert_eq!((main.actor.as_deref(), &main.paths), (Some("ann"), &ChangedPaths::Unknown));
        assert_eq!(send("repo:push", &pushes(json!([]))).unwrap().ignored.len(), 1);
        let bad = pushes(json!([
            { "new": state("branch", "a..b", B) },
            { "new": state("bookmark", "x", B) },
            { "new": state("branch", "x", "--upload-pack") },
            {},
        ]));
        assert_eq!(send("repo:push", &bad).unwrap().refused.len(), 4);
        assert!(send("repo:push", &json!({})).is_err());
    }

    fn request() -> Value {
        json!({ "actor": { "nickname": "ann" }, "repository": { "full_name": "acme/shop" },
            "pullrequest": { "id": 4, "title": "Add b", "author": { "nickname": "bob" },
                "updated_on": "2026-01-01T00:00:00.123456+00:00", "state": "OPEN",
                "source": { "branch": { "name": "x" }, "commit": { "hash": &B[..12] },
                    "repository": { "full_name": "acme/shop" } },
                "destination": { "branch": { "name": "main" }, "commit": { "hash": &A[..12] },
                    "repository": { "full_name": "acme/shop" } } } })
    }

    #[test]
    fn a_pull_request_tells_the_beginning_of_its_commit() {
        let received = send("pullrequest:created", &request()).unwrap();
        let SourceEvent::PullRequest(request_) = &received.events[0] else { panic!() };
        assert_eq!((request_.number, request_.is_fork), (4, false));
        assert!(request_.head.may_be(&B.parse().unwrap()));
        assert!(!request_.head.may_be(&A.parse().unwrap()));
        let mut fork = request();
        fork["pullrequest"]["source"]["repository"] = Value::Null;
        let received = send("pullrequest:updated", &fork).unwrap();
        assert!(
            matches!(&received.events[0], SourceEvent::PullRequest(request) if request.is_fork)
        );
        let mut bad = request();
        bad["pullrequest"]["source"]["commit"]["hash"] = json!("-x");
        assert!(send("pullrequest:created", &bad).is_err());
        assert_eq!(send("pullrequest:approved", &request()).unwrap().ignored.len(), 1);
    }

    #[test]
    fn a_command_in_a_comment_is_an_event() {
        let mut body = request();
        body["comment"] = json!({ "id": 11, "content": { "raw": "/fairlead run release" } });
        let received = send("pullrequest:comment_created", &body).unwrap();
        assert!(matches!(&received.events[0], SourceEvent::Comment(comment) if comment.id == "11"));
        assert!(send("pullrequest:comment_created", &request()).is_err());
    }

    #[test]
    fn the_signature_is_of_the_body() {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"k").unwrap();
        mac.update(b"body");
        let good = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let check = |value: &str, body: &[u8]| {
            let headers = [(SIGNATURE, value)].into_iter().collect();
            verify(&Secret::new("k".to_owned()), &headers, body)
        };
        assert_eq!(check(&good, b"body"), Ok(()));
        assert!(check(&good, b"other").is_err() && check(&good[7..], b"body").is_err());
    }
}
