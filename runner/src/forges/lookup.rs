//! What forges say of pushes.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_event::{ForgeRepository, GitPushed, ObjectId};
use fairlead_exec::RunFolders;
use fairlead_git::{RefTarget, Remote};
use fairlead_server::{Forges, FoundRef};
use fairlead_step::{BoxFuture, StepError};

use super::access::{Addresses, AtForge, ForgeAccess, Silent};

/// Asks forges, each time in a folder of its own.
pub(crate) struct ForgeLookup {
    pub(crate) access: ForgeAccess,
    pub(crate) folders: Arc<RunFolders>,
}

impl ForgeLookup {
    async fn open(&self, at: &ForgeRepository) -> Result<(AtForge, tempfile::TempDir), StepError> {
        let place = self.folders.scratch().map_err(|error| {
            StepError::retryable("cannot make a folder to work in").because(error)
        })?;
        let addresses = Addresses {
            repository: &at.name,
            clone_url: at.clone_url.as_deref(),
            ssh_url: at.ssh_url.as_deref(),
        };
        let at = self.access.open(addresses, place.path(), Arc::new(Silent)).await?;
        Ok((at, place))
    }
}

impl Forges for ForgeLookup {
    fn find<'a>(
        &'a self,
        push: &'a GitPushed,
    ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
        Box::pin(async move {
            let (AtForge { git, remote, .. }, _place) = &self.open(&push.into()).await?;
            let target = git.ref_target(remote, &push.reference.to_string()).await?;
            target.map(|target| found(remote, &target)).transpose()
        })
    }

    fn find_all<'a>(
        &'a self,
        repository: &'a ForgeRepository,
        patterns: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>> {
        Box::pin(async move {
            let (AtForge { git, remote, .. }, _place) = &self.open(repository).await?;
            let targets = git.ref_targets(remote, patterns).await?.into_iter();
            let each =
                targets.map(|(name, target)| found(remote, &target).map(|found| (name, found)));
            each.collect()
        })
    }

    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
        Box::pin(async move {
            let Some(commit) = &push.commit else { return Ok(false) };
            let (AtForge { git, remote, .. }, place) = &self.open(&push.into()).await?;
            let (reference, history) = (push.reference.to_string(), place.path().join("history"));
            Ok(git.history_has(remote, &reference, commit.as_str(), &history).await?)
        })
    }
}

/// What a remote answered, as objects.
fn found(remote: &Remote, target: &RefTarget) -> Result<FoundRef, StepError> {
    let id = |text: &str| {
        text.parse::<ObjectId>().map_err(|error| {
            StepError::terminal(format!("{remote} answers nonsense")).because(error)
        })
    };
    Ok(FoundRef { object: id(&target.object)?, commit: id(&target.peeled)? })
}
