//! Checkouts of pushed commits, for the runs that pushes start, and what forges say of pushes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirEntry, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fairlead_event::{ForgeRepository, GitPushed, ObjectId};
use fairlead_exec::{FolderLock as Lock, Mask, ProcessHost, ProcessOptions, SecretProvider};
use fairlead_git::{Checkout, Git, GitAuth, RefTarget, Remote};
use fairlead_run::{Journal, Run, RunFilter, StoreError};
use fairlead_server::{FoundRef, Workspaces};
use fairlead_step::{
    BoxFuture, CancelHandle, CancelToken, Egress, Log, Progress, StepError, Stream, Workspace,
};

use crate::forges::ForgeLogins;

/// How many checkouts may lie about before those that no run needs are removed.
const KEPT: usize = 32;

/// How long a checkout may lie about before its run is written down.
const YOUNG: Duration = Duration::from_secs(3600);

/// What the names of folders begin with in which somebody works. They are never anybody's checkout.
const UNFINISHED: &str = ".unfinished-";

/// Checks out commits into folders of the state folder, one for each event.
pub(crate) struct Checkouts {
    pub(crate) folder: PathBuf,
    pub(crate) processes: Arc<ProcessOptions>,
    pub(crate) secrets: Arc<dyn SecretProvider>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) logins: ForgeLogins,
    pub(crate) egress: Egress,
}

/// What one piece of work needs. All of it goes with the value: the home in the folder holds
/// credentials, and processes end when nobody waits for them any more.
struct Work {
    git: Git,
    remote: Remote,
    place: tempfile::TempDir,
    _handle: CancelHandle,
}

/// A log for what happens outside of any run.
pub(crate) struct Silent;

impl Log for Silent {
    fn line(&self, _: Stream, _: &str) {}

    fn progress(&self, _: Progress) {}
}

impl Workspaces for Checkouts {
    fn find<'a>(
        &'a self,
        push: &'a GitPushed,
    ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
        Box::pin(async move {
            let Work { git, remote, .. } = &self.work(&push.into()).await?;
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
            let Work { git, remote, .. } = &self.work(repository).await?;
            let targets = git.ref_targets(remote, patterns).await?;
            let each = targets
                .into_iter()
                .map(|(name, target)| found(remote, &target).map(|found| (name, found)));
            each.collect()
        })
    }

    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
        Box::pin(async move {
            let Some(commit) = &push.commit else { return Ok(false) };
            let Work { git, remote, place, .. } = &self.work(&push.into()).await?;
            let (reference, history) = (push.reference.to_string(), place.path().join("history"));
            Ok(git.history_has(remote, &reference, commit.as_str(), &history).await?)
        })
    }

    fn checkout<'a>(
        &'a self,
        push: &'a GitPushed,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<PathBuf>, StepError>> {
        Box::pin(async move {
            let Some(commit) = push.commit.as_ref().or(push.after.as_ref()) else {
                return Ok(None);
            };
            if self.count() >= KEPT {
                self.prune().await.map_err(|error| {
                    StepError::retryable("cannot see which checkouts are needed").because(error)
                })?;
            }
            let name = key.get(..32).unwrap_or(key);
            self.check_out(push, commit, name).await.map(Some)
        })
    }
}

impl Checkouts {
    /// The folder with the files of `commit`, under the name `name`. Whoever makes it holds its lock,
    /// and it appears under its name as a whole: others find all of it or nothing.
    pub(crate) async fn check_out(
        &self,
        push: &GitPushed,
        commit: &ObjectId,
        name: &str,
    ) -> Result<PathBuf, StepError> {
        let whole = self.folder.join(name);
        let files = whole.join("files");
        std::fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let _lock = Lock::take(&whole).await.map_err(failed("lock", &whole))?;
        if files.is_dir() {
            // Looked at by its age when checkouts are pruned: it is about to be needed.
            let _ = File::open(&whole).and_then(|it| it.set_modified(now()));
            return Ok(files);
        }
        let Work { git, remote, place, .. } = &self.work(&push.into()).await?;
        let made = place.path().join("made");
        std::fs::create_dir(&made).map_err(failed("make", &made))?;
        Checkout::at_commit(git, remote, commit.as_str(), &made.join("files")).await?;
        if whole.exists() {
            // An older build left it half done: it has no files, or there would have been no need.
            std::fs::remove_dir_all(&whole).map_err(failed("remove", &whole))?;
        }
        std::fs::rename(&made, &whole).map_err(failed("name", &made))?;
        Ok(files)
    }

    /// A folder to work in, which goes with whatever is left in it: the home holds credentials.
    fn place(&self) -> Result<tempfile::TempDir, StepError> {
        std::fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let place = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.folder);
        place.map_err(failed("make a folder in", &self.folder))
    }

    /// The git program in a place of its own, and the address to fetch from, with who to be there.
    async fn work(&self, repository: &ForgeRepository) -> Result<Work, StepError> {
        let place = self.place()?;
        let (remote, auth) = self.remote(repository).await?;
        let (handle, cancel) = CancelToken::new();
        let host = ProcessHost::new(
            Arc::clone(&self.processes),
            place.path(),
            Arc::new(Silent),
            Arc::new(Mask::default()),
            cancel,
        );
        let git = Git::new(Arc::new(host), &place.path().join("home"), &auth)?
            .within(self.egress.clone());
        Ok(Work { git, remote, place, _handle: handle })
    }

    /// The address to fetch from, and who to be there: over ssh where there is a key for the host of
    /// the address over ssh, else over HTTP. A login is that of the very address.
    async fn remote(&self, repository: &ForgeRepository) -> Result<(Remote, GitAuth), StepError> {
        let secret = async |name: &str| {
            self.secrets.get(name).await.map_err(|error| StepError::terminal(error.to_string()))
        };
        let parsed = |address: &Option<String>| -> Result<Option<Remote>, StepError> {
            let parsed = address.as_deref().map(str::parse::<Remote>).transpose();
            parsed.map_err(|error| StepError::terminal(error.to_string()))
        };
        let (http, ssh) = (parsed(&repository.clone_url)?, parsed(&repository.ssh_url)?);
        if let Some(remote) = ssh
            && let Some(key) = self.logins.of(&remote).and_then(|login| login.ssh_key.as_ref())
        {
            return Ok((remote, GitAuth::SshKey { key: secret(key).await?, known_hosts: None }));
        }
        let remote = http.ok_or_else(|| {
            StepError::terminal(format!("the event of {} names no address", repository.name))
                .hint("name the `forge` of the source in the server's configuration")
        })?;
        let auth = match self.logins.of(&remote).map(|login| (&login.username, &login.password)) {
            Some((Some(user), Some(password))) => {
                GitAuth::Password { user: user.clone(), password: secret(password).await? }
            }
            Some(_) | None => GitAuth::Ambient,
        };
        Ok((remote, auth))
    }

    /// What lies in the folder: checkouts, and what somebody works on.
    fn entries(&self) -> impl Iterator<Item = DirEntry> {
        std::fs::read_dir(&self.folder).into_iter().flatten().flatten()
    }

    fn count(&self) -> usize {
        self.entries().filter(|entry| !is_hidden(entry)).count()
    }

    /// Removes the checkouts that no unfinished run works in, and what was left half done.
    pub(crate) async fn prune(&self) -> Result<(), StoreError> {
        // Listed first: what is made after that is not looked at.
        let made: Vec<DirEntry> = self.entries().collect();
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
                // By its name: the folder above may be called otherwise when the server starts again.
                let whole = match &run.request().workspace {
                    Workspace::Local { path } => path.parent().and_then(Path::file_name),
                    Workspace::Empty {} | Workspace::Git(_) | Workspace::Archive { .. } => None,
                };
                needed.extend(whole.map(ToOwned::to_owned));
            }
            if is_last {
                break;
            }
        }
        for entry in made {
            if needed.contains(&entry.file_name()) || is_young(&entry) {
                continue;
            }
            if is_hidden(&entry) {
                // A lock is its holder's to remove; a folder has nobody left who works in it.
                let _ = std::fs::remove_dir_all(entry.path());
                continue;
            }
            self.remove(&entry.path());
        }
        Ok(())
    }

    /// Removes a checkout, unless somebody is about to use it. It is gone under its name at once.
    fn remove(&self, whole: &Path) {
        let Ok(Some(_lock)) = Lock::try_take(whole) else { return };
        if std::fs::metadata(whole).is_ok_and(|found| is_recent(&found)) {
            return;
        }
        // What cannot be removed now is found again the next time.
        let Ok(place) = self.place() else { return };
        let _ = std::fs::rename(whole, place.path().join("gone"));
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

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    let message = format!("cannot {what} {}", path.display());
    move |error| StepError::retryable(message).because(error)
}

/// Whether it is a lock or a place to work in, and no checkout.
fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Whether it was made so lately that its run may still have to be written down.
fn is_young(entry: &DirEntry) -> bool {
    entry.metadata().is_ok_and(|found| is_recent(&found))
}

fn is_recent(found: &std::fs::Metadata) -> bool {
    let age = found.modified().ok().and_then(|changed| changed.elapsed().ok());
    age.is_none_or(|age| age < YOUNG)
}

/// The time of the file system's clock, which ages are measured by.
#[expect(clippy::disallowed_methods, reason = "ages of files are by the machine's own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use fairlead_event::ChangedPaths;

    use super::*;
    use crate::secrets::Secrets;

    #[expect(clippy::disallowed_methods, reason = "a test arranges its repository itself")]
    fn shell(folder: &Path, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn checkouts(folder: &Path) -> Arc<Checkouts> {
        Arc::new(Checkouts {
            folder: folder.join("checkouts"),
            processes: Arc::new(ProcessOptions::default()),
            secrets: Arc::new(Secrets::new(Vec::new(), None)),
            journal: fairlead_store::Store::memory().journal(),
            logins: ForgeLogins::default(),
            egress: Egress::open(),
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn of_two_handlers_of_an_event_neither_disturbs_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let commit = shell(
            folder.path(),
            "git init -q -b main seed && cd seed && git config user.name t \
             && git config user.email t@example.com && echo x > file && git add . \
             && git commit -q -m first && git rev-parse HEAD",
        );
        let commit: ObjectId = commit.parse().unwrap();
        let push = GitPushed {
            repository: "acme/shop".into(),
            clone_url: Some(format!("file://{}/seed", folder.path().display())),
            ssh_url: None,
            reference: "refs/heads/main".parse().unwrap(),
            before: None,
            after: Some(commit.clone()),
            commit: Some(commit.clone()),
            forced: false,
            paths: ChangedPaths::Unknown,
            actor: None,
        };
        // Two servers on one state folder, each with several handlers. An older build left half of it.
        let all = [checkouts(folder.path()), checkouts(folder.path())];
        std::fs::create_dir_all(all[0].folder.join("event/unfinished")).unwrap();
        let tasks: Vec<_> = (0..6)
            .map(|number| {
                let (checkouts, push) = (Arc::clone(&all[number % 2]), push.clone());
                tokio::spawn(async move {
                    let files = checkouts.checkout(&push, "event").await.unwrap().unwrap();
                    // Whoever is answered finds all of it, and so it stays.
                    for _ in 0..20 {
                        assert_eq!(std::fs::read_to_string(files.join("file")).unwrap(), "x\n");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    files
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), all[0].folder.join("event/files"));
        }
        assert_eq!(names(&all[0].folder), ["event"], "nothing is left of the work");
        let found = all[0].find(&push).await.unwrap().unwrap();
        assert_eq!((&found.object, &found.commit), (&commit, &commit));
        assert!(all[0].contains(&push).await.unwrap());

        // It is young; when it is old and nobody needs it, it goes.
        all[0].prune().await.unwrap();
        assert_eq!(names(&all[0].folder), ["event"]);
        shell(&all[0].folder, "mkdir .unfinished-x && touch -d '2 hours ago' event .unfinished-x");
        all[0].prune().await.unwrap();
        assert_eq!(names(&all[0].folder), [""; 0]);
    }
}
