//! One working copy: clone, look, commit, push, and start again on the new head.

mod objects;

use std::path::{Path, PathBuf};

pub use self::objects::{Entry, EntryKind};
use crate::error::from_stderr;
use crate::program::DEADLINE;
use crate::{Branch, Git, GitError, Remote};

/// How many commits of history are fetched: what an earlier attempt committed is looked for there.
const DEPTH: &str = "--depth=100";

/// The full name of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit(String);

impl Commit {
    pub(crate) const fn named(name: String) -> Self {
        Self(name)
    }

    /// The hexadecimal name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// The remote has the commit.
    Done,
    /// Somebody else was first: the branch is not where it was.
    LostRace,
}

/// A working copy of one branch.
pub struct Checkout<'g> {
    git: &'g Git,
    remote: Remote,
    branch: Branch,
    folder: PathBuf,
}

impl<'g> Checkout<'g> {
    /// Clones `branch` (the remote's default when `None`) into `folder`, which must not exist.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, or lacks the repository or the branch.
    pub async fn clone(
        git: &'g Git,
        remote: &Remote,
        branch: Option<&Branch>,
        folder: &Path,
    ) -> Result<Self, GitError> {
        let target = folder.display().to_string();
        let mut args = vec!["clone", "--quiet", "--single-branch", "--no-tags", DEPTH];
        if let Some(branch) = branch {
            args.extend(["--branch", branch.as_str()]);
        }
        args.extend(["--", remote.as_str(), &target]);
        let exit = git.reach(remote, git.home(), &args, DEADLINE).await?;
        if !exit.success() {
            return Err(from_stderr("clone", remote.as_str(), &exit.stderr_tail));
        }
        let name =
            text_of(git, folder, "rev-parse", &["rev-parse", "--abbrev-ref", "HEAD"]).await?;
        let branch = name.parse().map_err(|_| GitError::Missing {
            remote: remote.to_string(),
            what: "branch to stand on".into(),
            said: format!("HEAD is `{name}`"),
        })?;
        Ok(Self { git, remote: remote.clone(), branch, folder: folder.to_owned() })
    }

    /// The folder with the files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The branch it stands on.
    #[must_use]
    pub const fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The commit it stands on.
    ///
    /// # Errors
    /// When git fails.
    pub async fn head(&self) -> Result<Commit, GitError> {
        self.text("rev-parse", &["rev-parse", "HEAD^{commit}"]).await.map(Commit)
    }

    /// The newest commit, among the last hundred, whose message has every one of these lines.
    ///
    /// # Errors
    /// When git fails.
    pub async fn find(&self, lines: &[String]) -> Result<Option<Commit>, GitError> {
        let greps: Vec<String> =
            lines.iter().map(|line| format!("--grep=^{}$", escape(line))).collect();
        let mut args = vec!["log", "--all-match", "--max-count=1", "--format=%H"];
        args.extend(greps.iter().map(String::as_str));
        args.push("HEAD");
        let found = self.text("log", &args).await?;
        Ok((!found.is_empty()).then_some(Commit(found)))
    }

    /// The diff that `commit` made, as git shows it.
    ///
    /// # Errors
    /// When git fails.
    pub async fn show(&self, commit: &Commit) -> Result<String, GitError> {
        let args = ["show", "--no-color", "--no-ext-diff", "--format=", commit.as_str(), "--"];
        let exit = self.git.run(&self.folder, &args, None).await?;
        if !exit.success() {
            return Err(from_stderr("show", self.remote.as_str(), &exit.stderr_tail));
        }
        Ok(String::from_utf8_lossy(&exit.stdout).into_owned())
    }

    /// Commits what is staged with `message`, whatever lies in the folder.
    ///
    /// # Errors
    /// When git fails.
    pub async fn commit(&self, message: &str, by: &Identity) -> Result<Commit, GitError> {
        let name = format!("user.name={}", by.name);
        let email = format!("user.email={}", by.email);
        let mut args = vec!["-c", &name, "-c", &email];
        args.extend(["commit", "--quiet", "--cleanup=verbatim", "--file=-"]);
        let exit = self.git.run(&self.folder, &args, Some(message.to_owned())).await?;
        if !exit.success() {
            return Err(from_stderr("commit", self.remote.as_str(), &exit.stderr_tail));
        }
        self.head().await
    }

    /// Pushes the commit we stand on, never by force.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, or declines. A lost race is no error.
    pub async fn push(&self) -> Result<Push, GitError> {
        let target = format!("HEAD:refs/heads/{}", self.branch);
        let args = ["push", "--porcelain", "--no-verify", "--", "origin", &target];
        let exit = self.git.reach(&self.remote, &self.folder, &args, DEADLINE).await?;
        if exit.success() {
            return Ok(Push::Done);
        }
        let report = String::from_utf8_lossy(&exit.stdout).into_owned();
        let Some(line) = report.lines().find(|line| line.starts_with('!')) else {
            return Err(from_stderr("push", self.remote.as_str(), &exit.stderr_tail));
        };
        // The first two are our side's words for a branch that moved, the others the remote's
        // when two pushes reach it in the same moment.
        let raced = [
            "[rejected]",
            "fetch first",
            "cannot lock ref",
            "failed to update ref",
            "incorrect old value",
            "reference already exists",
        ];
        if raced.iter().any(|text| line.contains(text)) {
            return Ok(Push::LostRace);
        }
        let said = exit.stderr_tail.lines().filter(|l| l.starts_with("remote:"));
        let said = said.chain([line]).collect::<Vec<_>>().join("; ");
        Err(GitError::Declined {
            remote: self.remote.to_string(),
            branch: self.branch.to_string(),
            said: said.chars().take(600).collect(),
        })
    }

    /// Throws our own commit and edits away and stands on the branch's new head.
    ///
    /// # Errors
    /// When the remote cannot be reached or refuses us.
    pub async fn start_again(&self) -> Result<(), GitError> {
        let source = format!("refs/heads/{}", self.branch);
        let args = ["fetch", "--quiet", "--no-tags", DEPTH, "--", "origin", &source];
        let exit = self.git.reach(&self.remote, &self.folder, &args, DEADLINE).await?;
        if !exit.success() {
            return Err(from_stderr("fetch", self.remote.as_str(), &exit.stderr_tail));
        }
        let exit = self.git.run(&self.folder, &["reset", "--quiet", "--hard", "FETCH_HEAD"], None);
        let exit = exit.await?;
        if !exit.success() {
            return Err(from_stderr("reset", self.remote.as_str(), &exit.stderr_tail));
        }
        Ok(())
    }

    async fn text(&self, operation: &'static str, args: &[&str]) -> Result<String, GitError> {
        text_of(self.git, &self.folder, operation, args).await
    }
}

async fn text_of(
    git: &Git,
    folder: &Path,
    operation: &'static str,
    args: &[&str],
) -> Result<String, GitError> {
    let exit = git.run(folder, args, None).await?;
    if !exit.success() {
        return Err(from_stderr(operation, &folder.display().to_string(), &exit.stderr_tail));
    }
    Ok(String::from_utf8_lossy(&exit.stdout).trim().to_owned())
}

/// Escapes a line for git's basic regular expressions.
fn escape(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        if r"\.[]*^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
