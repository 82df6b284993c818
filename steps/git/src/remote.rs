//! Where a repository is, which branch is meant, and who to be there.

use std::fmt;
use std::str::FromStr;

use fairlead_step::Secret;

/// How a remote is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP within TLS.
    Https,
    /// HTTP in the clear.
    Http,
    /// The secure shell.
    Ssh,
    /// A folder of this machine.
    File,
}

impl Transport {
    /// The word before `://`, which is also git's name of the protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }

    /// The port that is meant where an address names none.
    #[must_use]
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Https => Some(443),
            Self::Http => Some(80),
            Self::Ssh => Some(22),
            Self::File => None,
        }
    }
}

/// The address of a git repository: `https://`, `http://`, `ssh://`, `file://`, the short ssh form
/// `user@host:path`, or an absolute path.
///
/// An address is read once, here. What git gets is written from the parts that were read, never the
/// text as it came: a reader of its own cannot find another host in it than the one that
/// [`Remote::host`] answers, to which credentials are bound.
///
/// Transports that run programs (`ext::`) and texts that git would read as an option are refused;
/// so are credentials inside the address, which would end up in process lists, and queries and
/// fragments, which no repository has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    text: String,
    transport: Transport,
    host: Option<String>,
    port: Option<u16>,
}

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
        &self.text
    }

    /// How it is reached.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The host, in lower case, that a connection goes to; none of a folder. An IPv6 address stands
    /// in brackets.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port, where it is not the usual one of the transport.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// `https://host`, with the port where it is not the usual one: to whom a password may be
    /// shown. None of anything but HTTP.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let host = match self.transport {
            Transport::Https | Transport::Http => self.host.as_deref()?,
            Transport::Ssh | Transport::File => return None,
        };
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        Some(format!("{}://{host}{port}", self.transport.name()))
    }

    /// The folder of this machine that it is; none of a remote that has a host.
    #[must_use]
    pub fn folder_path(&self) -> Option<std::path::PathBuf> {
        match self.transport {
            Transport::File => url::Url::parse(&self.text).ok()?.to_file_path().ok(),
            Transport::Https | Transport::Http | Transport::Ssh => None,
        }
    }

    fn new(text: String, transport: Transport, host: Option<&str>, port: Option<u16>) -> Self {
        let host = host.map(str::to_ascii_lowercase);
        Self { text, transport, host, port }
    }

    /// A folder, by its absolute path. Depth and protocol rules hold for the URL form alone.
    fn folder(text: &str) -> Result<Self, &'static str> {
        let url = url::Url::from_file_path(text).map_err(|()| "it is not an absolute path")?;
        Ok(Self::new(url.into(), Transport::File, None, None))
    }

    fn url(text: &str) -> Result<Self, &'static str> {
        let url = url::Url::parse(text).map_err(|_| "it is not a well-formed URL")?;
        let transport = match url.scheme() {
            "https" => Transport::Https,
            "http" => Transport::Http,
            "ssh" => Transport::Ssh,
            "file" => Transport::File,
            _ => return Err("the scheme must be https, http, ssh or file"),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(
                "a repository's address has no `?` and no `#`; in a path write %3F and %23",
            );
        }
        // Readers of URLs do not agree on where a backslash ends the host.
        if text.contains('\\') {
            return Err("there is a backslash in it");
        }
        if encodes_controls(text) {
            return Err("it holds encoded control characters");
        }
        if transport == Transport::File {
            return match url.host() {
                None => Ok(Self::new(url.into(), transport, None, None)),
                Some(_) => Err("a folder has no host: write `file:///path`"),
            };
        }
        if text.contains(char::is_whitespace) {
            return Err("there is white space in it; in a path write %20");
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let (host, port) = (host.to_owned(), url.port());
        if transport != Transport::Ssh {
            let (_, rest) = text.split_once("://").unwrap_or_default();
            let authority = rest.split('/').find(|part| !part.is_empty()).unwrap_or_default();
            // Also one that is empty: nobody writes it but to confuse readers.
            if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
                return Err(
                    "credentials do not belong into it; give them as `username` and `password`",
                );
            }
            return Ok(Self::new(url.into(), transport, Some(&host), port));
        }
        if url.password().is_some() {
            return Err("a password does not belong into it; give an ssh key as `ssh_key`");
        }
        let user = url.username();
        if !user.is_empty() && !is_user(user) {
            return Err("the user before `@` is not a plain name");
        }
        // Git decodes the whole text before it looks for the host.
        if !is_host(&host) {
            return Err("the host is not a plain name or address");
        }
        let port = port.filter(|port| *port != 22);
        let before = if user.is_empty() { String::new() } else { format!("{user}@") };
        let behind = port.map_or(String::new(), |port| format!(":{port}"));
        let host = host.to_ascii_lowercase();
        let text = format!("ssh://{before}{host}{behind}{}", url.path());
        Ok(Self::new(text, transport, Some(&host), port))
    }

    /// The short ssh form. It stays one, for its path may begin at the user's home.
    fn short(text: &str) -> Result<Self, &'static str> {
        const FORMS: &str = "write `https://host/path`, `ssh://user@host/path` or `user@host:path`";
        let (before, host, path) = match text.split_once('[') {
            Some((before, rest)) if before.is_empty() || before.ends_with('@') => {
                let (address, path) = rest.split_once("]:").ok_or(FORMS)?;
                (before.strip_suffix('@'), format!("[{address}]"), path)
            }
            Some(_) | None => {
                let (authority, path) = text.split_once(':').ok_or(FORMS)?;
                match authority.split_once('@') {
                    Some((user, host)) => (Some(user), host.to_owned(), path),
                    None => (None, authority.to_owned(), path),
                }
            }
        };
        // `http:/host/path` is a URL to others.
        let is_scheme = matches!(&*host.to_ascii_lowercase(), "http" | "https" | "ssh" | "file");
        if !is_host(&host) || is_scheme || before.is_some_and(|user| !is_user(user)) {
            return Err(FORMS);
        }
        if path.is_empty() || path.starts_with(['-', ':']) || path.contains(['?', '#', '\\']) {
            return Err("the path behind `:` is empty, or holds what no repository's path has");
        }
        let host = host.to_ascii_lowercase();
        let user = before.map_or(String::new(), |user| format!("{user}@"));
        Ok(Self::new(format!("{user}{host}:{path}"), Transport::Ssh, Some(&host), None))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let fail =
            |problem| RemoteError::new(&without_login(text), "git repository address", problem);
        if text.is_empty() || text.len() > 2048 || text.chars().any(char::is_control) {
            return Err(fail("it is empty, too long, or holds control characters"));
        }
        if text.starts_with('-') {
            return Err(fail("it begins with `-`, which git would read as an option"));
        }
        let is_plain = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        match text.split_once("://") {
            _ if text.starts_with('/') => Self::folder(text),
            Some((scheme, _)) if is_plain(scheme) => Self::url(text),
            Some(_) | None if text.contains("::") && !text.contains('[') => {
                Err("transports that run programs are not allowed")
            }
            Some(_) => Err("the scheme must be https, http, ssh or file"),
            None => Self::short(text),
        }
        .map_err(fail)
    }
}

/// The text without what stands before an `@`, which may be a password.
fn without_login(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) if scheme != "ssh" => {
            format!("{scheme}://****@{rest}")
        }
        (Some(("ssh", rest)), Some((login, host))) if login.contains(':') && rest.contains('@') => {
            format!("ssh://****@{host}")
        }
        _ => text.to_owned(),
    }
}

/// Whether percent signs hide control characters, which git would decode.
fn encodes_controls(text: &str) -> bool {
    let hidden = |(at, _)| {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        code.is_some_and(|code| code.is_ascii_control())
    };
    text.match_indices('%').any(hidden)
}

/// Whether it is a user's name that neither ssh nor git reads as anything else.
fn is_user(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    !text.is_empty() && !text.starts_with(['-', '.', '+']) && text.bytes().all(plain)
}

/// Whether it is a host's name (or an alias of ssh's settings), or an address; IPv6 in brackets.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && !text.starts_with(['-', '.']) && text.bytes().all(plain)
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
            ("http://other.example.com#@git.example.com/a/b.git", "no `#`"),
            ("http://other.example.com?@git.example.com/a/b.git", "no `?`"),
            ("http://git.example.com/a/b.git?x=y", "no `?`"),
            ("http://git.example.com/a/b.git#", "no `#`"),
            ("ssh://git@git.example.com/a/b.git?x", "no `?`"),
            ("file:///srv/a.git#x", "no `#`"),
            ("http://other.example.com\\@git.example.com/a/b.git", "backslash"),
            ("http://@git.example.com/a/b.git", "credentials"),
            ("http://git.example.com@other.example.com/a/b.git", "credentials"),
            ("http:///@other.example.com/a/b.git", "credentials"),
            ("https://git.example.com/a b.git", "white space"),
            ("https://git.example.com/a%0ahost=other.example.com", "control"),
            ("https://git.example.com/a\n/b.git", "control"),
            ("https:///", "well-formed"),
            ("ssh:///a/b.git", "host"),
            ("ssh://other.example.com%2F@git.example.com/a.git", "user"),
            ("ssh://git@other.example.com%2fgit.example.com/a.git", "host"),
            ("ssh://-oProxyCommand=x/a.git", "host"),
            ("ssh://-l@git.example.com/a.git", "user"),
            ("ssh://git:s3cr3t@git.example.com/a.git", "ssh_key"),
            ("git@git.example.com:-a/b.git", "path"),
            ("git@git.example.com::a", "run programs"),
            ("git@git.example.com:a#b", "path"),
            ("a@b@git.example.com:x", "write `https"),
            ("file://git.example.com/srv/a.git", "no host"),
            ("ext::ssh://git@git.example.com/x", "run programs"),
        ] {
            let error = bad.parse::<Remote>().unwrap_err().to_string();
            assert!(error.contains(want), "{bad}: {error}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        for text in [
            "https://me:s3cr3t@git.example.com/x",
            "https://s3cr3t@git.example.com/x#y",
            "ssh://me:s3cr3t@git.example.com/x",
            "https://me:s3cr3t@git.example.com:notaport/x",
        ] {
            let error = text.parse::<Remote>().unwrap_err();
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn the_host_is_that_of_the_text_that_git_gets() {
        for (address, text, origin, host, port) in [
            (
                "HTTPS://Git.Example.com:443/a/b.git",
                "https://git.example.com/a/b.git",
                Some("https://git.example.com"),
                Some("git.example.com"),
                None,
            ),
            (
                "http://127.1:3000/a/b.git",
                "http://127.0.0.1:3000/a/b.git",
                Some("http://127.0.0.1:3000"),
                Some("127.0.0.1"),
                Some(3000),
            ),
            (
                "http://[::1]:3000/a/b.git",
                "http://[::1]:3000/a/b.git",
                Some("http://[::1]:3000"),
                Some("[::1]"),
                Some(3000),
            ),
            (
                "ssh://git@Git.example.com:2222/a/b.git",
                "ssh://git@git.example.com:2222/a/b.git",
                None,
                Some("git.example.com"),
                Some(2222),
            ),
            (
                "ssh://git.example.com:22/a/b.git",
                "ssh://git.example.com/a/b.git",
                None,
                Some("git.example.com"),
                None,
            ),
            (
                "git@git.example.com:a/b.git",
                "git@git.example.com:a/b.git",
                None,
                Some("git.example.com"),
                None,
            ),
            ("git@[::1]:a/b.git", "git@[::1]:a/b.git", None, Some("[::1]"), None),
            ("/srv/50% off.git", "file:///srv/50%25%20off.git", None, None, None),
        ] {
            let remote = address.parse::<Remote>().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(remote.as_str(), text);
            assert_eq!(remote.origin().as_deref(), origin, "{address}");
            assert_eq!((remote.host(), remote.port()), (host, port), "{address}");
        }
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
