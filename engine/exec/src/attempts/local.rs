//! Attempts in this process: each is a task, and ends with the one who drives its run.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fairlead_run::{AttemptToken, Failure, StepResult};
use fairlead_step::{
    BoxFuture, CancelHandle, CancelToken, Catalog, ErrorClass, RunId, Step, StepId,
};
use futures::Stream;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};

use super::{
    AttemptEvent, AttemptResult, AttemptSession, Attempts, Demand, JobSpec, NoRoom, UnderWay,
    Unreachable,
};
use crate::host::{Host, Job};
use crate::slots::Slot;

/// The attempts that this process makes itself.
#[derive(Clone)]
pub struct LocalAttempts {
    pub(crate) host: Arc<Host>,
    pub(crate) catalog: Arc<Catalog>,
}

/// Those of one run.
pub(crate) struct LocalSession {
    attempts: LocalAttempts,
    tasks: JoinSet<AttemptResult>,
    running: Vec<Running>,
}

/// An attempt that is under way.
struct Running {
    step: StepId,
    attempt: u32,
    token: AttemptToken,
    task: Id,
    /// Taken when the attempt was told to stop.
    stop: Option<CancelHandle>,
    slot: Slot,
}

impl LocalAttempts {
    pub(crate) fn session(&self) -> LocalSession {
        LocalSession { attempts: self.clone(), tasks: JoinSet::new(), running: Vec::new() }
    }

    /// The kind that a job asks for, in its version.
    pub(crate) fn kind(&self, job: &JobSpec) -> Result<Arc<dyn Step>, Failure> {
        let found = self.catalog.get(&job.kind);
        match found.filter(|kind| kind.spec().version == job.kind_version) {
            Some(kind) => Ok(Arc::clone(kind)),
            None => Err(Failure {
                class: ErrorClass::Terminal,
                message: format!(
                    "the job needs `{}` version {}, and this build has {}",
                    job.kind,
                    job.kind_version,
                    found.map_or("no such kind".to_owned(), |k| format!(
                        "version {}",
                        k.spec().version
                    ))
                ),
                hint: Some("run one version of Fairlead on servers and runners".to_owned()),
            }),
        }
    }
}

impl Attempts for LocalAttempts {
    fn open(&self, _: &RunId) -> Box<dyn AttemptSession> {
        Box::new(self.session())
    }

    fn room(&self, _: &Demand, _: usize) -> Result<(), NoRoom> {
        // Its slots bound it.
        Ok(())
    }

    fn when_room_changes(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

impl LocalSession {
    /// What lives, where only this process makes attempts: what an earlier one made ended with it, and
    /// what is in a pool is not ours to tell.
    pub(super) fn only_here(under_way: &[UnderWay]) -> Result<BTreeSet<AttemptToken>, Unreachable> {
        let elsewhere = under_way.iter().find_map(|attempt| {
            let pool = attempt.demand.pool.as_ref()?;
            Some(Unreachable { step: attempt.step.clone(), pool: pool.to_string() })
        });
        elsewhere.map_or_else(|| Ok(BTreeSet::new()), Err)
    }

    /// What the end of a task stands for.
    fn ended(&mut self, end: Result<(Id, AttemptResult), JoinError>) -> Option<AttemptEvent> {
        let (task, end) = match end {
            Ok((task, end)) => (task, end),
            // Nothing that a step does ends its task so: the host itself is at fault.
            Err(error) => (error.id(), AttemptResult::Lost { reason: error.to_string() }),
        };
        let index = self.running.iter().position(|running| running.task == task)?;
        let Running { step, attempt, token, slot, .. } = self.running.swap_remove(index);
        drop(slot);
        Some(AttemptEvent::Ended { step, attempt, token, end })
    }
}

impl Stream for LocalSession {
    type Item = AttemptEvent;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<AttemptEvent>> {
        loop {
            match self.tasks.poll_join_next_with_id(context) {
                Poll::Ready(Some(end)) => {
                    if let Some(event) = self.ended(end) {
                        return Poll::Ready(Some(event));
                    }
                }
                // None is under way. Whoever starts one asks again.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AttemptSession for LocalSession {
    fn start(&mut self, job: JobSpec, slot: Slot, begin: oneshot::Receiver<()>) {
        let (stop, stopped) = CancelToken::new();
        let (step, attempt, token) = (job.step.clone(), job.attempt, job.token.clone());
        let kind = self.attempts.kind(&job);
        let host = Arc::clone(&self.attempts.host);
        let task = self.tasks.spawn(async move {
            // Behind the journal, which is about to be told what to write.
            tokio::task::yield_now().await;
            match kind {
                Ok(kind) => {
                    host.attempt(Job { spec: job, kind, stop: stopped, is_written: begin }).await
                }
                Err(failure) => AttemptResult::Made { result: StepResult::Failure(failure) },
            }
        });
        self.running.push(Running {
            step,
            attempt,
            token,
            task: task.id(),
            stop: Some(stop),
            slot,
        });
    }

    fn stop(&mut self, token: &AttemptToken) {
        let same = |running: &&mut Running| running.token == *token;
        if let Some(stop) = self.running.iter_mut().find(same).and_then(|r| r.stop.take()) {
            stop.cancel();
        }
    }

    fn living<'a>(
        &'a mut self,
        under_way: &'a [UnderWay],
    ) -> BoxFuture<'a, Result<BTreeSet<AttemptToken>, Unreachable>> {
        Box::pin(std::future::ready(Self::only_here(under_way)))
    }

    fn tidy(&self) {
        self.attempts.host.scratch.tidy();
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.running.clear();
            self.tasks.shutdown().await;
            self.attempts.host.scratch.release().await;
        })
    }
}
