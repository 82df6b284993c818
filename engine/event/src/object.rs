//! Names in git: branches and tags, parsed into a type that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest reference name that is taken, in bytes. Git itself has no limit; file systems do.
const MAX_REF: usize = 512;

/// A branch or a tag. Its text is the full name, `refs/heads/main` or `refs/tags/v1`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum GitRef {
    /// A branch, by its short name, such as `main`.
    Branch(String),
    /// A tag, by its short name, such as `v1.0.0`.
    Tag(String),
}

/// Why a text is not a branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a branch or tag: {problem}")]
pub struct GitRefError {
    text: String,
    problem: &'static str,
}

impl GitRef {
    /// The name without `refs/heads/` or `refs/tags/`.
    #[must_use]
    pub fn short(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }

    /// The branch's name, where it is one.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        match self {
            Self::Branch(name) => Some(name),
            Self::Tag(_) => None,
        }
    }

    /// The tag's name, where it is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Branch(_) => None,
            Self::Tag(name) => Some(name),
        }
    }
}

impl FromStr for GitRef {
    type Err = GitRefError;

    /// The rules are those of `git check-ref-format` that keep a name harmless in a command line,
    /// a path and a log.
    fn from_str(text: &str) -> Result<Self, GitRefError> {
        let fail = |problem| Err(GitRefError { text: text.chars().take(120).collect(), problem });
        let (make, name): (fn(String) -> Self, &str) =
            match (text.strip_prefix("refs/heads/"), text.strip_prefix("refs/tags/")) {
                (Some(name), _) => (Self::Branch, name),
                (None, Some(name)) => (Self::Tag, name),
                (None, None) => return fail("it must begin with `refs/heads/` or `refs/tags/`"),
            };
        if text.len() > MAX_REF {
            return fail("it is longer than 512 bytes");
        }
        let bad_part = |part: &str| part.is_empty() || part.starts_with('.');
        if name.split('/').any(bad_part)
            || name.starts_with('-')
            || name.ends_with('.')
            || name.contains("..")
            || name.contains("@{")
        {
            return fail("git would refuse the name");
        }
        let refused =
            |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        if name.contains(refused) {
            return fail("there is a character in it that git refuses");
        }
        Ok(make(name.to_owned()))
    }
}

impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "refs/heads/{name}"),
            Self::Tag(name) => write!(f, "refs/tags/{name}"),
        }
    }
}

impl TryFrom<String> for GitRef {
    type Error = GitRefError;

    fn try_from(text: String) -> Result<Self, GitRefError> {
        text.parse()
    }
}

impl From<GitRef> for String {
    fn from(reference: GitRef) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_branches_or_tags_with_harmless_names() {
        assert_eq!("refs/heads/feature/x".parse(), Ok(GitRef::Branch("feature/x".into())));
        assert_eq!("refs/tags/v1.0".parse(), Ok(GitRef::Tag("v1.0".into())));
        for bad in [
            "main",
            "refs/pull/1/head",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/-x",
            "refs/heads/a b",
            "refs/heads/.a",
            "refs/heads/a//b",
            "refs/heads/a\nb",
            "refs/heads/a@{1}",
        ] {
            assert!(bad.parse::<GitRef>().is_err(), "{bad:?}");
        }
    }
}
