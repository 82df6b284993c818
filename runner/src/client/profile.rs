//! Which server, and who to be there: `--server`, FAIRLEAD_SERVER, or a profile of the user's
//! configuration; the token from FAIRLEAD_TOKEN or the user's credentials.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fairlead_step::Secret;
use serde::Deserialize;

use crate::exit::Stop;

/// The most bytes of either file.
const MOST: u64 = 1 << 20;

/// A server, and the token to show there.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// Its address, without a slash at the end.
    pub(crate) base: String,
    pub(crate) token: Option<Secret<String>>,
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
    let address = match (&said.server, &said.profile) {
        (Some(server), _) => server.clone(),
        (None, Some(profile)) => of_profile(profile, said.folder.as_deref())?,
        (None, None) => return Ok(None),
    };
    let base = base_of(&address)?;
    let token = match said.token {
        Some(token) => Some(token),
        None => {
            said.folder.as_deref().map(|folder| kept_token(folder, &base)).transpose()?.flatten()
        }
    };
    // A token in the clear is anybody's on the way.
    let host = base.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let loopback = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
    if token.is_some() && base.starts_with("http://") && !loopback {
        return Err(Stop::usage(format!(
            "{base} is not encrypted, and a token would be sent there"
        ))
        .hint("write `https://`; plain HTTP is for loopback addresses alone"));
    }
    Ok(Some(Remote { base, token }))
}

/// The address as requests begin with it.
fn base_of(text: &str) -> Result<String, Stop> {
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

fn of_profile(name: &str, folder: Option<&Path>) -> Result<String, Stop> {
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
    found.map(|(_, profile)| profile.server).ok_or_else(|| {
        Stop::usage(format!("{} has no profile `{name}`", path.display()))
            .hint(format!("it has {}", known.join(", ")))
    })
}

/// The token that is kept for a server: the file maps servers to tokens, and is nobody else's to read.
fn kept_token(folder: &Path, base: &str) -> Result<Option<Secret<String>>, Stop> {
    let path = folder.join("credentials.json");
    let found = match std::fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Stop::usage(format!("cannot read {}", path.display())).because(&error));
        }
    };
    if found.permissions().mode() & 0o077 != 0 {
        return Err(Stop::usage(format!("others may read {}", path.display()))
            .hint(format!("`chmod 600 {}`", path.display())));
    }
    let text = Secret::new(crate::load::text(&path, MOST)?);
    let tokens: BTreeMap<String, String> = serde_json::from_str(text.expose()).map_err(|_| {
        // What is wrong with it may be a part of a token.
        Stop::usage(format!("{} is no JSON object of servers and tokens", path.display()))
            .hint("`fairlead login` writes it anew")
    })?;
    let same = |server: &str| base_of(server).is_ok_and(|server| server == base);
    let found = tokens.into_iter().find(|(server, _)| same(server));
    Ok(found.map(|(_, token)| Secret::new(token)))
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
            (remote.base, remote.token.map(|token| token.expose().clone()))
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
