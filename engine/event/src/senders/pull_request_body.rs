//! Pull requests, comments and releases as GitHub invented them and Gitea copied them.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ReceiveError, Received, clip, json, line, time};
use crate::{
    Association, Comment, CommentCommand, ForgeRepository, GitRef, ObjectId, PullRequest,
    PullRequestAction, PullRequestHead, Release, ReleaseAction, SourceEvent,
};

/// The most labels that are kept.
const MAX_LABELS: usize = 100;

/// Which of these an event is, by the header that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PullRequest,
    Comment,
    Release,
}

impl Kind {
    /// The event in a webhook of GitHub or Gitea; none when it is none of these.
    pub(super) fn of(event: &str) -> Option<Self> {
        match event {
            // Gitea has names of its own for some of what GitHub calls actions.
            "pull_request" | "pull_request_sync" | "pull_request_label" => Some(Self::PullRequest),
            "issue_comment" | "pull_request_comment" => Some(Self::Comment),
            "release" => Some(Self::Release),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    #[serde(default)]
    clone_url: Option<String>,
    #[serde(default)]
    ssh_url: Option<String>,
}

impl From<Repository> for ForgeRepository {
    fn from(repository: Repository) -> Self {
        let Repository { full_name, clone_url, ssh_url } = repository;
        Self { name: full_name, clone_url, ssh_url }
    }
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    login: Option<String>,
}

fn login(person: Option<Person>) -> Option<String> {
    line(person.and_then(|person| person.login))
}

#[derive(Deserialize)]
struct PullRequestBody {
    action: String,
    number: u64,
    pull_request: Request,
    repository: Repository,
    #[serde(default)]
    sender: Option<Person>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    user: Option<Person>,
    head: End,
    base: End,
    #[serde(default)]
    draft: Option<bool>,
    #[serde(default)]
    merged: Option<bool>,
    #[serde(default)]
    merge_commit_sha: Option<String>,
    #[serde(default)]
    labels: Option<Vec<Label>>,
    #[serde(default)]
    updated_at: Option<String>,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "ref")]
    reference: String,
    sha: String,
    #[serde(default)]
    repo: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    full_name: String,
}

#[derive(Deserialize)]
struct Label {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct CommentBody {
    action: String,
    issue: Issue,
    comment: CommentText,
    repository: Repository,
    #[serde(default)]
    is_pull: Option<bool>,
}

#[derive(Deserialize)]
struct Issue {
    number: u64,
    /// There when the issue is a pull request.
    #[serde(default)]
    pull_request: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct CommentText {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<Person>,
    #[serde(default)]
    author_association: Option<String>,
}

#[derive(Deserialize)]
struct ReleaseBody {
    action: String,
    release: ReleaseText,
    repository: Repository,
    #[serde(default)]
    sender: Option<Person>,
}

#[derive(Deserialize)]
struct ReleaseText {
    tag_name: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    draft: Option<bool>,
    #[serde(default)]
    prerelease: Option<bool>,
    #[serde(default)]
    published_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
}

/// Reads an event of this kind.
pub(super) fn read(kind: Kind, what: &'static str, body: &[u8]) -> Result<Received, ReceiveError> {
    match kind {
        Kind::PullRequest => pull_request(what, body),
        Kind::Comment => comment(what, body),
        Kind::Release => release(what, body),
    }
}

/// Names of labels and the like, as far as they are kept.
pub(super) fn labels(names: impl Iterator<Item = Option<String>>) -> BTreeSet<String> {
    names.filter_map(line).take(MAX_LABELS).collect()
}

/// A branch whose name is harmless.
pub(super) fn branch(name: &str) -> Result<String, String> {
    let name = name.strip_prefix("refs/heads/").unwrap_or(name);
    match format!("refs/heads/{name}").parse::<GitRef>() {
        Ok(_) => Ok(name.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The event in a comment; what is no command is nothing, and what looks like one and cannot be read is
/// refused with the reason.
pub(super) fn commented(text: &str, make: impl FnOnce(CommentCommand) -> Comment) -> Received {
    match CommentCommand::in_comment(text) {
        Ok(Some(command)) => Received::one(SourceEvent::Comment(make(command))),
        Ok(None) => Received::nothing("a comment without a command"),
        Err(error) => Received::refused(error.to_string()),
    }
}

fn pull_request(what: &'static str, body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what, reason };
    let body: PullRequestBody = json(what, body)?;
    let request = body.pull_request;
    let action = match body.action.as_str() {
        "opened" | "reopened" | "ready_for_review" => PullRequestAction::Opened,
        "synchronize" | "synchronized" => PullRequestAction::Updated,
        "edited" | "labeled" | "unlabeled" | "label_updated" | "label_cleared"
        | "converted_to_draft" => PullRequestAction::Edited,
        "closed" if request.merged == Some(true) => PullRequestAction::Merged,
        "closed" => PullRequestAction::Closed,
        other => {
            return Ok(Received::nothing(format!("`{}` of a pull request", clip(other))));
        }
    };
    let object = |text: &str| text.parse::<ObjectId>().map_err(|e| malformed(e.to_string()));
    let head = PullRequestHead {
        branch: Some(branch(&request.head.reference).map_err(malformed)?),
        commit: Some(object(&request.head.sha)?),
        repository: request.head.repo.map(|repository| clip(&repository.full_name)),
        abbreviated: None,
    };
    let repository: ForgeRepository = body.repository.into();
    let is_fork = head.repository.as_ref() != Some(&repository.name);
    // Of an open request this is a trial of the forge, and nobody's commit.
    let merge_commit = (action == PullRequestAction::Merged)
        .then(|| request.merge_commit_sha.and_then(|sha| sha.parse().ok()))
        .flatten();
    Ok(Received::one(SourceEvent::PullRequest(PullRequest {
        repository,
        number: body.number,
        action,
        title: line(request.title),
        head,
        base_branch: branch(&request.base.reference).map_err(malformed)?,
        base_commit: request.base.sha.parse().ok(),
        merge_commit,
        is_fork,
        draft: request.draft.unwrap_or(false),
        labels: labels(request.labels.into_iter().flatten().map(|label| label.name)),
        author: login(request.user),
        actor: login(body.sender),
        at: time(request.updated_at.as_deref()),
    })))
}

fn comment(what: &'static str, body: &[u8]) -> Result<Received, ReceiveError> {
    let body: CommentBody = json(what, body)?;
    if body.action != "created" {
        return Ok(Received::nothing("a comment that is not new"));
    }
    if body.issue.pull_request.is_none() && body.is_pull != Some(true) {
        return Ok(Received::nothing("a comment on an issue"));
    }
    let CommentText { id, body: text, user, author_association } = body.comment;
    let association = match author_association.as_deref() {
        Some("OWNER") => Association::Owner,
        Some("MEMBER") => Association::Member,
        Some("COLLABORATOR") => Association::Collaborator,
        Some("CONTRIBUTOR") => Association::Contributor,
        Some(_) => Association::Stranger,
        None => Association::Unknown,
    };
    Ok(commented(&text.unwrap_or_default(), |command| Comment {
        repository: body.repository.into(),
        number: body.issue.number,
        id: id.to_string(),
        command,
        author: login(user),
        association,
        head: PullRequestHead::default(),
        is_fork: true,
    }))
}

fn release(what: &'static str, body: &[u8]) -> Result<Received, ReceiveError> {
    let body: ReleaseBody = json(what, body)?;
    let action = match body.action.as_str() {
        // Of one publication GitHub tells under several of these names; they are one event here.
        "published" | "released" | "prereleased" => ReleaseAction::Published,
        "edited" | "updated" => ReleaseAction::Updated,
        "deleted" | "unpublished" => ReleaseAction::Deleted,
        other => return Ok(Received::nothing(format!("`{}` of a release", clip(other)))),
    };
    let release = body.release;
    let at = match action {
        ReleaseAction::Published => release.published_at,
        ReleaseAction::Updated | ReleaseAction::Deleted => release.updated_at,
    };
    let made = Release {
        repository: body.repository.into(),
        action,
        tag: release.tag_name,
        name: line(release.name),
        draft: release.draft.unwrap_or(false),
        prerelease: release.prerelease.unwrap_or(false),
        commit: None,
        actor: login(body.sender),
        at: time(at.as_deref()),
    };
    Ok(released(made))
}

/// A release whose tag has a harmless name.
pub(super) fn released(release: Release) -> Received {
    match format!("refs/tags/{}", release.tag).parse::<GitRef>() {
        Ok(_) => Received::one(SourceEvent::Release(release)),
        Err(error) => Received::refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn repository() -> Value {
        json!({ "full_name": "acme/shop", "clone_url": "https://git.example.com/acme/shop.git" })
    }

    fn request(change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({ "action": "opened", "number": 7, "repository": repository(),
            "sender": { "login": "ann" },
            "pull_request": { "title": "Add\nb", "user": { "login": "bob" }, "draft": false,
                "merged": false, "merge_commit_sha": B, "updated_at": "2026-01-01T00:00:00Z",
                "labels": [{ "name": "ci" }, {}],
                "head": { "ref": "feature/x", "sha": A, "repo": { "full_name": "acme/shop" } },
                "base": { "ref": "main", "sha": B, "repo": { "full_name": "acme/shop" } } } });
        change(&mut body);
        read(Kind::PullRequest, "pull request", body.to_string().as_bytes())
    }

    fn only(received: Result<Received, ReceiveError>) -> PullRequest {
        let received = received.unwrap();
        let SourceEvent::PullRequest(request) = &received.events[0] else { panic!("{received:?}") };
        request.clone()
    }

    #[test]
    fn a_pull_request_says_where_it_comes_from_and_where_it_goes() {
        let made = only(request(|_| ()));
        assert_eq!(made.head.branch.as_deref(), Some("feature/x"));
        assert_eq!(made.head.commit.as_ref().unwrap().as_str(), A);
        assert_eq!((made.base_branch.as_str(), made.is_fork, made.number), ("main", false, 7));
        assert_eq!((made.title.as_deref(), made.author.as_deref()), (Some("Addb"), Some("bob")));
        assert_eq!(made.labels, ["ci".to_owned()].into());
        assert_eq!(made.merge_commit, None, "a trial merge is nobody's commit");
        for head in [json!({ "full_name": "mallory/shop" }), Value::Null] {
            let fork = only(request(|body| body["pull_request"]["head"]["repo"] = head));
            assert!(fork.is_fork);
        }
        let merged = only(request(|body| {
            body["action"] = json!("closed");
            body["pull_request"]["merged"] = json!(true);
        }));
        assert_eq!(merged.action, PullRequestAction::Merged);
        assert_eq!(merged.merge_commit.as_ref().unwrap().as_str(), B);
    }

    #[test]
    fn each_change_of_a_pull_request_is_an_event_of_its_own() {
        let key = |action: &str, sha: &str, at: &str| {
            let made = only(request(|body| {
                body["action"] = json!(action);
                body["pull_request"]["head"]["sha"] = json!(sha);
                body["pull_request"]["updated_at"] = json!(at);
            }));
            SourceEvent::PullRequest(made).dedup_key()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let first = key("opened", A, early);
        assert_eq!(first, key("opened", A, early));
        for other in [key("opened", A, late), key("synchronize", A, early), key("opened", B, early)]
        {
            assert_ne!(first, other);
        }
        assert_eq!(request(|body| body["action"] = json!("assigned")).unwrap().events, []);
    }

    #[test]
    fn hostile_names_of_branches_and_commits_are_refused() {
        for (place, value) in [
            ("/pull_request/head/ref", json!("a..b")),
            ("/pull_request/head/ref", json!("-x")),
            ("/pull_request/head/ref", json!("*")),
            ("/pull_request/head/sha", json!("--upload-pack=x")),
            ("/pull_request/head/sha", json!("0".repeat(40))),
            ("/pull_request/base/ref", json!("a b")),
            ("/number", json!(-1)),
            ("/pull_request", json!(null)),
        ] {
            let read = request(|body| *body.pointer_mut(place).unwrap() = value.clone());
            assert!(matches!(read, Err(ReceiveError::Malformed { .. })), "{place} {value}");
        }
    }

    fn comment_with(change: impl FnOnce(&mut Value)) -> Result<Received, ReceiveError> {
        let mut body = json!({ "action": "created", "repository": repository(),
            "issue": { "number": 7, "pull_request": { "url": "https://x.example.com" } },
            "comment": { "id": 5, "body": "/fairlead run release env=dev",
                "user": { "login": "ann" }, "author_association": "MEMBER" } });
        change(&mut body);
        read(Kind::Comment, "comment", body.to_string().as_bytes())
    }

    #[test]
    fn a_command_in_a_comment_is_an_event_and_other_comments_are_not() {
        let received = comment_with(|_| ()).unwrap();
        let SourceEvent::Comment(comment) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!((comment.number, comment.association), (7, Association::Member));
        assert_eq!(comment.command.name.as_deref(), Some("release"));
        assert!(comment.is_fork, "until the forge was asked");
        for change in [
            (|body: &mut Value| body["action"] = json!("edited")) as fn(&mut Value),
            |body| body["issue"] = json!({ "number": 7 }),
            |body| body["issue"]["pull_request"] = Value::Null,
            |body| body["comment"]["body"] = json!("nice"),
            |body| body["comment"]["body"] = Value::Null,
        ] {
            assert_eq!(comment_with(change).unwrap().ignored.len(), 1);
        }
        let bad = comment_with(|body| body["comment"]["body"] = json!("/fairlead run $(x)"));
        assert_eq!(bad.unwrap().refused.len(), 1);
        // Gitea says it otherwise, and says nothing of who the author is to the repository.
        let gitea = comment_with(|body| {
            body["issue"] = json!({ "number": 7 });
            body["is_pull"] = json!(true);
            body["comment"].as_object_mut().unwrap().remove("author_association");
        });
        let gitea = gitea.unwrap();
        let SourceEvent::Comment(comment) = &gitea.events[0] else { panic!("{gitea:?}") };
        assert_eq!(comment.association, Association::Unknown);
    }

    #[test]
    fn a_publication_is_one_event_however_often_it_is_told() {
        let read = |action: &str, change: fn(&mut Value)| {
            let mut body = json!({ "action": action, "repository": repository(),
                "release": { "tag_name": "v1.0", "name": "One", "draft": false,
                    "prerelease": false, "published_at": "2026-01-01T00:00:00Z" } });
            change(&mut body);
            read(Kind::Release, "release", body.to_string().as_bytes())
        };
        let key = |action| read(action, |_| ()).unwrap().events[0].dedup_key();
        assert_eq!(key("published"), key("released"));
        assert_ne!(key("published"), key("deleted"));
        assert_eq!(read("created", |_| ()).unwrap().ignored.len(), 1);
        let bad = read("published", |body| body["release"]["tag_name"] = json!("a..b")).unwrap();
        assert_eq!(bad.refused.len(), 1);
    }
}
