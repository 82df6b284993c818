//! The attempts of one run that runners make.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fairlead_event::BusError;
use fairlead_run::{AttemptToken, Failure, StepResult};
use fairlead_step::{BoxFuture, ErrorClass, RunId, error_chain};
use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::owner::{Entry, Owner, locked};
use super::wire::{OfferHeader, frame};
use crate::attempts::{
    AttemptEvent, AttemptResult, AttemptSession, JobSpec, UnderWay, Unreachable,
};
use crate::slots::Slot;

/// How soon a job that the bus did not take is put there again, and how much later each time.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often it is looked whether a job that nobody has claimed is still in the queue: a bus may lose
/// what it has taken.
const LOOK: Duration = Duration::from_secs(5);

/// Those of one run.
pub(super) struct RemoteSession {
    owner: Arc<Owner>,
    pub(super) number: u64,
    pub(super) run: RunId,
    pub(super) sender: mpsc::UnboundedSender<AttemptEvent>,
    events: mpsc::UnboundedReceiver<AttemptEvent>,
    pub(super) watched: Arc<AtomicUsize>,
    /// What brings jobs into the queue.
    tasks: JoinSet<()>,
}

impl RemoteSession {
    pub(super) fn new(owner: Arc<Owner>, number: u64, run: RunId) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (watched, tasks) = (Arc::default(), JoinSet::new());
        Self { owner, number, run, sender, events, watched, tasks }
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        self.owner.let_go(self.number);
    }
}

/// Keeps a job in the queue until somebody has claimed it, or nobody wants it any more.
async fn offer(owner: Arc<Owner>, entry: Arc<Entry>, job: Bytes) {
    let (pool, token) = (entry.pool.clone(), entry.token.to_string());
    let mut pause = AGAIN.0;
    loop {
        match owner.bus().offer(&pool, &token, job.clone()).await {
            Ok(()) => break,
            Err(error @ (BusError::TooLarge { .. } | BusError::Unsupported { .. })) => {
                let failure = Failure {
                    class: ErrorClass::Terminal,
                    message: format!("the job cannot be sent to a runner: {error}"),
                    hint: Some(
                        "hand on large inputs as artifacts or files, or raise `max_payload` of NATS"
                            .to_owned(),
                    ),
                };
                let result = StepResult::Failure(failure);
                return owner.end(&entry, AttemptResult::Made { result });
            }
            Err(error) => {
                tracing::debug!(%token, "{}", error_chain(&error));
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
            }
        }
        if !owner.has(&entry) {
            return;
        }
    }
    loop {
        sleep(LOOK).await;
        if !owner.has(&entry) || locked(&entry.state).claimed.is_some() {
            return;
        }
        // Whoever seemed to have room may be gone.
        owner.ask_who_is_there().await;
        if matches!(owner.bus().is_offered(&pool, &token).await, Ok(false))
            && owner.has(&entry)
            && locked(&entry.state).claimed.is_none()
            && let Err(error) = owner.bus().offer(&pool, &token, job.clone()).await
        {
            tracing::debug!(%token, "{}", error_chain(&error));
        }
    }
}

impl AttemptSession for RemoteSession {
    fn start(&mut self, job: JobSpec, slot: Slot, begin: oneshot::Receiver<()>) {
        let entry = Entry::new(
            self.number,
            (job.run.clone(), job.step.clone(), job.attempt),
            job.token.clone(),
            job.pool.clone().unwrap_or_default(),
            self.sender.clone(),
            Arc::clone(&self.watched),
        );
        *locked(&entry.artifacts) = job.artifacts.iter().cloned().collect();
        locked(&entry.state).slot = Some(slot);
        let entry = Arc::new(entry);
        self.owner.insert(Arc::clone(&entry));
        let owner = Arc::clone(&self.owner);
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            if begin.await.is_err() {
                // The run is let go, and nobody hears of this attempt.
                owner.remove(&entry);
                return;
            }
            let header = OfferHeader { server: owner.address.clone() };
            let job = frame(&header, &job.to_bytes());
            if owner.has(&entry) {
                offer(owner, entry, job).await;
            }
        });
    }

    fn stop(&mut self, token: &AttemptToken) {
        let Some(entry) = self.owner.entry(token).filter(|entry| entry.session == self.number)
        else {
            return;
        };
        let (claimed, waits) = {
            let mut state = locked(&entry.state);
            let first = !std::mem::replace(&mut state.stop, true);
            let claimed = state.claimed.clone().filter(|_| first);
            (claimed, state.claimed.is_none() && !state.adopted)
        };
        if let Some(runner) = claimed {
            self.owner.tell_to_stop(&entry, &runner);
        }
        // A claim that comes from now on is refused: nobody has begun it, and nobody will.
        if waits {
            let message = "it was taken back before a runner had it".to_owned();
            let result = StepResult::Cancelled { message };
            self.owner.end(&entry, AttemptResult::Made { result });
            self.owner.withdraw(entry);
        }
    }

    fn living<'a>(
        &'a mut self,
        under_way: &'a [UnderWay],
    ) -> BoxFuture<'a, Result<BTreeSet<AttemptToken>, Unreachable>> {
        self.owner.adopt(self, under_way);
        let tokens = under_way.iter().map(|attempt| attempt.token.clone()).collect();
        Box::pin(std::future::ready(Ok(tokens)))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.owner.let_go(self.number);
            self.tasks.shutdown().await;
        })
    }
}

impl Stream for RemoteSession {
    type Item = AttemptEvent;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<AttemptEvent>> {
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => {
                if let AttemptEvent::Logged { .. } = &event {
                    self.watched.fetch_sub(1, Ordering::Relaxed);
                }
                Poll::Ready(Some(event))
            }
            // It holds a sender itself.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
