//! Where a repository is, which branch is meant, and who to be there.

use std::fmt;
use std::str::FromStr;

use fairlead_step::Secret;

/// The address of a git repository: `https://`, `http://`, `ssh://`, `file://`, the short ssh form
/// `user@host:path`, or an absolute path.
///
/// Transports that run programs (`ext::`) and texts that git would read as an option are refused,
/// and so are credentials inside the address: they would end up in process lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote(String);

/// Why a text is not an address or a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {problem}")]
pub struct RemoteError {
    text: String,
    what: &'static str,
    problem: &'static str,
}

impl RemoteError {
    fn new(text: &str, what: &'static str, problem: &'static str) -> Self {
        Self { text: text.chars().take(200).collect(), what, problem }
    }
}

impl Remote {
    /// The text that git gets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let fail = |problem| Err(RemoteError::new(text, "git repository address", problem));
        if text.is_empty() || text.len() > 2048 || text.chars().any(char::is_control) {
            return fail("it is empty, too long, or holds control characters");
        }
        if text.starts_with('-') {
            return fail("it begins with `-`, which git would read as an option");
        }
        if text.starts_with('/') {
            // Depth and protocol rules hold for the URL form alone.
            return Ok(Self(format!("file://{text}")));
        }
        if text.contains("::") {
            return fail("transports that run programs are not allowed");
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return match text.split_once(':') {
                Some((host, path))
                    if !path.is_empty()
                        && !host.is_empty()
                        && !host.contains('/')
                        && !host.starts_with('-')
                        && !host.contains("@-") =>
                {
                    Ok(Self(text.to_owned()))
                }
                _ => fail("write `https://host/path`, `ssh://user@host/path` or `user@host:path`"),
            };
        };
        let Ok(url) = url::Url::parse(text) else {
            return fail("it is not a well-formed URL");
        };
        match scheme {
            "https" | "http" if url.password().is_some() || !url.username().is_empty() => {
                return Err(RemoteError::new(
                    &format!("{scheme}://****@{}", url.host_str().unwrap_or_default()),
                    "git repository address",
                    "credentials do not belong into it; give them as `username` and `password`",
                ));
            }
            "ssh" if url.password().is_some() => {
                return fail("a password does not belong into it; give an ssh key as `ssh_key`");
            }
            "ssh" if url.host_str().is_none_or(|h| h.starts_with('-')) => {
                return fail("it has no host");
            }
            "https" | "http" | "ssh" | "file" => {}
            _ => return fail("the scheme must be https, http, ssh or file"),
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a branch, as `git check-ref-format --branch` allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch(String);

impl Branch {
    /// The name, without `refs/heads/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Branch {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let bad_byte = |b: u8| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b);
        let good = !text.is_empty()
            && text.len() <= 255
            && !text.starts_with(['-', '/'])
            && !text.ends_with(['/', '.'])
            && text != "@"
            && !text.contains("..")
            && !text.contains("@{")
            && !text.contains("//")
            && !text.bytes().any(bad_byte)
            && text.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"));
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(RemoteError::new(text, "branch name", "git's rules for reference names forbid it"))
    }
}

/// Who to be at a remote.
#[derive(Debug, Clone, Default)]
pub enum GitAuth {
    /// Whoever the machine's ssh settings make of us; nobody over HTTP.
    #[default]
    Ambient,
    /// A user and a password or token, for HTTP.
    Password {
        /// The user.
        user: String,
        /// The password or token.
        password: Secret<String>,
    },
    /// A private key, for ssh.
    SshKey {
        /// The key in OpenSSH's or PEM form, not encrypted.
        key: Secret<String>,
        /// Lines of a `known_hosts` file; the machine's own file when `None`.
        known_hosts: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in [
            "https://git.example.com/platform/gitops.git",
            "http://127.0.0.1:3000/a/b.git",
            "ssh://git@git.example.com:2222/platform/gitops.git",
            "git@git.example.com:platform/gitops.git",
            "file:///srv/git/gitops.git",
        ] {
            assert_eq!(good.parse::<Remote>().unwrap().as_str(), good);
        }
        assert_eq!("/srv/x.git".parse::<Remote>().unwrap().as_str(), "file:///srv/x.git");
        for (bad, want) in [
            ("", "empty"),
            ("--upload-pack=touch x", "option"),
            ("ext::sh -c true", "run programs"),
            ("-oProxyCommand=x:y", "option"),
            ("git@-oProxyCommand=x:y", "write `https"),
            ("ftp://x/y", "scheme"),
            ("relative/path", "write `https"),
        ] {
            let error = bad.parse::<Remote>().unwrap_err().to_string();
            assert!(error.contains(want), "{bad}: {error}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        let error = "https://me:s3cr3t@git.example.com/x".parse::<Remote>().unwrap_err();
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }

    #[test]
    fn branch_names_are_checked() {
        for good in ["main", "feature/x-1", "release/v1.2"] {
            assert!(good.parse::<Branch>().is_ok(), "{good}");
        }
        for bad in ["", "-d", "a..b", "a b", "a/.b", "x.lock", "a//b", "@", "a@{1}", "a:b"] {
            assert!(bad.parse::<Branch>().is_err(), "{bad}");
        }
    }
}
