//! The step against the real `git` program and a bare repository in a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Digest, Verdict, erase};
use fairlead_step_gitops::Gitops;
use serde_json::{Value, json};

fn shell(folder: &Path, script: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test arranges its repositories itself")]
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const VALUES: &str = "\
# the shop in production
image:
  repository: registry.example.com/apps/shop
  tag: v1   # for people
";

fn arrange(folder: &Path) -> Value {
    std::fs::write(folder.join("values.yaml"), VALUES).unwrap();
    shell(
        folder,
        "git init -q --bare -b main origin.git && git init -q -b main seed && cd seed \
         && git config user.name t && git config user.email t@example.com \
         && mkdir prod && cp ../values.yaml prod/ && git add . && git commit -q -m first \
         && git push -q ../origin.git main",
    );
    let image = format!("registry.example.com/prod/shop@{}", Digest::sha256(b"new"));
    json!({
        "repository": folder.join("origin.git").display().to_string(),
        "edits": [{"file": "prod/values.yaml", "path": "image", "image": image, "tag": "v2"}],
        "message": "Promote shop to prod: v2",
    })
}

#[tokio::test]
async fn one_commit_however_often_it_is_run() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let with = arrange(folder.path());
    let step = erase(Gitops);
    // The kit runs it twice with one idempotency key: the second finds the first's commit.
    let verdict = conformance(&host, &*step, with).await.unwrap();
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    let origin = folder.path().join("origin.git");
    assert_eq!(shell(&origin, "git rev-list --count main"), "2");
    assert_eq!(outputs["commit"], shell(&origin, "git rev-parse main").as_str());
    let message = shell(&origin, "git log -1 --format=%B main");
    let message =
        message.replace(&fairlead_step::RunId::mint(1_790_000_000_000, 7).to_string(), "RUN");
    insta::assert_snapshot!(message, @r"
    Promote shop to prod: v2

    Fairlead-Run: RUN
    Fairlead-Step: step
    Image-Digest: sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437
    ");
    let now = shell(&origin, "git show main:prod/values.yaml");
    assert!(now.contains("# the shop in production") && now.contains("tag: v2   # for people"));
    let diff: Digest = outputs["diff"]["digest"].as_str().unwrap().parse().unwrap();
    assert!(String::from_utf8_lossy(&host.artifact(&diff).unwrap()).contains("+  tag: v2"));
}

#[tokio::test]
async fn nothing_to_change_is_a_success_without_a_commit() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let mut with = arrange(folder.path());
    with["edits"] = json!([{"file": "prod/values.yaml", "path": "image.tag", "value": "v1"}]);
    let verdict = host.run(&*erase(Gitops), with).await.unwrap();
    assert_eq!(
        verdict,
        Verdict::Passed { outputs: json!({"commit": null, "branch": "main", "diff": null}) }
    );
    assert_eq!(shell(&folder.path().join("origin.git"), "git rev-list --count main"), "1");
}

#[tokio::test]
async fn a_lost_race_is_won_by_editing_again() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let with = arrange(folder.path());
    // The hook lets somebody else's commit slip in right before our first push is taken.
    shell(
        folder.path(),
        "cd seed && sed -i 's/apps.shop/apps\\/renamed/' prod/values.yaml && git commit -qam theirs \
         && git push -q ../origin.git main:refs/heads/theirs",
    );
    let hook = "#!/bin/sh\nif [ ! -e raced ]; then touch raced; unset GIT_QUARANTINE_PATH; \
                git update-ref refs/heads/main refs/heads/theirs; fi\n";
    let path = folder.path().join("origin.git/hooks/pre-receive");
    std::fs::write(&path, hook).unwrap();
    shell(folder.path(), "chmod +x origin.git/hooks/pre-receive");
    host.run(&*erase(Gitops), with).await.unwrap();
    let origin = folder.path().join("origin.git");
    assert_eq!(
        shell(&origin, "git log --format=%s main | tac | paste -sd,"),
        "first,theirs,Promote shop to prod: v2"
    );
    assert!(host.log_text().contains("somebody else pushed first"));
}

#[tokio::test]
async fn bad_inputs_are_refused_before_anything_happens() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let with = arrange(folder.path());
    let step = erase(Gitops);
    for (key, value, want) in [
        ("repository", json!("ext::sh -c id"), "run programs"),
        ("branch", json!("a..b"), "reference names"),
        ("edits", json!([]), "no edit"),
        ("edits", json!([{"file": "../x", "path": "a", "value": "b"}]), "below the root"),
        ("edits", json!([{"file": ".git/config", "path": "a", "value": "b"}]), "below the root"),
        ("edits", json!([{"file": "x", "path": "a"}]), "exactly one of `value` and `image`"),
        ("username", json!("me"), "go together"),
    ] {
        let mut bad = with.clone();
        bad[key] = value;
        let problems = step.check(&bad).unwrap_err();
        assert!(problems.iter().any(|p| p.message.contains(want)), "{problems:?}");
    }
    let mut gone = with;
    gone["edits"] = json!([{"file": "prod/none.yaml", "path": "a", "value": "b"}]);
    let error = host.run(&*step, gone).await.unwrap_err();
    assert!(error.chain().contains("cannot read prod/none.yaml"), "{}", error.chain());
}
