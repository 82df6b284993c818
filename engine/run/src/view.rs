//! What a run shows of itself: its steps, their attempts, and the reasons.

use std::fmt;

use fairlead_plan::{Outcome, PlanStep, RunOutcome};
use fairlead_step::{HumanDuration, StepId, Verdict};
use jiff::Timestamp;
use serde_json::Value;

use crate::run::{State, StepState, Why};
use crate::{AttemptToken, Failure, Run, StepResult};

/// One attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// What its result must carry.
    pub token: AttemptToken,
    /// When it began.
    pub started_at: Timestamp,
    /// When and how it ended.
    pub ended: Option<(Timestamp, AttemptEnd)>,
}

/// How an attempt ended. The outputs are the step's: see [`StepView::outputs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It did what it is for.
    Passed,
    /// Its answer is no.
    Rejected {
        /// Why.
        reason: String,
    },
    /// There was nothing to do.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It failed.
    Failed(Failure),
    /// It ran too long.
    TimedOut {
        /// How long it was allowed.
        after: HumanDuration,
    },
    /// It was told to stop.
    Cancelled {
        /// How it stopped.
        message: String,
    },
    /// Nobody saw its end.
    Lost {
        /// What is known of why.
        reason: String,
    },
}

impl AttemptEnd {
    pub(crate) fn of(result: &StepResult) -> Self {
        match result {
            StepResult::Verdict(Verdict::Passed { .. }) => Self::Passed,
            StepResult::Verdict(Verdict::Rejected { reason, .. }) => {
                Self::Rejected { reason: reason.clone() }
            }
            StepResult::Verdict(Verdict::Skipped { reason }) => {
                Self::Skipped { reason: reason.clone() }
            }
            StepResult::Failure(failure) => Self::Failed(failure.clone()),
            StepResult::TimedOut { after } => Self::TimedOut { after: *after },
            StepResult::Cancelled { message } => Self::Cancelled { message: message.clone() },
        }
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Rejected { reason } | Self::Skipped { reason } => f.write_str(reason),
            Self::Failed(failure) => f.write_str(&failure.message),
            Self::TimedOut { after } => write!(f, "it did not end within {after}"),
            Self::Cancelled { message } => f.write_str(message),
            Self::Lost { reason } => write!(f, "the attempt was lost: {reason}"),
        }
    }
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// It waits for other steps, or for its turn.
    Waiting,
    /// An attempt is under way.
    Running {
        /// Which.
        attempt: u32,
    },
    /// It failed or was lost, and is tried again.
    Retrying {
        /// The attempt to come.
        attempt: u32,
        /// The earliest time for it; at once when there is none.
        due: Option<Timestamp>,
    },
    /// It is over.
    Ended(Outcome),
}

/// One step of a run, for display.
#[derive(Debug, Clone, Copy)]
pub struct StepView<'a> {
    plan: &'a PlanStep,
    step: &'a StepState,
    outputs: Option<&'a Value>,
}

impl<'a> StepView<'a> {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &'a StepId {
        &self.plan.id
    }

    /// What the plan says of it.
    #[must_use]
    pub const fn plan(&self) -> &'a PlanStep {
        self.plan
    }

    /// Where it is.
    #[must_use]
    pub const fn status(&self) -> StepStatus {
        match &self.step.state {
            State::Waiting => StepStatus::Waiting,
            State::Running { attempt, .. } => StepStatus::Running { attempt: *attempt },
            State::Lost { attempt } => StepStatus::Retrying { attempt: *attempt + 1, due: None },
            State::Failing { attempt, due } => {
                StepStatus::Retrying { attempt: *attempt + 1, due: Some(*due) }
            }
            State::Backoff { attempt, due } => {
                StepStatus::Retrying { attempt: *attempt, due: Some(*due) }
            }
            State::Ended { outcome, .. } => StepStatus::Ended(*outcome),
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.status() {
            StepStatus::Ended(outcome) => Some(outcome),
            StepStatus::Waiting | StepStatus::Running { .. } | StepStatus::Retrying { .. } => None,
        }
    }

    /// Its attempts, oldest first.
    #[must_use]
    pub fn attempts(&self) -> &'a [Attempt] {
        &self.step.attempts
    }

    /// What it produced.
    #[must_use]
    pub const fn outputs(&self) -> Option<&'a Value> {
        self.outputs
    }

    /// When its first attempt began.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.step.attempts.first().map(|attempt| attempt.started_at)
    }

    /// When it ended, skipped steps included.
    #[must_use]
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match &self.step.state {
            State::Ended { at, .. } => Some(*at),
            State::Waiting
            | State::Running { .. }
            | State::Lost { .. }
            | State::Failing { .. }
            | State::Backoff { .. } => None,
        }
    }

    /// One line for people: why it did not simply pass.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if let State::Ended { why: Some(why), .. } = &self.step.state {
            return Some(match why {
                Why::Skipped(reason) => reason.to_string(),
                Why::NotStarted(failure) => failure.message.clone(),
                Why::RunCancelled => "the run was cancelled".to_owned(),
                Why::NeedsAttention(reason) => format!(
                    "needs attention: an attempt that must not be made twice was lost ({reason}); \
                     look whether it took effect"
                ),
                Why::TooOftenLost => format!(
                    "{} attempts were lost, so it is not begun again",
                    crate::MOST_LOST_ATTEMPTS
                ),
            });
        }
        match self.step.attempts.last()?.ended.as_ref()? {
            (_, AttemptEnd::Passed) => None,
            (_, end) => Some(end.to_string()),
        }
    }

    /// The way out, where the failure knows one.
    #[must_use]
    pub fn hint(&self) -> Option<&'a str> {
        if let State::Ended { why: Some(Why::NotStarted(failure)), .. } = &self.step.state {
            return failure.hint.as_deref();
        }
        match self.step.attempts.last()?.ended.as_ref()? {
            (_, AttemptEnd::Failed(failure)) => failure.hint.as_deref(),
            (
                _,
                AttemptEnd::Passed
                | AttemptEnd::Rejected { .. }
                | AttemptEnd::Skipped { .. }
                | AttemptEnd::TimedOut { .. }
                | AttemptEnd::Cancelled { .. }
                | AttemptEnd::Lost { .. },
            ) => None,
        }
    }
}

impl Run {
    /// Its steps, in the order of the plan.
    pub fn steps(&self) -> impl Iterator<Item = StepView<'_>> {
        (0..self.steps.len()).map(|i| self.view(i))
    }

    /// The step called `id`.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<StepView<'_>> {
        self.index_of(id).map(|i| self.view(i))
    }

    fn view(&self, i: usize) -> StepView<'_> {
        let plan = &self.plan.steps()[i];
        StepView { plan, step: &self.steps[i], outputs: self.scope.steps.get(&plan.id) }
    }

    /// One line for people: `outcome`, and the steps that made it so.
    pub(crate) fn summary(&self, outcome: RunOutcome) -> String {
        let blamed = match outcome {
            RunOutcome::Passed => return "passed".to_owned(),
            RunOutcome::Rejected => Outcome::Rejected,
            RunOutcome::Failed if self.cancel.is_some() => Outcome::Cancelled,
            RunOutcome::Failed => Outcome::Failed,
            RunOutcome::Cancelled => {
                return self.cancel.as_ref().map_or_else(
                    || outcome.to_string(),
                    |cancel| format!("cancelled by {}: {}", cancel.by, cancel.reason),
                );
            }
        };
        let mut steps = self.steps().filter(|step| step.outcome() == Some(blamed));
        let mut text = outcome.to_string();
        if let Some(first) = steps.next() {
            text.push_str(&format!(": {}", first.id()));
            if let Some(reason) = first.reason() {
                text.push_str(&format!(" ({reason})"));
            }
        }
        match steps.count() {
            0 => text,
            1 => text + " and 1 more step",
            more => text + &format!(" and {more} more steps"),
        }
    }
}
