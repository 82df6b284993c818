//! A forge by its base URL. The addresses of its repositories are built from that; those in a message
//! are compared and believed in nothing.

use url::Url;

use crate::{ForgeRepository, GitPushed, SenderKind};

/// The most bytes of an address that is configured or compared.
const MAX_ADDRESS: usize = 2048;
/// The most bytes of one part of a repository's name.
const MAX_PART: usize = 255;
/// The most parts of a name where groups nest: GitLab has twenty levels of groups.
const MAX_PARTS: usize = 21;
/// The longest piece of a message that is repeated, in characters.
const SHOWN: usize = 200;

/// A forge: where its repositories are, over HTTP and over ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forge {
    /// The base URL, without a slash at the end.
    base: String,
    /// Its host, as a URL parser reads it.
    host: String,
    /// Its port, where it is not the usual one.
    port: Option<u16>,
    /// Its path, empty or with a slash at the beginning and none at the end.
    path: String,
    /// `ssh://user@host:port`, and a path where there is one.
    ssh: String,
    /// The host of that.
    ssh_host: String,
}

/// Why a text is not the address of a forge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown} is not the base URL of a forge: {problem}")]
pub struct ForgeError {
    /// The text, unless it may hold a password.
    shown: String,
    problem: &'static str,
}

impl Forge {
    /// The forge at `base`, such as `https://git.example.com` or `https://example.com/gitea`. Over
    /// ssh its repositories are at `ssh`, such as `ssh://git@git.example.com:2222`; without it, at
    /// the same host, as the user `git`.
    ///
    /// # Errors
    /// When either is no such URL, or holds a password, a query or a fragment.
    pub fn new(base: &str, ssh: Option<&str>) -> Result<Self, ForgeError> {
        let fail = |text: &str, problem| {
            let shown = if text.contains('@') && !text.starts_with("ssh://") {
                "the address".to_owned()
            } else {
                format!("`{}`", clip(text))
            };
            ForgeError { shown, problem }
        };
        let url = parse(base).map_err(|problem| fail(base, problem))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(fail(base, "write `https://host`, with a path where the forge has one"));
        }
        if base.contains('@') || !url.username().is_empty() || url.password().is_some() {
            let problem = "a login does not belong into it; it stands under `forges`";
            return Err(fail(base, problem));
        }
        let host = url.host_str().ok_or_else(|| fail(base, "it has no host"))?.to_owned();
        let path = url.path().trim_end_matches('/').to_owned();
        let (ssh, ssh_host) = match ssh {
            None => (format!("ssh://git@{host}"), host.clone()),
            Some(text) => ssh_base(text).map_err(|problem| {
                // A password in it is not repeated.
                let login = text
                    .rsplit_once('@')
                    .is_some_and(|(login, _)| login.trim_start_matches("ssh://").contains(':'));
                if login { fail("@", problem) } else { fail(text, problem) }
            })?,
        };
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, host, port: url.port(), path, ssh, ssh_host })
    }

    /// The base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The push with the addresses that this forge, one of `kind`, has for its repository.
    ///
    /// # Errors
    /// As [`Forge::repository`].
    pub fn locate(&self, kind: SenderKind, push: GitPushed) -> Result<GitPushed, String> {
        let ForgeRepository { name, clone_url, ssh_url } = self.repository(kind, (&push).into())?;
        Ok(GitPushed { repository: name, clone_url, ssh_url, ..push })
    }

    /// The repository with the addresses that this forge, one of `kind`, has for it.
    ///
    /// # Errors
    /// Says what does not fit: the name of the repository is none, or an address that the message gave
    /// is not at this forge.
    pub fn repository(
        &self,
        kind: SenderKind,
        at: ForgeRepository,
    ) -> Result<ForgeRepository, String> {
        check_name(kind, &at.name)?;
        let repository = &at.name;
        let wrong = |what: &str, address: &str| {
            format!(
                "`{repository}`: its {what} `{}` is not that of the repository at `{}`, the forge of \
                 this source",
                without_login(address),
                self.base
            )
        };
        let given = |address: &Option<String>| address.clone().filter(|text| !text.is_empty());
        let clone_url = given(&at.clone_url);
        if let Some(address) = &clone_url {
            // Behind a proxy a forge may know its own scheme otherwise than we do, and of a port that
            // we do not see, or the other way around. Two ports are two places.
            let fits = parse(address).is_ok_and(|url| {
                matches!(url.scheme(), "https" | "http")
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.host_str() == Some(&self.host)
                    && url.port().is_none_or(|port| self.port.is_none_or(|ours| ours == port))
                    && same_path(
                        url.path(),
                        &format!("{}{}/{repository}", self.path, kind.folder()),
                    )
            });
            if !fits {
                return Err(wrong("clone address", address));
            }
        }
        if let Some(address) = given(&at.ssh_url) {
            let fits = ssh_parts(&address).is_some_and(|(host, path)| {
                let names = ends_in(&path, repository);
                // A forge may have another name over ssh. Where HTTP says which forge it is, that
                // name is of no use to anybody: ours is built, too.
                let ours = host.eq_ignore_ascii_case(&self.host)
                    || host.eq_ignore_ascii_case(&self.ssh_host);
                names && (ours || clone_url.is_some())
            });
            if !fits {
                return Err(wrong("ssh address", &address));
            }
        }
        let clone_url = format!("{}{}/{repository}.git", self.base, kind.folder());
        let ssh_url = format!("{}/{repository}.git", self.ssh);
        Ok(ForgeRepository { clone_url: Some(clone_url), ssh_url: Some(ssh_url), ..at })
    }
}

/// Checks the name of a repository by the rules of its forge: what ends up in an address is plain
/// parts with slashes between them.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn check_name(kind: SenderKind, name: &str) -> Result<(), String> {
    let least_and_most = match kind {
        SenderKind::GitHub
        | SenderKind::Gitea
        | SenderKind::Bitbucket
        | SenderKind::BitbucketDataCenter => 2..=2,
        SenderKind::GitLab => 2..=MAX_PARTS,
        SenderKind::CloudEvents
        | SenderKind::Distribution
        | SenderKind::Zot
        | SenderKind::Harbor
        | SenderKind::DockerHub
        | SenderKind::Ghcr
        | SenderKind::Quay
        | SenderKind::Acr
        | SenderKind::Ecr
        | SenderKind::Artifactory
        | SenderKind::Nexus => 1..=MAX_PARTS,
    };
    // At Bitbucket Data Center the repositories of a person are under `~person`.
    let plain_name = name.strip_prefix('~').unwrap_or(name);
    let name = if kind == SenderKind::BitbucketDataCenter { plain_name } else { name };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= MAX_PART
            && part.bytes().all(plain)
            && part.bytes().any(|b| b != b'.')
            && !part.to_ascii_lowercase().ends_with(".git")
    };
    let parts = name.split('/').count();
    if least_and_most.contains(&parts) && name.split('/').all(part) {
        return Ok(());
    }
    Err(format!("`{}` is not the name of a repository at a `{kind}` forge", clip(name)))
}

/// A URL without what an address of a forge never has.
fn parse(text: &str) -> Result<Url, &'static str> {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '\\';
    if text.len() > MAX_ADDRESS || !text.chars().all(plain) {
        return Err("it is too long, or holds white space or a backslash");
    }
    let url = Url::parse(text).map_err(|_| "it is not a well-formed URL")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must have no `?` and no `#`");
    }
    Ok(url)
}

/// The base of addresses over ssh, and its host.
fn ssh_base(text: &str) -> Result<(String, String), &'static str> {
    let url = parse(text)?;
    if url.scheme() != "ssh" {
        return Err("write `ssh://user@host`, with a port where it is not 22");
    }
    if url.password().is_some() {
        return Err("a password does not belong into it; `ssh_key` under `forges` names a key");
    }
    let user = if url.username().is_empty() { "git" } else { url.username() };
    let host = url.host_str().unwrap_or_default();
    let plain = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-[]:".contains(&b);
        !text.is_empty() && !text.starts_with(['-', '.']) && text.bytes().all(plain)
    };
    if !plain(user) || !plain(host) {
        return Err("the user or the host is not a plain name");
    }
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let path = url.path().trim_end_matches('/');
    Ok((format!("ssh://{user}@{host}{port}{path}"), host.to_owned()))
}

/// The host and the path of an address over ssh, in either form.
fn ssh_parts(address: &str) -> Option<(String, String)> {
    if address.contains("://") {
        let url = parse(address).ok().filter(|url| url.scheme() == "ssh")?;
        return Some((url.host_str()?.to_owned(), url.path().to_owned()));
    }
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\\?#".contains(c);
    if address.len() > MAX_ADDRESS || !address.chars().all(plain) || address.starts_with('-') {
        return None;
    }
    let (authority, path) = address.split_once(':')?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_short = !host.is_empty() && !authority.contains('/') && !path.is_empty();
    is_short.then(|| (host.to_owned(), path.to_owned()))
}

/// Whether two paths name one repository: `.git` and a slash at the end say nothing, and the large
/// forges do not tell letters apart by their case.
fn same_path(found: &str, wanted: &str) -> bool {
    let found = found.trim_end_matches('/');
    found.strip_suffix(".git").unwrap_or(found).eq_ignore_ascii_case(wanted)
}

/// Whether a path ends in the name of a repository, as whole parts.
fn ends_in(path: &str, name: &str) -> bool {
    let path = path.trim_matches('/');
    let path = format!("/{}", path.strip_suffix(".git").unwrap_or(path));
    let name = format!("/{name}");
    let tail = path.len().checked_sub(name.len()).map(|at| &path.as_bytes()[at..]);
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(name.as_bytes()))
}

/// An address as it may be repeated: without a login, and no longer than a line.
fn without_login(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => clip(&format!("{scheme}://****@{rest}")),
        _ => clip(address),
    }
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChangedPaths, GitRef};

    fn push(repository: &str, clone_url: Option<&str>, ssh_url: Option<&str>) -> GitPushed {
        GitPushed {
            repository: repository.into(),
            clone_url: clone_url.map(Into::into),
            ssh_url: ssh_url.map(Into::into),
            reference: GitRef::Branch("main".into()),
            before: None,
            after: Some("a".repeat(40).parse().unwrap()),
            commit: None,
            forced: false,
            paths: ChangedPaths::Unknown,
            actor: None,
        }
    }

    #[test]
    fn addresses_are_built_from_the_base_and_the_name() {
        for (base, ssh, clone_url, ssh_url) in [
            (
                "https://git.example.com",
                None,
                "https://git.example.com/acme/shop.git",
                "ssh://git@git.example.com/acme/shop.git",
            ),
            (
                "http://Git.Example.com:3000/gitea/",
                Some("ssh://forge@ssh.example.com:2222"),
                "http://git.example.com:3000/gitea/acme/shop.git",
                "ssh://forge@ssh.example.com:2222/acme/shop.git",
            ),
            (
                "https://git.example.com:443/",
                Some("ssh://ssh.example.com/"),
                "https://git.example.com/acme/shop.git",
                "ssh://git@ssh.example.com/acme/shop.git",
            ),
        ] {
            let forge = Forge::new(base, ssh).unwrap();
            let push = forge.locate(SenderKind::GitHub, push("acme/shop", None, None)).unwrap();
            assert_eq!(push.clone_url.as_deref(), Some(clone_url));
            assert_eq!(push.ssh_url.as_deref(), Some(ssh_url));
        }
    }

    #[test]
    fn what_is_no_base_is_refused_and_no_password_repeated() {
        for (base, ssh) in [
            ("git.example.com", None),
            ("file:///srv/git", None),
            ("/srv/git", None),
            ("ssh://git@git.example.com", None),
            ("https://me:s3cr3t@git.example.com", None),
            ("https://@git.example.com", None),
            ("https://git.example.com?x", None),
            ("https://git.example.com#x", None),
            ("https://git.example.com\\x", None),
            ("https:// git.example.com", None),
            ("", None),
            ("https://git.example.com", Some("git@git.example.com")),
            ("https://git.example.com", Some("https://git.example.com")),
            ("https://git.example.com", Some("ssh://git:s3cr3t@git.example.com")),
            ("https://git.example.com", Some("ssh://-oProxyCommand=x")),
            ("https://git.example.com", Some("ssh://a%2F@git.example.com")),
        ] {
            let error = Forge::new(base, ssh).unwrap_err().to_string();
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn an_address_of_elsewhere_is_refused() {
        let forge = Forge::new("https://git.example.com", None).unwrap();
        let (good, good_ssh) =
            ("https://git.example.com/acme/shop.git", "git@git.example.com:acme/shop.git");
        for (clone_url, ssh_url) in [
            (Some(good), Some(good_ssh)),
            (Some(good), None),
            (None, Some(good_ssh)),
            (None, None),
            (Some(""), Some("")),
            // Behind a proxy, without the ending, in other letters, and with another name over ssh.
            (Some("http://git.example.com:3000/acme/shop.git"), None),
            (Some("https://GIT.example.com/Acme/shop"), None),
            (Some(good), Some("ssh://git@ssh.example.com:2222/acme/shop.git")),
            (Some(good), Some("git@localhost:acme/shop.git")),
        ] {
            let located = forge.locate(SenderKind::GitHub, push("acme/shop", clone_url, ssh_url));
            let located = located.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(located.clone_url.as_deref(), Some(good));
            assert_eq!(located.ssh_url.as_deref(), Some("ssh://git@git.example.com/acme/shop.git"));
        }
        let other_port = Some("http://git.example.com:3000/acme/shop.git");
        let forge_at_port = Forge::new("http://git.example.com:4000", None).unwrap();
        let push_to = |url| push("acme/shop", url, None);
        assert!(forge_at_port.locate(SenderKind::GitHub, push_to(other_port)).is_err());
        assert!(forge_at_port.locate(SenderKind::GitHub, push_to(Some(good))).is_ok());
        let at_forge = "@git.example.com/acme/shop.git";
        for (clone_url, ssh_url) in [
            (Some("https://other.example.com/acme/shop.git".to_owned()), None),
            (Some(format!("http://other.example.com#{at_forge}")), None),
            (Some(format!("http://other.example.com?{at_forge}")), None),
            (Some(format!("http://other.example.com\\{at_forge}")), None),
            (Some("https://x:y@git.example.com/acme/shop.git".to_owned()), None),
            (Some("https://git.example.com.other.example.com/acme/shop.git".to_owned()), None),
            (Some("https://git.example.com/acme/other.git".to_owned()), None),
            (Some("https://git.example.com/x/acme/shop.git".to_owned()), None),
            (Some("file:///acme/shop.git".to_owned()), None),
            (Some("/acme/shop.git".to_owned()), None),
            (Some("ext::sh -c x".to_owned()), None),
            (Some("--upload-pack=x".to_owned()), None),
            (None, Some("git@other.example.com:acme/shop.git".to_owned())),
            (None, Some("ssh://git@other.example.com/acme/shop.git".to_owned())),
            (None, Some("git@git.example.com:acme/other.git".to_owned())),
            (Some(good.to_owned()), Some("git@git.example.com:acme/xshop.git".to_owned())),
            (Some(good.to_owned()), Some("-oProxyCommand=x@git.example.com:acme/shop".to_owned())),
        ] {
            let push = push("acme/shop", clone_url.as_deref(), ssh_url.as_deref());
            let refused = forge.locate(SenderKind::GitHub, push).unwrap_err();
            assert!(refused.contains("the forge of this source"), "{refused}");
        }
    }

    #[test]
    fn names_follow_the_rules_of_their_forge() {
        for (kind, good, bad) in [
            (SenderKind::GitHub, &["acme/shop", "a/.github", "a/x.y_z-1"][..], &["a", "a/b/c"][..]),
            (SenderKind::Gitea, &["acme/shop"], &["acme", "a/b/c"]),
            (SenderKind::GitLab, &["acme/shop", "acme/team/sub/shop"], &["acme"]),
            (SenderKind::CloudEvents, &["shop", "acme/team/shop"], &[]),
        ] {
            for name in good {
                assert_eq!(check_name(kind, name), Ok(()), "{kind}");
            }
            let never = [
                "", "/", "a/", "/b", "a//b", "../b", "a/..", "a/.", "a/...", "a/b?c", "a/b#c",
                "a/b c", "a/b\nc", "a/b%2e", "a@b/c", "a:b/c", "a\\b/c", "a/b.git", "a/b.GIT",
                "ä/b", "a/b;c",
            ];
            for name in bad.iter().chain(&never) {
                assert!(check_name(kind, name).is_err(), "{kind}: {name:?}");
            }
            assert!(check_name(kind, &format!("a/{}", "b".repeat(300))).is_err());
        }
        assert!(check_name(SenderKind::GitLab, &vec!["a"; 22].join("/")).is_err());
    }
}
