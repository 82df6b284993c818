//! The runs that this process drives.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_exec::{DriveError, Engine, cancellation};
use fairlead_run::LeaseError;
use fairlead_step::{RunId, error_chain};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the processes of runs that are let go may take to end.
const LET_GO: Duration = Duration::from_secs(15);

pub(crate) struct Drives {
    engine: Engine,
    slots: Semaphore,
    driven: Mutex<HashSet<RunId>>,
    tasks: TaskTracker,
    /// No run begins any more.
    stopping: CancellationToken,
    /// Runs that go on are dropped.
    let_go: CancellationToken,
}

impl Drives {
    pub(crate) fn new(engine: Engine, max_runs: usize, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            engine,
            slots: Semaphore::new(max_runs.clamp(1, Semaphore::MAX_PERMITS)),
            driven: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping,
            let_go: CancellationToken::new(),
        })
    }

    fn driven(&self) -> MutexGuard<'_, HashSet<RunId>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives a run to its end in a task of its own, unless this process does already.
    pub(crate) fn begin(self: &Arc<Self>, run: RunId) {
        if self.stopping.is_cancelled() || !self.driven().insert(run.clone()) {
            return;
        }
        let drives = Arc::clone(self);
        self.tasks.spawn(async move {
            drives.drive(&run).await;
            drives.driven().remove(&run);
        });
    }

    async fn drive(&self, run: &RunId) {
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.stopping.cancelled() => return,
        };
        // The handle is not needed: the engine knows how to stop what it drives.
        let (_canceller, cancellation) = cancellation();
        tokio::select! {
            ended = Box::pin(self.engine.drive(run, cancellation)) => match ended {
                Ok(outcome) => tracing::info!(%run, "run ended: {outcome}"),
                Err(DriveError::Lease(LeaseError::Held { .. })) => {
                    tracing::debug!(%run, "another process drives the run");
                }
                Err(error) => {
                    let said = error_chain(&error);
                    tracing::error!(%run, "run was not driven to its end: {said}");
                }
            },
            () = self.let_go.cancelled() => {
                tracing::warn!(%run, "run is left as it stands; the next start goes on with it");
            }
        }
        drop(slot);
    }

    /// Waits for the runs to end, for at most `drain`; what is not over then is let go.
    pub(crate) async fn finish(&self, drain: Duration) {
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            self.let_go.cancel();
            let _ = tokio::time::timeout(LET_GO, self.tasks.wait()).await;
        }
    }
}
