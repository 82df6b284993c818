//! The workspace as a value: what the folder is made of that relative paths in `with` start from.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, ObjectId};

/// What a run works on. It is a value and no folder: whoever makes an attempt lays it out, on
/// whichever machine, and can do so again a month later. Only [`Workspace::Local`] names a folder, and
/// only the command line makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Workspace {
    /// Nothing: the run has an empty folder of its own.
    Empty {},
    /// A commit at a forge.
    Git(GitWorkspace),
    /// A folder that a client packed, kept as an artifact.
    Archive {
        /// The digest of the archive.
        digest: Digest,
    },
    /// A folder of this machine, which is not the run's own: steps work in it as it is.
    Local {
        /// Its absolute path.
        path: PathBuf,
    },
}

impl Workspace {
    /// The empty one.
    pub const EMPTY: Self = Self::Empty {};

    /// The same with as much of its commit as `options` ask for; what is no commit stays as it is.
    #[must_use]
    pub fn with_options(self, options: &CheckoutOptions) -> Self {
        match self {
            Self::Git(git) => Self::Git(GitWorkspace { options: options.clone(), ..git }),
            other @ (Self::Empty {} | Self::Archive { .. } | Self::Local { .. }) => other,
        }
    }

    /// A folder of this machine.
    #[must_use]
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self::Local { path: path.into() }
    }
}

/// For people, on one line.
impl fmt::Display for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty {} => f.write_str("an empty folder"),
            Self::Git(git) => git.fmt(f),
            Self::Archive { digest } => write!(f, "archive {digest}"),
            Self::Local { path } => path.display().fmt(f),
        }
    }
}

/// A commit at a forge, and how much of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitWorkspace {
    /// The source in the server's configuration that knows the forge.
    pub source: String,
    /// The full name of the repository at the forge, such as `acme/shop`.
    pub repository: String,
    /// The commit.
    pub commit: ObjectId,
    /// The full name under which the commit was found, such as `refs/heads/main`: it is fetched by that
    /// where the forge gives no commit by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where to fetch it over HTTP, as the source's settings have it. Never with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_url: Option<String>,
    /// Where to fetch it over ssh, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_url: Option<String>,
    /// How much of it is wanted.
    #[serde(default, skip_serializing_if = "CheckoutOptions::is_default")]
    pub options: CheckoutOptions,
}

impl fmt::Display for GitWorkspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {} of {} ({})", self.commit, self.repository, self.source)
    }
}

/// How much of a commit is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckoutOptions {
    /// How many commits of history come with it: 1, the commit alone, by default; 0 is all of it.
    #[serde(default = "one")]
    pub depth: u32,
    /// The folders that are wanted, with what lies right beside them on the way down; everything when
    /// none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// Whether file contents of history, and of folders that are not wanted, stay at the forge (a
    /// partial clone).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

const fn one() -> u32 {
    1
}

impl Default for CheckoutOptions {
    fn default() -> Self {
        Self { depth: 1, sparse: Vec::new(), partial: false }
    }
}

impl CheckoutOptions {
    /// The most folders that [`Self::sparse`] names.
    pub const MOST_FOLDERS: usize = 1000;
    /// The most bytes of all their names.
    pub const MOST_BYTES: usize = 64 << 10;

    /// Whether `folder` is the path of a folder below the root of a repository, as [`Self::sparse`] wants
    /// it: nothing that leads out of it or into git's own, and no pattern.
    #[must_use]
    pub fn is_folder(folder: &str) -> bool {
        let mut parts = folder.trim_end_matches('/').split('/');
        !folder.contains(|c: char| c.is_control() || "*?[]\\!#\"".contains(c))
            && !parts.any(|part| matches!(part, "" | "." | ".." | ".git"))
    }

    /// Whether nothing but the usual is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn git() -> GitWorkspace {
        GitWorkspace {
            source: "github".into(),
            repository: "acme/shop".into(),
            commit: "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf".parse().unwrap(),
            reference: Some("refs/heads/main".into()),
            clone_url: Some("https://git.example.com/acme/shop.git".into()),
            ssh_url: None,
            options: CheckoutOptions::default(),
        }
    }

    #[test]
    fn each_has_a_form_that_says_what_it_is() {
        let digest = Digest::sha256(b"packed");
        let options = CheckoutOptions { depth: 0, sparse: vec!["src".into()], partial: true };
        for (workspace, form) in [
            (Workspace::EMPTY, json!({ "kind": "empty" })),
            (
                Workspace::Git(git()),
                json!({
                    "kind": "git", "source": "github", "repository": "acme/shop",
                    "commit": "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf",
                    "reference": "refs/heads/main",
                    "clone_url": "https://git.example.com/acme/shop.git",
                }),
            ),
            (
                Workspace::Git(GitWorkspace { reference: None, clone_url: None, options, ..git() }),
                json!({
                    "kind": "git", "source": "github", "repository": "acme/shop",
                    "commit": "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf",
                    "options": { "depth": 0, "sparse": ["src"], "partial": true },
                }),
            ),
            (
                Workspace::Archive { digest: digest.clone() },
                json!({ "kind": "archive", "digest": digest }),
            ),
            (Workspace::local("/srv/source"), json!({ "kind": "local", "path": "/srv/source" })),
        ] {
            assert_eq!(serde_json::to_value(&workspace).unwrap(), form);
            assert_eq!(serde_json::from_value::<Workspace>(form).unwrap(), workspace);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            json!({}),
            json!({ "kind": "folder", "path": "/" }),
            json!({ "kind": "empty", "path": "/" }),
            json!({ "kind": "local" }),
            json!({ "kind": "local", "path": "/", "digest": "x" }),
            json!({ "kind": "archive", "digest": "sha256:12" }),
            json!({ "kind": "git", "source": "s", "repository": "r", "commit": "main" }),
            json!({ "kind": "git", "source": "s", "repository": "r",
                "commit": "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf", "token": "x" }),
        ] {
            assert!(serde_json::from_value::<Workspace>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_read_what_it_is() {
        assert_eq!(
            Workspace::Git(git()).to_string(),
            "commit 938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf of acme/shop (github)"
        );
        assert_eq!(Workspace::local("/srv").to_string(), "/srv");
        assert_eq!(Workspace::EMPTY.to_string(), "an empty folder");
    }
}
