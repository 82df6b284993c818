//! A process with its group, which never outlives its owner.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep, timeout_at};

use super::strays::{self, Mark, Stray};
use super::watch::LOOK_AGAIN;

/// A child that leads a process group. Dropped before [`Group::release`], the group is ended: with
/// `SIGTERM`, the grace and `SIGKILL` where a runtime is there to wait, else with `SIGKILL` at once.
pub(super) struct Group {
    child: Option<Child>,
    id: Pid,
    mark: Mark,
    /// What left the group, as far as it was looked for: when the group was told to end.
    strays: Vec<Stray>,
    grace: Duration,
    ended: bool,
    gone: bool,
    status: Option<ExitStatus>,
    /// Whether its first owner is gone and a task of its own sees it to its end.
    inherited: bool,
}

impl Group {
    /// Takes charge of `child`, which was started as the leader of its own group.
    pub(super) fn new(child: Child, mark: Mark, grace: Duration) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the system gave the process no number"))?;
        Ok(Self {
            child: Some(child),
            id,
            mark,
            strays: Vec::new(),
            grace,
            ended: false,
            gone: false,
            status: None,
            inherited: false,
        })
    }

    pub(super) fn take_pipes(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        match &mut self.child {
            Some(child) => (child.stdin.take(), child.stdout.take(), child.stderr.take()),
            None => (None, None, None),
        }
    }

    /// Waits until the leader has ended, and reaps it. Safe to drop and call again.
    pub(super) async fn wait(&mut self) {
        if let Some(child) = &mut self.child {
            self.status = child.wait().await.ok();
        }
        self.ended = true;
    }

    /// Whether the leader has ended.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether no process is left in the group, or of those that left it and were told to end, that
    /// could still do something. The number of a
    /// group is not given to another process while one is left in it, so this and the signals reach
    /// no stranger.
    pub(super) fn is_gone(&mut self) -> bool {
        let look = || test_kill_process_group(self.id).is_err() || strays::only_zombies(self.id());
        self.gone = self.gone || (self.ended && look());
        self.gone && !self.strays.iter().any(Stray::lives)
    }

    const fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// What lives, is of this process, and left its group.
    pub(super) fn strays(&self) -> Vec<Stray> {
        strays::find(self.id(), &self.mark)
    }

    /// Asks the group to end, and what left it, which is answered.
    pub(super) fn terminate(&mut self) -> Vec<Stray> {
        self.signal(Signal::TERM);
        self.strays.clone()
    }

    /// Ends the group, and what left it.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn signal(&mut self, signal: Signal) {
        // Looked for first: who loses its parent is found by less.
        self.strays = self.strays();
        // It fails only when nobody is left to hear it.
        let _ = kill_process_group(self.id, signal);
        for stray in &self.strays {
            stray.signal(signal);
        }
    }

    /// Gives up the charge: the group was seen to its end. Answers how the leader ended.
    pub(super) fn release(mut self) -> Option<ExitStatus> {
        self.child = None;
        self.status
    }

    async fn end(mut self) {
        self.terminate();
        let until = Instant::now() + self.grace;
        if !self.ended {
            let _ = timeout_at(until, self.wait()).await;
        }
        while !self.is_gone() && Instant::now() < until {
            sleep(LOOK_AGAIN).await;
        }
        if !self.is_gone() {
            self.kill();
        }
        if !self.ended {
            self.wait().await;
        }
        self.child = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if self.is_gone() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !self.inherited => {
                let heir = Self {
                    child: Some(child),
                    inherited: true,
                    mark: self.mark.clone(),
                    strays: std::mem::take(&mut self.strays),
                    ..*self
                };
                runtime.spawn(heir.end());
            }
            // A runtime that ends, too, leaves no time for a grace.
            Ok(_) | Err(_) => self.kill(),
        }
    }
}
