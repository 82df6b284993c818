//! The git program at a forge: where a repository is, who to be there, and a private place to be it in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fairlead_exec::{Mask, ProcessHost, ProcessOptions, SecretProvider};
use fairlead_git::{Git, GitAuth, Remote};
use fairlead_step::{CancelHandle, CancelToken, Egress, Log, Progress, Secret, StepError, Stream};

use super::ForgeLogins;

/// What reaching forges takes.
#[derive(Clone)]
pub(crate) struct ForgeAccess {
    pub(crate) processes: Arc<ProcessOptions>,
    pub(crate) secrets: Arc<dyn SecretProvider>,
    pub(crate) logins: ForgeLogins,
    /// Which hosts may be spoken to.
    pub(crate) egress: Egress,
}

/// A repository at a forge, by the addresses that the source's settings have for it.
#[derive(Clone, Copy)]
pub(crate) struct Addresses<'a> {
    pub(crate) repository: &'a str,
    pub(crate) clone_url: Option<&'a str>,
    pub(crate) ssh_url: Option<&'a str>,
}

/// The git program for one piece of work. Processes end when nobody waits for them any more.
pub(crate) struct AtForge {
    pub(crate) git: Git,
    pub(crate) remote: Remote,
    _handle: CancelHandle,
}

/// A log for what happens outside of any run.
pub(crate) struct Silent;

impl Log for Silent {
    fn line(&self, _: Stream, _: &str) {}

    fn progress(&self, _: Progress) {}
}

impl ForgeAccess {
    /// The git program with its home in `place`, whose owner removes it: the home holds credentials.
    pub(crate) async fn open(
        &self,
        addresses: Addresses<'_>,
        place: &Path,
        log: Arc<dyn Log>,
    ) -> Result<AtForge, StepError> {
        let (remote, auth) = self.remote(addresses).await?;
        let (handle, cancel) = CancelToken::new();
        let shown = match &auth {
            GitAuth::Ambient => None,
            GitAuth::Password { password, .. } => Some(password),
            GitAuth::SshKey { key, .. } => Some(key),
        };
        let shown = shown.map(|secret| ("login".to_owned(), secret.clone()));
        let mask = Mask::new(&shown.into_iter().collect::<BTreeMap<_, _>>());
        let processes = Arc::clone(&self.processes);
        let host = ProcessHost::new(processes, place, log, Arc::new(mask), cancel);
        let git = Git::new(Arc::new(host), &place.join("home"), &auth)?;
        let git = git.within(self.egress.clone());
        Ok(AtForge { git, remote, _handle: handle })
    }

    /// The address to fetch from, and who to be there: over ssh where there is a key for the host of
    /// the address over ssh, else over HTTP. A login is that of the very address.
    async fn remote(&self, addresses: Addresses<'_>) -> Result<(Remote, GitAuth), StepError> {
        let secret = async |name: &str| -> Result<Secret<String>, StepError> {
            self.secrets.get(name).await.map_err(|error| StepError::terminal(error.to_string()))
        };
        let parsed = |address: Option<&str>| -> Result<Option<Remote>, StepError> {
            let parsed = address.map(str::parse::<Remote>).transpose();
            parsed.map_err(|error| StepError::terminal(error.to_string()))
        };
        let (http, ssh) = (parsed(addresses.clone_url)?, parsed(addresses.ssh_url)?);
        if let Some(remote) = ssh
            && let Some(key) = self.logins.of(&remote).and_then(|login| login.ssh_key)
        {
            return Ok((remote, GitAuth::SshKey { key: secret(&key).await?, known_hosts: None }));
        }
        let remote = http.ok_or_else(|| {
            StepError::terminal(format!("nobody says where {} is", addresses.repository))
                .hint("name the `forge` of the source in the server's configuration")
        })?;
        let auth = match self.logins.of(&remote).map(|login| (login.username, login.password)) {
            Some((Some(user), Some(password))) => {
                GitAuth::Password { user, password: secret(&password).await? }
            }
            Some(_) | None => GitAuth::Ambient,
        };
        Ok((remote, auth))
    }
}
