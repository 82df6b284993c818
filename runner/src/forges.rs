//! Forges: who to be there, by the part of a server's configuration that names logins by host, and the
//! git program with such a login.

mod access;
mod lookup;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use fairlead_git::Remote;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use access::{Addresses, ForgeAccess, Silent};
pub(crate) use lookup::ForgeLookup;

/// Who to be at one forge. Each field but `username` names a secret.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgeLogin {
    /// The user over HTTP.
    pub(crate) username: Option<String>,
    /// The secret with the password or token over HTTP.
    pub(crate) password: Option<String>,
    /// The secret with the private key over ssh. With it, repositories are fetched over ssh.
    pub(crate) ssh_key: Option<String>,
}

/// The logins, by the host that a connection goes to. Every clone has the same, also when they are replaced.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForgeLogins(Arc<RwLock<Vec<KnownLogin>>>);

/// The login of a host, and of a port where one is named.
#[derive(Debug, Clone)]
struct KnownLogin {
    host: String,
    port: Option<u16>,
    login: ForgeLogin,
}

impl ForgeLogins {
    /// Checks the logins as they stand in the configuration, under `host` or `host:port`.
    ///
    /// # Errors
    /// Says what is wrong with which.
    pub(crate) fn new(logins: BTreeMap<String, ForgeLogin>) -> Result<Self, String> {
        let mut checked = Vec::new();
        for (name, login) in logins {
            // As the host of an address is read, so that the two can be compared.
            let address = format!("ssh://{name}/x").parse::<Remote>();
            let host = address.as_ref().ok().filter(|_| !name.contains(['@', '/']));
            let host = host.and_then(Remote::host).ok_or_else(|| {
                format!("`forges`: `{name}` is no host; write `host` or `host:port`")
            })?;
            let port = name.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
            let port = port.and_then(|(_, port)| port.parse().ok());
            if login.username.is_some() != login.password.is_some() {
                return Err(format!("`forges`: `{name}` needs `username` and `password` together"));
            }
            checked.push(KnownLogin { host: host.to_owned(), port, login });
        }
        Ok(Self(Arc::new(RwLock::new(checked))))
    }

    /// From now on the logins are those of `other`, for whoever has a clone of these.
    pub(crate) fn replace(&self, other: &Self) {
        let logins = other.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = logins;
    }

    /// The login of an address: that of its host and port. A login without a port is for the usual
    /// port of the transport alone.
    pub(crate) fn of(&self, remote: &Remote) -> Option<ForgeLogin> {
        let port = remote.port().or(remote.transport().default_port());
        let fits = |named: Option<u16>| named.or(remote.transport().default_port()) == port;
        let host = remote.host()?;
        let logins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = logins.iter().find(|known| known.host == host && fits(known.port));
        found.map(|known| known.login.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(names: &[&str]) -> ForgeLogins {
        let login =
            |name: &str| ForgeLogin { ssh_key: Some(name.to_owned()), ..ForgeLogin::default() };
        let logins = names.iter().map(|name| ((*name).to_owned(), login(name))).collect();
        ForgeLogins::new(logins).unwrap()
    }

    #[test]
    fn a_login_is_that_of_the_very_address() {
        let names = ["git.example.com", "git.example.com:3000", "Other.example.com", "[::1]:2222"];
        let logins = logins(&names);
        for (address, want) in [
            ("https://git.example.com/a/b.git", Some("git.example.com")),
            ("https://git.example.com:443/a/b.git", Some("git.example.com")),
            ("http://GIT.example.com/a/b.git", Some("git.example.com")),
            ("http://git.example.com:3000/a/b.git", Some("git.example.com:3000")),
            ("https://git.example.com:8443/a/b.git", None),
            ("ssh://git@git.example.com/a/b.git", Some("git.example.com")),
            ("ssh://git@git.example.com:2222/a/b.git", None),
            ("git@git.example.com:a/b.git", Some("git.example.com")),
            ("https://other.example.com/a/b.git", Some("Other.example.com")),
            ("https://git.example.com.other.example.com/a/b.git", None),
            ("ssh://git@[::1]:2222/a/b.git", Some("[::1]:2222")),
            ("/srv/a.git", None),
        ] {
            let login = logins.of(&address.parse().unwrap());
            assert_eq!(login.and_then(|login| login.ssh_key).as_deref(), want, "{address}");
        }
    }

    #[test]
    fn what_is_no_host_is_told() {
        for name in
            ["https://git.example.com", "git@git.example.com", "git.example.com/x", "a b", ""]
        {
            let logins = [(name.to_owned(), ForgeLogin::default())].into();
            assert!(ForgeLogins::new(logins).unwrap_err().contains("no host"), "{name}");
        }
        let half = ForgeLogin { username: Some("robot".into()), ..ForgeLogin::default() };
        assert!(ForgeLogins::new([("git.example.com".to_owned(), half)].into()).is_err());
    }
}
