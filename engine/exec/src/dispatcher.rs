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
//! transition table refuses. What an attempt needs (its secrets, its folder) is made ready while the
//! fact is written; the step itself begins behind it. All that follows from one event is one
//! transaction: that an attempt ended and that the next began costs one sync of the disk. When it
//! cannot be written, the run is let go with the state in memory: its attempts are ended, its lease is
//! given back, and the journal says what really happened.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Poll;
use std::time::Duration;

use fairlead_plan::{PlanStep, RunOutcome, is_trusted};
use fairlead_run::{
    AttemptToken, CancelReason, Command, Failure, Journal, Lease, Record, Run, RunEvent, RunStatus,
    Seq, SignalId, StepResult, bounded_text,
};
use fairlead_step::{
    ByteSize, Capability, Catalog, Clock, ErrorClass, HumanDuration, Limits, Step, StepId,
};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::DispatchError;
use crate::attempts::{
    AttemptEvent, AttemptResult, Demand, JobSpec, PlacedAttempts, PlacedSession, UnderWay,
    Unreachable,
};
use crate::cancel::{CancelRequest, Cancellation};
use crate::host::Host;
use crate::inject::{Fault, Injection};
use crate::meter::Meter;
use crate::signal_listener::{DrivenRun, SignalListener};
use crate::slots::{Place, Slot, Slots};
use crate::update::Update;

/// The longest sleep; after it the run is asked again. Clocks may be set meanwhile.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long a run goes on before it is looked whether anybody has something to say to it: for those
/// that end sooner nobody has, and listening costs a thread.
const LISTEN_AFTER: Duration = Duration::from_millis(100);

/// How long to wait before it is looked again for signals, when the journal does not answer.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why attempts are lost whose process ended.
const LOST: &str = "its process ended before it did";

/// A run that only waits, and for no longer than this, is not given back.
const PARK_FROM: Duration = Duration::from_secs(10);

/// How the drive of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driven {
    /// The run is over.
    Ended(RunOutcome),
    /// The run only waits: for admission, for people, for a moment, or for evidence. Its lease is given
    /// back, and it is to be driven again when it is woken (see [`fairlead_run::Wake`]) or its time
    /// comes.
    Parked(Parked),
}

/// A run that nobody drives because it only waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// What it waits for, in a word.
    pub status: RunStatus,
    /// When to drive it again, where time matters to it.
    pub until: Option<Timestamp>,
}

/// What the dispatcher works with.
pub(crate) struct Tools {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: Arc<Host>,
    pub(crate) attempts: PlacedAttempts,
    /// One slot for each attempt that may run at a time, in every run of the engine.
    pub(crate) slots: Slots,
    /// Where steps are made that name no pool, where that is not this process.
    pub(crate) default_pool: Option<Arc<str>>,
    /// How many runs of the store may go on at a time.
    pub(crate) max_runs: Option<NonZeroU32>,
    pub(crate) listener: Arc<SignalListener>,
    pub(crate) injections: Vec<Injection>,
    pub(crate) meter: Arc<dyn Meter>,
    /// How many writes were begun.
    pub(crate) writes: AtomicU32,
}

impl Tools {
    /// Where attempts of a step are made. A process without runners, such as that of a person who runs a
    /// pipeline, makes all of them itself.
    pub(crate) fn demand_of(&self, step: &PlanStep) -> Demand {
        let default = self.default_pool.as_ref();
        if default.is_none() && self.attempts.elsewhere.is_none() {
            return Demand::default();
        }
        Demand::of(step, default)
    }
}

/// Everything that can happen to the task.
enum Internal {
    /// Something became of an attempt.
    Attempt(AttemptEvent),
    /// A slot is free for the first step that waits for one like it.
    Slot(Demand, Slot),
    /// Somebody wants the run to stop.
    Cancel(CancelRequest),
    /// The time came that the run waits for.
    Due,
    /// Somebody may have something to say to the run.
    Signaled,
    /// The lease is about to be another's.
    LeaseLost,
}

/// What the run wants.
#[derive(Default)]
struct Decided {
    /// To write down.
    facts: Vec<RunEvent>,
    /// The attempts to start then, each with its slot.
    starts: Vec<(StepId, u32, Slot)>,
    /// The attempts to stop then. They are wanted until they have stopped.
    stops: Vec<(StepId, u32)>,
}

/// The most attempts that one decision starts. What one costs must not grow with all that could start.
const STARTS: usize = 64;

/// Drives one run.
pub(crate) struct Dispatcher<'e> {
    pub(crate) tools: &'e Tools,
    pub(crate) run: Run,
    driven_run: DrivenRun,
    /// How many attempts are under way.
    running: usize,
    session: PlacedSession,
    /// Behind the session, so that its attempts end first where all of it is dropped.
    pub(crate) lease: Lease,
    /// What became of attempts that were never handed to anybody.
    unmade: VecDeque<AttemptEvent>,
    /// The places in the queue for slots, by what is demanded, while none is free.
    waiting: Vec<(Demand, Place)>,
    /// Slots that were waited for.
    slots: Vec<(Demand, Slot)>,
    /// In whose name it asks for slots.
    share: Arc<str>,
    wake: Option<Timestamp>,
    /// When to look for signals although nothing hints at any.
    pub(crate) look_at: Option<Instant>,
}

impl<'e> Dispatcher<'e> {
    /// Takes charge of `run`, for as long as `lease` is held.
    pub(crate) fn new(tools: &'e Tools, run: Run, lease: Lease, driven_run: DrivenRun) -> Self {
        Self {
            tools,
            session: tools.attempts.open(run.id()),
            share: run.request().pipeline.as_str().into(),
            run,
            lease,
            driven_run,
            running: 0,
            unmade: VecDeque::new(),
            waiting: Vec::new(),
            slots: Vec::new(),
            wake: None,
            look_at: Some(Instant::now() + LISTEN_AFTER),
        }
    }

    /// Drives the run to its end, or until it only waits, and answers the run as it is then.
    pub(crate) async fn drive(
        mut self,
        cancel: &mut Cancellation,
    ) -> Result<(Driven, Run), DispatchError> {
        let result = self.steer(cancel).await;
        // Whatever still runs belongs to a run that is let go. The lease is held until it has ended.
        let Self { tools, session, run, lease, .. } = self;
        session.close().await;
        drop(lease);
        if let Ok(Driven::Ended(_)) = result {
            tools.host.workspaces.give_back(run.id()).await;
            tools.attempts.run_ended(run.id());
        }
        if let Err(DispatchError::LeaseLost { run }) = &result {
            tools.meter.lease_lost(run);
        }
        result.map(|driven| (driven, run))
    }

    async fn steer(&mut self, cancel: &mut Cancellation) -> Result<Driven, DispatchError> {
        let is_new = self.run.seq() == Seq(1);
        // Of the run as it was found: one that now is admitted was not interrupted.
        let living = self
            .living()
            .await
            .map_err(|source| DispatchError::Unreachable { run: self.run.id().clone(), source })?;
        self.running = living.len();
        let recovery = self.run.recovery_but(self.lease.epoch(), LOST, &living);
        if self.needs_admission() && !self.admit().await? {
            self.hear().await?;
            while let Some(request) = cancel.waiting() {
                let facts = self.facts_of_cancel(request);
                self.react(facts).await?;
            }
            return Ok(match self.run.ended() {
                Some((outcome, _)) => Driven::Ended(outcome),
                None => Driven::Parked(Parked { status: RunStatus::Queued, until: None }),
            });
        }
        let recovered = self.take_in(recovery)?;
        if is_new {
            self.follow(recovered, Vec::new()).await?;
        } else {
            // What was said meanwhile comes first: it may stop what would be started.
            let signals = self.while_held(self.tools.journal.signals(self.run.id())).await?;
            let (heard, taken) = self.take_signals(signals.unwrap_or_default())?;
            self.follow([recovered, heard].concat(), taken).await?;
        }
        loop {
            if let Some((outcome, _)) = self.run.ended() {
                return Ok(Driven::Ended(outcome));
            }
            if let Some(parked) = self.may_park()
                && !cancel.has_waiting()
            {
                return Ok(Driven::Parked(parked));
            }
            match self.next(cancel).await {
                Internal::Signaled => self.hear().await?,
                Internal::LeaseLost => {
                    return Err(DispatchError::LeaseLost { run: self.run.id().clone() });
                }
                Internal::Attempt(
                    event @ (AttemptEvent::Accepted { .. } | AttemptEvent::Logged { .. }),
                ) => {
                    self.fact_of(event)?;
                }
                event @ (Internal::Attempt(AttemptEvent::Ended { .. })
                | Internal::Slot(..)
                | Internal::Cancel(_)
                | Internal::Due) => {
                    let facts = self.facts_of(event)?;
                    self.react(facts).await?;
                }
            }
        }
    }

    /// The attempts that the journal says are under way, and where they are made.
    fn under_way(&self) -> Vec<UnderWay> {
        let under_way = self.run.under_way().map(|(step, attempt)| UnderWay {
            step: step.clone(),
            attempt: attempt.number,
            token: attempt.token.clone(),
            demand: self.demand_under_way(step, attempt.pool.as_deref()),
        });
        under_way.collect()
    }

    /// Where an attempt is under way: where its record says. A build that did not write that down may have
    /// left it in the pool of its step, or in the pool that this process gives to steps that name none; one
    /// that can ask there does, before it calls the attempt lost.
    fn demand_under_way(&self, step: &StepId, pool: Option<&str>) -> Demand {
        let Some(pool) = pool.map(Arc::<str>::from) else { return self.demand_of(step) };
        let step = self.run.step(step);
        let demand = step.map_or_else(Demand::default, |it| Demand::of(it.plan(), Some(&pool)));
        Demand { pool: Some(pool), ..demand }
    }

    /// Takes charge of the attempts of an earlier process that may be under way still.
    async fn living(&mut self) -> Result<BTreeSet<AttemptToken>, Unreachable> {
        let under_way = self.under_way();
        if under_way.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.session.living(&under_way).await
    }

    /// Takes in the signals that wait for the run, and performs nothing: whoever drives it next goes
    /// on from there.
    pub(crate) async fn note(mut self) -> Result<Run, DispatchError> {
        let living = match self.living().await {
            Ok(living) => living,
            // Whoever can ask tells whether they are lost.
            Err(_) => self.under_way().into_iter().map(|attempt| attempt.token).collect(),
        };
        let recovery = self.run.recovery_but(self.lease.epoch(), LOST, &living);
        let recovered = self.take_in(recovery)?;
        let signals = self.while_held(self.tools.journal.signals(self.run.id())).await?;
        let signals = signals.map_err(|error| DispatchError::Append {
            run: self.run.id().clone(),
            source: error.into(),
        })?;
        let (heard, taken) = self.take_signals(signals)?;
        let records = [recovered, heard].concat();
        self.append(&records, taken).await?;
        self.publish(records);
        Ok(self.run)
    }

    /// What to say of a run that is given back because it only waits, when it is one.
    fn may_park(&self) -> Option<Parked> {
        if !self.run.only_waits() || self.running > 0 {
            return None;
        }
        let until = self.run.wakes_at();
        let near = until.is_some_and(|until| {
            let left = until.duration_since(self.tools.clock.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO) < PARK_FROM
        });
        (!near).then(|| Parked { status: self.run.status(), until })
    }

    /// Takes in what happened and everything that follows from it, writes it down, and performs it.
    pub(crate) async fn react(&mut self, facts: Vec<RunEvent>) -> Result<(), DispatchError> {
        let records = self.take_in(facts)?;
        self.follow(records, Vec::new()).await
    }

    /// Takes in everything that follows, writes it down behind `records`, which are taken in and not
    /// written, and performs it. The signals `taken` are dealt with then.
    pub(crate) async fn follow(
        &mut self,
        mut records: Vec<Record>,
        taken: Vec<SignalId>,
    ) -> Result<(), DispatchError> {
        let mut starts = Vec::new();
        let stops = loop {
            let decided = self.decide();
            starts.extend(decided.starts);
            if decided.facts.is_empty() {
                break decided.stops;
            }
            records.extend(self.take_in(decided.facts)?);
        };
        let mut written = Vec::with_capacity(starts.len());
        for (step, attempt, slot) in starts {
            written.push(self.prepare(step, attempt, slot));
        }
        // What the attempts that ended left behind is looked for while the disk is waited for.
        let tidy = async {
            tokio::task::yield_now().await;
            self.session.tidy();
        };
        let (appended, ()) = tokio::join!(biased; self.append(&records, taken), tidy);
        appended?;
        self.publish(records);
        for written in written {
            // It fails only where the attempt has already failed.
            let _ = written.send(());
        }
        for (step, attempt) in stops {
            self.stop(&step, attempt);
        }
        Ok(())
    }

    /// Tells whoever watches what was written.
    pub(crate) fn publish(&self, records: Vec<Record>) {
        for record in records {
            self.tools.meter.recorded(&self.run, &record);
            let run = self.run.id();
            self.tools.host.updates.send(|| Update::Record { run: run.clone(), record });
        }
    }

    /// What the run wants now.
    fn decide(&mut self) -> Decided {
        let mut decided = Decided::default();
        // The attempts that fail as they start: this build cannot make them.
        let mut failed: Vec<(StepId, u32, Failure)> = Vec::new();
        let mut wanted: Vec<Demand> = Vec::new();
        self.wake = None;
        // The slot of an attempt that just ended: its end and the next start are one transaction.
        let mut at = 0;
        while let Some((_, place)) = self.waiting.get_mut(at) {
            match place.now_or_never() {
                Some(slot) => {
                    let (demand, _) = self.waiting.swap_remove(at);
                    self.slots.push((demand, slot));
                }
                None => at += 1,
            }
        }
        for command in self.run.commands_with(self.tools.clock.now(), STARTS) {
            match command {
                Command::Start { step, attempt } => match self.kind_of(&step) {
                    Ok(_) => {
                        let demand = self.demand_of(&step);
                        if let Some(slot) = self.take_slot(&demand) {
                            decided.starts.push((step, attempt, slot));
                        }
                        if !wanted.contains(&demand) {
                            wanted.push(demand);
                        }
                    }
                    Err(failure) => failed.push((step, attempt, failure)),
                },
                Command::StopAttempt { step, attempt } => decided.stops.push((step, attempt)),
                Command::WaitUntil(time) => self.wake = Some(time),
                fact @ (Command::Skip { .. }
                | Command::Fail { .. }
                | Command::ScheduleRetry { .. }
                | Command::Expand { .. }
                | Command::OpenGate { .. }
                | Command::GateDue { .. }
                | Command::TimeOut { .. }
                | Command::End { .. }) => {
                    decided.facts.extend(fact.fact(self.run.id(), self.lease.epoch()));
                }
            }
        }
        self.waiting.retain(|(demand, _)| wanted.contains(demand));
        self.slots.retain(|(demand, _)| wanted.contains(demand));
        for (step, attempt, _) in &decided.starts {
            let token = AttemptToken::mint(self.run.id(), step, *attempt, self.lease.epoch());
            let pool = self.demand_of(step).pool.map(|pool| pool.to_string());
            let (step, attempt) = (step.clone(), *attempt);
            decided.facts.push(RunEvent::Started { step, attempt, token, pool });
        }
        // In one transaction: nobody shall ever take such an attempt for one that was lost.
        for (step, attempt, failure) in failed {
            let token = AttemptToken::mint(self.run.id(), &step, attempt, self.lease.epoch());
            let (result, started) = (StepResult::Failure(failure), step.clone());
            let token_of = token.clone();
            let fact = RunEvent::Started { step: started, attempt, token: token_of, pool: None };
            decided.facts.push(fact);
            decided.facts.push(RunEvent::Finished { step, attempt, token, result });
        }
        decided
    }

    /// The kind of a step, as its plan knew it.
    fn kind_of(&self, step: &StepId) -> Result<&Arc<dyn Step>, Failure> {
        let planned = self.run.step(step).map(|step| step.plan()).ok_or_else(|| {
            let message = format!("the plan has no step `{step}`");
            Failure { class: ErrorClass::Terminal, message, hint: None }
        })?;
        planned.kind_in(&self.tools.catalog).map_err(|mismatch| Failure {
            class: ErrorClass::Terminal,
            message: mismatch.to_string(),
            hint: Some(format!(
                "make the run again by the pipeline file as it is now: `fairlead retry {} \
                 --replan FILE`",
                self.run.id()
            )),
        })
    }

    /// Where attempts of a step may be made.
    fn demand_of(&self, step: &StepId) -> Demand {
        let step = self.run.step(step);
        step.map_or_else(Demand::default, |step| self.tools.demand_of(step.plan()))
    }

    /// A slot for the next attempt of this demand, or a place in the queue for one.
    fn take_slot(&mut self, demand: &Demand) -> Option<Slot> {
        if let Some(at) = self.slots.iter().position(|(of, _)| of == demand) {
            return Some(self.slots.swap_remove(at).1);
        }
        if self.waiting.iter().any(|(of, _)| of == demand) {
            return None;
        }
        let free = self.tools.slots.try_take(demand, &self.share);
        if free.is_none() {
            let place = self.tools.slots.wait(self.run.id(), demand, &self.share);
            self.waiting.push((demand.clone(), place));
        }
        free
    }

    /// Makes an attempt ready. It starts when it is told that its `Started` is written.
    fn prepare(&mut self, step: StepId, attempt: u32, slot: Slot) -> oneshot::Sender<()> {
        let (written, is_written) = oneshot::channel();
        let token = AttemptToken::mint(self.run.id(), &step, attempt, self.lease.epoch());
        self.running += 1;
        let job = self.job(&step, attempt, token.clone());
        let result = match (job, Injection::of(&self.tools.injections, &step, attempt)) {
            (Ok(job), Some(Fault::Lost) | None) => {
                self.session.start(job, slot, is_written);
                return written;
            }
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
        };
        let end = AttemptResult::Made { result };
        self.unmade.push_back(AttemptEvent::Ended { step, attempt, token, end });
        written
    }

    fn job(&self, step: &StepId, attempt: u32, token: AttemptToken) -> Result<JobSpec, Failure> {
        let broken = |message: String| Failure {
            class: ErrorClass::Terminal,
            message: bounded_text(message),
            hint: None,
        };
        let kind = self.kind_of(step)?;
        let planned = self.run.step(step).map(|step| step.plan());
        let planned = planned.ok_or_else(|| broken(format!("the plan has no step `{step}`")))?;
        let input = self.run.render(step).map_err(|error| broken(error.to_string()))?;
        if let Some(name) = input.secrets().first()
            && !is_trusted(&self.run.request().event)
        {
            let problem = format!(
                "the secret `{name}` is not given to a run that a stranger may have started"
            );
            let hint = "have a member of the repository ask for the run, or let the step run only \
                        `when: event.trusted`";
            return Err(Failure { hint: Some(hint.into()), ..broken(problem) });
        }
        let Demand { pool, labels, .. } = self.demand_of(step);
        let workspace = &self.run.request().workspace;
        let resources = planned.placement.resources;
        if pool.is_some() {
            // A runner may know less of projects than this process does.
            let pipeline = &self.run.request().pipeline;
            let checked = self.tools.host.policy.check(pipeline, &**kind, input.display());
            checked.map_err(|error| Failure::from(&error))?;
        }
        Ok(JobSpec {
            run: self.run.id().clone(),
            pipeline: self.run.request().pipeline.clone(),
            step: step.clone(),
            attempt,
            token,
            kind: planned.kind.clone(),
            kind_version: planned.kind_version.clone(),
            // Only who sends them anywhere has to know them.
            artifacts: pool
                .as_ref()
                .map_or_else(Vec::new, |_| JobSpec::artifacts_of(&input, workspace)),
            input,
            workspace: workspace.clone(),
            timeout: planned.timeout,
            limits: Limits {
                memory: resources.memory.map(ByteSize),
                cpu_millis: resources.cpu_millis.map(u64::from),
                pids: resources.pids,
            },
            cache: planned.cache,
            pool: pool.map(|pool| pool.to_string()),
            labels,
            history: kind
                .spec()
                .capabilities
                .contains(&Capability::History)
                .then(|| Box::new(self.run.history())),
            max_log: self.tools.host.logs.max_bytes(),
        })
    }

    /// Tells an attempt to stop.
    fn stop(&mut self, step: &StepId, attempt: u32) {
        let step = self.run.step(step);
        let this = step.and_then(|step| step.attempts().iter().rfind(|a| a.number == attempt));
        if let Some(this) = this {
            self.session.stop(&this.token);
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
        let look_at = self.look_at;
        let look = async {
            match look_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let waiting = &mut self.waiting;
        let slot = std::future::poll_fn(|context| {
            for (at, (_, place)) in waiting.iter_mut().enumerate() {
                if let Poll::Ready(slot) = place.poll_unpin(context) {
                    let (demand, _) = waiting.swap_remove(at);
                    return Poll::Ready((demand, slot));
                }
            }
            Poll::Pending
        });
        let (unmade, session) = (&mut self.unmade, &mut self.session);
        let attempt = std::future::poll_fn(|context| match unmade.pop_front() {
            Some(event) => Poll::Ready(event),
            None => session.poll(context),
        });
        // In this order, whatever is ready: who must let go does, and who is told to stop is heard
        // however much else happens.
        tokio::select! {
            biased;
            () = self.lease.lost().cancelled() => Internal::LeaseLost,
            request = cancel.requested() => Internal::Cancel(request),
            () = self.driven_run.signaled.notified() => Internal::Signaled,
            event = attempt => Internal::Attempt(event),
            (demand, slot) = slot => Internal::Slot(demand, slot),
            () = look => {
                self.look_at = None;
                self.tools.listener.listen(&*self.tools.journal);
                Internal::Signaled
            }
            () = due => Internal::Due,
        }
    }

    /// What an event says about the run.
    fn facts_of(&mut self, event: Internal) -> Result<Vec<RunEvent>, DispatchError> {
        match event {
            Internal::Attempt(event) => {
                let mut facts = Vec::from_iter(self.fact_of(event)?);
                // Who ended meanwhile is written in the same breath.
                while let Some(also) = self.unmade.pop_front() {
                    facts.extend(self.fact_of(also)?);
                }
                while let Some(Some(also)) = self.session.next().now_or_never() {
                    facts.extend(self.fact_of(also)?);
                }
                Ok(facts)
            }
            Internal::Slot(demand, slot) => {
                self.slots.push((demand, slot));
                Ok(Vec::new())
            }
            Internal::Cancel(request) => Ok(self.facts_of_cancel(request)),
            // The clock has moved; the run is asked again. The others say nothing about the run.
            Internal::Due | Internal::Signaled | Internal::LeaseLost => Ok(Vec::new()),
        }
    }

    /// Nothing when everything that can be stopped is stopping.
    fn facts_of_cancel(&self, request: CancelRequest) -> Vec<RunEvent> {
        let CancelRequest { by, why } = request;
        let reason = CancelReason::Asked { why };
        self.run
            .can_cancel()
            .then_some(RunEvent::CancelRequested { by, reason })
            .into_iter()
            .collect()
    }

    /// The fact that what became of an attempt stands for.
    fn fact_of(&mut self, event: AttemptEvent) -> Result<Option<RunEvent>, DispatchError> {
        let (step, attempt, token, end) = match event {
            AttemptEvent::Accepted { step, by, .. } => {
                self.notice(format!("step `{step}` is made on {by}"));
                return Ok(None);
            }
            AttemptEvent::Logged { log, lines } => {
                for line in lines {
                    self.tools.host.updates.send(|| Update::Line { log: log.clone(), line });
                }
                return Ok(None);
            }
            AttemptEvent::Ended { step, attempt, token, end } => (step, attempt, token, end),
        };
        self.running = self.running.saturating_sub(1);
        if Injection::of(&self.tools.injections, &step, attempt) == Some(Fault::Lost) {
            return Err(DispatchError::Injected { step, attempt });
        }
        Ok(Some(match end {
            AttemptResult::Made { result } => RunEvent::Finished { step, attempt, token, result },
            AttemptResult::CacheHit { key, run, outputs } => {
                RunEvent::CacheHit { step, attempt, token, key, run, outputs }
            }
            AttemptResult::Lost { reason } => RunEvent::AttemptLost { step, attempt, reason },
        }))
    }

    /// Takes facts into the run, and answers the records to write.
    pub(crate) fn take_in(&mut self, facts: Vec<RunEvent>) -> Result<Vec<Record>, DispatchError> {
        let records = self.seal(facts)?;
        self.apply(&records)?;
        Ok(records)
    }

    pub(crate) fn seal(&self, facts: Vec<RunEvent>) -> Result<Vec<Record>, DispatchError> {
        let sealed = self.run.seal(self.tools.clock.now(), facts);
        sealed.map_err(|source| DispatchError::Seal { run: self.run.id().clone(), source })
    }

    pub(crate) fn apply(&mut self, records: &[Record]) -> Result<(), DispatchError> {
        for record in records {
            self.run
                .apply(record)
                .map_err(|source| DispatchError::Apply { run: self.run.id().clone(), source })?;
        }
        Ok(())
    }
}
