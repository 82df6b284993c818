//! The host of processes: each leads a group of its own, and the group ends with the attempt.
//!
//! This is the one place where Fairlead starts a process. A process that must end (its deadline,
//! the attempt's cancel, too much output, a dropped future) gets `SIGTERM` to its whole group, a
//! grace, then `SIGKILL`, and is reaped. What a process leaves behind in its group when it ends by
//! itself is ended the same way; what fled into a group of its own may keep the pipes open, and is
//! waited for no longer than a moment.

mod group;
mod tail;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fairlead_step::{
    BoxFuture, CancelToken, LineSplitter, Log, Output, ProcessError, ProcessExit, ProcessSpec,
    Spawn, Stopped, Stream,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::time::Instant;

use self::group::Group;
use self::tail::Tail;
use crate::mask::Mask;
use fairlead_run::MAX_LINE_BYTES as LINE_LIMIT;

/// How long a process may keep its pipes open after its leader has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// How often the host looks whether the rest of a group is gone; no system tells this of processes
/// that are not one's own children. It looks only while a group is being ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How much is read from a pipe at once.
const CHUNK: usize = 16 * 1024;

/// How much of standard error is kept for [`ProcessExit::stderr_tail`].
const STDERR_TAIL: usize = 4 * 1024;

/// Where programs are looked for when no `PATH` is passed on.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What holds for every process of a host.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The variables of the host's environment that processes may see. The runner picks them from
    /// a list that holds no secrets; this crate reads no environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a group has between `SIGTERM` and `SIGKILL`.
    pub grace: Duration,
}

impl Default for ProcessOptions {
    /// No variables, and a grace of five seconds.
    fn default() -> Self {
        Self { environment: Vec::new(), grace: Duration::from_secs(5) }
    }
}

/// Starts and ends the processes of one attempt.
pub struct ProcessHost {
    options: Arc<ProcessOptions>,
    workspace: PathBuf,
    log: Arc<dyn Log>,
    mask: Arc<Mask>,
    cancel: CancelToken,
}

impl ProcessHost {
    /// A host for one attempt: processes run in `workspace` unless they ask for another folder,
    /// write to `log`, and end when `cancel` says stop.
    #[must_use]
    pub fn new(
        options: Arc<ProcessOptions>,
        workspace: impl Into<PathBuf>,
        log: Arc<dyn Log>,
        mask: Arc<Mask>,
        cancel: CancelToken,
    ) -> Self {
        Self { options, workspace: workspace.into(), log, mask, cancel }
    }

    fn say(&self, text: impl AsRef<str>) {
        self.log.line(Stream::Step, text.as_ref());
    }

    /// The variables a process gets: the last one set of a name holds.
    fn environment<'a>(&'a self, spec: &'a ProcessSpec) -> Vec<(&'a OsStr, &'a OsStr)> {
        let passed = self.options.environment.iter();
        let passed = passed.filter(|(name, _)| spec.inherit_env || name == "PATH");
        passed.chain(&spec.env).map(|(name, value)| (&**name, &**value)).collect()
    }

    fn start(&self, spec: &ProcessSpec) -> Result<Group, ProcessError> {
        let name = || spec.program.to_string_lossy().into_owned();
        let cwd = match &spec.cwd {
            Some(cwd) => self.workspace.join(cwd),
            None => self.workspace.clone(),
        };
        let environment = self.environment(spec);
        let path = environment.iter().rev().find(|(name, _)| *name == "PATH");
        let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| *value);
        let program = find_program(&spec.program, path, &cwd)
            .ok_or_else(|| ProcessError::NotFound { program: name() })?;

        #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(environment)
            .current_dir(&cwd)
            .stdin(if spec.stdin.is_some() { Stdio::piped() } else { no_input() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn().map_err(|source| {
            // The system says "not found" of a missing folder, too.
            let source = if cwd.is_dir() {
                source
            } else {
                io::Error::other(format!("the folder {} is not there", cwd.display()))
            };
            ProcessError::Start { program: name(), source }
        })?;
        Group::new(child, self.options.grace)
            .map_err(|source| ProcessError::Start { program: name(), source })
    }

    /// Tells the group to end, and says why.
    fn end(&self, program: &str, group: &Group, why: Why) -> Phase {
        let told = match why {
            Why::Cancelled => format!("the step is told to stop, and `{program}` with it"),
            Why::TimedOut { .. } | Why::TooMuchOutput { .. } => {
                why.error(program.to_owned(), Stopped::Terminated).to_string()
            }
        };
        self.say(format!("{told}; SIGTERM to its group"));
        group.terminate();
        Phase::Ending { why, until: Instant::now() + self.options.grace }
    }

    async fn run_to_end(&self, spec: ProcessSpec) -> Result<ProcessExit, ProcessError> {
        let program = spec.program.to_string_lossy().into_owned();
        if self.cancel.is_cancelled() {
            return Err(ProcessError::Cancelled { program, stopped: Stopped::Unstarted });
        }
        let deadline = spec.timeout.map(|timeout| Instant::now() + timeout);
        let mut group = self.start(&spec)?;
        let (stdin, stdout, stderr) = group.take_pipes();
        let mut feed = pin!(feed(stdin, spec.stdin));
        let mut feeding = true;
        let mut stdout = Pipe::new(stdout);
        let mut stderr = Pipe::new(stderr);
        let mut sink = Sink::new(self, spec.stdout);
        let mut phase = Phase::Running;

        loop {
            let pipes_closed = stdout.is_closed() && stderr.is_closed();
            if group.has_ended() && pipes_closed && group.is_gone() {
                break;
            }
            let wake = match &phase {
                Phase::Running => deadline,
                Phase::Leaving { until }
                | Phase::Ending { until, .. }
                | Phase::Killed { until, .. } => {
                    let only_the_group = group.has_ended() && pipes_closed;
                    let soon = Instant::now() + LOOK_AGAIN;
                    Some(if only_the_group { soon.min(*until) } else { *until })
                }
            };
            // Looked at here, so that a process that floods its pipes does not outlast it.
            if wake.is_some_and(|wake| Instant::now() >= wake) {
                phase = match phase {
                    Phase::Running => {
                        let after = spec.timeout.unwrap_or_default();
                        self.end(&program, &group, Why::TimedOut { after })
                    }
                    Phase::Ending { why, .. } => {
                        let grace = fairlead_step::HumanDuration(self.options.grace);
                        self.say(format!(
                            "`{program}` did not end within {grace} of SIGTERM; SIGKILL to its group"
                        ));
                        group.kill();
                        Phase::Killed { why, until: Instant::now() + DRAIN }
                    }
                    // What still holds a pipe here is out of reach, in a group of its own.
                    Phase::Leaving { .. } | Phase::Killed { .. } => {
                        if !group.is_gone() {
                            group.kill();
                        }
                        break;
                    }
                };
                continue;
            }
            // In this order: most processes end, and close their pipes, at once, and no timer is set for
            // what they may leave behind.
            tokio::select! {
                biased;
                () = self.cancel.cancelled(), if matches!(phase, Phase::Running) => {
                    phase = self.end(&program, &group, Why::Cancelled);
                }
                () = group.wait(), if !group.has_ended() => {
                    feeding = false;
                    if matches!(phase, Phase::Running) {
                        if !group.is_gone() {
                            self.say(format!("`{program}` left processes behind; SIGTERM to them"));
                            group.terminate();
                        }
                        phase = Phase::Leaving { until: Instant::now() + DRAIN };
                    }
                }
                bytes = stdout.read(), if !stdout.is_closed() => {
                    if let Err(limit) = sink.stdout(bytes) && matches!(phase, Phase::Running) {
                        phase = self.end(&program, &group, Why::TooMuchOutput { limit });
                    }
                }
                bytes = stderr.read(), if !stderr.is_closed() => sink.stderr(bytes),
                () = &mut feed, if feeding => feeding = false,
                () = at(wake) => {}
            }
        }

        let status = group.release();
        let (stdout, stderr_tail) = sink.finish();
        let signal = status.and_then(|s| std::os::unix::process::ExitStatusExt::signal(&s));
        if let Some(signal) = signal {
            self.say(format!("`{program}` was ended by {}", signal_name(signal)));
        }
        match phase {
            Phase::Running | Phase::Leaving { .. } => {
                let code = status.and_then(|s| s.code());
                Ok(ProcessExit { code, signal, stdout, stderr_tail })
            }
            Phase::Ending { why, .. } => Err(why.error(program, Stopped::Terminated)),
            Phase::Killed { why, .. } => Err(why.error(program, Stopped::Killed)),
        }
    }
}

impl Spawn for ProcessHost {
    fn run(&self, process: ProcessSpec) -> BoxFuture<'_, Result<ProcessExit, ProcessError>> {
        Box::pin(self.run_to_end(process))
    }
}

/// How far a process is on its way out.
enum Phase {
    /// It runs.
    Running,
    /// Its leader ended by itself; what it left behind has until then.
    Leaving { until: Instant },
    /// It must end: its group was sent `SIGTERM` and has until then.
    Ending { why: Why, until: Instant },
    /// Its group was sent `SIGKILL`; nobody listens to its pipes after that.
    Killed { why: Why, until: Instant },
}

/// Why a process must end.
#[derive(Clone, Copy)]
enum Why {
    Cancelled,
    TimedOut { after: Duration },
    TooMuchOutput { limit: usize },
}

impl Why {
    const fn error(self, program: String, stopped: Stopped) -> ProcessError {
        match self {
            Self::Cancelled => ProcessError::Cancelled { program, stopped },
            Self::TimedOut { after } => ProcessError::TimedOut { program, after },
            Self::TooMuchOutput { limit } => ProcessError::TooMuchOutput { program, limit },
        }
    }
}

/// Where the output of one process goes.
struct Sink<'a> {
    host: &'a ProcessHost,
    limit: Option<usize>,
    captured: Vec<u8>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    tail: Tail,
}

impl<'a> Sink<'a> {
    fn new(host: &'a ProcessHost, stdout: Output) -> Self {
        // The log masks a line and then cuts it: a secret across the cut must arrive there whole.
        let keep = LINE_LIMIT + host.mask.longest() + 1;
        let limit = match stdout {
            Output::Log => None,
            Output::Capture { limit } => Some(limit),
        };
        Self {
            host,
            limit,
            captured: Vec::new(),
            stdout: LineSplitter::new(keep),
            stderr: LineSplitter::new(keep),
            tail: Tail::new(STDERR_TAIL),
        }
    }

    /// Takes bytes of standard output; fails with the limit when they are more than it.
    fn stdout(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let Some(limit) = self.limit else {
            self.stdout.push(bytes, |line| self.host.log.line(Stream::Stdout, line));
            return Ok(());
        };
        let room = limit - self.captured.len();
        self.captured.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(limit) } else { Ok(()) }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.stderr.push(bytes, |line| Self::stderr_line(self.host, &mut self.tail, line));
    }

    fn stderr_line(host: &ProcessHost, tail: &mut Tail, line: &str) {
        host.log.line(Stream::Stderr, line);
        tail.push(host.mask.apply(line));
    }

    /// What was captured, and the tail of standard error.
    fn finish(mut self) -> (Bytes, String) {
        self.stdout.finish(|line| self.host.log.line(Stream::Stdout, line));
        self.stderr.finish(|line| Self::stderr_line(self.host, &mut self.tail, line));
        (self.captured.into(), self.tail.into_text())
    }
}

/// The reading end of a pipe, until it closes.
struct Pipe<R> {
    end: Option<R>,
    chunk: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    const fn new(end: Option<R>) -> Self {
        Self { end, chunk: Vec::new() }
    }

    const fn is_closed(&self) -> bool {
        self.end.is_none()
    }

    /// The next bytes; none when the pipe has closed. Safe to drop and call again.
    async fn read(&mut self) -> &[u8] {
        self.chunk.clear();
        if let Some(end) = &mut self.end {
            self.chunk.reserve(CHUNK);
            // A pipe that cannot be read has nothing more to say.
            if end.read_buf(&mut self.chunk).await.unwrap_or(0) == 0 {
                self.end = None;
            }
        }
        &self.chunk
    }
}

async fn feed(stdin: Option<ChildStdin>, bytes: Option<Bytes>) {
    if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
        // A process that reads no more of its input is free to do so.
        let _ = stdin.write_all(&bytes).await;
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Standard input with nothing in it. The device is opened once: a copy of what is open costs a tenth of
/// opening it again.
fn no_input() -> Stdio {
    static NULL: OnceLock<Option<File>> = OnceLock::new();
    let null = NULL.get_or_init(|| File::open("/dev/null").ok());
    null.as_ref().and_then(|null| null.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
}

/// The file of `program`: as it is when it has a slash (from `cwd` when it is relative), found in
/// `path` otherwise. An absolute name spares the system a slower way to start it.
fn find_program(program: &OsStr, path: &OsStr, cwd: &Path) -> Option<PathBuf> {
    let is_file = |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file());
    if program.is_empty() {
        return None;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(cwd.join(program)).filter(is_file);
    }
    let mut refused = None;
    let mut file = PathBuf::new();
    for folder in std::env::split_paths(path) {
        // What is absolute takes the place of what is there.
        file.clear();
        file.extend([cwd, &folder, Path::new(program)]);
        match rustix::fs::access(&file, rustix::fs::Access::EXEC_OK) {
            Ok(()) if is_file(&file) => return Some(file),
            Err(rustix::io::Errno::ACCESS) if refused.is_none() && is_file(&file) => {
                refused = Some(file.clone());
            }
            // A folder, or nothing: most folders do not have the program, so each costs one call.
            Ok(()) | Err(_) => {}
        }
    }
    // A file that may not be run: starting it tells that better than "not found".
    refused
}

/// The name of a signal, such as `SIGKILL (9)`.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("{name} ({signal})")
}

#[cfg(test)]
mod tests;
