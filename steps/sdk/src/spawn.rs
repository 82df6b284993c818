//! The port to processes: the host starts them, groups them, and ends them with the step.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{ErrorClass, StepError};

/// What becomes of a process's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Line by line into the step's log.
    Log,
    /// Kept, up to this many bytes, and answered in [`ProcessExit::stdout`]; more is an error.
    Capture {
        /// The most bytes to keep.
        limit: usize,
    },
}

/// A process to start. No shell is involved: `args` reach the program as they are.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The program, looked up in `PATH` when it has no slash.
    pub program: OsString,
    /// The arguments behind it.
    pub args: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the host's own (secret-free) environment is passed on; otherwise only `env` and `PATH`.
    pub inherit_env: bool,
    /// The working directory; the step's workspace when `None`.
    pub cwd: Option<PathBuf>,
    /// Bytes for standard input; closed at once when `None`.
    pub stdin: Option<Bytes>,
    /// What becomes of standard output. Standard error always goes to the log, and its last
    /// lines into [`ProcessExit::stderr_tail`].
    pub stdout: Output,
    /// How long it may run; the step's own deadline holds besides.
    pub timeout: Option<Duration>,
}

impl ProcessSpec {
    /// `program` with `args`, output to the log, the host's environment passed on.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            inherit_env: true,
            cwd: None,
            stdin: None,
            stdout: Output::Log,
            timeout: None,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Keeps standard output, up to `limit` bytes.
    #[must_use]
    pub const fn capture(mut self, limit: usize) -> Self {
        self.stdout = Output::Capture { limit };
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cwd = Some(directory.into());
        self
    }
}

/// How a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessExit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What was captured of standard output.
    pub stdout: Bytes,
    /// The last lines of standard error, at most 4 KiB, secrets masked.
    pub stderr_tail: String,
}

impl ProcessExit {
    /// Whether it exited with code 0.
    #[must_use]
    pub const fn success(&self) -> bool {
        matches!(self.code, Some(0))
    }
}

/// Why a process did not end by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such program.
    #[error("the program `{program}` is not on this machine")]
    NotFound {
        /// What was asked for.
        program: String,
    },
    /// The operating system refused to start it.
    #[error("cannot start `{program}`")]
    Start {
        /// What was asked for.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It wrote more than the caller was ready to keep; its group was ended.
    #[error("`{program}` wrote more than {limit} bytes to its standard output")]
    TooMuchOutput {
        /// What ran.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// It ran past its deadline; its group was ended.
    #[error("`{program}` did not end within {} s", .after.as_secs())]
    TimedOut {
        /// What ran.
        program: String,
        /// The deadline.
        after: Duration,
    },
    /// The step was told to stop; its group was ended.
    #[error("the step was told to stop, and `{program}` {stopped}")]
    Cancelled {
        /// What ran.
        program: String,
        /// What it took.
        stopped: Stopped,
    },
}

/// What it took to end a process group that was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing: it had not begun.
    Unstarted,
    /// It ended within its grace.
    Terminated,
    /// It went on beyond its grace.
    Killed,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unstarted => "was not started",
            Self::Terminated => "ended after SIGTERM",
            Self::Killed => "ended after SIGKILL: it went on after SIGTERM, beyond its grace",
        })
    }
}

impl From<ProcessError> for StepError {
    fn from(error: ProcessError) -> Self {
        let class = match &error {
            ProcessError::NotFound { .. }
            | ProcessError::Start { .. }
            | ProcessError::TooMuchOutput { .. } => ErrorClass::Terminal,
            ProcessError::TimedOut { .. } => ErrorClass::Retryable,
            ProcessError::Cancelled { .. } => ErrorClass::Cancelled,
        };
        let step = Self::new(class, error.to_string());
        match error {
            ProcessError::NotFound { .. } => step.hint("install it, or put it on the PATH"),
            ProcessError::Start { source, .. } => step.because(source),
            ProcessError::TooMuchOutput { .. }
            | ProcessError::TimedOut { .. }
            | ProcessError::Cancelled { .. } => step,
        }
    }
}

/// The port to processes. Each process leads a group of its own; when the step is cancelled, runs
/// out of time, or is dropped, the whole group gets a termination signal, a grace, and the end.
pub trait Spawn: Send + Sync {
    /// Runs a process to its end.
    fn run(&self, process: ProcessSpec) -> BoxFuture<'_, Result<ProcessExit, ProcessError>>;
}
