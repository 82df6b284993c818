//! The dispatcher: one task drives one run, and is its only writer.
//!
//! ```text
//!   Internal: an attempt ended, a slot is free, cancel, the timer
//!      │ facts
//!      ▼
//!   apply ──► commands ──► facts ──► apply … until nothing more follows
//!      │ records
//!      ▼
//!   append, durably, in one transaction ──► perform: start attempts, stop attempts
//! ```
//!
//! Nothing is performed before its fact is durable, and no fact is written that the run's
//! transition table refuses. All that follows from one event is one transaction: that an attempt
//! ended and that the next began costs one sync of the disk. When it cannot be written, the run is
//! let go with the state in memory: its attempts are ended, its lease is given back, and the journal
//! says what really happened.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fairlead_plan::RunOutcome;
use fairlead_run::{
    AppendError, ApplyError, AttemptToken, CancelReason, Command, Failure, Journal, Lease, Record,
    Run, RunEvent, SealError, StepResult, StoreError,
};
use fairlead_step::{
    CancelHandle, CancelToken, Catalog, Clock, ErrorClass, HumanDuration, RunId, RunInfo, StepId,
};
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};

use crate::cancel::{CancelRequest, Cancellation};
use crate::host::{Host, Job};
use crate::inject::{Fault, Injection};
use crate::update::Update;

/// How long to wait before an append is tried again, when the journal does not answer. After the
/// last of them the run is let go.
const APPEND_AGAIN: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The longest sleep; after it the run is asked again. Clocks may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Why a run was let go before its end. Its journal is whole, and it can be resumed, unless
/// somebody else drives it already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// A record was not taken.
    #[error("cannot write to the journal of run {run}")]
    Append {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: AppendError,
    },
    /// A fact does not become a record.
    #[error("cannot make a record for run {run}")]
    Seal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A fact does not fit the run: a defect. It is not written, and only this run is affected.
    #[error("run {run} is in a state that it cannot be in")]
    Apply {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// An injected fault ended the drive as a crash would.
    #[error("the end of attempt {attempt} of step `{step}` was lost, as injected")]
    Injected {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
    },
}

/// What the dispatcher works with.
pub(crate) struct Tools {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: Arc<Host>,
    /// One slot for each attempt that may run at a time, in every run of the engine.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) injections: Vec<Injection>,
}

/// Everything that can happen to the task.
enum Internal {
    /// The task of an attempt ended.
    Ended(TaskEnd),
    /// A slot is free for the first step that waits for one.
    Slot(OwnedSemaphorePermit),
    /// Somebody wants the run to stop.
    Cancel(CancelRequest),
    /// The time came that the run waits for.
    Due,
}

type TaskEnd = Result<(Id, Ended), JoinError>;

/// An attempt that ended.
struct Ended {
    step: StepId,
    attempt: u32,
    token: AttemptToken,
    result: StepResult,
}

/// An attempt that is under way.
struct Running {
    step: StepId,
    attempt: u32,
    task: Id,
    /// Taken when the attempt was told to stop.
    stop: Option<CancelHandle>,
}

/// What the run wants.
#[derive(Default)]
struct Decided {
    /// To write down.
    facts: Vec<RunEvent>,
    /// The attempts to start then, each with its slot.
    starts: Vec<(StepId, u32, OwnedSemaphorePermit)>,
    /// The attempts to stop then. They are wanted until they have stopped.
    stops: Vec<(StepId, u32)>,
}

/// A place in the queue for a slot. It is `Sync`, so that the drive of a run may move between threads.
type Queued = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

/// Drives one run.
pub(crate) struct Dispatcher<'e> {
    tools: &'e Tools,
    run: Run,
    lease: Lease,
    running: Vec<Running>,
    tasks: JoinSet<Ended>,
    /// The attempts that may start, first come first served.
    ready: VecDeque<(StepId, u32)>,
    /// The place in the queue for a slot, while none is free.
    waiting: Option<Queued>,
    /// A slot that was waited for.
    slot: Option<OwnedSemaphorePermit>,
    wake: Option<Timestamp>,
}

impl<'e> Dispatcher<'e> {
    /// Takes charge of `run`, for as long as `lease` is held.
    pub(crate) fn new(tools: &'e Tools, run: Run, lease: Lease) -> Self {
        Self {
            tools,
            run,
            lease,
            running: Vec::new(),
            tasks: JoinSet::new(),
            ready: VecDeque::new(),
            waiting: None,
            slot: None,
            wake: None,
        }
    }

    /// Drives the run to its end.
    pub(crate) async fn drive(
        mut self,
        cancel: &mut Cancellation,
    ) -> Result<RunOutcome, DispatchError> {
        let result = self.steer(cancel).await;
        // Whatever still runs belongs to a run that is let go.
        self.running.clear();
        self.tasks.shutdown().await;
        self.tools.host.scratch.release();
        result
    }

    async fn steer(&mut self, cancel: &mut Cancellation) -> Result<RunOutcome, DispatchError> {
        let recovery = self.run.recovery(self.lease.epoch(), "its process ended before it did");
        self.react(recovery).await?;
        loop {
            if let Some((outcome, _)) = self.run.ended() {
                return Ok(outcome);
            }
            let event = self.next(cancel).await;
            let facts = self.facts_of(event)?;
            self.react(facts).await?;
        }
    }

    /// Takes in what happened and everything that follows from it, writes it down, and performs it.
    async fn react(&mut self, facts: Vec<RunEvent>) -> Result<(), DispatchError> {
        let mut records = self.take_in(facts)?;
        let mut starts = Vec::new();
        let stops = loop {
            let decided = self.decide();
            starts.extend(decided.starts);
            if decided.facts.is_empty() {
                break decided.stops;
            }
            records.extend(self.take_in(decided.facts)?);
        };
        self.append(&records).await?;
        for record in records {
            let run = self.run.id();
            self.tools.host.updates.send(|| Update::Record { run: run.clone(), record });
        }
        for (step, attempt, slot) in starts {
            self.start(step, attempt, slot);
        }
        for (step, attempt) in stops {
            self.stop(&step, attempt);
        }
        Ok(())
    }

    /// What the run wants now.
    fn decide(&mut self) -> Decided {
        let mut decided = Decided::default();
        let mut wanted = Vec::new();
        self.wake = None;
        for command in self.run.commands(self.tools.clock.now()) {
            match command {
                Command::Start { step, attempt } => wanted.push((step, attempt)),
                Command::StopAttempt { step, attempt } => decided.stops.push((step, attempt)),
                Command::WaitUntil(time) => self.wake = Some(time),
                fact @ (Command::Skip { .. }
                | Command::Fail { .. }
                | Command::ScheduleRetry { .. }
                | Command::TimeOut { .. }
                | Command::End { .. }) => {
                    decided.facts.extend(fact.fact(self.run.id(), self.lease.epoch()));
                }
            }
        }
        self.queue(&wanted);
        decided.starts = self.take_slots();
        for (step, attempt, _) in &decided.starts {
            let start = Command::Start { step: step.clone(), attempt: *attempt };
            decided.facts.extend(start.fact(self.run.id(), self.lease.epoch()));
        }
        decided
    }

    /// Brings the queue in line with what the run wants to start: who waits keeps the place.
    fn queue(&mut self, wanted: &[(StepId, u32)]) {
        let all: HashSet<&(StepId, u32)> = wanted.iter().collect();
        self.ready.retain(|entry| all.contains(entry));
        let known: HashSet<&(StepId, u32)> = self.ready.iter().collect();
        let new: Vec<_> = wanted.iter().filter(|entry| !known.contains(entry)).cloned().collect();
        self.ready.extend(new);
        if self.ready.is_empty() {
            self.waiting = None;
            self.slot = None;
        }
    }

    /// The attempts that may start now, each with its slot.
    fn take_slots(&mut self) -> Vec<(StepId, u32, OwnedSemaphorePermit)> {
        let mut starts = Vec::new();
        // The slot of an attempt that just ended: its end and the next start are one transaction.
        if let Some(place) = &mut self.waiting
            && let Some(slot) = place.as_mut().now_or_never()
        {
            self.waiting = None;
            self.slot = slot;
        }
        while !self.ready.is_empty() && self.waiting.is_none() {
            let free = self.slot.take();
            let free = free.or_else(|| Arc::clone(&self.tools.slots).try_acquire_owned().ok());
            match (free, self.ready.pop_front()) {
                (Some(slot), Some((step, attempt))) => starts.push((step, attempt, slot)),
                (_, first) => {
                    first.into_iter().for_each(|first| self.ready.push_front(first));
                    let slots = Arc::clone(&self.tools.slots);
                    self.waiting = Some(Box::pin(async { slots.acquire_owned().await.ok() }));
                }
            }
        }
        starts
    }

    /// Starts an attempt whose `Started` is written.
    fn start(&mut self, step: StepId, attempt: u32, slot: OwnedSemaphorePermit) {
        let token = AttemptToken::mint(self.run.id(), &step, attempt, self.lease.epoch());
        let (stop, stopped) = CancelToken::new();
        let job = self.job(&step, attempt, stopped);
        let fault = self.tools.injections.iter().find(|i| i.step == step && i.attempt == attempt);
        let fault = fault.map(|injection| injection.fault);
        let host = Arc::clone(&self.tools.host);
        let running = step.clone();
        let task = self.tasks.spawn(async move {
            let result = match (job, fault) {
                (Err(failure), _) => StepResult::Failure(failure),
                (Ok(_), Some(Fault::Fail)) => StepResult::Failure(Failure {
                    class: ErrorClass::Retryable,
                    message: "it failed, as injected".to_owned(),
                    hint: None,
                }),
                (Ok(job), Some(Fault::Timeout)) => {
                    let after = job.timeout.unwrap_or(HumanDuration(Duration::ZERO));
                    StepResult::TimedOut { after }
                }
                (Ok(job), Some(Fault::Lost) | None) => host.attempt(job).await,
            };
            drop(slot);
            Ended { step, attempt, token, result }
        });
        self.running.push(Running { step: running, attempt, task: task.id(), stop: Some(stop) });
    }

    fn job(&self, step: &StepId, attempt: u32, stop: CancelToken) -> Result<Job, Failure> {
        let broken = |message: String| Failure { class: ErrorClass::Terminal, message, hint: None };
        let planned = self.run.plan().step(step);
        let planned = planned.ok_or_else(|| broken(format!("the plan has no step `{step}`")))?;
        let kind = self.tools.catalog.get(&planned.kind);
        let kind =
            kind.ok_or_else(|| broken(format!("there is no step kind `{}`", planned.kind)))?;
        let input = planned.render(self.run.scope()).map_err(|error| broken(error.to_string()))?;
        Ok(Job {
            info: RunInfo {
                run: self.run.id().clone(),
                pipeline: self.run.request().pipeline.clone(),
                step: step.clone(),
                attempt,
            },
            kind: Arc::clone(kind),
            input,
            workspace: self.run.request().workspace.clone(),
            timeout: planned.timeout,
            stop,
        })
    }

    /// Tells an attempt to stop, once.
    fn stop(&mut self, step: &StepId, attempt: u32) {
        let same = |r: &&mut Running| r.step == *step && r.attempt == attempt;
        if let Some(stop) = self.running.iter_mut().find(same).and_then(|r| r.stop.take()) {
            stop.cancel();
        }
    }

    async fn next(&mut self, cancel: &mut Cancellation) -> Internal {
        let sleep = self.wake.map(|wake| {
            let left = wake.duration_since(self.tools.clock.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        });
        let due = async {
            match sleep {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let waiting = &mut self.waiting;
        let slot = async {
            match waiting {
                Some(place) => match place.await {
                    Some(slot) => slot,
                    // The engine never closes its slots.
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => Internal::Ended(ended),
            slot = slot => Internal::Slot(slot),
            request = cancel.requested() => Internal::Cancel(request),
            () = due => Internal::Due,
        }
    }

    /// What an event says about the run.
    fn facts_of(&mut self, event: Internal) -> Result<Vec<RunEvent>, DispatchError> {
        match event {
            Internal::Ended(ended) => {
                let mut facts = Vec::from_iter(self.ended(ended)?);
                // Who ended meanwhile is written in the same breath.
                while let Some(also) = self.tasks.try_join_next_with_id() {
                    facts.extend(self.ended(also)?);
                }
                Ok(facts)
            }
            Internal::Slot(slot) => {
                self.waiting = None;
                self.slot = Some(slot);
                Ok(Vec::new())
            }
            Internal::Cancel(CancelRequest { by, why }) if self.run.can_cancel() => {
                let reason = CancelReason::Asked { why };
                Ok(vec![RunEvent::CancelRequested { by, reason }])
            }
            // Everything that can be stopped is stopping.
            Internal::Cancel(_) => Ok(Vec::new()),
            // The clock has moved; the run is asked again.
            Internal::Due => Ok(Vec::new()),
        }
    }

    /// The fact that the end of a task stands for.
    fn ended(&mut self, end: TaskEnd) -> Result<Option<RunEvent>, DispatchError> {
        let task = match &end {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let running = self.running.iter().position(|running| running.task == task);
        let running = running.map(|index| self.running.swap_remove(index));
        let Ended { step, attempt, token, result } = match (end, running) {
            (Ok((_, ended)), _) => ended,
            // Nothing that a step does ends its task so: the host itself is at fault.
            (Err(error), Some(Running { step, attempt, .. })) => {
                return Ok(Some(RunEvent::AttemptLost {
                    step,
                    attempt,
                    reason: error.to_string(),
                }));
            }
            (Err(_), None) => return Ok(None),
        };
        let lost = Injection { step, fault: Fault::Lost, attempt };
        if self.tools.injections.contains(&lost) {
            return Err(DispatchError::Injected { step: lost.step, attempt });
        }
        Ok(Some(RunEvent::Finished { step: lost.step, attempt, token, result }))
    }

    /// Takes facts into the run, and answers the records to write.
    fn take_in(&mut self, facts: Vec<RunEvent>) -> Result<Vec<Record>, DispatchError> {
        let records = self
            .run
            .seal(self.tools.clock.now(), facts)
            .map_err(|source| DispatchError::Seal { run: self.run.id().clone(), source })?;
        for record in &records {
            self.run
                .apply(record)
                .map_err(|source| DispatchError::Apply { run: self.run.id().clone(), source })?;
        }
        Ok(records)
    }

    /// Writes records, durably. A journal that does not answer is asked again a few times.
    async fn append(&self, records: &[Record]) -> Result<(), DispatchError> {
        if records.is_empty() {
            return Ok(());
        }
        let (run, epoch) = (self.run.id(), self.lease.epoch());
        let mut pauses = APPEND_AGAIN.iter();
        loop {
            let error = match self.tools.journal.append(run, epoch, records.to_vec()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passing = matches!(error, AppendError::Store(StoreError::Unavailable { .. }));
            let Some(pause) = pauses.next().filter(|_| passing) else {
                return Err(DispatchError::Append { run: run.clone(), source: error });
            };
            let message = format!("{error}; trying again in {}", HumanDuration(*pause));
            tracing::warn!(%run, message);
            self.tools.host.updates.send(|| Update::Notice { run: run.clone(), message });
            tokio::time::sleep(*pause).await;
        }
    }
}
