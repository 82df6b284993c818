//! What forges say of pushes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use fairlead_event::{ForgeRepository, GitPushed, ObjectId};
use fairlead_exec::{Fetch, RunFolders, WorkspaceFetcher as _};
use fairlead_git::{RefTarget, Remote};
use fairlead_plan::MAX_SOURCE_BYTES;
use fairlead_server::{FilesAt, Forges, FoundRef, PipelineFiles};
use fairlead_step::{BoxFuture, CancelToken, CheckoutOptions, GitWorkspace, StepError, Workspace};

use super::access::{Addresses, AtForge, ForgeAccess, Silent};
use crate::workspaces::Fetcher;

/// Asks forges, each time in a folder of its own.
pub(crate) struct ForgeLookup {
    pub(crate) access: ForgeAccess,
    pub(crate) folders: Arc<RunFolders>,
    /// What brings the files of commits, by way of the mirrors that runs use.
    pub(crate) fetcher: Arc<Fetcher>,
}

/// The most files of a folder that are looked at.
const MOST_FILES: usize = 1000;

impl ForgeLookup {
    fn place(&self) -> Result<tempfile::TempDir, StepError> {
        self.folders
            .scratch()
            .map_err(|error| StepError::retryable("cannot make a folder to work in").because(error))
    }

    async fn open(&self, at: &ForgeRepository) -> Result<(AtForge, tempfile::TempDir), StepError> {
        let place = self.place()?;
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

    fn files<'a>(&'a self, at: &'a FilesAt) -> BoxFuture<'a, Result<PipelineFiles, StepError>> {
        Box::pin(async move {
            let place = self.place()?;
            let (into, scratch) = (place.path().join("files"), place.path().join("scratch"));
            for folder in [&into, &scratch] {
                std::fs::create_dir(folder).map_err(|error| {
                    StepError::retryable("cannot make a folder to work in").because(error)
                })?;
            }
            let sparse: Vec<String> =
                Some(at.folder.clone()).filter(|it| !it.is_empty()).into_iter().collect();
            let workspace = Workspace::Git(GitWorkspace {
                source: at.source.clone(),
                repository: at.repository.name.clone(),
                commit: at.commit.clone(),
                reference: Some(at.reference.clone()),
                clone_url: at.repository.clone_url.clone(),
                ssh_url: at.repository.ssh_url.clone(),
                options: CheckoutOptions { sparse, ..CheckoutOptions::default() },
            });
            let (_handle, cancel) = CancelToken::new();
            let log = Arc::new(Silent);
            let fetch =
                Fetch { workspace: &workspace, into: &into, scratch: &scratch, log, cancel };
            self.fetcher.fetch(fetch).await?;
            let folder = at.folder.clone();
            let read = tokio::task::spawn_blocking(move || pipeline_files(&into, &folder)).await;
            read.map_err(|error| StepError::retryable("cannot read the files").because(error))?
                .map_err(|why| {
                    let (commit, name) = (&at.commit, &at.repository.name);
                    StepError::terminal(format!("{name} at {commit}: {why}"))
                })
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

/// The pipeline files right in `folder` below `root`, which somebody else has filled: no link is followed.
fn pipeline_files(root: &Path, folder: &str) -> Result<PipelineFiles, String> {
    let mut at = root.to_owned();
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        let is_folder = std::fs::symlink_metadata(&at).is_ok_and(|it| it.is_dir());
        if !is_folder {
            return Err(format!("there is no folder `{folder}`"));
        }
    }
    let unreadable = |error: std::io::Error| format!("`{folder}` cannot be read: {error}");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&at).map_err(unreadable)?.take(MOST_FILES) {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.ends_with(".yaml") && !name.ends_with(".yml") {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            continue;
        }
        let text = if kind.is_file() {
            text(&entry.path())
        } else {
            Err("it is no plain file".to_owned())
        };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        found.insert(path, text);
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let limit = MAX_SOURCE_BYTES as u64;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_of_a_repository_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (place.path().join("files"), place.path().join("elsewhere"));
        let folder = root.join("ci/pipelines");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("a.yaml"), "secret").unwrap();
        std::fs::write(folder.join("good.yaml"), "name: x").unwrap();
        std::fs::write(folder.join("bad.yml"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.join("README.md"), "no pipeline").unwrap();
        std::fs::write(folder.join("large.yaml"), "x".repeat(MAX_SOURCE_BYTES + 1)).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("a.yaml"), folder.join("link.yaml")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("away")).unwrap();
        let found = pipeline_files(&root, "ci/pipelines").unwrap();
        let told: Vec<(&str, Result<&str, &str>)> = found
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_deref().map_err(String::as_str)))
            .collect();
        assert_eq!(
            told,
            [
                ("ci/pipelines/bad.yml", Err("it is not text in UTF-8")),
                ("ci/pipelines/good.yaml", Ok("name: x")),
                ("ci/pipelines/large.yaml", Err("it is larger than 1048576 bytes")),
                ("ci/pipelines/link.yaml", Err("it is no plain file")),
            ]
        );
        for missing in ["away", "ci/none", "ci/pipelines/good.yaml"] {
            assert!(pipeline_files(&root, missing).is_err(), "{missing}");
        }
    }
}
