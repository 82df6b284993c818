//! Commits laid out: by way of a mirror or without, as much of them as is asked for, and again when the
//! remote has lost them.

use std::path::Path;

use fairlead_git::{Commit, Git, GitError, Remote, Wanted};
use fairlead_step::kit::TestHost;

use super::{bare_repository, git, shell};

pub(crate) fn wanted(commit: &str) -> Wanted<'_> {
    Wanted { commit, reference: None, depth: 1, sparse: &[], partial: false }
}

/// Lays a commit out by way of the mirror of the test.
pub(crate) async fn laid_out(
    git: &Git,
    remote: &Remote,
    wanted: Wanted<'_>,
    folder: &Path,
    name: &str,
) -> Result<Commit, GitError> {
    let (mirror, files) = (folder.join("mirror"), folder.join(name));
    git.mirror(remote, wanted, &mirror).await?;
    std::fs::create_dir(&files).unwrap();
    git.lay_out(remote, wanted, Some(&mirror), &files).await
}

/// A remote with three commits on `main`, and what they are called.
fn history(folder: &Path) -> (Remote, Vec<String>) {
    let remote = bare_repository(folder);
    let seed = folder.join("seed");
    shell(
        &seed,
        "mkdir -p src/deep docs && echo 1 > src/deep/a && echo 1 > docs/b && git add . \
         && git commit -q -m second && echo 2 > src/deep/a && git commit -qam third \
         && git push -q ../origin.git main",
    );
    let names = ["main~2", "main~1", "main"];
    let commits = names.map(|name| shell(&seed, &format!("git rev-parse {name}")));
    (remote, commits.to_vec())
}

#[tokio::test]
async fn a_commit_comes_with_as_much_history_as_is_asked_for() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (remote, commits) = history(folder.path());
    let git = git(&host, folder.path());
    let count = |name: &str| {
        let files = folder.path().join(name);
        shell(&files, "git rev-list --count HEAD").parse::<u32>().unwrap()
    };
    // In an order in which a mirror that is shallow is asked for more, and then for less.
    for (number, (commit, depth, want)) in
        [(2, 1, 1), (1, 1, 1), (2, 2, 2), (2, 0, 3), (2, 1, 1), (0, 0, 1)].into_iter().enumerate()
    {
        let name = format!("at{number}");
        let wanted = Wanted { depth, ..wanted(&commits[commit]) };
        laid_out(&git, &remote, wanted, folder.path(), &name).await.unwrap();
        assert_eq!(count(&name), want, "{commit} {depth}");
        let text = std::fs::read_to_string(folder.path().join(&name).join("src/deep/a"));
        assert_eq!(text.ok().as_deref(), [None, Some("1\n"), Some("2\n")][commit]);
    }
    // Without a mirror it is the same.
    let direct = folder.path().join("direct");
    std::fs::create_dir(&direct).unwrap();
    let two = Wanted { depth: 2, ..wanted(&commits[2]) };
    git.lay_out(&remote, two, None, &direct).await.unwrap();
    assert_eq!(count("direct"), 2);
    assert_eq!(shell(&direct, "git remote get-url origin"), remote.as_str());
}

#[tokio::test]
async fn folders_and_contents_that_are_not_wanted_are_left_out() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (remote, commits) = history(folder.path());
    shell(folder.path(), "git -C origin.git config uploadpack.allowFilter true");
    let git = git(&host, folder.path());
    let sparse = ["src/deep".to_owned()];
    let some = Wanted { sparse: &sparse, ..wanted(&commits[2]) };
    laid_out(&git, &remote, some, folder.path(), "sparse").await.unwrap();
    let files = folder.path().join("sparse");
    assert!(files.join("src/deep/a").exists() && files.join("app.yaml").exists());
    assert!(!files.join("docs").exists());

    let partial = folder.path().join("partial");
    std::fs::create_dir(&partial).unwrap();
    let some = Wanted { partial: true, depth: 0, ..some };
    git.lay_out(&remote, some, None, &partial).await.unwrap();
    assert!(partial.join("src/deep/a").exists() && !partial.join("docs").exists());
    let missing = "git rev-list --objects --missing=print HEAD | grep -c '^?'";
    assert_ne!(shell(&partial, missing), "0", "contents stay at the remote");

    for bad in ["../x", "/etc", "a/../b", "-x/..", "a*", "", ".git", "a\nb"] {
        let sparse = [bad.to_owned()];
        let some = Wanted { sparse: &sparse, ..wanted(&commits[2]) };
        let error = git.mirror(&remote, some, &folder.path().join("mirror")).await.unwrap_err();
        assert!(error.to_string().contains("no path of a folder"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn what_the_remote_has_lost_is_laid_out_again_and_cannot_be_spoiled() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (remote, commits) = history(folder.path());
    let git = git(&host, folder.path());
    laid_out(&git, &remote, wanted(&commits[2]), folder.path(), "first").await.unwrap();
    // What works in the folder writes over every object that it has.
    let spoil = "find .git/objects -type f | xargs chmod u+w && find .git/objects -type f \
                 | while read f; do echo spoiled > $f; done";
    shell(&folder.path().join("first"), spoil);
    shell(folder.path(), "rm -rf origin.git");
    laid_out(&git, &remote, wanted(&commits[2]), folder.path(), "second").await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("second/src/deep/a")).unwrap();
    assert_eq!(text, "2\n");
    let never = laid_out(&git, &remote, wanted(&commits[1]), folder.path(), "third").await;
    assert!(never.is_err());
}

#[tokio::test]
async fn a_remote_that_gives_no_commit_by_its_id_is_asked_by_the_name() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (remote, commits) = history(folder.path());
    let git = git(&host, folder.path());
    // In the first version of the protocol a remote gives what it shows, and nothing else.
    std::fs::write(folder.path().join("home/.gitconfig"), "[protocol]\n\tversion = 0\n").unwrap();
    let middle = wanted(&commits[1]);
    let refused = laid_out(&git, &remote, middle, folder.path(), "refused").await.unwrap_err();
    assert!(refused.to_string().contains("refuses to give it"), "{refused}");
    let named = Wanted { reference: Some("refs/heads/main"), ..middle };
    laid_out(&git, &remote, named, folder.path(), "named").await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("named/src/deep/a")).unwrap();
    assert_eq!(text, "1\n");
    for bad in ["main", "--upload-pack=x", "refs/heads/a:b", "refs/heads/a b"] {
        let named = Wanted { reference: Some(bad), ..middle };
        let error = git.mirror(&remote, named, &folder.path().join("mirror")).await.unwrap_err();
        assert!(error.to_string().contains("git would refuse the name"), "{bad}: {error}");
    }
}
