//! Staying with a process until it ends, or must.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use fairlead_step::{BoxFuture, HumanDuration, ProcessError, ProcessExit, ProcessSpec, Stopped};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

use super::ProcessHost;
use super::group::Group;
use super::output::{Pipe, Sink};
use super::program::signal_name;
use super::strays;

/// How long a process may keep its pipes open after its leader has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// How often the host looks whether the rest of a group is gone; no system tells this of processes
/// that are not one's own children. It looks only while a group is being ended.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process, everything that it writes to, and how far it is on its way out.
pub(super) struct Watch<'a> {
    host: &'a ProcessHost,
    program: String,
    group: Group,
    stdin: Option<ChildStdin>,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
    sink: Sink<'a>,
    phase: Phase,
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

impl<'a> Watch<'a> {
    pub(super) fn new(
        host: &'a ProcessHost,
        program: String,
        mut group: Group,
        spec: &ProcessSpec,
    ) -> Self {
        let (stdin, stdout, stderr) = group.take_pipes();
        Self {
            host,
            program,
            group,
            stdin,
            stdout: Pipe::new(stdout),
            stderr: Pipe::new(stderr),
            sink: Sink::new(&*host.log, &host.mask, spec.stdout),
            phase: Phase::Running,
        }
    }

    /// Stays until the process and its group are gone, or until nothing more can be done about them.
    /// `deadline` is when the process must have ended, and how long that is after its start.
    pub(super) async fn stay(
        mut self,
        deadline: Option<(Instant, Duration)>,
        input: Option<Bytes>,
    ) -> Result<ProcessExit, ProcessError> {
        let mut feed = pin!(feed(self.stdin.take(), input));
        let mut feeding = true;
        let host = self.host;
        // What the process says is read no faster than the log takes it.
        let mut room: Option<BoxFuture<'_, ()>> = None;
        while !self.is_over() {
            let wake = self.wake(deadline.map(|(at, _)| at));
            // Looked at here, so that a process that floods its pipes does not outlast it.
            if wake.is_some_and(|wake| Instant::now() >= wake) {
                if !self.too_late(deadline.map(|(_, after)| after)) {
                    break;
                }
                continue;
            }
            let running = matches!(self.phase, Phase::Running);
            // In this order: most processes end, and close their pipes, at once, and no timer is set for
            // what they may leave behind.
            tokio::select! {
                biased;
                () = self.host.cancel.cancelled(), if running => self.end(Why::Cancelled),
                () = self.group.wait(), if !self.group.has_ended() => {
                    feeding = false;
                    self.leader_ended();
                }
                () = at_last(room.as_mut()), if room.is_some() => room = None,
                bytes = self.stdout.read(), if room.is_none() && !self.stdout.is_closed() => {
                    if let Err(limit) = self.sink.stdout(bytes) && running {
                        self.end(Why::TooMuchOutput { limit });
                    }
                    room = host.log.room();
                }
                bytes = self.stderr.read(), if room.is_none() && !self.stderr.is_closed() => {
                    self.sink.stderr(bytes);
                    room = host.log.room();
                }
                () = &mut feed, if feeding => feeding = false,
                () = at(wake) => {}
            }
        }
        self.answer()
    }

    fn pipes_are_closed(&self) -> bool {
        self.stdout.is_closed() && self.stderr.is_closed()
    }

    fn is_over(&mut self) -> bool {
        self.group.has_ended() && self.pipes_are_closed() && self.group.is_gone()
    }

    /// When something is due though nothing happens.
    fn wake(&self, deadline: Option<Instant>) -> Option<Instant> {
        match &self.phase {
            Phase::Running => deadline,
            Phase::Leaving { until }
            | Phase::Ending { until, .. }
            | Phase::Killed { until, .. } => {
                let only_the_group = self.group.has_ended() && self.pipes_are_closed();
                let soon = Instant::now() + LOOK_AGAIN;
                Some(if only_the_group { soon.min(*until) } else { *until })
            }
        }
    }

    /// What was due is due now. Answers whether there is still something to stay for.
    fn too_late(&mut self, timeout: Option<Duration>) -> bool {
        match self.phase {
            Phase::Running => {
                self.end(Why::TimedOut { after: timeout.unwrap_or_default() });
                true
            }
            Phase::Ending { why, .. } => {
                let (program, grace) = (&self.program, HumanDuration(self.host.options.grace));
                self.host.say(format!(
                    "`{program}` did not end within {grace} of SIGTERM; SIGKILL to its group"
                ));
                self.group.kill();
                self.phase = Phase::Killed { why, until: Instant::now() + DRAIN };
                true
            }
            Phase::Leaving { .. } => {
                // What still holds a pipe here left the group.
                let left = self.group.terminate();
                if !left.is_empty() {
                    let (program, left) = (&self.program, strays::named(&left));
                    self.host.say(format!(
                        "`{program}` left processes behind, out of its group, which hold its output \
                         open: {left}; SIGTERM to them"
                    ));
                }
                false
            }
            Phase::Killed { .. } => {
                self.group.kill();
                let left = self.group.strays();
                if !left.is_empty() {
                    let left = strays::named(&left);
                    self.host.say(format!("still there after SIGKILL, and left: {left}"));
                }
                false
            }
        }
    }

    /// Tells the group to end, and says why.
    fn end(&mut self, why: Why) {
        let program = &self.program;
        let told = match why {
            Why::Cancelled => format!("the step is told to stop, and `{program}` with it"),
            Why::TimedOut { .. } | Why::TooMuchOutput { .. } => {
                why.error(program.to_owned(), Stopped::Terminated).to_string()
            }
        };
        self.host.say(format!("{told}; SIGTERM to its group"));
        let strays = self.group.terminate();
        if !strays.is_empty() {
            let strays = strays::named(&strays);
            self.host.say(format!("SIGTERM to what left its group, too: {strays}"));
        }
        self.phase = Phase::Ending { why, until: Instant::now() + self.host.options.grace };
    }

    /// The leader ended by itself, or as it was told to.
    fn leader_ended(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if !self.group.is_gone() {
            let program = &self.program;
            self.host.say(format!("`{program}` left processes behind; SIGTERM to them"));
            self.group.terminate();
        }
        self.phase = Phase::Leaving { until: Instant::now() + DRAIN };
    }

    fn answer(self) -> Result<ProcessExit, ProcessError> {
        let Self { host, program, group, sink, phase, .. } = self;
        let status = group.release();
        let (stdout, stderr_tail) = sink.finish();
        let signal = status.and_then(|s| std::os::unix::process::ExitStatusExt::signal(&s));
        if let Some(signal) = signal {
            host.say(format!("`{program}` was ended by {}", signal_name(signal)));
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

async fn feed(stdin: Option<ChildStdin>, bytes: Option<Bytes>) {
    if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
        // A process that reads no more of its input is free to do so.
        let _ = stdin.write_all(&bytes).await;
    }
}

async fn at_last(room: Option<&mut BoxFuture<'_, ()>>) {
    match room {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
