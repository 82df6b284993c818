//! Which server, and who to be there: `--server`, FAIRLEAD_SERVER, or a profile of the user's
//! configuration; the token from FAIRLEAD_TOKEN or the user's credentials.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fairlead_step::Secret;
use serde::Deserialize;

use super::credentials::{Credentials, Kept, Login};
use crate::exit::Stop;

/// The most bytes of either file.
const MOST: u64 = 1 << 20;

/// A server, and the token to show there.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// Its address, without a slash at the end.
    pub(crate) base: String,
    pub(crate) shows: Shows,
    /// Where logins are kept, where there is a folder for them.
    pub(crate) credentials: Option<Credentials>,
}

/// What is shown to a server.
#[derive(Debug, Clone)]
pub(crate) enum Shows {
    /// Nothing: a server of one's own on this machine may ask for nothing.
    Nothing,
    /// A token that stays as it is.
    Token(Secret<String>),
    /// A login, whose token is renewed.
    Login(Login),
}

impl Shows {
    /// What is kept, as it is shown.
    pub(crate) fn kept(kept: Kept) -> Self {
        match kept {
            Kept::Token(token) => Self::Token(Secret::new(token)),
            Kept::Login(login) => Self::Login(login),
        }
    }
}

/// The user's configuration: `~/.config/fairlead/config.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    /// The address of the server.
    server: String,
    /// A file with the token to show there, where none is kept by `fairlead login`.
    #[serde(default)]
    token_file: Option<PathBuf>,
}

/// What is said of the server: on the command line and in the environment.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) server: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) token: Option<Secret<String>>,
    /// The folder with the user's files, where there is one.
    pub(crate) folder: Option<PathBuf>,
}

/// The server that is meant; none when nobody names one.
pub(crate) fn server_of(said: Said) -> Result<Option<Remote>, Stop> {
    let (address, token_file) = match (&said.server, &said.profile) {
        (Some(server), _) => (server.clone(), None),
        (None, Some(profile)) => {
            let profile = of_profile(profile, said.folder.as_deref())?;
            (profile.server, profile.token_file)
        }
        (None, None) => return Ok(None),
    };
    let base = base_of(&address)?;
    let credentials = said.folder.as_deref().map(Credentials::new);
    let shows = match (said.token, token_file, &credentials) {
        (Some(token), _, _) => Shows::Token(token),
        (None, Some(path), _) => Shows::Token(token_in(&path)?),
        (None, None, Some(credentials)) => {
            credentials.of(&base)?.map_or(Shows::Nothing, Shows::kept)
        }
        (None, None, None) => Shows::Nothing,
    };
    // A token in the clear is anybody's on the way.
    if !matches!(shows, Shows::Nothing) && base.starts_with("http://") && !is_near(&base) {
        return Err(Stop::usage(format!(
            "{base} is not encrypted, and a token would be sent there"
        ))
        .hint("write `https://`; plain HTTP is for loopback addresses alone"));
    }
    Ok(Some(Remote { base, shows, credentials }))
}

/// Whether nothing that is sent to a server leaves this machine.
pub(crate) fn is_near(base: &str) -> bool {
    let host = base.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    // The colons of an address stand in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        Some(_) | None => host,
    };
    is_here(name)
}

/// Whether a host is this machine.
pub(crate) fn is_here(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The token in a file that nobody else may read.
fn token_in(path: &Path) -> Result<Secret<String>, Stop> {
    let found = std::fs::metadata(path).map_err(|error| {
        Stop::usage(format!("cannot read the token in {}", path.display())).because(&error)
    })?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(Stop::usage(format!("others may read {}", path.display()))
            .hint(format!("`chmod 600 {}`", path.display())));
    }
    let token = Secret::new(crate::load::text(path, MOST)?);
    if token.expose().trim().is_empty() {
        return Err(Stop::usage(format!("there is no token in {}", path.display())));
    }
    Ok(token)
}

/// The address as requests begin with it.
pub(super) fn base_of(text: &str) -> Result<String, Stop> {
    let wrong = |why: &str| {
        Stop::usage(format!("the address of the server {why}"))
            .hint("write `https://HOST` or `https://HOST:PORT`")
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("has no `https://` before it"));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "https" | "http") {
        return Err(wrong("is neither `https://` nor `http://`"));
    }
    if rest.contains(['?', '#', '@', '\\']) || rest.contains(char::is_whitespace) {
        return Err(wrong("has a login, a query or a fragment in it"));
    }
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(format!("{scheme}://{}{slash}{path}", host.to_ascii_lowercase()))
}

fn of_profile(name: &str, folder: Option<&Path>) -> Result<Profile, Stop> {
    let Some(folder) = folder else {
        return Err(Stop::usage("there is no folder with profiles").hint("set HOME"));
    };
    let path = folder.join("config.yaml");
    let text = crate::load::text(&path, MOST)?;
    let config: UserConfig = serde_saphyr::from_str(&text).map_err(|e| {
        Stop::usage(format!("{} is not a configuration", path.display()))
            .because(&e)
            .hint("write `profiles: {NAME: {server: https://HOST}}`")
    })?;
    let known: Vec<String> = config.profiles.keys().map(|name| format!("`{name}`")).collect();
    let found = config.profiles.into_iter().find(|(found, _)| found == name);
    found.map(|(_, profile)| profile).ok_or_else(|| {
        Stop::usage(format!("{} has no profile `{name}`", path.display()))
            .hint(format!("it has {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(folder: &Path, server: Option<&str>, profile: Option<&str>) -> Said {
        Said {
            server: server.map(str::to_owned),
            profile: profile.map(str::to_owned),
            token: None,
            folder: Some(folder.to_owned()),
        }
    }

    #[test]
    fn a_server_is_named_by_its_address_or_by_a_profile_and_has_its_own_token() {
        let folder = tempfile::tempdir().unwrap();
        let config = "profiles:\n  work: {server: 'https://Fairlead.example.com/'}\n";
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let kept = r#"{"https://fairlead.example.com": "one", "https://other.example.com": "two"}"#;
        let credentials = folder.path().join("credentials.json");
        std::fs::write(&credentials, kept).unwrap();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&credentials, mode(0o600)).unwrap();
        let found = |server, profile| {
            let remote = server_of(said(folder.path(), server, profile)).unwrap().unwrap();
            let token = match remote.shows {
                Shows::Token(token) => Some(token.expose().clone()),
                Shows::Login(login) => Some(login.token),
                Shows::Nothing => None,
            };
            (remote.base, token)
        };
        let one = ("https://fairlead.example.com".to_owned(), Some("one".to_owned()));
        assert_eq!(found(None, Some("work")), one);
        assert_eq!(found(Some("https://fairlead.example.com"), Some("work")), one);
        assert_eq!(found(Some("http://127.0.0.1:8420/"), None).1, None);
        assert!(server_of(said(folder.path(), None, None)).unwrap().is_none());
        let unknown = server_of(said(folder.path(), None, Some("home"))).unwrap_err();
        assert!(unknown.message.contains("no profile `home`"), "{}", unknown.message);

        std::fs::set_permissions(&credentials, mode(0o640)).unwrap();
        let refused = server_of(said(folder.path(), None, Some("work"))).unwrap_err();
        assert!(refused.message.contains("others may read"), "{}", refused.message);

        // A profile may have its token in a file of its own.
        let file = folder.path().join("token");
        let config = format!(
            "profiles:\n  ci: {{server: 'https://ci.example.com', token_file: '{}'}}\n",
            file.display()
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        std::fs::write(&file, "three\n").unwrap();
        std::fs::set_permissions(&file, mode(0o600)).unwrap();
        assert_eq!(found(None, Some("ci")).1.as_deref(), Some("three\n"));
        std::fs::set_permissions(&file, mode(0o644)).unwrap();
        let refused = server_of(said(folder.path(), None, Some("ci"))).unwrap_err();
        assert!(refused.message.contains("others may read"), "{}", refused.message);
    }

    #[test]
    fn an_address_holds_no_login_and_a_token_is_not_sent_in_the_clear() {
        for bad in [
            "fairlead.example.com",
            "ftp://fairlead.example.com",
            "https://me:s3cr3t@fairlead.example.com",
            "https://fairlead.example.com?x=y",
            "https://",
        ] {
            let error = base_of(bad).unwrap_err();
            assert!(!error.message.contains("s3cr3t"), "{}", error.message);
        }
        let plain = |server: &str| {
            let token = Some(Secret::new("t".to_owned()));
            server_of(Said { server: Some(server.to_owned()), token, ..Said::default() })
        };
        assert!(plain("http://fairlead.example.com").is_err());
        for good in ["http://localhost:8420", "http://[::1]:8420", "https://fairlead.example.com"] {
            assert!(plain(good).is_ok(), "{good}");
        }
    }
}
