//! The runs that this process drives, and those that it looks at again when they are woken or their
//! time comes. A run that only waits costs an entry here, and no task.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_exec::{DriveError, Driven, Engine, cancellation};
use fairlead_run::{LeaseError, RunStatus, Wake};
use fairlead_step::{Clock, RunId, error_chain};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the processes of runs that are let go may take to end.
const LET_GO: Duration = Duration::from_secs(15);

/// How many runs are taken up at a time, for each that may go on: taking up a run whose turn has not
/// come is short.
const TAKEN_UP: usize = 4;

/// How long to wait for a run that another process holds, perhaps for a moment only.
const HELD_AGAIN: Duration = Duration::from_millis(500);

/// The longest wait for the time of a parked run. Clocks may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct Drives {
    engine: Engine,
    clock: Arc<dyn Clock>,
    slots: Semaphore,
    known: Mutex<Known>,
    /// The first time that a parked run waits for may be another one now.
    timed: Notify,
    tasks: TaskTracker,
    /// No run begins any more.
    stopping: CancellationToken,
    /// Runs that go on are dropped.
    let_go: CancellationToken,
}

#[derive(Default)]
struct Known {
    runs: HashMap<RunId, Place>,
    /// The parked runs to which time matters.
    times: BTreeSet<(Timestamp, RunId)>,
}

/// What this process has to do with a run that has not ended.
enum Place {
    /// It drives the run, or is about to; `again` when it was woken since.
    Driven { again: bool },
    /// It drives the run again when it is woken.
    Parked { queued: bool, until: Option<Timestamp> },
}

impl Known {
    /// Forgets what is known of `run`.
    fn take(&mut self, run: &RunId) -> Option<Place> {
        let place = self.runs.remove(run);
        if let Some(Place::Parked { until: Some(until), .. }) = &place {
            self.times.remove(&(*until, run.clone()));
        }
        place
    }

    fn park(&mut self, run: RunId, queued: bool, until: Option<Timestamp>) {
        self.take(&run);
        self.times.extend(until.map(|until| (until, run.clone())));
        self.runs.insert(run, Place::Parked { queued, until });
    }
}

impl Drives {
    pub(crate) fn new(
        engine: Engine,
        clock: Arc<dyn Clock>,
        max_runs: usize,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let taken_up = max_runs.max(1).saturating_mul(TAKEN_UP).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            engine,
            clock,
            slots: Semaphore::new(taken_up),
            known: Mutex::default(),
            timed: Notify::new(),
            tasks: TaskTracker::new(),
            stopping,
            let_go: CancellationToken::new(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives a run in a task of its own, until it ends or only waits. A run that this process drives
    /// already is looked at once more behind that.
    pub(crate) fn begin(self: &Arc<Self>, run: RunId) {
        if self.stopping.is_cancelled() {
            return;
        }
        let mut known = self.known();
        if let Some(Place::Driven { again }) = known.runs.get_mut(&run) {
            *again = true;
            return;
        }
        known.take(&run);
        known.runs.insert(run.clone(), Place::Driven { again: false });
        drop(known);
        let drives = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut held = false;
            loop {
                let (driven, by_another) = drives.drive(&run).await;
                // Whoever notes a vote holds the run for a moment, and leaves the rest to others.
                if by_another && !held && !drives.stopping.is_cancelled() {
                    held = true;
                    tokio::time::sleep(HELD_AGAIN).await;
                    continue;
                }
                if !drives.leave(&run, driven) {
                    break;
                }
            }
        });
    }

    /// Takes note of a run that nobody drives because it only waits, unless this process knows of it.
    pub(crate) fn park(&self, run: RunId, status: RunStatus, until: Option<Timestamp>) {
        let mut known = self.known();
        if !known.runs.contains_key(&run) {
            known.park(run, status == RunStatus::Queued, until);
            drop(known);
            self.timed.notify_one();
        }
    }

    /// What becomes of a run that was driven. True when it is to be driven again at once.
    fn leave(&self, run: &RunId, driven: Option<Driven>) -> bool {
        let mut known = self.known();
        let again = matches!(known.take(run), Some(Place::Driven { again: true }));
        match driven {
            Some(Driven::Parked(_)) | None if again && !self.stopping.is_cancelled() => {
                known.runs.insert(run.clone(), Place::Driven { again: false });
                true
            }
            Some(Driven::Parked(parked)) => {
                known.park(run.clone(), parked.status == RunStatus::Queued, parked.until);
                drop(known);
                self.timed.notify_one();
                false
            }
            // It is over, somebody else's, or left for the sweep.
            Some(Driven::Ended(_)) | None => false,
        }
    }

    /// Drives a run once. Answers also whether another process holds it.
    async fn drive(&self, run: &RunId) -> (Option<Driven>, bool) {
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.stopping.cancelled() => return (None, false),
        };
        // The handle is not needed: the engine knows how to stop what it drives.
        let (_canceller, mut cancellation) = cancellation();
        let driven = tokio::select! {
            driven = Box::pin(self.engine.drive(run, &mut cancellation)) => driven,
            () = self.let_go.cancelled() => {
                tracing::warn!(%run, "run is left as it stands; the next start goes on with it");
                return (None, false);
            }
        };
        drop(slot);
        let held = matches!(driven, Err(DriveError::Lease(LeaseError::Held { .. })));
        match &driven {
            Ok(Driven::Ended(outcome)) => tracing::info!(%run, "run ended: {outcome}"),
            Ok(Driven::Parked(parked)) => match parked.until {
                Some(until) => tracing::debug!(%run, "run is {} until {until}", parked.status),
                None => tracing::debug!(%run, "run is {}", parked.status),
            },
            Err(DriveError::Lease(LeaseError::Held { .. })) => {
                tracing::debug!(%run, "another process drives the run");
            }
            Err(error) => {
                tracing::error!(%run, "run was not driven to its end: {}", error_chain(error));
            }
        }
        (driven.ok(), held)
    }

    /// Drives parked runs again when they are woken or their time comes, until the server stops.
    /// Answers early when hints were lost: then everything is to be looked at.
    pub(crate) async fn attend(self: &Arc<Self>, wakes: &mut BoxStream<'static, Wake>) {
        loop {
            let due = self.due();
            let wait = match due {
                Some(due) => {
                    let left = due.duration_since(self.clock.now());
                    Duration::try_from(left).unwrap_or(Duration::ZERO).min(LONGEST_WAIT)
                }
                None => LONGEST_WAIT,
            };
            tokio::select! {
                wake = wakes.next() => match wake {
                    Some(Wake::Run(run)) => self.begin(run),
                    Some(Wake::Turns) => self.turns(),
                    Some(Wake::All) => {
                        self.turns();
                        return;
                    }
                    // The store is closed.
                    None => self.stopping.cancelled().await,
                },
                () = tokio::time::sleep(wait) => {}
                () = self.timed.notified() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Drives the runs whose time has come, and answers the time of the next one.
    fn due(self: &Arc<Self>) -> Option<Timestamp> {
        let now = self.clock.now();
        loop {
            let first = self.known().times.first().cloned();
            match first {
                Some((until, run)) if until <= now => self.begin(run),
                Some((until, _)) => return Some(until),
                None => return None,
            }
            if self.stopping.is_cancelled() {
                return None;
            }
        }
    }

    /// Lets the runs that wait for their turn ask for it again.
    fn turns(self: &Arc<Self>) {
        let mut known = self.known();
        let mut queued = Vec::new();
        for (run, place) in &mut known.runs {
            match place {
                Place::Parked { queued: true, .. } => queued.push(run.clone()),
                // Its answer may be older than the hint.
                Place::Driven { again } => *again = true,
                Place::Parked { queued: false, .. } => {}
            }
        }
        drop(known);
        // Who asked first gets it first; ids are in the order of time.
        queued.sort();
        queued.into_iter().for_each(|run| self.begin(run));
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
