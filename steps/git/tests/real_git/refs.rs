//! What a remote has under a name, and what the history of a branch holds.

use fairlead_git::{GitError, RefTarget};
use fairlead_step::kit::TestHost;

use super::{bare_repository, git, laid_out, shell, wanted};

#[tokio::test]
async fn names_are_looked_up_exactly_and_tags_are_peeled() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let remote = bare_repository(folder.path());
    let git = git(&host, folder.path());
    shell(
        &folder.path().join("seed"),
        "git tag light && git tag -a annotated -m x && git tag -a twice -m y annotated \
         && git branch other && git commit -q --allow-empty -m second \
         && git push -q ../origin.git main light annotated twice \
            main:refs/heads/a/refs/heads/other",
    );
    let at = |name: &str| shell(&folder.path().join("seed"), &format!("git rev-parse {name}"));
    let (first, second) = (at("light"), at("main"));
    for (name, want) in [
        ("refs/heads/main", Some((second.clone(), second.clone()))),
        ("refs/tags/light", Some((first.clone(), first.clone()))),
        ("refs/tags/annotated", Some((at("annotated"), first.clone()))),
        ("refs/tags/twice", Some((at("twice"), first.clone()))),
        ("refs/heads/other", None),
        ("refs/tags/main", None),
    ] {
        let found = git.ref_target(&remote, name).await.unwrap();
        let want = want.map(|(object, peeled)| RefTarget { object, peeled });
        assert_eq!(found, want, "{name}");
    }
    // Several at once, and all below one.
    let all = async |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|name| (*name).to_owned()).collect();
        let found = git.ref_targets(&remote, &patterns).await.unwrap();
        found.into_iter().map(|(name, at)| (name, at.object, at.peeled)).collect::<Vec<_>>()
    };
    let line = |name: &str, object: &str, peeled: &str| {
        (name.to_owned(), object.to_owned(), peeled.to_owned())
    };
    assert_eq!(
        all(&["refs/heads/main", "refs/tags/annotated", "refs/heads/other", "refs/pull/1/head"])
            .await,
        [
            line("refs/heads/main", &second, &second),
            line("refs/tags/annotated", &at("annotated"), &first),
        ]
    );
    let heads = all(&["refs/heads/*"]).await;
    let names: Vec<&str> = heads.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["refs/heads/a/refs/heads/other", "refs/heads/main"]);
}

#[tokio::test]
async fn a_commit_is_in_the_history_of_a_branch_or_not() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let remote = bare_repository(folder.path());
    let git = git(&host, folder.path());
    let seed = folder.path().join("seed");
    // The second commit is forced away, and stays in the remote's store, as a fork's would.
    shell(
        &seed,
        "git commit -q --allow-empty -m second && git tag second && git push -q ../origin.git main \
         && git reset -q --hard HEAD~1 && git commit -q --allow-empty -m third \
         && git push -q --force ../origin.git main",
    );
    let at = |name: &str| shell(&seed, &format!("git rev-parse {name}"));
    for (number, (commit, want)) in [
        (at("main"), true),
        (at("main~1"), true),
        (at("second"), false),
        ("a".repeat(40), false),
        (String::new(), false),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = folder.path().join(format!("history{number}"));
        let found = git.history_has(&remote, "refs/heads/main", &commit, &folder).await.unwrap();
        assert_eq!(found, want, "{commit}");
    }
    let at = laid_out(&git, &remote, wanted(&"a".repeat(40)), folder.path(), "at").await;
    let error = at.unwrap_err();
    let said = matches!(&error, GitError::Missing { what, .. } if what.starts_with("commit aaa"));
    assert!(said, "{error}");
}
