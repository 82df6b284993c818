//! What facts about attempts do to a run, and how steps and phases end.

use std::sync::Arc;

use fairlead_plan::{Outcome, Phase, RetryOn, RunOutcome};
use fairlead_step::{Digest, Effect, ErrorClass, HumanDuration, RunId, StepId, Verdict};
use jiff::Timestamp;
use serde_json::Value;

use crate::run::{Cancel, CancelScope, MOST_LOST_ATTEMPTS, State, Tally, Why};
use crate::{
    ApplyError, Attempt, AttemptEnd, AttemptToken, CancelReason, Decision, Run, StepResult,
};

impl Run {
    /// Gives node `i` a new state.
    pub(crate) fn set(&mut self, i: usize, state: State) {
        self.open.forget(i, &self.nodes[i]);
        self.nodes[i].state = state;
        let cancelled = self.is_cancelled(i);
        self.open.note(i, &self.nodes[i], cancelled);
    }

    pub(crate) fn started(
        &mut self,
        i: usize,
        attempt: u32,
        token: &AttemptToken,
        pool: Option<&str>,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        let next = match &self.nodes[i].state {
            State::Waiting => {
                self.may_begin(i)?;
                let planned = self.planned(i);
                let is_whole = planned.for_each.is_some() && self.nodes[i].item.is_none();
                if planned.gate.is_some() || is_whole {
                    return Err(ApplyError::NoAttempts { step: self.name(i) });
                }
                1
            }
            State::Lost { attempt } => attempt + 1,
            State::Backoff { attempt, .. } | State::Asking { attempt, .. } => *attempt,
            State::Running { .. } => return Err(ApplyError::Running { step: self.name(i) }),
            State::Failing { .. } => return Err(ApplyError::NoRetryTime { step: self.name(i) }),
            State::Attention { .. } => return Err(ApplyError::Undecided { step: self.name(i) }),
            State::Items { .. } | State::Open { .. } => {
                return Err(ApplyError::NoAttempts { step: self.name(i) });
            }
            State::Ended { .. } => return Err(ApplyError::StepEnded { step: self.name(i) }),
        };
        if attempt != next {
            return Err(ApplyError::OtherAttempt { step: self.name(i), is: next, said: attempt });
        }
        self.nodes[i].attempts.push(Attempt {
            number: attempt,
            token: token.clone(),
            pool: pool.map(Into::into),
            started_at: at,
            ended: None,
        });
        self.set(i, State::Running { attempt, token: token.clone() });
        Ok(())
    }

    fn attempt_ended(&mut self, i: usize, at: Timestamp, end: AttemptEnd) {
        if let Some(last) = self.nodes[i].attempts.last_mut() {
            last.ended = Some((at, end));
        }
    }

    pub(crate) fn finished(&mut self, i: usize, attempt: u32, result: &StepResult, at: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let planned = &plan.steps()[self.nodes[i].planned];
        self.attempt_ended(i, at, AttemptEnd::of(result));
        let retry = &planned.retry;
        let (failed_as, retryable) = match result {
            StepResult::Verdict(verdict) => {
                let (outcome, outputs) = match verdict {
                    Verdict::Passed { outputs } => (Outcome::Passed, Some(outputs)),
                    Verdict::Rejected { outputs, .. } => (Outcome::Rejected, Some(outputs)),
                    Verdict::Skipped { .. } => (Outcome::Skipped, None),
                };
                if outcome == Outcome::Rejected
                    && let Some(due) = self.asks_again_at(i, at)
                {
                    // It was an answer: what failed before it is no longer held against the step.
                    self.nodes[i].failures = 0;
                    self.set(i, State::Asking { attempt: attempt + 1, due });
                    return;
                }
                if let Some(outputs) = outputs {
                    self.keep_outputs(i, outputs.clone());
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
        self.nodes[i].failures += 1;
        let failures = self.nodes[i].failures;
        if retryable && retry.allows_after(failures) && !self.is_cancelled(i) {
            let seed = format!("{}/{}/{attempt}", self.id(), self.nodes[i].id);
            let wait = HumanDuration(retry.wait_after(failures, seed.as_bytes()));
            self.set(i, State::Failing { attempt, due: wait.after(at) });
        } else {
            self.end(i, failed_as, at, None);
        }
    }

    /// When a step whose answer is no asks again; never for one whose "no" is final.
    fn asks_again_at(&self, i: usize, at: Timestamp) -> Option<Timestamp> {
        let wait = self.planned(i).wait.as_ref()?;
        let first = self.nodes[i].attempts.first()?.started_at;
        let last = wait.deadline.after(first);
        (at < last && !self.is_cancelled(i)).then(|| wait.every.after(at).min(last))
    }

    /// Takes in that an attempt ended with an earlier run's result.
    pub(crate) fn cache_hit(
        &mut self,
        i: usize,
        (run, key): (&RunId, &Digest),
        outputs: &Value,
        at: Timestamp,
    ) {
        let end = AttemptEnd::CacheHit { run: run.clone(), key: key.clone() };
        self.attempt_ended(i, at, end);
        self.keep_outputs(i, outputs.clone());
        self.end(i, Outcome::Passed, at, None);
    }

    pub(crate) fn lost(&mut self, i: usize, attempt: u32, reason: &str, at: Timestamp) {
        self.attempt_ended(i, at, AttemptEnd::Lost { reason: reason.to_owned() });
        match self.planned(i).effect {
            Effect::Once if self.lost_is_failed => {
                self.end(i, Outcome::Failed, at, Some(Why::LostForGood(reason.to_owned())));
            }
            // Nobody can say what it did, and doing it again may do it twice.
            Effect::Once if self.is_cancelled(i) => {
                self.end(i, Outcome::Cancelled, at, Some(Why::Undecided(reason.to_owned())));
            }
            Effect::Once => {
                self.set(i, State::Attention { attempt, reason: reason.to_owned() });
            }
            Effect::Pure | Effect::Idempotent | Effect::CheckThenAct => {
                if self.is_cancelled(i) {
                    self.end(i, Outcome::Cancelled, at, Some(Why::RunCancelled));
                } else if self.lost_attempts(i) >= MOST_LOST_ATTEMPTS {
                    self.end(i, Outcome::Failed, at, Some(Why::TooOftenLost));
                } else {
                    self.set(i, State::Lost { attempt });
                }
            }
        }
    }

    fn lost_attempts(&self, i: usize) -> usize {
        let lost = |end: &AttemptEnd| matches!(end, AttemptEnd::Lost { .. });
        let attempts = self.nodes[i].attempts.iter();
        attempts.filter(|a| a.ended.as_ref().is_some_and(|(_, end)| lost(end))).count()
    }

    /// Takes in what a person decided of a lost attempt.
    pub(crate) fn settled(
        &mut self,
        i: usize,
        attempt: u32,
        by: &str,
        decision: &Decision,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        self.may_settle(i, attempt)?;
        let why = || Why::Settled {
            by: by.to_owned(),
            decision: decision.clone(),
            reason: reason.map(str::to_owned),
        };
        match decision {
            Decision::Passed { outputs } => {
                self.keep_outputs(i, outputs.clone());
                self.end(i, Outcome::Passed, at, Some(why()));
            }
            Decision::Failed => self.end(i, Outcome::Failed, at, Some(why())),
            Decision::Again => self.set(i, State::Lost { attempt }),
        }
        Ok(())
    }

    fn may_settle(&self, i: usize, said: u32) -> Result<(), ApplyError> {
        match &self.nodes[i].state {
            State::Attention { attempt, .. } if *attempt == said => Ok(()),
            State::Attention { attempt, .. } => {
                Err(ApplyError::OtherAttempt { step: self.name(i), is: *attempt, said })
            }
            State::Waiting
            | State::Items { .. }
            | State::Open { .. }
            | State::Running { .. }
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. }
            | State::Asking { .. }
            | State::Ended { .. } => Err(ApplyError::NothingToSettle { step: self.name(i) }),
        }
    }

    /// Whether a person may decide of this attempt of `step` now.
    ///
    /// # Errors
    /// When the step is not one that needs attention.
    pub fn check_settle(&self, step: &StepId, attempt: u32) -> Result<(), ApplyError> {
        self.may_settle(self.find(step)?, attempt)
    }

    pub(crate) fn retry_scheduled(
        &mut self,
        i: usize,
        attempt: u32,
        due: Timestamp,
    ) -> Result<(), ApplyError> {
        match &self.nodes[i].state {
            State::Failing { attempt: failed, .. } if failed + 1 == attempt => {
                self.set(i, State::Backoff { attempt, due });
                Ok(())
            }
            State::Failing { attempt: failed, .. } => {
                let (step, is) = (self.name(i), failed + 1);
                Err(ApplyError::OtherAttempt { step, is, said: attempt })
            }
            State::Running { .. } => Err(ApplyError::Running { step: self.name(i) }),
            State::Ended { .. } => Err(ApplyError::StepEnded { step: self.name(i) }),
            State::Waiting
            | State::Items { .. }
            | State::Open { .. }
            | State::Lost { .. }
            | State::Backoff { .. }
            | State::Asking { .. }
            | State::Attention { .. } => Err(ApplyError::NothingToRetry { step: self.name(i) }),
        }
    }

    pub(crate) fn cancel_requested(
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
        for i in 0..self.nodes.len() {
            if !self.is_cancelled(i) {
                continue;
            }
            let why = match &self.nodes[i].state {
                State::Waiting
                | State::Open { .. }
                | State::Lost { .. }
                | State::Failing { .. }
                | State::Backoff { .. }
                | State::Asking { .. } => Why::RunCancelled,
                State::Attention { reason, .. } => Why::Undecided(reason.clone()),
                // Its attempt is told to stop, and says how it ended.
                State::Running { .. } => {
                    self.open.stopping.insert(i);
                    continue;
                }
                // Its items are stopped, and end it.
                State::Items { .. } | State::Ended { .. } => continue,
            };
            self.end(i, Outcome::Cancelled, at, Some(why));
        }
        Ok(())
    }

    /// Takes in that a person ended the run.
    pub(crate) fn abandoned(&mut self, by: &str, reason: Option<&str>, at: Timestamp) {
        let why = Some(reason.map_or("abandoned".to_owned(), |why| format!("abandoned: {why}")));
        let reason = CancelReason::Asked { why };
        self.cancel = Some(Cancel { by: by.to_owned(), reason, at, scope: CancelScope::All });
        for i in 0..self.nodes.len() {
            let why = match &self.nodes[i].state {
                State::Waiting
                | State::Open { .. }
                | State::Lost { .. }
                | State::Failing { .. }
                | State::Backoff { .. }
                | State::Asking { .. } => Why::RunCancelled,
                State::Attention { reason, .. } => Why::Undecided(reason.clone()),
                // Nobody drove the run, so nobody can say how its attempt ended.
                State::Running { .. } => {
                    let reason = "the run was abandoned".to_owned();
                    self.attempt_ended(i, at, AttemptEnd::Lost { reason });
                    Why::RunCancelled
                }
                // Its items end it.
                State::Items { .. } | State::Ended { .. } => continue,
            };
            self.end(i, Outcome::Cancelled, at, Some(why));
        }
    }

    /// What one more request to cancel would stop; nothing when everything is stopping already.
    pub(crate) fn next_cancel_scope(&self) -> Option<CancelScope> {
        match &self.cancel {
            // Before it was admitted nothing was done that would have to be tidied up or told.
            None if self.main().left > 0 && self.admitted => Some(CancelScope::Main),
            None => Some(CancelScope::All),
            Some(cancel) => match cancel.scope {
                CancelScope::Main => Some(CancelScope::All),
                CancelScope::All => None,
            },
        }
    }

    /// Whether step `i` is within the reach of a cancellation.
    pub(crate) fn is_cancelled(&self, i: usize) -> bool {
        match (&self.cancel, self.planned(i).phase) {
            (None, _) => false,
            (Some(_), Phase::Main) => true,
            (Some(cancel), Phase::OnFailure | Phase::Finally) => cancel.scope == CancelScope::All,
        }
    }

    /// Ends node `i`, and wakes whoever waits for it.
    pub(crate) fn end(&mut self, i: usize, outcome: Outcome, at: Timestamp, why: Option<Why>) {
        self.set(i, State::Ended { outcome, at, why });
        if let Some(group) = self.nodes[i].item.as_ref().map(|(group, _)| *group) {
            self.item_ended(group, at);
            return;
        }
        self.scope.outcomes.insert(self.name(i), outcome);
        let plan = Arc::clone(&self.plan);
        let tally = &mut self.tallies[plan.steps()[i].phase as usize];
        tally.left -= 1;
        match outcome {
            Outcome::Passed | Outcome::Skipped => {}
            Outcome::Rejected => tally.rejected += 1,
            Outcome::Failed => tally.failed += 1,
            Outcome::Cancelled => tally.cancelled += 1,
        }
        let left = tally.left;
        for (d, n) in std::mem::take(&mut self.dependents[i]) {
            let node = &mut self.nodes[d];
            node.unmet -= 1;
            if !plan.steps()[d].needs[n].outcomes.contains(&outcome) {
                node.bad_need = Some(node.bad_need.map_or(n, |first| first.min(n)));
            }
            self.consider(d);
        }
        if left == 0 {
            self.phases_ended();
        }
    }

    /// Lets the next phase begin when one has ended; after the main steps the others may ask how the
    /// run went.
    pub(crate) fn phases_ended(&mut self) {
        if let Some(outcome) = self.main_outcome()
            && let Some(run) = self.scope.run.as_object()
            && !run.contains_key("outcome")
        {
            let summary = self.summary(outcome);
            if let Value::Object(run) = &mut self.scope.run {
                run.insert("outcome".into(), outcome.name().into());
                run.insert("summary".into(), summary.into());
            }
        }
        for i in 0..self.plan.steps().len() {
            if self.plan.steps()[i].phase != Phase::Main {
                self.consider(i);
            }
        }
    }

    /// Whether the phases before `phase` have ended.
    pub(crate) fn has_come(&self, phase: Phase) -> bool {
        self.tallies[..phase as usize].iter().all(|tally| tally.left == 0)
    }

    /// Whether every step has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.tallies.iter().all(|tally| tally.left == 0)
    }

    /// Whether some step was cancelled.
    pub(crate) fn has_cancelled(&self) -> bool {
        self.tallies.iter().any(|tally| tally.cancelled > 0)
    }

    /// How the steps of these phases make the run end.
    fn outcome_of(&self, phases: &[Tally]) -> RunOutcome {
        let any = |count: fn(&Tally) -> usize| phases.iter().any(|tally| count(tally) > 0);
        if any(|tally| tally.cancelled) {
            match self.cancel.as_ref().map(|cancel| &cancel.reason) {
                // Nobody wanted it to stop: it was too slow, which is a failure.
                Some(CancelReason::TimedOut { .. }) => RunOutcome::Failed,
                // Its group said no.
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
        (self.main().left == 0).then(|| self.outcome_of(&self.tallies[..=Phase::Main as usize]))
    }

    /// How the run ends, once every step has.
    pub(crate) fn outcome_when_done(&self) -> Option<RunOutcome> {
        self.is_done().then(|| self.outcome_of(&self.tallies))
    }

    pub(crate) fn find(&self, step: &StepId) -> Result<usize, ApplyError> {
        self.index_of(step).ok_or_else(|| ApplyError::NoSuchStep { step: step.clone() })
    }

    /// The step whose attempt is running, when it is this attempt with this token.
    pub(crate) fn running(
        &self,
        step: &StepId,
        said: u32,
        said_token: Option<&AttemptToken>,
    ) -> Result<usize, ApplyError> {
        let i = self.find(step)?;
        let stale = || ApplyError::StaleResult { step: step.clone(), attempt: said };
        match &self.nodes[i].state {
            State::Running { attempt, token } => {
                if *attempt != said || said_token.is_some_and(|said| said != token) {
                    return Err(stale());
                }
                Ok(i)
            }
            State::Waiting | State::Items { .. } | State::Open { .. } => {
                Err(ApplyError::NotRunning { step: step.clone() })
            }
            State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. }
            | State::Asking { .. }
            | State::Attention { .. }
            | State::Ended { .. } => Err(stale()),
        }
    }
}
