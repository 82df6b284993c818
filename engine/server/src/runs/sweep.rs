//! The runs that are to be gone on with: those that are woken or whose time comes, and those that an
//! outage or the end of a process left behind. Events have loops of their own.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{Journal, RunFilter, RunStatus, StoreError, Wake};
use fairlead_step::{Clock, error_chain};
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;

/// The runs of a page.
const BATCH: usize = 1000;
/// How long somebody who has just created a run may take to begin driving it.
const BEGINNING: Duration = Duration::from_secs(60);

/// What takes up the runs that others left.
pub(crate) struct Sweep {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    supervisor: Arc<Supervisor>,
    /// How often the store is searched.
    every: Duration,
    /// Told when something about runs may have been missed.
    missed: Notify,
    stopping: CancellationToken,
}

impl Sweep {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        supervisor: Arc<Supervisor>,
        every: Duration,
        stopping: CancellationToken,
    ) -> Self {
        Self { journal, clock, supervisor, every, missed: Notify::new(), stopping }
    }

    /// Goes on with the runs that are woken or whose time comes, until the server stops. It does nothing
    /// else, so that nothing else can hold it up.
    pub(crate) async fn attend(&self, mut wakes: BoxStream<'static, Wake>) {
        while !self.stopping.is_cancelled() {
            self.supervisor.attend(&mut wakes).await;
            // Hints were lost: everything is to be looked at.
            self.missed.notify_one();
        }
    }

    /// Takes up what an earlier process left, and now and again what was left since.
    pub(crate) async fn run(&self) {
        let mut first = true;
        while !self.stopping.is_cancelled() {
            // Nobody else can be about to drive what is left from before this process began, but for
            // those who use the same store; those that are new are theirs.
            let age = if first { Duration::ZERO } else { BEGINNING };
            if let Err(error) = self.runs(age, first).await {
                tracing::error!("cannot look for what was left: {}", error_chain(&error));
            }
            first = false;
            let missed = tokio::time::timeout(self.every, self.missed.notified());
            self.stopping.run_until_cancelled(missed).await;
        }
    }

    /// Takes up the runs that nobody drives, page by page, and takes note of those that only wait.
    async fn runs(&self, age: Duration, first: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let old = |at: Timestamp| now.duration_since(at) >= age;
        let mut filter = RunFilter { unfinished: true, limit: BATCH, ..RunFilter::default() };
        loop {
            let page = self.journal.list(filter.clone()).await?;
            let last =
                (page.len() == BATCH).then(|| page.last().map(|run| run.id.clone())).flatten();
            for run in page.into_iter().filter(|run| !run.held && old(run.requested_at)) {
                match run.status {
                    RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued
                        if !run.signaled =>
                    {
                        self.supervisor.park(&run);
                    }
                    RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued => {
                        self.supervisor.begin(run.id);
                    }
                    RunStatus::Running | RunStatus::Cancelling => {
                        if first {
                            tracing::info!(
                                run = %run.id, pipeline = run.pipeline, "going on with the run"
                            );
                        }
                        self.supervisor.begin(run.id);
                    }
                    RunStatus::Ended(_) => {}
                }
            }
            match last {
                Some(last) if !self.stopping.is_cancelled() => filter.before = Some(last),
                Some(_) | None => break,
            }
        }
        // Only now, for the pages go back in time: who is on the last one comes first.
        self.supervisor.ask_again();
        Ok(())
    }
}
