//! The typed operations against the real `git` program and bare repositories in temporary folders.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod credentials;
mod refs;
mod workspace;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fairlead_git::{Checkout, Git, GitAuth, GitError, Identity, Push, Remote};
use fairlead_step::kit::TestHost;
use fairlead_step::{Capability, Effect, StepContext, StepError, StepKind, Verdict, erase};

use workspace::{laid_out, wanted};

/// A step kind that only asks for the spawn port; a stand-in for the real ones.
struct NeedsGit;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl StepKind for NeedsGit {
    const KIND: &'static str = "needs-git";
    const SUMMARY: &'static str = "asks for processes";
    const EFFECT: Effect = Effect::Pure;
    const CAPABILITIES: &'static [Capability] = &[Capability::Git];
    type Input = Nothing;
    type Output = ();

    async fn run(&self, _: Nothing, _: &StepContext) -> Result<Verdict<()>, StepError> {
        Ok(Verdict::passed(()))
    }
}

fn shell(folder: &Path, script: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test arranges its repositories itself")]
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn bare_repository(folder: &Path) -> Remote {
    shell(
        folder,
        "git init -q --bare -b main origin.git && git init -q -b main seed && cd seed \
         && git config user.name t && git config user.email t@example.com \
         && printf 'image: old\\n' > app.yaml && git add . && git commit -q -m first \
         && git push -q ../origin.git main",
    );
    folder.join("origin.git").display().to_string().parse().unwrap()
}

fn git(host: &TestHost, folder: &Path) -> Git {
    git_as(host, folder, &GitAuth::Ambient)
}

fn git_as(host: &TestHost, folder: &Path, auth: &GitAuth) -> Git {
    let step = erase(NeedsGit);
    let (context, _handle) = host.context(&*step, 1);
    Git::new(context.spawn().unwrap(), &folder.join("home"), auth).unwrap()
}

async fn stage(checkout: &Checkout<'_>, text: &str) {
    let entry = checkout.entry("app.yaml").await.unwrap().unwrap();
    assert_eq!(checkout.read(&entry).await.unwrap(), b"image: old\n");
    checkout.stage("app.yaml", &entry, text.into()).await.unwrap();
}

fn robot() -> Identity {
    Identity { name: "Fairlead".into(), email: "fairlead@example.com".into() }
}

#[tokio::test]
async fn a_commit_is_pushed_and_found_again() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let remote = bare_repository(folder.path());
    let git = git(&host, folder.path());
    git.version().await.unwrap();
    let checkout = Checkout::clone(&git, &remote, None, &folder.path().join("work")).await.unwrap();
    assert_eq!(checkout.branch().as_str(), "main");
    stage(&checkout, "image: new\n").await;
    assert!(checkout.diff().await.unwrap().contains("+image: new"));
    let message = "Promote app\n\nFairlead-Run: r1\nFairlead-Step: deploy\n";
    let commit = checkout.commit(message, &robot()).await.unwrap();
    assert_eq!(checkout.push().await.unwrap(), Push::Done);
    assert!(checkout.show(&commit).await.unwrap().contains("+image: new"));

    let trailers = |run: &str| vec![format!("Fairlead-Run: {run}"), "Fairlead-Step: deploy".into()];
    let again = Checkout::clone(&git, &remote, None, &folder.path().join("again")).await.unwrap();
    assert_eq!(again.find(&trailers("r1")).await.unwrap(), Some(commit.clone()));
    assert_eq!(again.find(&trailers("r2")).await.unwrap(), None);
    assert_eq!(again.find(&trailers("r.")).await.unwrap(), None, "the line is no pattern");

    let at = laid_out(&git, &remote, wanted(commit.as_str()), folder.path(), "at").await;
    assert_eq!(at.unwrap(), commit);
}

#[tokio::test]
async fn a_lost_race_is_told_apart_from_a_refusal() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let remote = bare_repository(folder.path());
    let git = git(&host, folder.path());
    let checkout = Checkout::clone(&git, &remote, None, &folder.path().join("work")).await.unwrap();
    stage(&checkout, "image: ours\n").await;
    checkout.commit("ours", &robot()).await.unwrap();
    shell(
        &folder.path().join("seed"),
        "echo x > other && git add . && git commit -q -m theirs && git push -q ../origin.git main",
    );
    assert_eq!(checkout.push().await.unwrap(), Push::LostRace);
    checkout.start_again().await.unwrap();
    assert!(checkout.folder().join("other").exists());
    assert_eq!(
        std::fs::read_to_string(checkout.folder().join("app.yaml")).unwrap(),
        "image: old\n"
    );

    shell(
        folder.path(),
        "printf '#!/bin/sh\\necho frozen >&2; exit 1\\n' > origin.git/hooks/pre-receive \
         && chmod +x origin.git/hooks/pre-receive",
    );
    stage(&checkout, "image: ours\n").await;
    checkout.commit("ours", &robot()).await.unwrap();
    let error = checkout.push().await.unwrap_err();
    assert!(
        matches!(&error, GitError::Declined { said, .. } if said.contains("frozen")),
        "{error}"
    );
}

#[tokio::test]
async fn a_remote_that_is_not_there_is_named() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let git = Arc::new(git(&host, folder.path()));
    for (address, want) in [
        (folder.path().join("none.git").display().to_string(), "has no such repository"),
        ("http://127.0.0.1:9/x.git".to_owned(), "cannot reach"),
    ] {
        let remote = address.parse().unwrap();
        let Err(error) = Checkout::clone(&git, &remote, None, &folder.path().join("w")).await
        else {
            panic!("a clone of {address}");
        };
        assert!(error.to_string().contains(want), "{error}");
    }
    let remote = bare_repository(folder.path());
    let branch = "prod".parse().unwrap();
    let Err(error) = Checkout::clone(&git, &remote, Some(&branch), &folder.path().join("w")).await
    else {
        panic!("a clone of a branch that is not there");
    };
    assert!(error.to_string().contains("has no such branch"), "{error}");
}
