//! Where the files of workspaces come from: commits from forges by way of kept mirrors, archives from
//! the artifacts.

pub(crate) mod archive;
mod mirrors;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{Fetch, WorkspaceFetcher};
use fairlead_git::{GitError, Wanted};
use fairlead_step::{
    Artifacts, BoxFuture, Digest, ErrorClass, GitWorkspace, StepError, Stream, Workspace,
};

use crate::forges::{Addresses, ForgeAccess};
use mirrors::Mirrors;

/// How long to wait before a forge that was away is asked again. An outage of a moment should fail no
/// run; a long one is for the step's `retry`.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// Brings the files of workspaces.
pub(crate) struct Fetcher {
    access: ForgeAccess,
    mirrors: Mirrors,
    artifacts: Arc<dyn Artifacts>,
}

impl Fetcher {
    /// With the mirrors in `folder`.
    pub(crate) fn new(access: ForgeAccess, folder: PathBuf, artifacts: Arc<dyn Artifacts>) -> Self {
        Self { access, mirrors: Mirrors::new(folder), artifacts }
    }

    async fn git(&self, git: &GitWorkspace, fetch: &Fetch<'_>) -> Result<(), StepError> {
        let addresses = Addresses {
            repository: &git.repository,
            clone_url: git.clone_url.as_deref(),
            ssh_url: git.ssh_url.as_deref(),
        };
        let at = self.access.open(addresses, fetch.scratch, Arc::clone(&fetch.log)).await?;
        let wanted = Wanted {
            commit: git.commit.as_str(),
            reference: git.reference.as_deref(),
            depth: git.options.depth,
            sparse: &git.options.sparse,
            partial: git.options.partial,
        };
        // What is left out of a partial clone is fetched when it is asked for, which a mirror that lacks
        // it, too, cannot do.
        if git.options.partial {
            at.git.lay_out(&at.remote, wanted, None, fetch.into).await?;
            return Ok(());
        }
        let mirror = self.mirrors.take(&at.remote).await?;
        let was_there = mirror.path().exists();
        let laid = async || -> Result<(), GitError> {
            at.git.mirror(&at.remote, wanted, mirror.path()).await?;
            at.git.lay_out(&at.remote, wanted, Some(mirror.path()), fetch.into).await.map(drop)
        };
        match laid().await {
            // It may be the mirror that is damaged; a new one says.
            Err(GitError::Failed { .. }) if was_there => {
                mirror.remove();
                emptied(fetch.into)?;
                laid().await?;
            }
            done => done?,
        }
        drop(mirror);
        self.mirrors.tidy().await;
        Ok(())
    }

    /// The same, also when the forge is away for a moment.
    async fn git_with_patience(
        &self,
        git: &GitWorkspace,
        fetch: &Fetch<'_>,
    ) -> Result<(), StepError> {
        for pause in PAUSES {
            match self.git(git, fetch).await {
                Err(error) if error.class() == ErrorClass::Retryable => {
                    let text = format!("{}; it is tried again in {pause:?}", error.chain());
                    fetch.log.line(Stream::Step, &text);
                    tokio::time::sleep(pause).await;
                    emptied(fetch.into)?;
                }
                done => return done,
            }
        }
        self.git(git, fetch).await
    }

    async fn archive(&self, digest: &Digest, fetch: &Fetch<'_>) -> Result<(), StepError> {
        let packed = fetch.scratch.join("packed");
        archive::download(&*self.artifacts, digest, &packed).await?;
        let into = fetch.into.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || archive::unpack(&packed, &into)).await;
        let amount = unpacked
            .map_err(|error| StepError::retryable("cannot unpack").because(error))?
            .map_err(|error| StepError::terminal(format!("archive {digest}")).because(error))?;
        let text = format!("unpacked {} files, {} bytes", amount.entries, amount.bytes);
        fetch.log.line(Stream::Step, &text);
        Ok(())
    }
}

impl WorkspaceFetcher for Fetcher {
    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            match fetch.workspace {
                Workspace::Git(git) => Box::pin(self.git_with_patience(git, &fetch)).await,
                Workspace::Archive { digest } => self.archive(digest, &fetch).await,
                // Nothing is fetched for these.
                Workspace::Empty {} | Workspace::Local { .. } => Ok(()),
            }
        })
    }
}

/// Empties the folder of a try that failed.
fn emptied(folder: &std::path::Path) -> Result<(), StepError> {
    let again = std::fs::remove_dir_all(folder).and_then(|()| std::fs::create_dir(folder));
    again.map_err(|error| {
        StepError::retryable(format!("cannot empty {}", folder.display())).because(error)
    })
}

#[cfg(test)]
mod tests;
