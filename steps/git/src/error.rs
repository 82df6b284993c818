//! Why a git operation failed, and whether trying again can help.

use fairlead_step::{EgressDenied, ErrorClass, ProcessError, StepError};

/// Why a git operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The program did not run to its end.
    #[error("git did not run to its end")]
    Process(#[from] ProcessError),
    /// Files of the private home could not be written.
    #[error("cannot prepare {path}")]
    Prepare {
        /// What could not be written.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The program is too old.
    #[error("git {found} is too old: 2.30 or newer is needed")]
    TooOld {
        /// What is there.
        found: String,
    },
    /// The remote refused us.
    #[error("the remote {remote} refused the login: {said}")]
    Refused {
        /// Which remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The remote cannot be reached.
    #[error("cannot reach the remote {remote}: {said}")]
    Unreachable {
        /// Which remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The rules of egress let nobody speak to it.
    #[error("the remote is off limits: {0}")]
    OffLimits(EgressDenied),
    /// The remote sent us elsewhere.
    #[error(
        "the remote {remote} redirects to another address, and redirects are not followed: {said}"
    )]
    Redirected {
        /// Which remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// There is no such repository or branch.
    #[error("the remote {remote} has no {what}: {said}")]
    Missing {
        /// Which remote.
        remote: String,
        /// A repository or a branch.
        what: String,
        /// What git said.
        said: String,
    },
    /// The remote took the push and then said no: a hook or a protected branch.
    #[error("the remote {remote} declined the push to `{branch}`: {said}")]
    Declined {
        /// Which remote.
        remote: String,
        /// Which branch.
        branch: String,
        /// What git said.
        said: String,
    },
    /// Anything else that git said.
    #[error("git {operation} failed: {said}")]
    Failed {
        /// Which command.
        operation: &'static str,
        /// What git said.
        said: String,
    },
}

impl From<EgressDenied> for GitError {
    fn from(denied: EgressDenied) -> Self {
        Self::OffLimits(denied)
    }
}

impl From<GitError> for StepError {
    fn from(error: GitError) -> Self {
        let (class, hint) = match &error {
            GitError::Process(ProcessError::Cancelled { .. }) => (ErrorClass::Cancelled, None),
            GitError::Process(ProcessError::TimedOut { .. }) => (ErrorClass::Retryable, None),
            GitError::Process(_) => (ErrorClass::Terminal, Some("install git 2.30 or newer")),
            GitError::Prepare { .. } => (ErrorClass::Retryable, None),
            GitError::TooOld { .. } => (ErrorClass::Terminal, Some("install a newer git")),
            GitError::Refused { .. } => (
                ErrorClass::Terminal,
                Some("give `username` and `password`, or `ssh_key`, as secrets that may push"),
            ),
            GitError::Unreachable { .. } => {
                (ErrorClass::Retryable, Some("is the address right, and the server up?"))
            }
            GitError::OffLimits(_) => (ErrorClass::Terminal, None),
            GitError::Redirected { .. } => (
                ErrorClass::Terminal,
                Some("give the address that it redirects to, if you trust it"),
            ),
            GitError::Missing { .. } => {
                (ErrorClass::Terminal, Some("check the address and the branch; is it private?"))
            }
            GitError::Declined { .. } => (
                ErrorClass::Terminal,
                Some("a hook or a protected branch said no; push to a branch that is open to us"),
            ),
            GitError::Failed { .. } => (ErrorClass::Terminal, None),
        };
        let message = if let GitError::Process(process) = &error {
            process.to_string()
        } else {
            error.to_string()
        };
        let step = Self::new(class, message);
        let step = match hint {
            Some(hint) => step.hint(hint),
            None => step,
        };
        match error {
            GitError::Prepare { source, .. } => step.because(source),
            GitError::OffLimits(denied) => step.hint(denied.hint()),
            GitError::Process(_)
            | GitError::TooOld { .. }
            | GitError::Refused { .. }
            | GitError::Unreachable { .. }
            | GitError::Redirected { .. }
            | GitError::Missing { .. }
            | GitError::Declined { .. }
            | GitError::Failed { .. } => step,
        }
    }
}

/// Reads what git said about a remote. Only English texts come: the program runs with `LC_ALL=C`.
pub(crate) fn from_stderr(operation: &'static str, remote: &str, stderr: &str) -> GitError {
    let said = summary(stderr);
    let lower = stderr.to_ascii_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    let remote = remote.to_owned();
    if has(&["could not find remote branch", "remote branch", "couldn't find remote ref"])
        && lower.contains("not found")
        || has(&["couldn't find remote ref"])
    {
        return GitError::Missing { remote, what: "such branch".into(), said };
    }
    // A login must not go where a remote points; see `Git`.
    if has(&["requested url returned error: 3", "unable to update url base from redirection"]) {
        return GitError::Redirected { remote, said };
    }
    if has(&[
        "authentication failed",
        "permission denied (",
        "could not read username",
        "could not read password",
        "host key verification failed",
        "requested url returned error: 401",
        "requested url returned error: 403",
    ]) {
        return GitError::Refused { remote, said };
    }
    if has(&[
        "could not resolve host",
        "connection refused",
        "connection timed out",
        "connection reset",
        "network is unreachable",
        "failed to connect",
        "couldn't connect to server",
        "operation timed out",
        "requested url returned error: 5",
        "the remote end hung up",
        "early eof",
    ]) {
        return GitError::Unreachable { remote, said };
    }
    if has(&[
        "repository not found",
        "does not appear to be a git repository",
        "requested url returned error: 404",
        "not found",
        "does not exist",
    ]) {
        return GitError::Missing { remote, what: "such repository".into(), said };
    }
    GitError::Failed { operation, said }
}

/// The lines that carry the cause, joined; bounded.
fn summary(stderr: &str) -> String {
    let telling = |line: &&str| {
        let line = line.trim_start();
        ["fatal:", "error:", "remote:", "! ", "ssh:"].iter().any(|p| line.starts_with(p))
    };
    let mut lines: Vec<&str> = stderr.lines().filter(telling).map(str::trim).collect();
    if lines.is_empty() {
        lines = stderr.lines().rev().take(1).map(str::trim).collect();
    }
    let text = lines.join("; ");
    text.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_read_rightly() {
        let read = |text| from_stderr("clone", "file:///x", text);
        assert!(matches!(
            read(
                "fatal: Could not read from remote repository.\nssh: connect to host x port 22: Connection refused\n"
            ),
            GitError::Unreachable { .. }
        ));
        assert!(matches!(
            read("fatal: Authentication failed for 'http://127.0.0.1/x'"),
            GitError::Refused { .. }
        ));
        assert!(matches!(
            read("fatal: unable to access 'http://x/y/': The requested URL returned error: 302"),
            GitError::Redirected { .. }
        ));
        assert!(matches!(
            read("fatal: '/x' does not appear to be a git repository"),
            GitError::Missing { .. }
        ));
        assert!(matches!(
            read("fatal: Remote branch prod not found in upstream origin"),
            GitError::Missing { what, .. } if what == "such branch"
        ));
        assert!(matches!(read("fatal: bad object"), GitError::Failed { .. }));
    }
}
