//! What happens at a forge besides pushes: pull requests, comments with a command, releases.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{GitPushed, GitRef, ObjectId};

/// What a comment with a command begins with.
const COMMAND: &str = "/fairlead";
/// The longest command that is read, in bytes.
const MAX_COMMAND: usize = 1000;
/// The most arguments of a command.
const MAX_ARGUMENTS: usize = 32;

/// A repository of the source's forge. The addresses are built from the forge's base URL and the
/// name; a sender's own are compared with them and never used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgeRepository {
    /// Its full name at the forge, such as `acme/shop`.
    pub name: String,
    /// Where to clone it over HTTP.
    pub clone_url: Option<String>,
    /// Where to clone it over ssh.
    pub ssh_url: Option<String>,
}

impl ForgeRepository {
    /// What tells two forges apart that both have an `acme/shop`.
    pub(crate) fn address(&self) -> &str {
        self.clone_url.as_deref().or(self.ssh_url.as_deref()).unwrap_or_default()
    }
}

impl From<&GitPushed> for ForgeRepository {
    fn from(push: &GitPushed) -> Self {
        Self {
            name: push.repository.clone(),
            clone_url: push.clone_url.clone(),
            ssh_url: push.ssh_url.clone(),
        }
    }
}

/// What became of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestAction {
    /// It is open and was not before: opened, opened again, or ready after having been a draft.
    Opened,
    /// Its head has other commits.
    Updated,
    /// Its title, labels or base changed; its commits did not.
    Edited,
    /// It was merged.
    Merged,
    /// It was closed without being merged.
    Closed,
}

impl PullRequestAction {
    /// The word in events and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Edited => "edited",
            Self::Merged => "merged",
            Self::Closed => "closed",
        }
    }
}

/// Where the commits of a pull request come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequestHead {
    /// The full name of their repository; none when it is gone or not said.
    pub repository: Option<String>,
    /// Their branch, where it is said.
    pub branch: Option<String>,
    /// The last of them, where it is said in full. After the forge was asked it is known.
    pub commit: Option<ObjectId>,
    /// The beginning of the last of them, where no more is said: Bitbucket Cloud cuts ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abbreviated: Option<String>,
}

impl PullRequestHead {
    /// Whether a commit may be the one that the sender means.
    #[must_use]
    pub fn may_be(&self, found: &ObjectId) -> bool {
        self.commit.as_ref().is_none_or(|commit| commit == found)
            && self.abbreviated.as_deref().is_none_or(|start| found.as_str().starts_with(start))
    }

    fn shown(&self) -> &str {
        let commit = self.commit.as_ref().map(ObjectId::as_str);
        commit.or(self.abbreviated.as_deref()).unwrap_or_default()
    }
}

/// A pull request (GitLab: merge request) that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// The repository that it wants to be merged into.
    pub repository: ForgeRepository,
    /// Its number there.
    pub number: u64,
    /// What became of it.
    pub action: PullRequestAction,
    /// Its title.
    pub title: Option<String>,
    /// Where its commits come from.
    pub head: PullRequestHead,
    /// The branch that it wants to be merged into.
    pub base_branch: String,
    /// What that branch holds, as far as it is known.
    pub base_commit: Option<ObjectId>,
    /// The commit that merged it, where it was merged and the sender says it.
    pub merge_commit: Option<ObjectId>,
    /// Whether its commits come from another repository, into which strangers may push. What the
    /// sender says at first; after the forge was asked, false only when a branch of `repository`
    /// itself has the commit.
    pub is_fork: bool,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// Who opened it.
    pub author: Option<String>,
    /// Who did what is reported.
    pub actor: Option<String>,
    /// When it was last changed, as the sender says. A request may be closed and opened again at the
    /// same commit, so the time is one of the facts that tell two events apart.
    pub at: Option<Timestamp>,
}

impl PullRequest {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec![
            "git.pull_request".into(),
            self.repository.address().into(),
            self.repository.name.clone(),
            self.number.to_string(),
            self.action.name().into(),
            self.head.shown().into(),
            self.at.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    }

    pub(crate) fn subject(&self) -> String {
        format!("{}#{}@{}", self.repository.name, self.number, self.head.shown())
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "action": self.action.name(),
            "repository": self.repository.name,
            "clone_url": self.repository.clone_url,
            "ssh_url": self.repository.ssh_url,
            "number": self.number,
            "title": self.title,
            "head_repository": self.head.repository,
            "head_branch": self.head.branch,
            "commit": self.head.commit,
            "base_branch": self.base_branch,
            "base_commit": self.base_commit,
            "merge_commit": self.merge_commit,
            "fork": self.is_fork,
            // What was merged is on a branch of the repository itself.
            "trusted": !self.is_fork || self.action == PullRequestAction::Merged,
            "draft": self.draft,
            "labels": self.labels,
            "author": self.author,
            "actor": self.actor,
        })
    }

    /// The commit to be worked on, as a push to where it is: the commit that merged it once it was
    /// merged, else the head. For whoever lays out a workspace of it.
    #[must_use]
    pub fn as_push(&self) -> GitPushed {
        let merged = match self.action {
            PullRequestAction::Merged => self.merge_commit.clone(),
            PullRequestAction::Opened
            | PullRequestAction::Updated
            | PullRequestAction::Edited
            | PullRequestAction::Closed => None,
        };
        let branch = match merged {
            Some(_) => self.base_branch.clone(),
            None => head_branch(self.number, &self.head),
        };
        let commit = merged.or_else(|| self.head.commit.clone());
        push_of(&self.repository, GitRef::Branch(branch), commit, self.actor.clone())
    }
}

/// What the forge says that somebody is to a repository. It says so of the author of a comment, when
/// the comment is written; not every forge does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Association {
    /// Whose repository it is.
    Owner,
    /// A member of the organization whose repository it is.
    Member,
    /// Invited to work on it.
    Collaborator,
    /// Somebody whose commits are in it.
    Contributor,
    /// None of these.
    Stranger,
    /// The sender does not say.
    Unknown,
}

impl Association {
    /// The word in events and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Collaborator => "collaborator",
            Self::Contributor => "contributor",
            Self::Stranger => "stranger",
            Self::Unknown => "unknown",
        }
    }

    /// Whether somebody let them in, as opposed to their having come by themselves.
    #[must_use]
    pub const fn is_insider(self) -> bool {
        match self {
            Self::Owner | Self::Member | Self::Collaborator => true,
            Self::Contributor | Self::Stranger | Self::Unknown => false,
        }
    }
}

/// A command in a comment: `/fairlead VERB [NAME] [KEY=VALUE …]`, alone on a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentCommand {
    /// What to do, such as `run`.
    pub verb: String,
    /// What to do it with, such as the name of a pipeline.
    pub name: Option<String>,
    /// The arguments.
    pub args: BTreeMap<String, String>,
}

/// Why the text behind `/fairlead` is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`/fairlead` stands in the comment without a command that can be read: {problem}")]
pub struct CommandError {
    problem: String,
}

impl CommentCommand {
    /// The command in the text of a comment: the first line that begins with `/fairlead`. None when
    /// there is no such line. Quoted replies and code are not told apart: their lines begin with
    /// something else.
    ///
    /// # Errors
    /// When there is such a line and it is no command.
    pub fn in_comment(text: &str) -> Result<Option<Self>, CommandError> {
        let fail = |problem: String| Err(CommandError { problem });
        let is_command =
            |line: &&str| line.split_ascii_whitespace().next().is_some_and(|word| word == COMMAND);
        let Some(line) = text.lines().map(str::trim).find(is_command) else { return Ok(None) };
        if line.len() > MAX_COMMAND || line.chars().any(char::is_control) {
            return fail(format!(
                "it is longer than {MAX_COMMAND} bytes or holds control characters"
            ));
        }
        let mut words = line.split_ascii_whitespace().skip(1);
        let Some(verb) = words.next() else {
            return fail("write what to do, as in `/fairlead run NAME`".into());
        };
        if !is_name(verb) {
            return fail(format!("`{}` is no verb", clip(verb)));
        }
        let mut command =
            Self { verb: verb.to_ascii_lowercase(), name: None, args: BTreeMap::new() };
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if is_name(key) => {
                    if command.args.len() >= MAX_ARGUMENTS {
                        return fail(format!("it has more than {MAX_ARGUMENTS} arguments"));
                    }
                    if command.args.insert(key.to_owned(), value.to_owned()).is_some() {
                        return fail(format!("`{}` is given twice", clip(key)));
                    }
                }
                None if command.name.is_none() && command.args.is_empty() && is_name(word) => {
                    command.name = Some(word.to_owned());
                }
                Some(_) | None => {
                    return fail(format!("`{}` is neither a name nor `key=value`", clip(word)));
                }
            }
        }
        Ok(Some(command))
    }
}

/// Whether a word is a plain name: letters, digits, `.`, `_`, `-`.
fn is_name(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !word.is_empty() && word.len() <= 128 && word.bytes().all(plain) && !word.starts_with('-')
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// A comment on a pull request that holds a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// The repository of the pull request.
    pub repository: ForgeRepository,
    /// The number of the pull request.
    pub number: u64,
    /// The sender's id of the comment: the same comment is the same command, however often it is
    /// told.
    pub id: String,
    /// The command.
    pub command: CommentCommand,
    /// Who wrote it.
    pub author: Option<String>,
    /// What the forge says that they are to the repository.
    pub association: Association,
    /// The head of the pull request, as far as the sender says it. The forge is asked before anything
    /// begins.
    pub head: PullRequestHead,
    /// Whether the commits of the pull request come from elsewhere. Taken for true until a branch of
    /// `repository` itself is seen to have the head.
    pub is_fork: bool,
}

impl Comment {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec![
            "git.comment".into(),
            self.repository.address().into(),
            self.repository.name.clone(),
            self.number.to_string(),
            self.id.clone(),
        ]
    }

    pub(crate) fn subject(&self) -> String {
        format!("{}#{} {}", self.repository.name, self.number, self.command.verb)
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "repository": self.repository.name,
            "clone_url": self.repository.clone_url,
            "ssh_url": self.repository.ssh_url,
            "number": self.number,
            "verb": self.command.verb,
            "name": self.command.name,
            "args": self.command.args,
            "commit": self.head.commit,
            "fork": self.is_fork,
            // Whoever belongs to the repository may answer for what a stranger wrote.
            "trusted": !self.is_fork || self.association.is_insider(),
            "association": self.association.name(),
            "insider": self.association.is_insider(),
            "actor": self.author,
        })
    }

    /// The head of the pull request, once it is known, as a push to where it is.
    #[must_use]
    pub fn as_push(&self) -> GitPushed {
        let reference = GitRef::Branch(head_branch(self.number, &self.head));
        push_of(&self.repository, reference, self.head.commit.clone(), self.author.clone())
    }
}

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseAction {
    /// It is to be seen and was not before.
    Published,
    /// It was edited.
    Updated,
    /// It is gone, or hidden again.
    Deleted,
}

impl ReleaseAction {
    /// The word in events and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// A release at a forge: a tag with a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The repository.
    pub repository: ForgeRepository,
    /// What became of it.
    pub action: ReleaseAction,
    /// Its tag.
    pub tag: String,
    /// Its name.
    pub name: Option<String>,
    /// Whether it is a draft, which may have no tag yet.
    pub draft: bool,
    /// Whether it says of itself that it is none for everybody.
    pub prerelease: bool,
    /// The commit behind its tag, as the forge confirms it before anything begins.
    pub commit: Option<ObjectId>,
    /// Who did it.
    pub actor: Option<String>,
    /// When, as the sender says.
    pub at: Option<Timestamp>,
}

impl Release {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec![
            "git.release".into(),
            self.repository.address().into(),
            self.repository.name.clone(),
            self.action.name().into(),
            self.tag.clone(),
            self.draft.to_string(),
            self.prerelease.to_string(),
            match self.action {
                // An edit shows in its name or at its time; nothing else is known of it.
                ReleaseAction::Updated => self.name.clone().unwrap_or_default(),
                ReleaseAction::Published | ReleaseAction::Deleted => String::new(),
            },
            self.at.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    }

    pub(crate) fn subject(&self) -> String {
        format!("{} {}", self.repository.name, self.tag)
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "action": self.action.name(),
            "repository": self.repository.name,
            "clone_url": self.repository.clone_url,
            "ssh_url": self.repository.ssh_url,
            "tag": self.tag,
            "name": self.name,
            "draft": self.draft,
            "prerelease": self.prerelease,
            "commit": self.commit,
            "actor": self.actor,
        })
    }

    /// The commit of its tag, as a push of that.
    #[must_use]
    pub fn as_push(&self) -> GitPushed {
        let reference = GitRef::Tag(self.tag.clone());
        push_of(&self.repository, reference, self.commit.clone(), self.actor.clone())
    }
}

fn head_branch(number: u64, head: &PullRequestHead) -> String {
    head.branch.clone().unwrap_or_else(|| format!("pull/{number}"))
}

fn push_of(
    repository: &ForgeRepository,
    reference: GitRef,
    commit: Option<ObjectId>,
    actor: Option<String>,
) -> GitPushed {
    GitPushed {
        repository: repository.name.clone(),
        clone_url: repository.clone_url.clone(),
        ssh_url: repository.ssh_url.clone(),
        reference,
        before: None,
        after: commit.clone(),
        commit,
        forced: false,
        paths: crate::ChangedPaths::Unknown,
        actor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_a_line_of_their_own() {
        let args = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for (text, verb, name, given) in [
            ("/fairlead run release", "run", Some("release"), args(&[])),
            (
                "Looks good.\r\n\r\n  /fairlead run a.b-c env=dev v=1=2 \r\n",
                "run",
                Some("a.b-c"),
                { args(&[("env", "dev"), ("v", "1=2")]) },
            ),
            ("/fairlead Retry", "retry", None, args(&[])),
            ("/fairlead run x=1", "run", None, args(&[("x", "1")])),
            ("/fairlead run one\n/fairlead run two", "run", Some("one"), args(&[])),
            ("/fairlead run x e=", "run", Some("x"), args(&[("e", "")])),
        ] {
            let command = CommentCommand::in_comment(text).unwrap().unwrap();
            assert_eq!(
                (command.verb.as_str(), command.name.as_deref(), command.args),
                (verb, name, given),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_command_is_no_command_and_nonsense_is_told() {
        for text in ["", "run it", "> /fairlead run x", "see /fairlead run x", "/fairleads run x"] {
            assert_eq!(CommentCommand::in_comment(text), Ok(None), "{text:?}");
        }
        let many = format!("/fairlead run x {}", "a=1 ".repeat(2));
        let more: String = (0..40).map(|n| format!(" k{n}=1")).collect();
        for text in [
            "/fairlead",
            "/fairlead $(reboot)",
            "/fairlead run a b",
            "/fairlead run x=1 name",
            "/fairlead run --flag",
            "/fairlead run x\u{7}",
            many.as_str(),
            &format!("/fairlead run {}", "x".repeat(2000)),
            &format!("/fairlead run x{more}"),
        ] {
            assert!(CommentCommand::in_comment(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_those_who_were_let_in_are_insiders() {
        for (association, inside) in [
            (Association::Owner, true),
            (Association::Member, true),
            (Association::Collaborator, true),
            (Association::Contributor, false),
            (Association::Stranger, false),
            (Association::Unknown, false),
        ] {
            assert_eq!(association.is_insider(), inside, "{}", association.name());
        }
    }
}
