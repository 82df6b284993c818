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
        Verdict::Passed {
            outputs: json!({"commit": null, "branch": "main", "diff": null, "notes": []})
        }
    );
    assert_eq!(shell(&folder.path().join("origin.git"), "git rev-list --count main"), "1");
    assert!(host.log_text().contains("nothing is deployed"), "{}", host.log_text());
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

/// Adds files to the repository with a script, and answers the input without edits.
fn arrange_more(folder: &Path, script: &str) -> Value {
    let with = arrange(folder);
    shell(&folder.join("seed"), script);
    shell(
        &folder.join("seed"),
        "git add -A && git commit -q -m more && git push -q ../origin.git main",
    );
    with
}

/// Runs edits on the repository as it was arranged, and answers what the step says, or why it
/// failed.
async fn run(folder: &Path, with: &Value, edits: Value) -> Result<String, String> {
    let host = TestHost::new();
    // Each is the same run and step; an earlier one's commit would be taken for its own.
    shell(&folder.join("seed"), "git push -q -f ../origin.git main");
    let mut with = with.clone();
    with["edits"] = edits;
    match host.run(&*erase(Gitops), with).await {
        Ok(_) => Ok(host.log_text()),
        Err(error) => Err(error.chain()),
    }
}

#[tokio::test]
async fn a_file_behind_a_link_is_edited_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let with = arrange_more(
        folder.path(),
        "mkdir -p base env && cp prod/values.yaml base/real.yaml && ln -s ../base/real.yaml env/link.yaml \
         && ln -s link.yaml env/second.yaml && ln -s ../base env/base && ln -s env/../env/base far",
    );
    let origin = folder.path().join("origin.git");
    for (number, file) in [
        "env/link.yaml",
        "env/second.yaml",
        "env/base/real.yaml",
        "far/real.yaml",
        "./env//link.yaml",
    ]
    .into_iter()
    .enumerate()
    {
        let value = format!("v1{number}");
        let log =
            run(folder.path(), &with, json!([{"file": file, "path": "image.tag", "value": value}]))
                .await;
        assert!(log.unwrap().contains("+++ b/base/real.yaml"));
        let now = shell(&origin, "git show main:base/real.yaml");
        assert!(now.contains(&format!("tag: {value}   # for people")), "{file}: {now}");
    }
    assert_eq!(shell(&origin, "git ls-tree main env/link.yaml").split(' ').next(), Some("120000"));
    // Two names of one file: both edits are in what is committed.
    let edits = json!([
        {"file": "env/link.yaml", "path": "image.tag", "value": "v20"},
        {"file": "base/real.yaml", "path": "image.repository", "value": "r.example.com/a"},
    ]);
    run(folder.path(), &with, edits).await.unwrap();
    let now = shell(&origin, "git show main:base/real.yaml");
    assert!(now.contains("tag: v20") && now.contains("repository: r.example.com/a"), "{now}");
}

#[tokio::test]
async fn a_link_that_leads_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = arrange_more(
        folder.path(),
        "ln -s /etc/hostname absolute && ln -s ../outside.yaml outside && ln -s prod/../../x deep \
         && ln -s .git/config inside && ln -s round other && ln -s other round && ln -s none.yaml gone \
         && ln -s prod folder && ln -s .GIT git",
    );
    std::fs::write(folder.path().join("outside.yaml"), VALUES).unwrap();
    for (file, want) in [
        ("absolute", "leads out of the repository"),
        ("outside", "out of the repository"),
        ("deep", "out of the repository"),
        ("inside", "git's own folder"),
        ("git/config", "git's own folder"),
        ("round", "more than 40 links"),
        ("gone", "the branch has no `none.yaml`"),
        ("folder", "is a folder"),
        ("prod", "is a folder"),
        ("prod/values.yaml/x", "is a file, not a folder"),
    ] {
        let edits = json!([{"file": file, "path": "image.tag", "value": "v2"}]);
        let error = run(folder.path(), &with, edits).await.unwrap_err();
        assert!(error.contains(want) && error.contains(file), "{file}: {error}");
    }
    let origin = folder.path().join("origin.git");
    assert_eq!(shell(&origin, "git rev-list --count main"), "2");
}

#[tokio::test]
async fn the_name_of_a_file_is_no_pattern() {
    let folder = tempfile::tempdir().unwrap();
    let names = [":(top)x", "*.yaml", ":!prod", "a b\"c.yaml", "[p]rod.yaml", "-f.yaml", "é.yaml"];
    let copies: String = names.map(|name| format!(" && cp prod/values.yaml './{name}'")).concat();
    let with = arrange_more(folder.path(), &format!("cp prod/values.yaml b.yaml {copies}"));
    let origin = folder.path().join("origin.git");
    for name in names {
        run(folder.path(), &with, json!([{"file": name, "path": "image.tag", "value": "v2"}]))
            .await
            .unwrap();
        let changed = shell(&origin, "git diff --name-only -z main~1 main");
        assert_eq!(changed.trim_end_matches('\0'), name);
    }
}

#[tokio::test]
async fn what_attributes_and_flags_say_changes_no_other_byte() {
    let folder = tempfile::tempdir().unwrap();
    // The lines of these files end in CRLF where they are stored, against what attributes ask for.
    let with = arrange_more(
        folder.path(),
        "sed 's/$/\\r/' prod/values.yaml > crlf.yaml && cp crlf.yaml ident.yaml \
         && chmod +x crlf.yaml && git add . && git commit -q -m crlf \
         && printf '*.yaml text eol=crlf\\nident.yaml ident text\\nprod/values.yaml -text working-tree-encoding=UTF-16\\nprod/** export-ignore\\n' > .gitattributes \
         && printf '*.yaml\\n' > .gitignore && git update-index --assume-unchanged crlf.yaml ident.yaml prod/values.yaml",
    );
    let origin = folder.path().join("origin.git");
    for file in ["crlf.yaml", "ident.yaml", "prod/values.yaml"] {
        let before = shell(&origin, &format!("git show main:{file} | od -c"));
        run(folder.path(), &with, json!([{"file": file, "path": "image.tag", "value": "v7"}]))
            .await
            .unwrap();
        assert_eq!(shell(&origin, "git diff --numstat main~1 main"), format!("1\t1\t{file}"));
        let after = shell(&origin, &format!("git show main:{file} | sed 's/v7/v1/' | od -c"));
        assert_eq!(after, before, "{file}");
    }
    let mode = shell(&origin, "git ls-tree main crlf.yaml");
    assert!(mode.starts_with("100755"), "{mode}");
}

#[tokio::test]
async fn what_is_no_file_of_the_repository_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let with = arrange_more(
        folder.path(),
        "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:00\\nsize 1\\n' > lfs.yaml \
         && printf '\\377\\376a\\0' > utf16.yaml \
         && git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module && mkdir module",
    );
    for (file, want) in [
        ("lfs.yaml", "Git LFS"),
        ("utf16.yaml", "no UTF-8 text"),
        ("module/values.yaml", "`module` is a submodule"),
        ("module", "`module` is a submodule"),
        ("nope/values.yaml", "the branch has no `nope`"),
    ] {
        let edits = json!([{"file": file, "path": "a", "value": "b"}]);
        let error = run(folder.path(), &with, edits).await.unwrap_err();
        assert!(error.contains(want), "{file}: {error}");
    }
    // One edit that is refused keeps the others from being committed.
    let edits = json!([
        {"file": "prod/values.yaml", "path": "image.tag", "value": "v2"},
        {"file": "prod/values.yaml", "path": "image.nope", "value": "v2"},
    ]);
    let error = run(folder.path(), &with, edits).await.unwrap_err();
    assert!(error.contains("`image` has no key `nope`"), "{error}");
    assert_eq!(shell(&folder.path().join("origin.git"), "git rev-list --count main"), "2");
}

#[tokio::test]
async fn what_may_deploy_nothing_is_said() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let mut with = arrange(folder.path());
    with["edits"][0].as_object_mut().unwrap().remove("tag");
    let verdict = host.run(&*erase(Gitops), with).await.unwrap();
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    let note = outputs["notes"][0].as_str().unwrap();
    assert!(
        note.contains("prod/values.yaml: `image` had no `digest`, and `tag` stays `v1`"),
        "{note}"
    );
    assert!(host.log_text().contains(note));
}
