//! Checkouts of pushed commits, for the runs that pushes start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::GitPushed;
use fairlead_exec::{Mask, ProcessHost, ProcessOptions, SecretProvider};
use fairlead_git::{Checkout, Git, GitAuth, Remote};
use fairlead_run::{Journal, Run, RunFilter, StoreError};
use fairlead_server::Workspaces;
use fairlead_step::{BoxFuture, CancelToken, Log, Progress, StepError, Stream};
use schemars::JsonSchema;
use serde::Deserialize;

/// How many checkouts may lie about before those that no run needs are removed.
const KEPT: usize = 32;

/// How long a checkout may lie about before its run is written down.
const YOUNG: Duration = Duration::from_secs(3600);

/// Who to be at one forge. Each field but `username` names a secret.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgeLogin {
    /// The user over HTTP.
    username: Option<String>,
    /// The secret with the password or token over HTTP.
    password: Option<String>,
    /// The secret with the private key over ssh. With it, repositories are fetched over ssh.
    ssh_key: Option<String>,
}

/// Checks out commits into folders of the state folder, one for each event.
pub(crate) struct Checkouts {
    pub(crate) folder: PathBuf,
    pub(crate) processes: Arc<ProcessOptions>,
    pub(crate) secrets: Arc<dyn SecretProvider>,
    pub(crate) journal: Arc<dyn Journal>,
    /// By the host of the forge.
    pub(crate) logins: BTreeMap<String, ForgeLogin>,
}

/// A log for what happens outside of any run.
pub(crate) struct Silent;

impl Log for Silent {
    fn line(&self, _: Stream, _: &str) {}

    fn progress(&self, _: Progress) {}
}

impl Workspaces for Checkouts {
    fn checkout<'a>(
        &'a self,
        push: &'a GitPushed,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, StepError>> {
        Box::pin(self.check_out(push, key))
    }
}

impl Checkouts {
    async fn check_out(&self, push: &GitPushed, key: &str) -> Result<Option<PathBuf>, StepError> {
        let Some(commit) = push.commit.as_ref().or(push.after.as_ref()) else { return Ok(None) };
        let folder = self.folder.join(key.get(..32).unwrap_or(key));
        let files = folder.join("files");
        if files.exists() {
            return Ok(Some(files));
        }
        let fail = |what: &str, path: &Path| {
            let message = format!("cannot {what} {}", path.display());
            move |error: std::io::Error| StepError::retryable(message).because(error)
        };
        if self.count() >= KEPT {
            self.prune().await.map_err(|error| {
                StepError::retryable("cannot see which checkouts are needed").because(error)
            })?;
        }
        // What an earlier attempt left half done is begun anew.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(fail("remove", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(fail("make", &folder))?;
        let (remote, auth) = self.remote(push).await?;
        let (_handle, cancel) = CancelToken::new();
        let host = ProcessHost::new(
            Arc::clone(&self.processes),
            folder.clone(),
            Arc::new(Silent),
            Arc::new(Mask::default()),
            cancel,
        );
        let home = folder.join("home");
        let git = Git::new(Arc::new(host), &home, &auth)?;
        let unfinished = folder.join("unfinished");
        let done = Checkout::at_commit(&git, &remote, commit.as_str(), &unfinished).await;
        // The home holds credentials: it goes at once, whatever came of it.
        std::fs::remove_dir_all(&home).map_err(fail("remove", &home))?;
        done?;
        std::fs::rename(&unfinished, &files).map_err(fail("name", &unfinished))?;
        Ok(Some(files))
    }

    /// The address to fetch from, and who to be there.
    async fn remote(&self, push: &GitPushed) -> Result<(Remote, GitAuth), StepError> {
        let host = push.clone_url.as_deref().or(push.ssh_url.as_deref()).and_then(host_of);
        let login = host.and_then(|host| self.logins.get(host)).cloned().unwrap_or_default();
        let secret = async |name: &str| {
            self.secrets.get(name).await.map_err(|error| StepError::terminal(error.to_string()))
        };
        let over_ssh = login.ssh_key.is_some() || push.clone_url.is_none();
        let address = if over_ssh { &push.ssh_url } else { &push.clone_url };
        let address = address.as_ref().ok_or_else(|| {
            StepError::terminal(format!("the push to {} says no address", push.repository))
        })?;
        let remote = address
            .parse()
            .map_err(|error: fairlead_git::RemoteError| StepError::terminal(error.to_string()))?;
        let auth = match (&login.ssh_key, &login.username, &login.password) {
            (Some(key), _, _) => GitAuth::SshKey { key: secret(key).await?, known_hosts: None },
            (None, Some(user), Some(password)) => {
                GitAuth::Password { user: user.clone(), password: secret(password).await? }
            }
            (None, _, _) => GitAuth::Ambient,
        };
        Ok((remote, auth))
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.folder).map_or(0, Iterator::count)
    }

    /// Removes the checkouts that no unfinished run works in.
    pub(crate) async fn prune(&self) -> Result<(), StoreError> {
        // Listed first: what is made after that is not looked at.
        let made: Vec<DirEntry> =
            std::fs::read_dir(&self.folder).into_iter().flatten().flatten().collect();
        let mut filter =
            RunFilter { unfinished: true, limit: RunFilter::MOST, ..RunFilter::default() };
        let mut needed = BTreeSet::new();
        loop {
            let page = self.journal.list(filter.clone()).await?;
            filter.before = page.last().map(|run| run.id.clone());
            let is_last = page.len() < RunFilter::MOST;
            for summary in page {
                let stored = self.journal.load(&summary.id).await?;
                // A run that cannot be read may still be mended: then nothing is removed.
                let Ok(run) = Run::restore(&stored) else { return Ok(()) };
                needed.insert(run.request().workspace.clone());
            }
            if is_last {
                break;
            }
        }
        for entry in made {
            if !needed.contains(&entry.path().join("files")) && !is_young(&entry) {
                // What cannot be removed now is found again the next time.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

/// Whether it was made so lately that its run may still have to be written down.
fn is_young(checkout: &DirEntry) -> bool {
    let changed = checkout.metadata().and_then(|found| found.modified());
    let age = changed.ok().and_then(|changed| changed.elapsed().ok());
    age.is_none_or(|age| age < YOUNG)
}

/// The host in a repository's address, with its port.
fn host_of(address: &str) -> Option<&str> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    if address.contains("://") { Some(host) } else { host.split(':').next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_in_every_form_of_address() {
        for (address, want) in [
            ("https://git.example.com/a/b.git", "git.example.com"),
            ("http://127.0.0.1:3000/a/b.git", "127.0.0.1:3000"),
            ("ssh://git@git.example.com:2222/a/b.git", "git.example.com:2222"),
            ("git@git.example.com:a/b.git", "git.example.com"),
        ] {
            assert_eq!(host_of(address), Some(want));
        }
    }
}
