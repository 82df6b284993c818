//! The host of processes: each leads a group of its own, and the group ends with the attempt.
//!
//! This is the one place where Fairlead starts a process. A process that must end (its deadline,
//! the attempt's cancel, too much output, a dropped future) gets `SIGTERM` to its whole group, a
//! grace, then `SIGKILL`, and is reaped. What it started and what left its group, as a daemon does, is
//! found by its parents and by a variable of its environment, and ended with the others. What a
//! process leaves behind in its group when it ends by itself is ended the same way; what left the
//! group then and keeps the pipes open is waited for no longer than a moment, and told to end.

pub(crate) mod cgroup;
mod group;
pub(crate) mod guardian;
mod output;
mod program;
pub(crate) mod strays;
mod tail;
mod watch;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fairlead_step::{
    BoxFuture, CancelToken, Log, ProcessError, ProcessExit, ProcessSpec, Spawn, Stopped, Stream,
};
use tokio::time::Instant;

use self::cgroup::CgroupEntry;
use self::group::Group;
use self::program::{DEFAULT_PATH, find_program, no_input};
use self::strays::Mark;
use self::watch::Watch;
use crate::mask::Mask;

/// What holds for every process of a host.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The variables of the host's environment that processes may see. The runner picks them from
    /// a list that holds no secrets; this crate reads no environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a group has between `SIGTERM` and `SIGKILL`.
    pub grace: Duration,
    /// The value of [`MARK_VARIABLE`] in the host's own environment: where Fairlead itself runs in a
    /// step, whoever ends that step finds what this host started, too.
    pub mark: Option<String>,
}

impl Default for ProcessOptions {
    /// No variables, and a grace of five seconds.
    fn default() -> Self {
        Self { environment: Vec::new(), grace: Duration::from_secs(5), mark: None }
    }
}

/// The variable by which a process is found that left its group.
pub use self::strays::VARIABLE as MARK_VARIABLE;

/// Starts and ends the processes of one attempt.
pub struct ProcessHost {
    options: Arc<ProcessOptions>,
    workspace: PathBuf,
    log: Arc<dyn Log>,
    mask: Arc<Mask>,
    cancel: CancelToken,
    /// The control group that its processes begin in.
    confinement: Option<Arc<CgroupEntry>>,
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
        Self { options, workspace: workspace.into(), log, mask, cancel, confinement: None }
    }

    /// The same, with every process in a control group.
    pub(crate) fn confined(self, confinement: Option<Arc<CgroupEntry>>) -> Self {
        Self { confinement, ..self }
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

    async fn start(&self, spec: &ProcessSpec, alone: bool) -> Result<Group, ProcessError> {
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

        let (program, args) = match &self.confinement {
            Some(confinement) => {
                let args = confinement.args(&program, &spec.args);
                (confinement.program.clone(), Cow::Owned(args))
            }
            None => (program, Cow::Borrowed(&spec.args[..])),
        };
        let mark = Mark::new(self.options.mark.as_deref());
        #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(&*args)
            .env_clear()
            .envs(environment)
            .env(strays::VARIABLE, mark.value())
            .current_dir(&cwd)
            .stdin(if spec.stdin.is_some() { Stdio::piped() } else { no_input() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let grace = self.options.grace;
        let start = move || Group::new(command.spawn()?, mark, grace);
        // The system holds whoever starts a program until it has been loaded, which takes about as long
        // as a small program runs: with others under way that is another thread's time. Should nobody
        // wait for it any more, the group ends as it is dropped.
        let started = if alone {
            start()
        } else {
            tokio::task::spawn_blocking(start).await.map_err(io::Error::other).flatten()
        };
        started.map_err(|source| {
            // The system says "not found" of a missing folder, too.
            let source = if cwd.is_dir() {
                source
            } else {
                io::Error::other(format!("the folder {} is not there", cwd.display()))
            };
            ProcessError::Start { program: name(), source }
        })
    }

    async fn run_to_end(&self, spec: ProcessSpec) -> Result<ProcessExit, ProcessError> {
        let program = spec.program.to_string_lossy().into_owned();
        if self.cancel.is_cancelled() {
            return Err(ProcessError::Cancelled { program, stopped: Stopped::Unstarted });
        }
        let under_way = UnderWay::begin();
        let deadline = spec.timeout.map(|timeout| (Instant::now() + timeout, timeout));
        let group = self.start(&spec, under_way.alone).await?;
        Watch::new(self, program, group, &spec).stay(deadline, spec.stdin).await
    }
}

/// A process of this program that is started or runs.
struct UnderWay {
    /// Whether there was no other when it began.
    alone: bool,
}

/// How many there are.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

impl UnderWay {
    fn begin() -> Self {
        Self { alone: UNDER_WAY.fetch_add(1, Ordering::Relaxed) == 0 }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Spawn for ProcessHost {
    fn run(&self, process: ProcessSpec) -> BoxFuture<'_, Result<ProcessExit, ProcessError>> {
        Box::pin(self.run_to_end(process))
    }
}

#[cfg(test)]
mod tests;
