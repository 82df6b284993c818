//! What a run wants next. Decided from the state alone: asking again gives the same answer.

use fairlead_plan::{Gate, Item, Outcome, Phase, RenderError, RenderedInput, RunOutcome, WaitFor};
use fairlead_step::{ErrorClass, HumanDuration, StepId};
use jiff::Timestamp;

use crate::run::{State, Why};
use crate::{ApplyError, Command, Failure, Run, SkipReason, bounded_text};

/// What to do with a step that can be decided.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Readiness {
    /// Make an attempt.
    Start,
    /// Write down its items.
    Expand(Vec<Item>),
    /// Open the gate.
    Open(Due),
    /// Skip it. The reason is worked out when it is told: while a skip waits to be written, another
    /// need may end, and be the first.
    Skip,
    /// It cannot begin.
    Fail(Failure),
}

/// The time of a gate that opens now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Due {
    Never,
    After(HumanDuration),
    At(Timestamp),
}

impl Run {
    /// What is to be done now, in the order of the plan.
    ///
    /// Level-triggered: each command is answered until the fact that settles it was applied, so it
    /// is safe to ask at any time, and recovery is no special case. A run that has ended wants
    /// nothing, nor does one that waits to be admitted. At most one [`Command::WaitUntil`], the last of
    /// them, says when to ask again if nothing else happens.
    #[must_use]
    pub fn commands(&self, now: Timestamp) -> Vec<Command> {
        self.commands_with(now, usize::MAX)
    }

    /// The same, with at most so many [`Command::Start`]s. What is not told is wanted all the same;
    /// but what one answer costs does not grow with all that could start.
    #[must_use]
    pub fn commands_with(&self, now: Timestamp, starts: usize) -> Vec<Command> {
        if self.ended().is_some() {
            return Vec::new();
        }
        if let Some(outcome) = self.outcome_when_done() {
            return vec![Command::End { outcome }];
        }
        let mut commands = Vec::new();
        let mut wait: Option<Timestamp> = None;
        if !self.admitted {
            return commands;
        }
        if let (Some(deadline), Some(after), None) =
            (self.deadline(), self.plan.timeout(), &self.cancel)
            && !self.rests()
        {
            if deadline <= now {
                return vec![Command::TimeOut { after }];
            }
            wait = Some(deadline);
        }
        for &i in &self.open.stopping {
            if let Some(attempt) = self.nodes[i].state.attempt() {
                commands.push(Command::StopAttempt { step: self.name(i), attempt });
            }
        }
        for &i in &self.open.noted {
            commands.extend(self.noted(i, now));
        }
        let mut left = starts;
        let mut start = |commands: &mut Vec<Command>, step: StepId, attempt: u32| {
            if left > 0 {
                left -= 1;
                commands.push(Command::Start { step, attempt });
            }
            left > 0
        };
        for &(due, i) in &self.open.timed {
            if due > now {
                wait = Some(wait.map_or(due, |wait| wait.min(due)));
                break;
            }
            match self.nodes[i].state.next_attempt() {
                Some(attempt) => {
                    start(&mut commands, self.name(i), attempt);
                }
                // What waits for a time and for no attempt is a gate.
                None => commands.push(Command::GateDue { step: self.name(i) }),
            }
        }
        for &i in &self.open.ready {
            let attempt = self.nodes[i].state.next_attempt().unwrap_or(1);
            if !start(&mut commands, self.name(i), attempt) {
                break;
            }
        }
        commands.extend(wait.map(Command::WaitUntil));
        commands
    }

    /// What is to be written down about node `i` at once.
    fn noted(&self, i: usize, now: Timestamp) -> Option<Command> {
        let step = self.name(i);
        if let State::Failing { attempt, due } = self.nodes[i].state {
            return Some(Command::ScheduleRetry { step, attempt: attempt + 1, due });
        }
        Some(match self.nodes[i].decided.as_ref()? {
            Readiness::Start => return None,
            Readiness::Expand(items) => Command::Expand { step, items: items.clone() },
            Readiness::Open(due) => Command::OpenGate {
                step,
                due: match due {
                    Due::Never => None,
                    Due::After(wait) => Some(wait.after(now)),
                    Due::At(time) => Some(*time),
                },
            },
            Readiness::Skip => Command::Skip { step, reason: self.reason_to_skip(i) },
            Readiness::Fail(failure) => Command::Fail { step, failure: failure.clone() },
        })
    }

    /// Decides about node `i` when it can be decided.
    pub(crate) fn consider(&mut self, i: usize) {
        if self.nodes[i].state.is_waiting() && self.decidable(i) {
            self.nodes[i].decided = Some(self.readiness(i));
            self.set(i, State::Waiting);
        }
    }

    fn decidable(&self, i: usize) -> bool {
        // An item is considered when it is let in.
        if self.nodes[i].item.is_some() {
            return true;
        }
        if !self.has_come(self.planned(i).phase) {
            return false;
        }
        self.not_for(i).is_some() || self.nodes[i].unmet == 0 || self.nodes[i].bad_need.is_some()
    }

    fn readiness(&self, i: usize) -> Readiness {
        if self.nodes[i].item.is_none()
            && (self.not_for(i).is_some() || self.nodes[i].bad_need.is_some())
        {
            return Readiness::Skip;
        }
        // Every need has ended, so what is read here no longer changes.
        self.decided(i).unwrap_or_else(|error| {
            Readiness::Fail(Failure {
                class: ErrorClass::Terminal,
                message: bounded_text(error.to_string()),
                hint: None,
            })
        })
    }

    fn decided(&self, i: usize) -> Result<Readiness, RenderError> {
        let planned = self.planned(i);
        let item = self.nodes[i].item.as_ref().map(|(_, item)| item);
        // The condition of a step with items is its own or theirs, as it reads.
        let asked = planned.for_each.is_none() || planned.condition_is_of_items() == item.is_some();
        if asked && !planned.condition(&self.scope, item)? {
            return Ok(Readiness::Skip);
        }
        Ok(match (&planned.gate, &planned.for_each) {
            (Some(Gate::Approval(approval)), _) => {
                Readiness::Open(approval.expires.map_or(Due::Never, Due::After))
            }
            (Some(Gate::Wait(WaitFor::Duration(wait))), _) => Readiness::Open(Due::After(*wait)),
            (Some(Gate::Wait(until @ WaitFor::Until(_))), _) => {
                Readiness::Open(Due::At(until.until(Timestamp::UNIX_EPOCH, &self.scope)?))
            }
            (None, Some(each)) if item.is_none() => Readiness::Expand(each.items(&self.scope)?),
            (None, Some(_) | None) => Readiness::Start,
        })
    }

    fn reason_to_skip(&self, i: usize) -> SkipReason {
        if self.nodes[i].item.is_some() {
            return SkipReason::Condition;
        }
        let not_for = self.not_for(i).map(|outcome| SkipReason::NotFor { outcome });
        not_for.or_else(|| self.failed_need(i)).unwrap_or(SkipReason::Condition)
    }

    /// The input of `step` as it is now, secrets left out.
    ///
    /// # Errors
    /// When the plan has no such step, or an expression has no value.
    pub fn render(&self, step: &StepId) -> Result<RenderedInput, RenderError> {
        let i = self.index_of(step).ok_or_else(|| RenderError {
            place: "with".to_owned(),
            message: format!("the plan has no step `{step}`"),
        })?;
        let item = self.nodes[i].item.as_ref().map(|(_, item)| item);
        self.planned(i).render(&self.scope, item)
    }

    /// The outcome of the main steps for which the later step `i` is not made.
    fn not_for(&self, i: usize) -> Option<RunOutcome> {
        let step = self.planned(i);
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
        let need = &self.planned(i).needs[self.nodes[i].bad_need?];
        let outcome = *self.scope.outcomes.get(&need.step)?;
        let (root, root_outcome) = self.root_of(&need.step, outcome);
        Some(SkipReason::Need { step: need.step.clone(), outcome, root, root_outcome })
    }

    /// Where the trouble of a step began: in itself, or where its own skipping says.
    fn root_of(&self, step: &StepId, outcome: Outcome) -> (StepId, Outcome) {
        let why = self.index_of(step).and_then(|i| self.nodes[i].state.why());
        match why {
            Some(Why::Skipped(SkipReason::Need { root, root_outcome, .. })) => {
                (root.clone(), *root_outcome)
            }
            Some(
                Why::Skipped(SkipReason::Condition | SkipReason::NotFor { .. })
                | Why::NotStarted(_)
                | Why::RunCancelled
                | Why::Undecided(_)
                | Why::LostForGood(_)
                | Why::TooOftenLost
                | Why::Gate(_)
                | Why::Kept(_)
                | Why::Settled { .. }
                | Why::Items { .. },
            )
            | None => (step.clone(), outcome),
        }
    }

    /// Whether the first attempt of node `i` may begin, its gate open, or its items be written down:
    /// nothing begins before its needs.
    pub(crate) fn may_begin(&self, i: usize) -> Result<(), ApplyError> {
        let step = || self.name(i);
        if self.nodes[i].state.ended().is_some() {
            return Err(ApplyError::StepEnded { step: step() });
        }
        if !self.nodes[i].state.is_waiting() {
            return Err(ApplyError::Begun { step: step() });
        }
        if !self.admitted {
            return Err(ApplyError::NotAdmitted);
        }
        let ready = match self.nodes[i].item {
            // It was let in.
            Some(_) => self.nodes[i].decided.is_some(),
            None => {
                self.has_come(self.planned(i).phase)
                    && self.nodes[i].unmet == 0
                    && self.not_for(i).is_none()
                    && self.nodes[i].bad_need.is_none()
            }
        };
        if ready { Ok(()) } else { Err(ApplyError::NotReady { step: step() }) }
    }

    /// Whether node `i` may be skipped for `reason`.
    pub(crate) fn may_skip(&self, i: usize, reason: &SkipReason) -> Result<(), ApplyError> {
        if *reason == SkipReason::Condition {
            return self.may_begin(i);
        }
        if !self.admitted {
            return Err(ApplyError::NotAdmitted);
        }
        let waits = self.nodes[i].state.is_waiting() && self.decidable(i);
        let real = match reason {
            SkipReason::Condition => true,
            SkipReason::Need { .. } => self.nodes[i].bad_need.is_some(),
            SkipReason::NotFor { .. } => self.not_for(i).is_some(),
        };
        if waits && real { Ok(()) } else { Err(ApplyError::NoReasonToSkip { step: self.name(i) }) }
    }
}
