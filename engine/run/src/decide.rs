//! What a run wants next. Decided from the state alone: asking again gives the same answer.

use fairlead_plan::{Outcome, Phase, RunOutcome};
use fairlead_step::{ErrorClass, StepId};
use jiff::Timestamp;

use crate::run::{State, Why};
use crate::{ApplyError, Command, Failure, Run, SkipReason};

/// What to do with a step that can be decided.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Readiness {
    Start,
    Skip(SkipReason),
    Fail(Failure),
}

impl Run {
    /// What is to be done now, in the order of the plan.
    ///
    /// Level-triggered: each command is answered until the fact that settles it was applied, so it
    /// is safe to ask at any time, and recovery is no special case. A run that has ended wants
    /// nothing. At most one [`Command::WaitUntil`], the last of them, says when to ask again if
    /// nothing else happens.
    #[must_use]
    pub fn commands(&self, now: Timestamp) -> Vec<Command> {
        if self.ended().is_some() {
            return Vec::new();
        }
        if let Some(outcome) = self.outcome_when_done() {
            return vec![Command::End { outcome }];
        }
        let mut commands = Vec::new();
        let mut wait: Option<Timestamp> = None;
        let mut wait_until = |time: Timestamp| wait = Some(wait.map_or(time, |w| w.min(time)));
        if let (Some(deadline), Some(after), None) =
            (self.deadline(), self.plan.timeout(), &self.cancel)
        {
            if deadline <= now {
                return vec![Command::TimeOut { after }];
            }
            wait_until(deadline);
        }
        for &i in &self.open {
            let step = self.name(i);
            match &self.steps[i].state {
                State::Waiting => commands.push(match self.readiness(i) {
                    Readiness::Start => Command::Start { step, attempt: 1 },
                    Readiness::Skip(reason) => Command::Skip { step, reason },
                    Readiness::Fail(failure) => Command::Fail { step, failure },
                }),
                State::Running { attempt, .. } => {
                    commands.push(Command::StopAttempt { step, attempt: *attempt });
                }
                State::Lost { attempt } => {
                    commands.push(Command::Start { step, attempt: attempt + 1 });
                }
                State::Failing { attempt, due } => {
                    commands.push(Command::ScheduleRetry { step, attempt: attempt + 1, due: *due });
                }
                State::Backoff { attempt, due } if *due <= now => {
                    commands.push(Command::Start { step, attempt: *attempt });
                }
                State::Backoff { due, .. } => wait_until(*due),
                // A step leaves the open ones when it ends.
                State::Ended { .. } => {}
            }
        }
        commands.extend(wait.map(Command::WaitUntil));
        commands
    }

    /// Puts step `i` among the open ones when it can be decided.
    pub(crate) fn consider(&mut self, i: usize) {
        if self.steps[i].state == State::Waiting && self.decidable(i) {
            self.open.insert(i);
        }
    }

    fn decidable(&self, i: usize) -> bool {
        match self.plan.steps()[i].phase {
            Phase::Main => {}
            Phase::OnFailure | Phase::Finally if self.main.left > 0 => return false,
            Phase::OnFailure | Phase::Finally => {
                if self.not_for(i).is_some() {
                    return true;
                }
            }
        }
        self.steps[i].unmet == 0 || self.failed_need(i).is_some()
    }

    fn readiness(&self, i: usize) -> Readiness {
        // Not kept: while a skip waits to be written, another need may end, and be the first.
        let skip = self.not_for(i).map(|outcome| SkipReason::NotFor { outcome });
        if let Some(reason) = skip.or_else(|| self.failed_need(i)) {
            return Readiness::Skip(reason);
        }
        // Every need has ended, so what the condition reads no longer changes.
        let decide = || match self.plan.steps()[i].condition(&self.scope, None) {
            Ok(true) => Readiness::Start,
            Ok(false) => Readiness::Skip(SkipReason::Condition),
            Err(error) => Readiness::Fail(Failure {
                class: ErrorClass::Terminal,
                message: error.to_string(),
                hint: None,
            }),
        };
        self.steps[i].condition.get_or_init(decide).clone()
    }

    /// The outcome of the run for which the `finally` step `i` is not made.
    fn not_for(&self, i: usize) -> Option<RunOutcome> {
        let step = &self.plan.steps()[i];
        match step.phase {
            Phase::Main => None,
            Phase::OnFailure | Phase::Finally => {
                self.main_outcome().filter(|outcome| !step.on.contains(outcome))
            }
        }
    }

    /// The first need of step `i`, in the order of the plan, that ended in a way that it does not
    /// accept, traced back to where the trouble began.
    fn failed_need(&self, i: usize) -> Option<SkipReason> {
        self.plan.steps()[i].needs.iter().find_map(|need| {
            let outcome = *self.scope.outcomes.get(&need.step)?;
            if need.outcomes.contains(&outcome) {
                return None;
            }
            let (root, root_outcome) = self.root_of(&need.step, outcome);
            Some(SkipReason::Need { step: need.step.clone(), outcome, root, root_outcome })
        })
    }

    /// Where the trouble of a step began: in itself, or where its own skipping says.
    fn root_of(&self, step: &StepId, outcome: Outcome) -> (StepId, Outcome) {
        let why = self.index_of(step).and_then(|i| match &self.steps[i].state {
            State::Ended { why, .. } => why.as_ref(),
            State::Waiting
            | State::Running { .. }
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. } => None,
        });
        match why {
            Some(Why::Skipped(SkipReason::Need { root, root_outcome, .. })) => {
                (root.clone(), *root_outcome)
            }
            Some(
                Why::Skipped(SkipReason::Condition | SkipReason::NotFor { .. })
                | Why::NotStarted(_)
                | Why::RunCancelled
                | Why::NeedsAttention(_)
                | Why::TooOftenLost,
            )
            | None => (step.clone(), outcome),
        }
    }

    /// Whether the first attempt of step `i` may begin: nothing starts before its needs.
    pub(crate) fn may_begin(&self, i: usize) -> Result<(), ApplyError> {
        let step = || self.name(i);
        match &self.steps[i].state {
            State::Waiting => {}
            State::Running { .. }
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. } => return Err(ApplyError::Begun { step: step() }),
            State::Ended { .. } => return Err(ApplyError::StepEnded { step: step() }),
        }
        let finally_too_early = self.plan.steps()[i].phase == Phase::Finally && self.main.left > 0;
        if finally_too_early
            || self.steps[i].unmet > 0
            || self.not_for(i).is_some()
            || self.failed_need(i).is_some()
        {
            return Err(ApplyError::NotReady { step: step() });
        }
        Ok(())
    }

    /// Whether step `i` may be skipped for `reason`.
    pub(crate) fn may_skip(&self, i: usize, reason: &SkipReason) -> Result<(), ApplyError> {
        if *reason == SkipReason::Condition {
            return self.may_begin(i);
        }
        let waits = self.steps[i].state == State::Waiting && self.decidable(i);
        let real = match reason {
            SkipReason::Condition => true,
            SkipReason::Need { .. } => self.failed_need(i).is_some(),
            SkipReason::NotFor { .. } => self.not_for(i).is_some(),
        };
        if waits && real { Ok(()) } else { Err(ApplyError::NoReasonToSkip { step: self.name(i) }) }
    }
}
