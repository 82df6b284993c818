//! Bitbucket Data Center's webhooks: signed as those of Bitbucket Cloud, with bodies of their own.

use serde::Deserialize;

use super::bitbucket::event;
use super::pull_request_body::{branch, commented};
use super::{MAX_EVENTS, ReceiveError, Received, clip, json, line};
use crate::{
    Association, ChangedPaths, Comment, ForgeRepository, GitPushed, GitRef, Headers, ObjectId,
    PullRequest, PullRequestAction, PullRequestHead, SourceEvent,
};

const WHAT: &str = "webhook of Bitbucket Data Center";

#[derive(Deserialize)]
struct Repository {
    slug: String,
    project: Project,
}

#[derive(Deserialize)]
struct Project {
    key: String,
}

impl Repository {
    fn name(&self) -> String {
        // In addresses projects are written small; `~` stands before the name of a person.
        format!("{}/{}", self.project.key.to_lowercase(), self.slug)
    }

    fn at_forge(&self) -> ForgeRepository {
        ForgeRepository { name: self.name(), clone_url: None, ssh_url: None }
    }
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    name: Option<String>,
}

fn name(person: Option<Person>) -> Option<String> {
    line(person.and_then(|person| person.name))
}

#[derive(Deserialize)]
struct PushBody {
    repository: Repository,
    changes: Vec<Change>,
    #[serde(default)]
    actor: Option<Person>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    ref_id: String,
    from_hash: String,
    to_hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PullRequestBody {
    pull_request: Request,
    #[serde(default)]
    actor: Option<Person>,
    #[serde(default)]
    comment: Option<CommentText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    id: u64,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    draft: Option<bool>,
    from_ref: End,
    to_ref: End,
    #[serde(default)]
    author: Option<Author>,
    /// Milliseconds.
    #[serde(default)]
    updated_date: Option<i64>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct End {
    id: String,
    latest_commit: String,
    repository: Repository,
}

#[derive(Deserialize)]
struct Author {
    #[serde(default)]
    user: Option<Person>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(default)]
    merge_commit: Option<MergeCommit>,
}

#[derive(Deserialize)]
struct MergeCommit {
    #[serde(default)]
    id: Option<String>,
}

#[derive(Deserialize)]
struct CommentText {
    id: u64,
    #[serde(default)]
    text: Option<String>,
}

pub(super) fn read(headers: &Headers, body: &[u8]) -> Result<Received, ReceiveError> {
    let action = match event(headers)? {
        "repo:refs_changed" => return push(body),
        "pr:comment:added" => return comment(body),
        "pr:opened" | "pr:reopened" => PullRequestAction::Opened,
        "pr:from_ref_updated" => PullRequestAction::Updated,
        "pr:modified" => PullRequestAction::Edited,
        "pr:merged" => PullRequestAction::Merged,
        "pr:declined" | "pr:deleted" => PullRequestAction::Closed,
        // `diagnostics:ping` among them, which asks whether anybody is there.
        other => return Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
    };
    pull_request(action, body)
}

fn push(body: &[u8]) -> Result<Received, ReceiveError> {
    let PushBody { repository, changes, actor } = json(WHAT, body)?;
    if changes.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "changes" });
    }
    let actor = name(actor);
    let mut received = Received::default();
    for change in changes {
        received.add(changed(&change, &repository, actor.clone()));
    }
    if received.events.is_empty() && received.refused.is_empty() {
        received.ignored.push("a push that changed nothing".to_owned());
    }
    Ok(received)
}

fn changed(
    change: &Change,
    repository: &Repository,
    actor: Option<String>,
) -> Result<SourceEvent, String> {
    let reference: GitRef = change.ref_id.parse().map_err(|e| format!("{e}"))?;
    let end = |text: &str| ObjectId::parse_end(text).map_err(|e| e.to_string());
    let (before, after) = (end(&change.from_hash)?, end(&change.to_hash)?);
    if before.is_none() && after.is_none() {
        return Err("`fromHash` and `toHash` are both zero".to_owned());
    }
    let commit = match &reference {
        GitRef::Branch(_) => after.clone(),
        // It may be a tag object.
        GitRef::Tag(_) => None,
    };
    let ForgeRepository { name, clone_url, ssh_url } = repository.at_forge();
    Ok(SourceEvent::GitPushed(GitPushed {
        repository: name,
        clone_url,
        ssh_url,
        reference,
        before,
        after,
        commit,
        forced: false,
        paths: ChangedPaths::Unknown,
        actor,
    }))
}

fn head_of(from: &End) -> Result<PullRequestHead, String> {
    Ok(PullRequestHead {
        repository: Some(clip(&from.repository.name())),
        branch: Some(branch(&from.id)?),
        commit: Some(from.latest_commit.parse().map_err(|e| format!("{e}"))?),
        abbreviated: None,
    })
}

fn pull_request(action: PullRequestAction, body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let PullRequestBody { pull_request: request, actor, .. } = json(WHAT, body)?;
    let head = head_of(&request.from_ref).map_err(malformed)?;
    let merge_commit = (action == PullRequestAction::Merged)
        .then(|| request.properties.and_then(|it| it.merge_commit).and_then(|it| it.id))
        .flatten();
    Ok(Received::one(SourceEvent::PullRequest(PullRequest {
        repository: request.to_ref.repository.at_forge(),
        number: request.id,
        action,
        title: line(request.title),
        is_fork: head.repository != Some(request.to_ref.repository.name()),
        head,
        base_branch: branch(&request.to_ref.id).map_err(malformed)?,
        base_commit: request.to_ref.latest_commit.parse().ok(),
        merge_commit: merge_commit.and_then(|id| id.parse().ok()),
        draft: request.draft.unwrap_or(false),
        labels: std::collections::BTreeSet::new(),
        author: name(request.author.and_then(|author| author.user)),
        actor: name(actor),
        at: request.updated_date.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()),
    })))
}

fn comment(body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let PullRequestBody { pull_request: request, actor, comment } = json(WHAT, body)?;
    let comment = comment.ok_or_else(|| malformed("there is no `comment` in it".into()))?;
    let head = head_of(&request.from_ref).map_err(malformed)?;
    Ok(commented(&comment.text.unwrap_or_default(), |command| Comment {
        repository: request.to_ref.repository.at_forge(),
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

    fn repository(key: &str) -> Value {
        json!({ "slug": "shop", "id": 84, "name": "shop", "project": { "key": key, "id": 1 } })
    }

    #[test]
    fn changed_references_are_pushes() {
        let zero = "0".repeat(40);
        let change = |id: &str, from: &str, to: &str| {
            json!({ "ref": { "id": id, "displayId": "x", "type": "BRANCH" }, "refId": id,
                "fromHash": from, "toHash": to, "type": "UPDATE" })
        };
        let body = json!({ "eventKey": "repo:refs_changed", "actor": { "name": "ann" },
            "repository": repository("ACME"), "changes": [
                change("refs/heads/main", A, B),
                change("refs/tags/v1", &zero, B),
                change("refs/heads/gone", A, &zero),
                change("refs/heads/a..b", A, B),
                change("refs/notes/x", A, B),
                change("refs/heads/x", &zero, &zero),
            ] });
        let received = send("repo:refs_changed", &body).unwrap();
        let subjects: Vec<String> = received.events.iter().map(SourceEvent::subject).collect();
        assert_eq!(
            subjects,
            ["acme/shop@refs/heads/main", "acme/shop@refs/tags/v1", "acme/shop@refs/heads/gone"]
        );
        assert_eq!(received.refused.len(), 3);
        assert_eq!(send("diagnostics:ping", &json!({ "test": true })).unwrap().ignored.len(), 1);
    }

    #[test]
    fn pull_requests_and_comments_are_read() {
        let body = |from: &str| {
            json!({ "eventKey": "pr:opened", "actor": { "name": "ann" },
                "pullRequest": { "id": 11, "version": 1, "title": "Add b", "state": "OPEN",
                    "updatedDate": 1_767_225_600_000_i64, "author": { "user": { "name": "bob" } },
                    "fromRef": { "id": "refs/heads/x", "displayId": "x", "latestCommit": B,
                        "repository": repository(from) },
                    "toRef": { "id": "refs/heads/main", "displayId": "main", "latestCommit": A,
                        "repository": repository("ACME") },
                    "properties": { "mergeCommit": { "id": A } } },
                "comment": { "id": 62, "text": "/fairlead run release" } })
        };
        let received = send("pr:merged", &body("ACME")).unwrap();
        let SourceEvent::PullRequest(request) = &received.events[0] else { panic!() };
        assert_eq!(request.repository.name, "acme/shop");
        assert_eq!((request.is_fork, request.base_branch.as_str()), (false, "main"));
        assert_eq!(request.merge_commit.as_ref().unwrap().as_str(), A);
        let fork = send("pr:opened", &body("~MALLORY")).unwrap();
        assert!(matches!(&fork.events[0], SourceEvent::PullRequest(request) if request.is_fork));
        let comment = send("pr:comment:added", &body("ACME")).unwrap();
        assert!(matches!(&comment.events[0], SourceEvent::Comment(comment) if comment.id == "62"));
        let mut bad = body("ACME");
        bad["pullRequest"]["fromRef"]["latestCommit"] = json!("x");
        assert!(send("pr:opened", &bad).is_err());
    }
}
