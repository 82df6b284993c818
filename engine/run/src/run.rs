//! The run: the fold of its journal. [`Run::apply`] is the whole transition table, used live and in
//! recovery alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fairlead_plan::{Outcome, Phase, Plan, RetryOn, RunOutcome, Scope};
use fairlead_step::{Effect, ErrorClass, RunId, StepId, Verdict};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::decide::Readiness;
use crate::journal::StoredRun;
use crate::record::{RecordHash, SealError, check_link};
use crate::{
    ApplyError, Attempt, AttemptEnd, AttemptToken, CancelReason, Epoch, Failure, Record,
    ReplayError, Request, RunEvent, RunStatus, Seq, SkipReason, StepResult,
};

/// The most attempts of one step that may be lost before it counts as failed: a step that takes
/// its host down with it must not do so for ever.
pub const MOST_LOST_ATTEMPTS: usize = 20;

/// How far a cancellation reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CancelScope {
    /// The main steps; `finally` still runs.
    Main,
    /// Every step.
    All,
}

/// A cancellation that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Who asked first.
    pub by: String,
    /// Why.
    pub reason: CancelReason,
    /// When.
    pub at: Timestamp,
    pub(crate) scope: CancelScope,
}

/// Where one step is. Persisted as the facts that lead here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// No attempt began.
    Waiting,
    /// An attempt is under way.
    Running { attempt: u32, token: AttemptToken },
    /// The last attempt was lost; the step may begin again at once.
    Lost { attempt: u32 },
    /// The last attempt failed, and another is allowed.
    Failing { attempt: u32, due: Timestamp },
    /// The next attempt has its time.
    Backoff { attempt: u32, due: Timestamp },
    /// It is over.
    Ended { outcome: Outcome, at: Timestamp, why: Option<Why> },
}

/// Why a step ended as it did, where it has no attempt that says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Why {
    Skipped(SkipReason),
    NotStarted(Failure),
    RunCancelled,
    NeedsAttention(String),
    TooOftenLost,
}

#[derive(Debug)]
pub(crate) struct StepState {
    pub(crate) state: State,
    pub(crate) attempts: Vec<Attempt>,
    /// Needs that have not ended.
    pub(crate) unmet: usize,
    /// Attempts that failed; lost ones do not count against `retry.max`.
    failures: u32,
    /// What its `when` makes of it, worked out once its needs have ended.
    pub(crate) condition: OnceLock<Readiness>,
}

/// How many steps of one phase are left, and how the others ended.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) left: usize,
    rejected: usize,
    failed: usize,
    cancelled: usize,
}

/// One run: a plan, and what has become of it so far.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    pub(crate) plan: Arc<Plan>,
    index: BTreeMap<StepId, usize>,
    /// For each step, who needs it.
    dependents: Vec<Vec<usize>>,
    seq: Seq,
    head: RecordHash,
    last_at: Timestamp,
    request: Request,
    requested_at: Timestamp,
    /// The time during which nobody drove the run.
    idle: SignedDuration,
    pub(crate) steps: Vec<StepState>,
    /// The steps that a command may speak of, so that deciding costs what is open, not what is done.
    pub(crate) open: BTreeSet<usize>,
    pub(crate) main: Tally,
    pub(crate) finally: Tally,
    pub(crate) scope: Scope,
    pub(crate) cancel: Option<Cancel>,
    ended: Option<(RunOutcome, Timestamp)>,
}

impl Run {
    /// Rebuilds a run from its journal.
    ///
    /// # Errors
    /// When the journal is not whole, does not fit the plan, or holds a fact that cannot have
    /// happened.
    pub fn replay(id: RunId, plan: Arc<Plan>, records: &[Record]) -> Result<Self, ReplayError> {
        let (first, rest) = records.split_first().ok_or(ReplayError::Empty)?;
        let mut run = Self::requested(id, plan, first)?;
        for record in rest {
            run.apply(record)
                .map_err(|source| ReplayError::Impossible { seq: record.seq(), source })?;
        }
        Ok(run)
    }

    /// Rebuilds a run, and its plan, from what a journal loaded.
    ///
    /// # Errors
    /// As [`Run::replay`], and when the stored plan is not one.
    pub fn restore(stored: &StoredRun) -> Result<Self, ReplayError> {
        let plan = serde_json::from_slice(stored.plan.bytes()).map_err(ReplayError::Plan)?;
        Self::replay(stored.id.clone(), Arc::new(plan), &stored.records)
    }

    /// A run of which only the request is known.
    fn requested(id: RunId, plan: Arc<Plan>, first: &Record) -> Result<Self, ReplayError> {
        check_link(Seq(0), RecordHash::ZERO, first)
            .map_err(|error| ReplayError::Impossible { seq: first.seq(), source: error.into() })?;
        let RunEvent::Requested(request) = first.event() else {
            return Err(ReplayError::NoRequest);
        };
        if request.plan != plan.digest() {
            return Err(ReplayError::OtherPlan {
                pinned: request.plan.clone(),
                given: plan.digest(),
            });
        }
        let index: BTreeMap<StepId, usize> =
            plan.steps().iter().enumerate().map(|(i, step)| (step.id.clone(), i)).collect();
        let mut dependents = vec![Vec::new(); plan.steps().len()];
        let (mut main, mut finally) = (Tally::default(), Tally::default());
        let mut steps = Vec::with_capacity(plan.steps().len());
        for (i, step) in plan.steps().iter().enumerate() {
            match step.phase {
                Phase::Main => main.left += 1,
                Phase::OnFailure | Phase::Finally => finally.left += 1,
            }
            for need in &step.needs {
                let needed = index.get(&need.step).filter(|&&needed| {
                    needed < i
                        && (step.phase == Phase::Finally
                            || plan.steps()[needed].phase == Phase::Main)
                });
                let Some(&needed) = needed else {
                    return Err(ReplayError::BadNeed {
                        step: step.id.clone(),
                        need: need.step.clone(),
                    });
                };
                dependents[needed].push(i);
            }
            steps.push(StepState {
                state: State::Waiting,
                attempts: Vec::new(),
                unmet: step.needs.len(),
                failures: 0,
                condition: OnceLock::new(),
            });
        }
        let event = if request.event.is_null() { json!({}) } else { request.event.clone() };
        let scope = Scope {
            params: request.params.clone(),
            event,
            steps: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            run: json!({ "id": id, "pipeline": request.pipeline, "by": request.by }),
        };
        let mut run = Self {
            id,
            plan,
            index,
            dependents,
            seq: first.seq(),
            head: first.hash(),
            last_at: first.at(),
            request: (**request).clone(),
            requested_at: first.at(),
            idle: SignedDuration::ZERO,
            steps,
            open: BTreeSet::new(),
            main,
            finally,
            scope,
            cancel: None,
            ended: None,
        };
        for i in 0..run.steps.len() {
            run.consider(i);
        }
        if run.main.left == 0 {
            run.main_ended();
        }
        Ok(run)
    }

    /// Takes in the next record.
    ///
    /// This is the whole transition table. It is used for what just happened and for what is read
    /// back, so a run that was replayed is the run that was live.
    ///
    /// # Errors
    /// When the record does not follow the last one, or speaks of what cannot happen now. The run
    /// is as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        check_link(self.seq, self.head, record)?;
        let at = record.at();
        if self.ended.is_some() {
            return Err(ApplyError::RunEnded);
        }
        match record.event() {
            RunEvent::Requested(_) => return Err(ApplyError::RequestedTwice),
            RunEvent::Resumed { .. } => {
                let gap = at.duration_since(self.last_at).max(SignedDuration::ZERO);
                self.idle = self.idle.saturating_add(gap);
            }
            RunEvent::Started { step, attempt, token } => {
                self.started(self.find(step)?, *attempt, token, at)?;
            }
            RunEvent::Finished { step, attempt, token, result } => {
                let i = self.running(step, *attempt, Some(token))?;
                self.finished(i, *attempt, result, at);
            }
            RunEvent::AttemptLost { step, attempt, reason } => {
                let i = self.running(step, *attempt, None)?;
                self.lost(i, *attempt, reason, at);
            }
            RunEvent::RetryScheduled { step, attempt, due } => {
                self.retry_scheduled(self.find(step)?, *attempt, *due)?;
            }
            RunEvent::Skipped { step, reason } => {
                let i = self.find(step)?;
                self.may_skip(i, reason)?;
                self.end(i, Outcome::Skipped, at, Some(Why::Skipped(reason.clone())));
            }
            RunEvent::NotStarted { step, failure } => {
                let i = self.find(step)?;
                self.may_begin(i)?;
                self.end(i, Outcome::Failed, at, Some(Why::NotStarted(failure.clone())));
            }
            RunEvent::CancelRequested { by, reason } => self.cancel_requested(by, reason, at)?,
            RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::Remembered { .. } => return Err(ApplyError::RequestedTwice),
            RunEvent::Ended { outcome } => {
                let is = self.outcome_when_done().ok_or(ApplyError::StepsLeft)?;
                if is != *outcome {
                    return Err(ApplyError::OtherOutcome { is, said: *outcome });
                }
                self.ended = Some((is, at));
            }
        }
        self.seq = record.seq();
        self.head = record.hash();
        self.last_at = at.max(self.last_at);
        Ok(())
    }

    fn started(
        &mut self,
        i: usize,
        attempt: u32,
        token: &AttemptToken,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        let next = match &self.steps[i].state {
            State::Waiting => {
                self.may_begin(i)?;
                1
            }
            State::Lost { attempt } => attempt + 1,
            State::Backoff { attempt, .. } => *attempt,
            State::Running { .. } => return Err(ApplyError::Running { step: self.name(i) }),
            State::Failing { .. } => return Err(ApplyError::NoRetryTime { step: self.name(i) }),
            State::Ended { .. } => return Err(ApplyError::StepEnded { step: self.name(i) }),
        };
        if attempt != next {
            return Err(ApplyError::OtherAttempt { step: self.name(i), is: next, said: attempt });
        }
        let step = &mut self.steps[i];
        step.attempts.push(Attempt {
            number: attempt,
            token: token.clone(),
            started_at: at,
            ended: None,
        });
        step.state = State::Running { attempt, token: token.clone() };
        self.open.remove(&i);
        Ok(())
    }

    fn finished(&mut self, i: usize, attempt: u32, result: &StepResult, at: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let retry = &plan.steps()[i].retry;
        if let Some(last) = self.steps[i].attempts.last_mut() {
            last.ended = Some((at, AttemptEnd::of(result)));
        }
        let (failed_as, retryable) = match result {
            StepResult::Verdict(verdict) => {
                let (outcome, outputs) = match verdict {
                    Verdict::Passed { outputs } => (Outcome::Passed, Some(outputs)),
                    Verdict::Rejected { outputs, .. } => (Outcome::Rejected, Some(outputs)),
                    Verdict::Skipped { .. } => (Outcome::Skipped, None),
                };
                if let Some(outputs) = outputs {
                    self.scope.steps.insert(self.name(i), outputs.clone());
                }
                self.end(i, outcome, at, None);
                return;
            }
            StepResult::Cancelled { .. } => (Outcome::Cancelled, false),
            StepResult::TimedOut { .. } => (
                Outcome::Failed,
                match retry.on {
                    RetryOn::Infra => false,
                    RetryOn::Timeout | RetryOn::Any => true,
                },
            ),
            StepResult::Failure(failure) => match failure.class {
                ErrorClass::Cancelled => (Outcome::Cancelled, false),
                ErrorClass::Retryable => (Outcome::Failed, true),
                ErrorClass::Terminal => (
                    Outcome::Failed,
                    match retry.on {
                        RetryOn::Infra | RetryOn::Timeout => false,
                        RetryOn::Any => true,
                    },
                ),
            },
        };
        self.steps[i].failures += 1;
        let failures = self.steps[i].failures;
        if retryable && retry.allows_after(failures) && !self.is_cancelled(i) {
            let due = later(at, retry.delay_after(failures));
            self.steps[i].state = State::Failing { attempt, due };
            self.open.insert(i);
        } else {
            self.end(i, failed_as, at, None);
        }
    }

    fn lost(&mut self, i: usize, attempt: u32, reason: &str, at: Timestamp) {
        if let Some(last) = self.steps[i].attempts.last_mut() {
            last.ended = Some((at, AttemptEnd::Lost { reason: reason.to_owned() }));
        }
        match self.plan.steps()[i].effect {
            // Nobody can say what it did, and doing it again may do it twice.
            Effect::Once => {
                let why = Why::NeedsAttention(reason.to_owned());
                self.end(i, Outcome::Failed, at, Some(why));
            }
            Effect::Pure | Effect::Idempotent | Effect::CheckThenAct => {
                if self.is_cancelled(i) {
                    self.end(i, Outcome::Cancelled, at, Some(Why::RunCancelled));
                } else if self.steps[i].lost_attempts() >= MOST_LOST_ATTEMPTS {
                    self.end(i, Outcome::Failed, at, Some(Why::TooOftenLost));
                } else {
                    self.steps[i].state = State::Lost { attempt };
                    self.open.insert(i);
                }
            }
        }
    }

    fn retry_scheduled(
        &mut self,
        i: usize,
        attempt: u32,
        due: Timestamp,
    ) -> Result<(), ApplyError> {
        match &self.steps[i].state {
            State::Failing { attempt: failed, .. } if failed + 1 == attempt => {
                self.steps[i].state = State::Backoff { attempt, due };
                Ok(())
            }
            State::Failing { attempt: failed, .. } => {
                let (step, is) = (self.name(i), failed + 1);
                Err(ApplyError::OtherAttempt { step, is, said: attempt })
            }
            State::Running { .. } => Err(ApplyError::Running { step: self.name(i) }),
            State::Ended { .. } => Err(ApplyError::StepEnded { step: self.name(i) }),
            State::Waiting | State::Lost { .. } | State::Backoff { .. } => {
                Err(ApplyError::NothingToRetry { step: self.name(i) })
            }
        }
    }

    fn cancel_requested(
        &mut self,
        by: &str,
        reason: &CancelReason,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        let scope = self.next_cancel_scope().ok_or(ApplyError::CancelledAlready)?;
        match &mut self.cancel {
            Some(cancel) => cancel.scope = scope,
            none => {
                *none = Some(Cancel { by: by.to_owned(), reason: reason.clone(), at, scope });
            }
        }
        for i in 0..self.steps.len() {
            if !self.is_cancelled(i) {
                continue;
            }
            match self.steps[i].state {
                State::Waiting
                | State::Lost { .. }
                | State::Failing { .. }
                | State::Backoff { .. } => {
                    self.end(i, Outcome::Cancelled, at, Some(Why::RunCancelled));
                }
                // Its attempt is told to stop, and says how it ended.
                State::Running { .. } => {
                    self.open.insert(i);
                }
                State::Ended { .. } => {}
            }
        }
        Ok(())
    }

    /// What one more request to cancel would stop; nothing when everything is stopping already.
    pub(crate) fn next_cancel_scope(&self) -> Option<CancelScope> {
        match &self.cancel {
            None if self.main.left > 0 => Some(CancelScope::Main),
            None => Some(CancelScope::All),
            Some(cancel) => match cancel.scope {
                CancelScope::Main => Some(CancelScope::All),
                CancelScope::All => None,
            },
        }
    }

    /// Whether step `i` is within the reach of a cancellation.
    pub(crate) fn is_cancelled(&self, i: usize) -> bool {
        match (&self.cancel, self.plan.steps()[i].phase) {
            (None, _) => false,
            (Some(_), Phase::Main) => true,
            (Some(cancel), Phase::OnFailure | Phase::Finally) => cancel.scope == CancelScope::All,
        }
    }

    /// Ends step `i`, and wakes whoever waits for it.
    fn end(&mut self, i: usize, outcome: Outcome, at: Timestamp, why: Option<Why>) {
        self.steps[i].state = State::Ended { outcome, at, why };
        self.open.remove(&i);
        self.scope.outcomes.insert(self.name(i), outcome);
        let phase = self.plan.steps()[i].phase;
        let tally = match phase {
            Phase::Main => &mut self.main,
            Phase::OnFailure | Phase::Finally => &mut self.finally,
        };
        tally.left -= 1;
        match outcome {
            Outcome::Passed | Outcome::Skipped => {}
            Outcome::Rejected => tally.rejected += 1,
            Outcome::Failed => tally.failed += 1,
            Outcome::Cancelled => tally.cancelled += 1,
        }
        for d in std::mem::take(&mut self.dependents[i]) {
            self.steps[d].unmet -= 1;
            self.consider(d);
        }
        if phase == Phase::Main && self.main.left == 0 {
            self.main_ended();
        }
    }

    /// The main steps have ended: `finally` may begin, and may ask how the run went.
    fn main_ended(&mut self) {
        let outcome = self.outcome_of(&[self.main]);
        let summary = self.summary(outcome);
        if let Value::Object(run) = &mut self.scope.run {
            run.insert("outcome".into(), outcome.name().into());
            run.insert("summary".into(), summary.into());
        }
        for i in 0..self.steps.len() {
            self.consider(i);
        }
    }

    /// How the steps of these phases make the run end.
    fn outcome_of(&self, phases: &[Tally]) -> RunOutcome {
        let any = |count: fn(&Tally) -> usize| phases.iter().any(|tally| count(tally) > 0);
        if any(|tally| tally.cancelled) {
            match self.cancel.as_ref().map(|cancel| &cancel.reason) {
                // Nobody wanted it to stop: it was too slow, which is a failure.
                Some(CancelReason::TimedOut { .. }) => RunOutcome::Failed,
                Some(CancelReason::Busy { .. }) => RunOutcome::Rejected,
                Some(CancelReason::Asked { .. } | CancelReason::Superseded { .. }) | None => {
                    RunOutcome::Cancelled
                }
            }
        } else if any(|tally| tally.failed) {
            RunOutcome::Failed
        } else if any(|tally| tally.rejected) {
            RunOutcome::Rejected
        } else {
            RunOutcome::Passed
        }
    }

    /// How the main steps ended, once all of them have.
    #[must_use]
    pub fn main_outcome(&self) -> Option<RunOutcome> {
        (self.main.left == 0).then(|| self.outcome_of(&[self.main]))
    }

    /// How the run ends, once every step has.
    pub(crate) fn outcome_when_done(&self) -> Option<RunOutcome> {
        (self.main.left == 0 && self.finally.left == 0)
            .then(|| self.outcome_of(&[self.main, self.finally]))
    }

    fn find(&self, step: &StepId) -> Result<usize, ApplyError> {
        self.index_of(step).ok_or_else(|| ApplyError::NoSuchStep { step: step.clone() })
    }

    /// The step whose attempt is running, when it is this attempt with this token.
    fn running(
        &self,
        step: &StepId,
        said: u32,
        said_token: Option<&AttemptToken>,
    ) -> Result<usize, ApplyError> {
        let i = self.find(step)?;
        let stale = || ApplyError::StaleResult { step: step.clone(), attempt: said };
        match &self.steps[i].state {
            State::Running { attempt, token } => {
                if *attempt != said || said_token.is_some_and(|said| said != token) {
                    return Err(stale());
                }
                Ok(i)
            }
            State::Waiting => Err(ApplyError::NotRunning { step: step.clone() }),
            State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. }
            | State::Ended { .. } => Err(stale()),
        }
    }

    pub(crate) fn index_of(&self, step: &StepId) -> Option<usize> {
        self.index.get(step).copied()
    }

    pub(crate) fn name(&self, i: usize) -> StepId {
        self.plan.steps()[i].id.clone()
    }

    /// Makes the records that put `events` behind the last one applied. Their time is `at`, or that
    /// of the last record where the clock went back.
    ///
    /// # Errors
    /// When a fact is too large, or has no JSON form.
    pub fn seal(&self, at: Timestamp, events: Vec<RunEvent>) -> Result<Vec<Record>, SealError> {
        let at = at.max(self.last_at);
        let (mut seq, mut head) = (self.seq, self.head);
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            seq = seq.next();
            let record = Record::seal(seq, at, head, event)?;
            head = record.hash();
            records.push(record);
        }
        Ok(records)
    }

    /// The facts that a process writes first when it takes up a run under `epoch`: none for a run
    /// that is new or over; otherwise that it goes on, and that every attempt which was under way
    /// is lost, for `reason`.
    #[must_use]
    pub fn recovery(&self, epoch: Epoch, reason: &str) -> Vec<RunEvent> {
        if self.ended.is_some() || self.seq == Seq(1) {
            return Vec::new();
        }
        let lost = self.steps.iter().enumerate().filter_map(|(i, step)| match &step.state {
            State::Running { attempt, .. } => Some(RunEvent::AttemptLost {
                step: self.name(i),
                attempt: *attempt,
                reason: reason.to_owned(),
            }),
            State::Waiting
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. }
            | State::Ended { .. } => None,
        });
        std::iter::once(RunEvent::Resumed { epoch }).chain(lost).collect()
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// The plan it is pinned to.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What was asked for.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// When it was asked for.
    #[must_use]
    pub const fn requested_at(&self) -> Timestamp {
        self.requested_at
    }

    /// The last record that was applied.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The hash of the last record that was applied.
    #[must_use]
    pub const fn head(&self) -> RecordHash {
        self.head
    }

    /// What expressions see now.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The cancellation in effect.
    #[must_use]
    pub const fn cancellation(&self) -> Option<&Cancel> {
        self.cancel.as_ref()
    }

    /// Whether one more request to cancel would stop anything.
    #[must_use]
    pub fn can_cancel(&self) -> bool {
        self.ended.is_none() && self.next_cancel_scope().is_some()
    }

    /// How and when it ended.
    #[must_use]
    pub const fn ended(&self) -> Option<(RunOutcome, Timestamp)> {
        self.ended
    }

    /// Where it is.
    #[must_use]
    pub const fn status(&self) -> RunStatus {
        match (self.ended, &self.cancel) {
            (Some((outcome, _)), _) => RunStatus::Ended(outcome),
            (None, Some(_)) => RunStatus::Cancelling,
            (None, None) => RunStatus::Running,
        }
    }

    /// When it is out of time, where the pipeline has a `timeout`. The time between an interruption
    /// and the resumption does not count.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let allowed = self.plan.timeout()?;
        let end = later(self.requested_at, allowed.0);
        Some(end.checked_add(self.idle).unwrap_or(Timestamp::MAX))
    }
}

impl StepState {
    fn lost_attempts(&self) -> usize {
        let lost = |end: &AttemptEnd| matches!(end, AttemptEnd::Lost { .. });
        self.attempts.iter().filter(|a| a.ended.as_ref().is_some_and(|(_, end)| lost(end))).count()
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}
