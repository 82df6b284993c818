//! The body of a push as GitHub invented it and Gitea copied it.

use serde::Deserialize;

use super::{ReceiveError, json, line};
use crate::{ChangedPaths, GitPushed, GitRef, ObjectId};

/// The most commits that GitHub lists; a list of that length may have been cut.
const MAX_COMMITS: usize = 2048;
/// The most changed files that are kept; more are as good as unknown.
const MAX_PATHS: usize = 10_000;
/// The longest path of a file, in bytes.
const MAX_PATH: usize = 4096;

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    forced: Option<bool>,
    #[serde(default)]
    commits: Option<Vec<Commit>>,
    #[serde(default)]
    total_commits: Option<u64>,
    #[serde(default)]
    head_commit: Option<Head>,
    repository: Repository,
    #[serde(default)]
    pusher: Option<Person>,
    #[serde(default)]
    sender: Option<Person>,
}

/// What one commit touched. GitLab has the same three lists.
#[derive(Deserialize)]
pub(super) struct Commit {
    #[serde(default)]
    added: Option<Vec<String>>,
    #[serde(default)]
    removed: Option<Vec<String>>,
    #[serde(default)]
    modified: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Head {
    id: String,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    #[serde(default)]
    clone_url: Option<String>,
    #[serde(default)]
    ssh_url: Option<String>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    login: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// What of a push says whether its list of files is the whole truth.
pub(super) struct Extent {
    /// How many commits the sender says there were, where it says so.
    pub(super) total: Option<u64>,
    /// Whether the push is one of a branch that was there and is there.
    pub(super) plain: bool,
}

/// The files that the commits touched, if that is all of them. An empty list says nothing: a branch
/// that was set back changed files and brings no commit.
pub(super) fn changed_paths(commits: Vec<Commit>, extent: &Extent) -> ChangedPaths {
    let listed = commits.len();
    let cut = extent.total.is_some_and(|total| total != listed as u64) || listed >= MAX_COMMITS;
    if !extent.plain || cut || listed == 0 {
        return ChangedPaths::Unknown;
    }
    let mut paths = std::collections::BTreeSet::new();
    for commit in commits {
        let (Some(added), Some(removed), Some(modified)) =
            (commit.added, commit.removed, commit.modified)
        else {
            return ChangedPaths::Unknown;
        };
        for path in added.into_iter().chain(removed).chain(modified) {
            if path.len() > MAX_PATH || paths.len() >= MAX_PATHS {
                return ChangedPaths::Unknown;
            }
            paths.insert(path);
        }
    }
    ChangedPaths::Known(paths)
}

/// What a push that moves neither a branch nor a tag is called in the log.
pub(super) fn other_reference(text: &str) -> String {
    format!("push of `{}`: neither a branch nor a tag", text.chars().take(120).collect::<String>())
}

/// Reads a push; the text says why when it is none that Fairlead knows.
pub(super) fn read(
    what: &'static str,
    body: &[u8],
) -> Result<Result<GitPushed, String>, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what, reason };
    let body: Body = json(what, body)?;
    let before = ObjectId::parse_end(&body.before).map_err(|e| malformed(e.to_string()))?;
    let after = ObjectId::parse_end(&body.after).map_err(|e| malformed(e.to_string()))?;
    if before.is_none() && after.is_none() {
        return Err(malformed("`before` and `after` are both zero".into()));
    }
    let Ok(reference) = body.reference.parse::<GitRef>() else {
        return Ok(Err(other_reference(&body.reference)));
    };
    let forced = body.forced.unwrap_or(false);
    let plain =
        before.is_some() && after.is_some() && !forced && matches!(reference, GitRef::Branch(_));
    // `after` of an annotated tag is the tag; the head is always a commit.
    let head = body.head_commit.and_then(|head| head.id.parse().ok());
    let commit = match &reference {
        GitRef::Branch(_) => after.clone(),
        GitRef::Tag(_) => after.is_some().then_some(head).flatten(),
    };
    let login = |person: Person| person.login.filter(|l| !l.is_empty()).or(person.name);
    Ok(Ok(GitPushed {
        repository: body.repository.full_name,
        clone_url: body.repository.clone_url,
        ssh_url: body.repository.ssh_url,
        reference,
        before,
        after,
        commit,
        forced,
        paths: changed_paths(
            body.commits.unwrap_or_default(),
            &Extent { total: body.total_commits, plain },
        ),
        actor: line(body.pusher.and_then(login).or_else(|| body.sender.and_then(login))),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn push(change: impl FnOnce(&mut Value)) -> Result<Result<GitPushed, String>, ReceiveError> {
        let mut body = json!({
            "ref": "refs/heads/main", "before": A, "after": B, "created": false, "deleted": false,
            "forced": false,
            "commits": [{ "id": B, "added": ["new"], "removed": ["old"], "modified": ["src/a"] }],
            "head_commit": { "id": B },
            "repository": { "full_name": "acme/shop", "ssh_url": "git@git.example.com:acme/shop.git",
                "clone_url": "https://git.example.com/acme/shop.git" },
            "pusher": { "name": "ann", "email": "ann@example.com" },
        });
        change(&mut body);
        read("push", body.to_string().as_bytes())
    }

    #[test]
    fn a_plain_push_says_what_it_touched() {
        let push = push(|_| ()).unwrap().unwrap();
        let paths = ["new", "old", "src/a"].map(str::to_owned).into();
        assert_eq!(push.paths, ChangedPaths::Known(paths));
        assert_eq!(push.commit.unwrap().as_str(), B);
        assert_eq!(push.actor.as_deref(), Some("ann"));
        assert_eq!(push.ssh_url.as_deref(), Some("git@git.example.com:acme/shop.git"));
    }

    #[test]
    fn what_cannot_say_what_it_touched_says_unknown() {
        let commit = json!({ "id": B, "added": [], "removed": [], "modified": ["a"] });
        let changes: [(&str, Value); 6] = [
            ("/forced", json!(true)),
            ("/before", json!(ZERO)),
            ("/after", json!(ZERO)),
            ("/ref", json!("refs/tags/v1")),
            ("/commits", json!([])),
            ("/commits", json!([{ "id": B, "added": [] }])),
        ];
        for (place, value) in changes {
            let push = push(|body| *body.pointer_mut(place).unwrap() = value.clone());
            assert_eq!(push.unwrap().unwrap().paths, ChangedPaths::Unknown, "{place} {value}");
        }
        let cut = push(|body| body["total_commits"] = json!(60)).unwrap().unwrap();
        assert_eq!(cut.paths, ChangedPaths::Unknown);
        let full = push(|body| body["commits"] = json!(vec![commit; MAX_COMMITS]));
        assert_eq!(full.unwrap().unwrap().paths, ChangedPaths::Unknown);
    }

    #[test]
    fn the_commit_of_an_annotated_tag_is_its_head() {
        let tag = push(|body| {
            body["ref"] = json!("refs/tags/v1");
            body["head_commit"]["id"] = json!(A);
        });
        let tag = tag.unwrap().unwrap();
        assert_eq!((tag.commit.unwrap().as_str(), tag.after.unwrap().as_str()), (A, B));
    }

    /// What a sender may leave out or call null says nothing, and is no reason to lose the push.
    #[test]
    fn what_is_null_is_as_if_it_were_not_said() {
        for place in ["/forced", "/commits", "/head_commit", "/pusher", "/repository/clone_url"] {
            let push = push(|body| *body.pointer_mut(place).unwrap() = Value::Null);
            let push = push.unwrap_or_else(|e| panic!("{place}: {e}")).unwrap();
            assert_eq!(push.commit.unwrap().as_str(), B, "{place}");
        }
        let tag = push(|body| {
            body["ref"] = json!("refs/tags/v1");
            body["head_commit"] = Value::Null;
        });
        // `after` may be a tag object: the forge is asked before anything begins.
        let tag = tag.unwrap().unwrap();
        assert_eq!((tag.commit, tag.after.unwrap().as_str()), (None, B));
    }

    #[test]
    fn other_references_are_ignored_and_nonsense_is_refused() {
        assert!(push(|body| body["ref"] = json!("refs/pull/1/head")).unwrap().is_err());
        for (key, value) in [("before", json!("x")), ("repository", json!({})), ("after", json!(1))]
        {
            assert!(push(|body| body[key] = value.clone()).is_err(), "{key}");
        }
        assert!(
            push(|body| {
                body["before"] = json!(ZERO);
                body["after"] = json!(ZERO);
            })
            .is_err()
        );
    }
}
