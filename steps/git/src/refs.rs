//! What a remote has under a name, and whether a commit is in a branch's history.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::error::from_stderr;
use crate::{Git, GitError, Remote};

/// How long a remote may take to say what it has under a name.
const LOOK: Duration = Duration::from_secs(30);

/// How long the commits of a branch may take to come.
const HISTORY: Duration = Duration::from_secs(120);

/// How far back the history of a branch is looked at. A push that is heard of so late that there
/// are more commits on top of it is as good as overtaken.
const DEPTH: &str = "--depth=1000";

/// The most commits of that history: merges have many behind each generation.
const MOST: &str = "--max-count=100000";

/// What a remote has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefTarget {
    /// The object that the name points to: a commit, or the tag object of an annotated tag.
    pub object: String,
    /// The object behind that, when it is a tag object; else the same.
    pub peeled: String,
}

impl Git {
    /// What `remote` has under the full name `reference`, such as `refs/heads/main`; none when it
    /// has no such reference.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, or lacks the repository.
    pub async fn ref_target(
        &self,
        remote: &Remote,
        reference: &str,
    ) -> Result<Option<RefTarget>, GitError> {
        let peeled = format!("{reference}^{{}}");
        let args = ["ls-remote", "--quiet", "--", remote.as_str(), reference, &peeled];
        let exit = self.reach(remote, self.home(), &args, LOOK).await?;
        if !exit.success() {
            return Err(from_stderr("ls-remote", remote.as_str(), &exit.stderr_tail));
        }
        let text = String::from_utf8_lossy(&exit.stdout);
        // Git takes the name for the end of a pattern: there may be lines of other names.
        let of = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(_, found)| *found == name).map(|(object, _)| object.to_owned())
        };
        Ok(of(reference).map(|object| {
            let peeled = of(&peeled).unwrap_or_else(|| object.clone());
            RefTarget { object, peeled }
        }))
    }

    /// What `remote` has under the names that fit one of `patterns`, which are full names or end in
    /// `/*`; in the order of the names.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, lacks the repository, or has more such names than
    /// are read.
    pub async fn ref_targets(
        &self,
        remote: &Remote,
        patterns: &[String],
    ) -> Result<BTreeMap<String, RefTarget>, GitError> {
        let mut args = vec!["ls-remote", "--quiet", "--", remote.as_str()];
        let peeled: Vec<String> = patterns.iter().map(|name| format!("{name}^{{}}")).collect();
        args.extend(patterns.iter().chain(&peeled).map(String::as_str));
        let exit = self.reach(remote, self.home(), &args, LOOK).await?;
        if !exit.success() {
            return Err(from_stderr("ls-remote", remote.as_str(), &exit.stderr_tail));
        }
        let text = String::from_utf8_lossy(&exit.stdout);
        // Git takes each name for the end of a pattern: there may be lines of other names.
        let asked = |name: &str| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
        };
        let mut found = BTreeMap::new();
        for (object, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            let object = object.to_owned();
            match name.strip_suffix("^{}") {
                // The line of the tag itself stands before.
                Some(tag) => {
                    if let Some(target) = found.get_mut(tag) {
                        let RefTarget { peeled, .. } = target;
                        *peeled = object;
                    }
                }
                None if asked(name) => {
                    let target = RefTarget { peeled: object.clone(), object };
                    found.insert(name.to_owned(), target);
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// Whether `commit` is in the history of what `remote` has under `reference`, as far as a
    /// thousand generations back. The commits are fetched into `folder`, which must not exist, and
    /// nothing of their content where the remote can leave it out.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, or has no such reference.
    pub async fn history_has(
        &self,
        remote: &Remote,
        reference: &str,
        commit: &str,
        folder: &Path,
    ) -> Result<bool, GitError> {
        let target = folder.display().to_string();
        let init = ["init", "--quiet", "--bare", "--", &target];
        let exit = self.run(self.home(), &init, None).await?;
        if !exit.success() {
            return Err(from_stderr("init", remote.as_str(), &exit.stderr_tail));
        }
        let mut fetch = vec!["fetch", "--quiet", "--no-tags", "--filter=tree:0", DEPTH];
        fetch.extend(["--", remote.as_str(), reference]);
        let exit = self.reach(remote, folder, &fetch, HISTORY).await?;
        if !exit.success() {
            return Err(from_stderr("fetch", remote.as_str(), &exit.stderr_tail));
        }
        // Listed, and not asked about: a commit that is not there would be fetched for the question.
        let exit = self.run(folder, &["rev-list", MOST, "FETCH_HEAD"], None).await?;
        if !exit.success() {
            return Err(from_stderr("rev-list", remote.as_str(), &exit.stderr_tail));
        }
        let mut listed = exit.stdout.split(|byte| *byte == b'\n');
        Ok(!commit.is_empty() && listed.any(|line| line == commit.as_bytes()))
    }
}
