//! Git remotes of a test's own: a bare repository, and `git http-backend` before it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Running, free_port};
use crate::repository_root;

/// Runs git in `folder` and answers what it prints. The machine's own configuration is left out.
///
/// # Panics
/// When git fails.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let output = command(folder).args(args).output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn command(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs([("GIT_AUTHOR_NAME", "Test"), ("GIT_AUTHOR_EMAIL", "test@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Test"), ("GIT_COMMITTER_EMAIL", "test@example.com")]);
    git
}

/// A bare repository in a temporary folder.
pub struct BareRepository {
    folder: tempfile::TempDir,
}

impl BareRepository {
    /// A repository whose branch `main` has one commit: the content of `tree`.
    #[must_use]
    pub fn of(tree: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let work = tempfile::tempdir().expect("a temporary folder");
        let repository = Self { folder };
        git(work.path(), &["init", "--quiet", "--initial-branch", "main"]);
        copy(tree, work.path());
        git(work.path(), &["add", "--all"]);
        git(work.path(), &["commit", "--quiet", "--message", "The beginning"]);
        let bare = repository.path().display().to_string();
        git(work.path(), &["clone", "--quiet", "--bare", ".", &bare]);
        git(&repository.path(), &["config", "http.receivepack", "true"]);
        repository
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("gitops.git")
    }

    /// Lets a server have it under the name `name`, such as `acme/shop`, too.
    ///
    /// # Panics
    /// When that cannot be made.
    pub fn also_at(&self, name: &str) {
        let link = self.folder.path().join(format!("{name}.git"));
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(self.path(), link).expect("a link");
    }

    /// Its address on this machine.
    #[must_use]
    pub fn file_url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// The content of a file on a branch.
    #[must_use]
    pub fn file(&self, branch: &str, path: &str) -> String {
        git(&self.path(), &["show", &format!("{branch}:{path}")])
    }

    /// The messages of a branch's commits, newest first.
    #[must_use]
    pub fn messages(&self, branch: &str) -> Vec<String> {
        let log = git(&self.path(), &["log", "-z", "--format=%B", branch]);
        log.split('\0').map(|m| m.trim().to_owned()).filter(|m| !m.is_empty()).collect()
    }

    /// Commits one file on a branch, as somebody else would.
    pub fn commit(&self, branch: &str, path: &str, content: &str, message: &str) {
        let work = tempfile::tempdir().expect("a temporary folder");
        git(work.path(), &["clone", "--quiet", "--branch", branch, &self.file_url(), "."]);
        let file = work.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, content).expect("a file");
        git(work.path(), &["add", "--all"]);
        git(work.path(), &["commit", "--quiet", "--message", message]);
        git(work.path(), &["push", "--quiet", "origin", branch]);
    }
}

/// Copies a folder's content, links as links.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp");
    assert!(status.success(), "cannot copy {}", from.display());
}

/// `git http-backend` behind a small HTTP server, for all repositories of one folder.
pub struct GitServer {
    port: u16,
    _process: Running,
    _folder: tempfile::TempDir,
}

impl GitServer {
    /// Serves the folder that holds `repository`. With a login, nobody else may read or write.
    #[must_use]
    pub fn start(repository: &BareRepository, login: Option<(&str, &str)>) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = repository_root().join("tests/setup/git-http.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(repository.folder.path()).arg(port.to_string());
        if let Some((user, password)) = login {
            command.env("GIT_HTTP_LOGIN", format!("{user}:{password}"));
        }
        let mut process = Running::start(&mut command, &folder.path().join("log"));
        process.wait_until(Duration::from_secs(20), || {
            std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self { port, _process: process, _folder: folder }
    }

    /// The address of `gitops.git` over HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/gitops.git", self.base())
    }

    /// The address that those of all its repositories begin with.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.host())
    }

    /// The host and the port.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
