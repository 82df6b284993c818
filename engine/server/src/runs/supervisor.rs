//! The runs that this process drives, and those that it looks at again when they are woken or their
//! time comes. A run that only waits costs an entry here, and no task.
//!
//! Of those that wait to be admitted only the first of each group asks when a place may be free, one
//! after another in the order of admission; the next one of a group asks when the one before it has left
//! the queue, whatever became of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_exec::{DriveError, Driven, Engine, Parked, Update, Updates, cancellation};
use fairlead_run::{Journal, LeaseError, RunEvent, RunFilter, RunStatus, RunSummary, Wake};
use fairlead_step::{Clock, RunId, error_chain};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission_queue::{AdmissionQueue, Position};

/// How long the processes of runs that are let go may take to end.
const LET_GO: Duration = Duration::from_secs(15);

/// How many runs are taken up at a time, for each that may go on: taking up a run whose time has not
/// come is short.
const TAKEN_UP: usize = 4;

/// How long to wait for a run that another process holds, perhaps for a moment only.
const HELD_AGAIN: Duration = Duration::from_millis(500);
/// After how long a run is taken up again that slipped from this process: the lease that it had has ended
/// by then, and what was away may be back.
const SLIPPED_AGAIN: SignedDuration = SignedDuration::from_secs(16);

/// The longest wait for the time of a parked run. Clocks may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long those who are behind a run wait for it to be answered whether it is admitted. A store
/// that is slow for one must not hold up all the others.
const ANSWER: Duration = Duration::from_secs(5);

/// What drives the runs of this process.
pub(crate) struct Supervisor {
    engine: Engine,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    slots: Semaphore,
    known: Mutex<Known>,
    /// The first time that a parked run waits for may be another one now.
    timed: Notify,
    /// Somebody is to ask to be admitted.
    asked: Notify,
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
    /// The parked runs that wait to be admitted.
    queue: AdmissionQueue,
    /// How often it was heard that runs may be admitted that could not be before.
    heard: u64,
}

/// What this process has to do with a run that has not ended.
enum Place {
    /// It drives the run, or is about to.
    Driven(Drive),
    /// It drives the run again when it is woken, when its time comes, or when it may be admitted:
    /// then it stands in the queue.
    Parked { position: Option<Position>, until: Option<Timestamp> },
}

/// A run that is driven.
#[derive(Default)]
struct Drive {
    /// It was woken since.
    again: bool,
    /// Where it stood in the queue, until it is admitted.
    position: Option<Position>,
    /// What was heard of admission when the drive began: its answer may be older than what came since.
    heard: u64,
    /// Dropped when it is known whether the run is admitted.
    asks: Option<oneshot::Sender<()>>,
}

/// When a run is tried again that this process has just let go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Not by itself: it was driven, or would fail in the same way.
    Not,
    /// In a moment: another process holds it.
    Soon,
    /// When its lease has ended: the store, the runners or the lease failed.
    Later,
}

/// What a parked run waits for.
struct Waits {
    position: Option<Position>,
    until: Option<Timestamp>,
}

impl Place {
    const fn is_queued(&self) -> bool {
        matches!(self, Self::Parked { position: Some(_), .. })
    }
}

impl Known {
    /// Forgets what is known of `run`.
    fn take(&mut self, run: &RunId) -> Option<Place> {
        let place = self.runs.remove(run);
        if let Some(Place::Parked { position, until }) = &place {
            if let Some(until) = until {
                self.times.remove(&(*until, run.clone()));
            }
            if let Some(position) = position {
                self.queue.leave(position);
            }
        }
        place
    }

    fn park(&mut self, run: RunId, position: Option<Position>, until: Option<Timestamp>) {
        self.take(&run);
        self.times.extend(until.map(|until| (until, run.clone())));
        if let Some(position) = &position {
            self.queue.join(run.clone(), position);
        }
        self.runs.insert(run, Place::Parked { position, until });
    }
}

impl Supervisor {
    pub(crate) fn new(
        engine: Engine,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        max_runs: usize,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let taken_up = max_runs.max(1).saturating_mul(TAKEN_UP).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            engine,
            journal,
            clock,
            slots: Semaphore::new(taken_up),
            known: Mutex::default(),
            timed: Notify::new(),
            asked: Notify::new(),
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
        if !self.stopping.is_cancelled() {
            self.start(&mut self.known(), run, None);
        }
    }

    fn start(self: &Arc<Self>, known: &mut Known, run: RunId, asks: Option<oneshot::Sender<()>>) {
        if let Some(Place::Driven(drive)) = known.runs.get_mut(&run) {
            drive.again = true;
            return;
        }
        let position = match known.take(&run) {
            Some(Place::Parked { position, .. }) => position,
            Some(Place::Driven(_)) | None => None,
        };
        let drive = Drive { again: false, position, heard: known.heard, asks };
        known.runs.insert(run.clone(), Place::Driven(drive));
        let supervisor = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut held = false;
            loop {
                let (driven, again) = supervisor.drive(&run).await;
                // Whoever notes a vote holds the run for a moment, and leaves the rest to others.
                if again == Again::Soon && !held && !supervisor.stopping.is_cancelled() {
                    held = true;
                    tokio::time::sleep(HELD_AGAIN).await;
                    continue;
                }
                let waits = match driven {
                    Some(Driven::Parked(parked)) => supervisor.what_for(&run, parked).await,
                    // Nobody else may know that it was let go.
                    None if again == Again::Later => {
                        let until = supervisor.clock.now().saturating_add(SLIPPED_AGAIN).ok();
                        Some(Waits { position: None, until })
                    }
                    // It is over, somebody else's, or left for the sweep.
                    Some(Driven::Ended(_)) | None => None,
                };
                let over = matches!(driven, Some(Driven::Ended(_)));
                if !supervisor.leave(&run, over, waits) {
                    break;
                }
            }
        });
    }

    /// Takes note of a run that nobody drives because it only waits, unless this process knows of it.
    /// One that waits to be admitted asks for it with the next hint.
    pub(crate) fn park(&self, run: &RunSummary) {
        let mut known = self.known();
        if !known.runs.contains_key(&run.id) {
            let position = (run.status == RunStatus::Queued).then(|| Position::of(run));
            let until = run.wake_at.filter(|_| position.is_none());
            known.park(run.id.clone(), position, until);
            drop(known);
            self.timed.notify_one();
        }
    }

    /// What a run that was parked waits for. None when the store does not say where in the queue it
    /// stands: the sweep finds it.
    async fn what_for(&self, run: &RunId, parked: Parked) -> Option<Waits> {
        if parked.status != RunStatus::Queued {
            return Some(Waits { position: None, until: parked.until });
        }
        let known = match self.known().runs.get(run) {
            Some(Place::Driven(drive)) => drive.position.clone(),
            Some(Place::Parked { .. }) | None => None,
        };
        let position = match known {
            Some(position) => position,
            None => self.position(run).await?,
        };
        Some(Waits { position: Some(position), until: parked.until })
    }

    /// Where a run stands, as the store says.
    async fn position(&self, run: &RunId) -> Option<Position> {
        let this = RunFilter { run: Some(run.clone()), limit: 1, ..RunFilter::default() };
        match self.journal.list(this).await {
            Ok(found) => found.first().map(Position::of),
            Err(error) => {
                tracing::error!(%run, "cannot learn where it stands: {}", error_chain(&error));
                None
            }
        }
    }

    /// What becomes of a run that was driven. True when it is to be driven again at once.
    fn leave(&self, run: &RunId, over: bool, waits: Option<Waits>) -> bool {
        let mut known = self.known();
        let mut drive = match known.take(run) {
            Some(Place::Driven(drive)) => drive,
            Some(Place::Parked { .. }) | None => Drive::default(),
        };
        if drive.again && !over && !self.stopping.is_cancelled() {
            let position = drive.position.take().or(waits.and_then(|waits| waits.position));
            let heard = known.heard;
            known
                .runs
                .insert(run.clone(), Place::Driven(Drive { position, heard, ..Drive::default() }));
            return true;
        }
        match waits {
            Some(Waits { position: Some(position), until }) => {
                known.park(run.clone(), Some(position.clone()), until);
                if drive.heard != known.heard {
                    self.free(&mut known, &position);
                }
            }
            Some(Waits { position: None, until }) => known.park(run.clone(), None, until),
            None => {}
        }
        // Whoever is no longer in the queue lets the next one ask.
        if let Some(position) = drive.position.take()
            && !known.runs.get(run).is_some_and(Place::is_queued)
        {
            self.free(&mut known, &position);
        }
        drop(known);
        self.timed.notify_one();
        false
    }

    /// A place may be free in the group of whoever stands, or stood, there.
    fn free(&self, known: &mut Known, position: &Position) {
        if known.queue.due(position) {
            self.asked.notify_one();
        }
    }

    /// Drives a run once. Answers also when it is to be tried again.
    async fn drive(&self, run: &RunId) -> (Option<Driven>, Again) {
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.stopping.cancelled() => return (None, Again::Not),
        };
        // The handle is not needed: the engine knows how to stop what it drives.
        let (_canceller, mut cancellation) = cancellation();
        let driven = tokio::select! {
            driven = Box::pin(self.engine.drive(run, &mut cancellation)) => driven,
            () = self.let_go.cancelled() => {
                tracing::warn!(%run, "run is left as it stands; the next start goes on with it");
                return (None, Again::Not);
            }
        };
        drop(slot);
        let again = match &driven {
            Err(DriveError::Lease(LeaseError::Held { .. })) => Again::Soon,
            Err(error) if error.may_pass() => Again::Later,
            Err(_) | Ok(_) => Again::Not,
        };
        match &driven {
            Ok((Driven::Ended(outcome), _)) => tracing::info!(%run, "run ended: {outcome}"),
            Ok((Driven::Parked(parked), _)) => match parked.until {
                Some(until) => tracing::debug!(%run, "run is {} until {until}", parked.status),
                None => tracing::debug!(%run, "run is {}", parked.status),
            },
            Err(DriveError::Lease(LeaseError::Held { .. })) => {
                tracing::debug!(%run, "another process drives the run");
            }
            Err(error) if error.is_of_newer_build() => {
                tracing::warn!(%run, "run is left to a newer build: {}", error_chain(error));
            }
            Err(error) => {
                tracing::error!(%run, "run was not driven to its end: {}", error_chain(error));
            }
        }
        (driven.ok().map(|(driven, _)| driven), again)
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
                    Some(Wake::Admission) => self.ask_again(),
                    Some(Wake::All) => {
                        self.ask_again();
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

    /// Lets those who are first in the queue ask to be admitted again.
    pub(crate) fn ask_again(&self) {
        let mut known = self.known();
        known.heard += 1;
        known.queue.all_due();
        drop(known);
        self.asked.notify_one();
    }

    /// Lets whoever is to ask to be admitted do so, one after another, until the server stops.
    pub(crate) async fn give_turns(self: &Arc<Self>) {
        loop {
            tokio::select! {
                () = self.asked.notified() => {}
                () = self.stopping.cancelled() => return,
            }
            while let Some(answer) = self.ask() {
                tokio::select! {
                    _ = tokio::time::timeout(ANSWER, answer) => {}
                    () = self.stopping.cancelled() => return,
                }
            }
        }
    }

    /// Begins the next run that is to ask to be admitted. What is answered is ready when it is known
    /// whether the run has it.
    fn ask(self: &Arc<Self>) -> Option<oneshot::Receiver<()>> {
        if self.stopping.is_cancelled() {
            return None;
        }
        let mut known = self.known();
        let run = known.queue.next()?;
        let (asks, answer) = oneshot::channel();
        self.start(&mut known, run, Some(asks));
        Some(answer)
    }

    /// Hears which runs are admitted, for then the next of their group may ask, until the server
    /// stops.
    pub(crate) async fn hear(&self, mut updates: Updates) {
        loop {
            let update = tokio::select! {
                update = updates.next() => update,
                () = self.stopping.cancelled() => None,
            };
            match update.as_deref() {
                Some(Update::Record { run, record })
                    if matches!(record.event(), RunEvent::Admitted) =>
                {
                    self.admitted(run).await;
                }
                Some(Update::Missed { .. }) => self.ask_again(),
                Some(
                    Update::Record { .. }
                    | Update::Line { .. }
                    | Update::Progress { .. }
                    | Update::Notice { .. },
                ) => {}
                None => return,
            }
        }
    }

    async fn admitted(&self, run: &RunId) {
        {
            let mut known = self.known();
            // Who was refused a moment before may have been refused because this one was first.
            known.heard += 1;
            let (position, asks) = match known.runs.get_mut(run) {
                Some(Place::Driven(drive)) => (drive.position.take(), drive.asks.take()),
                Some(Place::Parked { .. }) | None => (None, None),
            };
            if let Some(position) = position {
                self.free(&mut known, &position);
                // Only now, so that whoever asks next is chosen among all that may.
                drop(asks);
                return;
            }
            if known.queue.is_empty() {
                return;
            }
        }
        if let Some(position) = self.position(run).await {
            self.free(&mut self.known(), &position);
        }
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
