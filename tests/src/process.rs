//! Processes that end with the value that holds them, ports that are free, and waiting.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// A process with a group of its own. Dropping it asks it to end, and insists after 10 s.
pub struct Running {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` with its output in the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let err = out.try_clone().expect("a log file");
        let program = command.get_program().to_owned();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        Self { child, log: log.to_owned(), ended: None }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has not ended.
    pub fn lives(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child to wait for");
        }
        self.ended.is_none()
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// When the process ends first, or after `limit`; with the end of its log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            let lives = self.lives();
            assert!(
                lives && start.elapsed() < limit,
                "it {}:\n{}",
                if lives { "did not become ready" } else { "ended" },
                tail(&self.log())
            );
            pause();
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it lives longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        while self.lives() {
            assert!(start.elapsed() < limit, "it still runs:\n{}", tail(&self.log()));
            pause();
        }
        self.ended.expect("an ended process")
    }

    /// Sends it a signal. SIGKILL goes to its whole group; any other is for the process alone, which
    /// tells its own: a child that has just been made and has no group of its own yet must not hear
    /// it from somebody else.
    pub fn signal(&mut self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id.filter(|_| self.lives()) {
            let _ = match signal {
                Signal::KILL => kill_process_group(id, signal),
                _ => kill_process(id, signal),
            };
        }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(GRACE);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let start = Instant::now();
        while self.lives() {
            if start.elapsed() > GRACE {
                self.signal(Signal::KILL);
            }
            pause();
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Runs a program to its end and answers what it wrote to standard output.
///
/// # Panics
/// When it cannot be started or does not succeed, with what it wrote to standard error.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {}:\n{told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Between two looks at something that another process does.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Waits until `condition` holds.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        pause();
    }
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
///
/// # Panics
/// When the machine has none left.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
