//! Commits and archives become the folders of runs, by the real git program.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use fairlead_exec::{Layout, ProcessOptions, RunFolders, WorkspaceLayout as _};
use fairlead_step::{CancelToken, CheckoutOptions, Progress, RunId};
use fairlead_store::Store;

use super::*;
use crate::forges::ForgeLogins;
use crate::secrets::Secrets;

/// Keeps what is said.
#[derive(Default)]
struct Lines(std::sync::Mutex<Vec<String>>);

impl fairlead_step::Log for Lines {
    fn line(&self, _: Stream, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn progress(&self, _: Progress) {}
}

#[expect(clippy::disallowed_methods, reason = "a test arranges its repository itself")]
fn shell(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn folders(state: &Path, store: &Store) -> Arc<RunFolders> {
    let access = ForgeAccess {
        processes: Arc::new(ProcessOptions::default()),
        secrets: Arc::new(Secrets::new(Vec::new(), None)),
        logins: ForgeLogins::default(),
        egress: fairlead_step::Egress::open(),
    };
    let fetcher = Fetcher::new(access, state.join("mirrors"), store.artifacts());
    Arc::new(RunFolders::new(state.join("workspaces"), Arc::new(fetcher)))
}

async fn laid(
    folders: &RunFolders,
    number: u64,
    workspace: &Workspace,
    log: &Arc<Lines>,
) -> Result<PathBuf, StepError> {
    let run = RunId::mint(1_790_000_000_000 + number, number);
    let (_handle, cancel) = CancelToken::new();
    folders.lay_out(Layout { run: &run, workspace, log: log.clone(), cancel }).await
}

fn repository(folder: &Path) -> String {
    shell(
        folder,
        "git init -q -b main seed && cd seed && git config user.name t \
         && git config user.email t@example.com && echo x > file && git add . \
         && git commit -q -m first && git rev-parse HEAD",
    )
}

fn git(folder: &Path, commit: &str) -> GitWorkspace {
    GitWorkspace {
        source: "github".into(),
        repository: "acme/shop".into(),
        commit: commit.parse().unwrap(),
        reference: Some("refs/heads/main".into()),
        clone_url: Some(format!("file://{}/seed", folder.display())),
        ssh_url: None,
        options: CheckoutOptions::default(),
    }
}

#[tokio::test]
async fn every_run_has_the_commit_in_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let commit = repository(folder.path());
    let git = Workspace::Git(git(folder.path(), &commit));
    let store = Store::memory();
    // Two servers on one state folder.
    let state = folder.path().join("state");
    let all = [folders(&state, &store), folders(&state, &store)];
    let log = Arc::new(Lines::default());
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let (folders, git) = (Arc::clone(&all[number % 2]), git.clone());
            let log = Arc::clone(&log);
            tokio::spawn(
                async move { laid(&folders, number as u64 / 2, &git, &log).await.unwrap() },
            )
        })
        .collect();
    let mut paths = Vec::new();
    for task in tasks {
        let path = task.await.unwrap();
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "x\n");
        paths.push(path);
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3);
    let text = format!("the workspace is commit {commit} of acme/shop (github)");
    assert!(log.0.lock().unwrap().contains(&text), "{:?}", log.0);

    // The forge is gone, and so is the folder: the mirror has it still, unless it is damaged.
    shell(folder.path(), "rm -rf seed");
    let again = laid(&all[0], 7, &git, &log).await.unwrap();
    assert_eq!(std::fs::read_to_string(again.join("file")).unwrap(), "x\n");
    let left = std::fs::read_dir(state.join("workspaces")).unwrap().flatten();
    let hidden = left.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    assert_eq!(hidden.count(), 0, "nothing is left of the work");
}

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let commit = repository(folder.path());
    let git = Workspace::Git(git(folder.path(), &commit));
    let (store, log) = (Store::memory(), Arc::new(Lines::default()));
    let folders = folders(folder.path(), &store);
    laid(&folders, 1, &git, &log).await.unwrap();
    shell(
        folder.path(),
        "find mirrors -name '*.pack' -o -path '*objects/??/*' | xargs chmod u+w \
        && find mirrors -name '*.pack' -o -path '*objects/??/*' | while read f; do echo x > $f; done",
    );
    laid(&folders, 2, &git, &log).await.unwrap();
}

#[tokio::test]
async fn an_archive_of_the_artifacts_is_unpacked_and_one_that_is_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("source")).unwrap();
    std::fs::write(folder.path().join("source/file"), "packed").unwrap();
    let file = folder.path().join("packed");
    let packed = archive::pack(&folder.path().join("source"), &file, false).unwrap();
    let (store, log) = (Store::memory(), Arc::new(Lines::default()));
    let folders = folders(folder.path(), &store);
    let archive = Workspace::Archive { digest: packed.digest.clone() };
    let error = laid(&folders, 1, &archive, &log).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Terminal);
    let bytes = Bytes::from(std::fs::read(&file).unwrap());
    store.artifacts().put("workspace", archive::MEDIA_TYPE, bytes).await.unwrap();
    let path = laid(&folders, 1, &archive, &log).await.unwrap();
    assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "packed");
}
