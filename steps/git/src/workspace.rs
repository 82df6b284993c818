//! A commit laid out in a folder, by way of a kept mirror of its repository.
//!
//! The mirror is a bare repository that only ever gains what was fetched. A folder gets its objects by
//! a fetch from there, so it has copies of its own: links or alternates into the mirror would let what
//! works in the folder change what the next one is given.

use std::path::Path;

use fairlead_step::CheckoutOptions;

use crate::error::from_stderr;
use crate::program::DEADLINE;
use crate::{Commit, Git, GitError, Remote};

/// How git writes "all of the history" as a depth; unlike `--unshallow`, it is no error where there is
/// nothing left to fetch.
const ALL: u32 = i32::MAX as u32;

/// How far back a commit is looked for under its name where the remote gives none by its id.
const SEARCHED: u32 = 1000;

/// A commit that is wanted, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The full name of the commit.
    pub commit: &'a str,
    /// The full name under which the remote has it, or had it.
    pub reference: Option<&'a str>,
    /// How many commits of history come with it; 0 for all of it.
    pub depth: u32,
    /// The folders that are wanted; everything when there are none.
    pub sparse: &'a [String],
    /// Whether what is not wanted now stays at the remote.
    pub partial: bool,
}

/// How what is fetched is kept.
#[derive(Clone, Copy)]
enum Kept {
    /// Under a name, for a mirror.
    Named,
    /// All of it, under no name.
    Whole,
    /// Without the contents of files.
    Partly,
}

impl Wanted<'_> {
    const fn format(&self) -> &'static str {
        if self.commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" }
    }

    const fn depth(&self) -> u32 {
        if self.depth == 0 { ALL } else { self.depth }
    }

    /// Checks what would reach a command line or a file of git's.
    fn check(&self, remote: &Remote) -> Result<(), GitError> {
        let missing = |what: String, said: &str| GitError::Missing {
            remote: remote.to_string(),
            what,
            said: said.to_owned(),
        };
        let commit = self.commit;
        if !matches!(commit.len(), 40 | 64) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing(
                format!("commit {commit:.80}"),
                "it is not the full name of a commit",
            ));
        }
        if let Some(name) = self.reference {
            let harmless = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
            if !name.starts_with("refs/")
                || name.len() > 512
                || name.contains("..")
                || !name.chars().all(harmless)
            {
                return Err(missing(format!("reference {name:.80}"), "git would refuse the name"));
            }
        }
        let refused = |said| GitError::Failed { operation: "sparse-checkout", said };
        let bytes: usize = self.sparse.iter().map(String::len).sum();
        let most = CheckoutOptions::MOST_FOLDERS;
        if self.sparse.len() > most || bytes > CheckoutOptions::MOST_BYTES {
            return Err(refused(format!(
                "more than {most} folders are named, or they are too long"
            )));
        }
        if let Some(folder) = self.sparse.iter().find(|folder| !CheckoutOptions::is_folder(folder))
        {
            return Err(refused(format!(
                "`{folder}` is no path of a folder below the root of the repository"
            )));
        }
        Ok(())
    }
}

impl Git {
    /// Sees to it that the bare repository in `mirror`, which is made when it is not there, has what is
    /// wanted. A commit that is there already is not fetched again, so one that its remote has lost
    /// can still be laid out. One at a time may do this to a mirror.
    ///
    /// # Errors
    /// When the remote cannot be reached, refuses us, or has no such commit.
    pub async fn mirror(
        &self,
        remote: &Remote,
        wanted: Wanted<'_>,
        mirror: &Path,
    ) -> Result<(), GitError> {
        wanted.check(remote)?;
        if !mirror.join("HEAD").is_file() {
            let target = mirror.display().to_string();
            // A killed process may have left a part of it; what is there already is kept.
            let args = ["init", "--quiet", "--bare", wanted.format(), "--", &target];
            self.done(self.home(), "init", &args).await?;
            // Folders ask for commits by their ids.
            let args = ["config", "uploadpack.allowAnySHA1InWant", "true"];
            self.done(mirror, "config", &args).await?;
        }
        let has = self.has(mirror, wanted.commit).await?;
        if has && wanted.depth == 1 {
            return Ok(());
        }
        // Under a name, so that later fetches can say that it is here already.
        match self.fetch_commit(remote, remote.as_str(), wanted, mirror, Kept::Named).await {
            // What it had is better than nothing: the run was started when the remote still had it.
            Err(GitError::Missing { .. }) if has => Ok(()),
            fetched => fetched,
        }
    }

    /// Lays out what is wanted in `folder`, which is there and empty: from `mirror`, which has it, or
    /// from the remote itself when there is none. The folder is a repository of its own, whose `origin`
    /// is the remote.
    ///
    /// # Errors
    /// When the mirror or the remote has no such commit, or the disk is full.
    pub async fn lay_out(
        &self,
        remote: &Remote,
        wanted: Wanted<'_>,
        mirror: Option<&Path>,
        folder: &Path,
    ) -> Result<Commit, GitError> {
        wanted.check(remote)?;
        self.done(folder, "init", &["init", "--quiet", wanted.format()]).await?;
        self.done(folder, "remote", &["remote", "add", "--", "origin", remote.as_str()]).await?;
        match mirror {
            Some(mirror) => {
                let from: Remote = mirror.display().to_string().parse().map_err(|error| {
                    GitError::Failed { operation: "fetch", said: format!("{error}") }
                })?;
                self.fetch_commit(&from, from.as_str(), wanted, folder, Kept::Whole).await?;
            }
            None if wanted.partial => {
                for (key, value) in [
                    ("remote.origin.promisor", "true"),
                    ("remote.origin.partialclonefilter", "blob:none"),
                ] {
                    self.done(folder, "config", &["config", key, value]).await?;
                }
                self.fetch_commit(remote, "origin", wanted, folder, Kept::Partly).await?;
            }
            None => {
                self.fetch_commit(remote, remote.as_str(), wanted, folder, Kept::Whole).await?;
            }
        }
        if !wanted.sparse.is_empty() {
            self.done(folder, "sparse-checkout", &["sparse-checkout", "init", "--cone"]).await?;
            let list = wanted.sparse.join("\n");
            let args = ["sparse-checkout", "set", "--stdin"];
            let exit = self.run(folder, &args, Some(list)).await?;
            if !exit.success() {
                return Err(from_stderr("sparse-checkout", remote.as_str(), &exit.stderr_tail));
            }
        }
        // A partial clone asks the remote for the files.
        let args = ["checkout", "--quiet", "--detach", wanted.commit, "--"];
        let exit = self.reach(remote, folder, &args, DEADLINE).await?;
        if !exit.success() {
            return Err(from_stderr("checkout", remote.as_str(), &exit.stderr_tail));
        }
        let head = self.done(folder, "rev-parse", &["rev-parse", "HEAD^{commit}"]).await?;
        if head != wanted.commit {
            return Err(GitError::Missing {
                remote: remote.to_string(),
                what: format!("commit {}", wanted.commit),
                said: format!("what it gave for that is {head}"),
            });
        }
        Ok(Commit::named(head))
    }

    /// Fetches the commit by its id, or under its name where the remote gives none by its id.
    async fn fetch_commit(
        &self,
        remote: &Remote,
        from: &str,
        wanted: Wanted<'_>,
        folder: &Path,
        kept: Kept,
    ) -> Result<(), GitError> {
        let fetch = async |what: &str, depth: u32| {
            let depth = format!("--depth={depth}");
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &depth];
            let refspec = match kept {
                Kept::Named => format!("+{what}:refs/kept/{}", wanted.commit),
                Kept::Whole => what.to_owned(),
                Kept::Partly => {
                    args.push("--filter=blob:none");
                    what.to_owned()
                }
            };
            args.extend(["--", from, &refspec]);
            self.reach(remote, folder, &args, DEADLINE).await
        };
        let exit = fetch(wanted.commit, wanted.depth()).await?;
        if exit.success() {
            return Ok(());
        }
        let missing = |said: String| GitError::Missing {
            remote: remote.to_string(),
            what: format!("commit {}", wanted.commit),
            said,
        };
        let by_id = ["not our ref", "unadvertised object", "Server does not allow request"];
        if !by_id.iter().any(|it| exit.stderr_tail.contains(it)) {
            return Err(from_stderr("fetch", remote.as_str(), &exit.stderr_tail));
        }
        let refused = || missing("it refuses to give it".into());
        let name = wanted.reference.ok_or_else(refused)?;
        let exit = fetch(name, wanted.depth().max(SEARCHED)).await?;
        if !exit.success() || !self.has(folder, wanted.commit).await? {
            return Err(refused());
        }
        Ok(())
    }

    async fn has(&self, folder: &Path, commit: &str) -> Result<bool, GitError> {
        let name = format!("{commit}^{{commit}}");
        Ok(self.run(folder, &["cat-file", "-e", &name], None).await?.success())
    }

    /// Runs one command that reaches no remote, and answers what it said.
    async fn done(
        &self,
        folder: &Path,
        operation: &'static str,
        args: &[&str],
    ) -> Result<String, GitError> {
        let exit = self.run(folder, args, None).await?;
        if !exit.success() {
            return Err(from_stderr(operation, &folder.display().to_string(), &exit.stderr_tail));
        }
        Ok(String::from_utf8_lossy(&exit.stdout).trim().to_owned())
    }
}
