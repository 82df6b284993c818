//! What a run shows of itself: its steps, their attempts, and the reasons.

use std::collections::BTreeSet;
use std::fmt;

use fairlead_plan::{Excluded, Gate, Item, Outcome, PlanStep, RunOutcome, WaitFor};
use fairlead_step::{Digest, HumanDuration, RunId, StepId, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::gates::GateEnd;
use crate::run::{Node, State, Why};
use crate::{AttemptToken, Ballot, CancelReason, Decision, Failure, Run, StepResult};

/// One attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// What its result must carry.
    pub token: AttemptToken,
    /// The pool whose runners make it, where some do.
    pub pool: Option<Box<str>>,
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
    /// The result of an earlier run stands for it, for the same went in.
    CacheHit {
        /// That run.
        run: RunId,
        /// The digest of all that went in.
        key: Digest,
    },
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
            Self::CacheHit { run, .. } => {
                write!(f, "the result of run {run}, for the same went in")
            }
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
    /// It waits for other steps, or for admission.
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
    /// It is a gate, and open.
    Open {
        /// When time decides.
        due: Option<Timestamp>,
    },
    /// The answer was no, and it asks again.
    Asking {
        /// The attempt to come.
        attempt: u32,
        /// When, unless it is notified before.
        due: Timestamp,
    },
    /// An attempt that must not be made twice was lost, and a person must decide.
    NeedsAttention {
        /// That attempt.
        attempt: u32,
    },
    /// Its items are worked on.
    Items {
        /// Those that have not ended.
        left: usize,
    },
    /// It is over.
    Ended(Outcome),
}

impl StepStatus {
    /// The word for people and for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running { .. } | Self::Items { .. } => "running",
            Self::Retrying { .. } => "retrying",
            Self::Open { .. } => "open",
            Self::Asking { .. } => "asking",
            Self::NeedsAttention { .. } => "needs-attention",
            Self::Ended(outcome) => outcome.name(),
        }
    }
}

/// What a gate asks for, and how far it is. Its JSON form is what programs read of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum GateView<'a> {
    /// People decide.
    Approval {
        /// Users and groups whose members may vote.
        from: &'a [String],
        /// How many approvals it takes.
        min: u32,
        /// Whether the entries of `from` approve one after another, in their order.
        ordered: bool,
        /// Who may not vote although `from` has them.
        not: &'a BTreeSet<Excluded>,
        /// How long it stays open once it is; for ever when it is not given.
        expires: Option<HumanDuration>,
        /// How many approvals are missing; none for a gate that has ended.
        missing: Option<u32>,
        /// When it expires, for a gate that is open.
        due: Option<Timestamp>,
    },
    /// Time decides.
    Wait {
        /// How long, or until when, as the plan says.
        #[serde(flatten)]
        wait: &'a WaitFor,
        /// When it lets the run on, for a gate that is open.
        due: Option<Timestamp>,
    },
}

impl fmt::Display for GateView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { from, min, ordered, missing, due, .. } => {
                let order = if *ordered { ", in this order" } else { "" };
                let from = from.join(", ");
                match missing {
                    Some(missing) => {
                        write!(f, "{missing} of {min} approvals are missing, by {from}{order}")?;
                    }
                    None => write!(f, "{min} approvals, by {from}{order}")?,
                }
                due.map_or(Ok(()), |due| write!(f, "; it expires at {due}"))
            }
            Self::Wait { wait, due } => {
                match wait {
                    WaitFor::Duration(time) => write!(f, "it lets {time} pass")?,
                    WaitFor::Until(text) => write!(f, "it waits until {text}")?,
                }
                due.map_or(Ok(()), |due| write!(f, "; it ends at {due}"))
            }
        }
    }
}

/// One step of a run, for display.
#[derive(Debug, Clone, Copy)]
pub struct StepView<'a> {
    plan: &'a PlanStep,
    step: &'a Node,
    outputs: Option<&'a Value>,
}

impl<'a> StepView<'a> {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &'a StepId {
        &self.step.id
    }

    /// The item it is made for, for one of a step with `for_each`.
    #[must_use]
    pub fn item(&self) -> Option<&'a Item> {
        self.step.item.as_ref().map(|(_, item)| item)
    }

    /// The approvals that an open gate has.
    #[must_use]
    pub fn ballots(&self) -> &'a [Ballot] {
        self.step.state.ballots()
    }

    /// What it asks for, and how far it is, where it is a gate.
    #[must_use]
    pub fn gate(&self) -> Option<GateView<'a>> {
        let due = self.due();
        Some(match self.plan.gate.as_ref()? {
            Gate::Approval(approval) => {
                let given = u32::try_from(self.ballots().len()).unwrap_or(u32::MAX);
                let left = approval.min.saturating_sub(given);
                GateView::Approval {
                    from: &approval.from,
                    min: approval.min,
                    ordered: approval.ordered,
                    not: &approval.not,
                    expires: approval.expires,
                    missing: self.outcome().is_none().then_some(left),
                    due,
                }
            }
            Gate::Wait(wait) => GateView::Wait { wait, due },
        })
    }

    /// When time decides of it, or when it is tried or asked again, where that is known.
    #[must_use]
    pub const fn due(&self) -> Option<Timestamp> {
        self.step.state.due()
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
            State::Open { due, .. } => StepStatus::Open { due: *due },
            State::Asking { attempt, due } => StepStatus::Asking { attempt: *attempt, due: *due },
            State::Attention { attempt, .. } => StepStatus::NeedsAttention { attempt: *attempt },
            State::Items { left } => StepStatus::Items { left: *left },
            State::Ended { outcome, .. } => StepStatus::Ended(*outcome),
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.step.state.ended() {
            Some((outcome, _)) => Some(outcome),
            None => None,
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
        match self.step.state.ended() {
            Some((_, at)) => Some(at),
            None => None,
        }
    }

    /// Why it ended so, where no attempt says it.
    pub(crate) const fn why(&self) -> Option<&'a Why> {
        self.step.state.why()
    }

    /// One line for people: why it did not simply pass, or what it waits for.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if let Some(why) = self.step.state.why() {
            return Some(why.to_string());
        }
        if let State::Attention { reason, .. } = &self.step.state {
            return Some(format!(
                "an attempt that must not be made twice was lost ({reason}); look whether it took \
                 effect, and say so with `fairlead settle`"
            ));
        }
        match self.step.attempts.last()?.ended.as_ref()? {
            (_, AttemptEnd::Passed) => None,
            (_, end) => Some(end.to_string()),
        }
    }

    /// The way out, where the failure knows one.
    #[must_use]
    pub fn hint(&self) -> Option<&'a str> {
        if let Some(Why::NotStarted(failure)) = self.step.state.why() {
            return failure.hint.as_deref();
        }
        match self.step.attempts.last()?.ended.as_ref()? {
            (_, AttemptEnd::Failed(failure)) => failure.hint.as_deref(),
            (
                _,
                AttemptEnd::Passed
                | AttemptEnd::CacheHit { .. }
                | AttemptEnd::Rejected { .. }
                | AttemptEnd::Skipped { .. }
                | AttemptEnd::TimedOut { .. }
                | AttemptEnd::Cancelled { .. }
                | AttemptEnd::Lost { .. },
            ) => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |f: &mut fmt::Formatter<'_>, reason: &Option<String>| match reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        };
        match self {
            Self::Skipped(reason) => reason.fmt(f),
            Self::NotStarted(failure) => f.write_str(&failure.message),
            Self::RunCancelled => f.write_str("the run was cancelled"),
            Self::Undecided(reason) => write!(
                f,
                "the run was cancelled before anybody said whether its lost attempt took effect \
                 ({reason})"
            ),
            Self::LostForGood(reason) => write!(
                f,
                "an attempt that must not be made twice was lost ({reason}), which the build of \
                 then took for a failure"
            ),
            Self::TooOftenLost => write!(
                f,
                "{} attempts were lost, so it is not begun again",
                crate::MOST_LOST_ATTEMPTS
            ),
            Self::Gate(GateEnd::Approved(by)) => write!(f, "approved by {}", by.join(", ")),
            Self::Gate(GateEnd::Rejected { by, reason }) => {
                write!(f, "rejected by {by}")?;
                because(f, reason)
            }
            Self::Gate(GateEnd::Expired { after: Some(after) }) => {
                write!(f, "too few approved within {after}")
            }
            Self::Gate(GateEnd::Expired { after: None }) => f.write_str("too few approved in time"),
            Self::Gate(GateEnd::TimeCame) => f.write_str("its time came"),
            Self::Kept(run) => write!(f, "kept from run {run}"),
            Self::Settled { by, decision, reason } => {
                let said = match decision {
                    Decision::Passed { .. } => "took effect",
                    Decision::Failed => "did not take effect",
                    Decision::Again => "is made again",
                };
                write!(f, "{by} decided that its lost attempt {said}")?;
                because(f, reason)
            }
            Self::Items { not_passed, of } => write!(f, "{not_passed} of {of} items did not pass"),
        }
    }
}

impl Run {
    /// Its steps, in the order of the plan; the items of a step stand behind it.
    pub fn steps(&self) -> impl Iterator<Item = StepView<'_>> {
        let of_plan = 0..self.plan.steps().len();
        of_plan.flat_map(|i| {
            std::iter::once(i).chain(self.nodes[i].items.iter().copied()).map(|i| self.view(i))
        })
    }

    /// The step called `id`, or one item of a step.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<StepView<'_>> {
        self.index_of(id).map(|i| self.view(i))
    }

    fn view(&self, i: usize) -> StepView<'_> {
        StepView { plan: self.planned(i), step: &self.nodes[i], outputs: self.outputs_of(i) }
    }

    /// One line for people: `outcome`, and the steps that made it so.
    pub(crate) fn summary(&self, outcome: RunOutcome) -> String {
        let blamed = match outcome {
            RunOutcome::Passed => return "passed".to_owned(),
            RunOutcome::Rejected => Outcome::Rejected,
            RunOutcome::Failed => Outcome::Failed,
            RunOutcome::Cancelled => Outcome::Cancelled,
        };
        if let Some(cancel) = self.cancel.as_ref().filter(|_| self.has_cancelled()) {
            match (&cancel.reason, outcome) {
                (_, RunOutcome::Cancelled) => {
                    return format!("{outcome} by {}: {}", cancel.by, cancel.reason);
                }
                (CancelReason::TimedOut { .. }, RunOutcome::Failed)
                | (CancelReason::Busy { .. }, RunOutcome::Rejected) => {
                    return format!("{outcome}: {}", cancel.reason);
                }
                // Steps that were stopped are not what made it end so.
                (
                    CancelReason::Asked { .. }
                    | CancelReason::TimedOut { .. }
                    | CancelReason::Superseded { .. }
                    | CancelReason::Busy { .. },
                    RunOutcome::Passed | RunOutcome::Rejected | RunOutcome::Failed,
                ) => {}
            }
        }
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
