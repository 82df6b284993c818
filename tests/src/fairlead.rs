//! The `fairlead` program, in a folder of its own, with an environment of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::process::Running;
use crate::{Machine, docker_host, repository_root};

/// A place to run `fairlead` in: a project's folder, an empty home, and nothing of the machine's
/// environment but `PATH`.
pub struct Fairlead {
    project: tempfile::TempDir,
    home: tempfile::TempDir,
    env: Vec<(String, String)>,
    /// What each command begins with.
    enter: Vec<String>,
}

/// How a run of `fairlead` ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Everything said to a person.
    pub stderr: String,
}

impl Finished {
    /// Itself, when the exit code is as expected.
    ///
    /// # Panics
    /// When it is another, with all that was written.
    #[must_use]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code,
            Some(expected),
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl Default for Fairlead {
    fn default() -> Self {
        Self::new()
    }
}

impl Fairlead {
    /// An empty project.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let project = tempfile::tempdir().expect("a temporary folder");
        let home = tempfile::tempdir().expect("a temporary folder");
        Self { project, home, env: Vec::new(), enter: Vec::new() }
    }

    /// The same with a variable set, for every run.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same on another machine of a network of the test's own.
    #[must_use]
    pub fn on(mut self, machine: &Machine) -> Self {
        self.enter = machine.enter();
        self
    }

    /// The same with a Docker engine.
    #[must_use]
    pub fn with_engine(self) -> Self {
        let host = docker_host();
        self.env("DOCKER_HOST", &host)
    }

    /// The project's folder: the working directory of every run, where its state is kept as well.
    #[must_use]
    pub fn project(&self) -> &Path {
        self.project.path()
    }

    /// The home folder of every run.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file of the project.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// A command that runs `fairlead` here.
    #[must_use]
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = match self.enter.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program());
                command
            }
            None => Command::new(program()),
        };
        command.args(args).current_dir(self.project()).env_clear().stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.env("HOME", self.home()).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `fairlead` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        let output = self.command(args).output().expect("fairlead");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Starts `fairlead` and goes on; its output is in [`Running::log`].
    pub fn start(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.home().join(format!("output-{count}.log"));
        Running::start(&mut self.command(args), &log)
    }
}

/// The program beside the test that runs, built when it is not there or `FAIRLEAD_BIN` names no
/// other.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("FAIRLEAD_BIN") {
            return given.into();
        }
        // target/<profile>/deps/it-… → target/<profile>/fairlead
        let test = std::env::current_exe().expect("the path of this test");
        let folder = test.parent().and_then(Path::parent).expect("a target folder");
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo.args(["build", "--quiet", "--package", "fairlead", "--bin", "fairlead"]);
        if folder.file_name() == Some(OsStr::new("release")) {
            cargo.arg("--release");
        }
        // Cargo waits for others that build, and does nothing when the program is fresh.
        let target = folder.parent().expect("a target folder");
        let status = cargo
            .current_dir(repository_root())
            .env("CARGO_TARGET_DIR", target)
            .status()
            .expect("cargo");
        assert!(status.success(), "cannot build fairlead");
        folder.join("fairlead")
    })
}
