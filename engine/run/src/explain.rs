//! Why a run and its steps are where they are, and what would let them go on: told from the facts
//! alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use fairlead_plan::{Approval, Gate, Outcome, WaitFor};
use fairlead_step::{ErrorClass, RunId, StepId};
use jiff::Timestamp;
use serde::Serialize;

use crate::run::{State, Why};
use crate::{AttemptEnd, Ballot, Purpose, Run, RunStatus, Seq, SkipReason, Voter};

/// Why a step that nothing holds back has not begun.
const FREE: &str = "nothing holds it back: it begins when whoever drives the run has a slot for it";

/// What is known of a run besides its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// Whether a live process drives it.
    pub held: bool,
    /// Signals that wait for whoever drives it.
    pub signals: usize,
}

/// Why a run is where it is. Its JSON form says the same as its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The run.
    pub run: RunId,
    /// Where it is, in a word.
    pub status: &'static str,
    /// The reasons, a sentence each.
    pub why: Vec<String>,
    /// What would let it go on; any one of them.
    pub unblocks: Vec<Unblock>,
    /// What a person types for those of them that a person can bring about, or look into.
    pub commands: Vec<String>,
    /// Its steps, in the order of the plan.
    pub steps: Vec<StepExplanation>,
}

/// Why a step is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepExplanation {
    /// The step.
    pub step: StepId,
    /// Where it is, in a word.
    pub status: &'static str,
    /// The reasons, a sentence each.
    pub why: Vec<String>,
    /// What would let it go on; any one of them.
    pub unblocks: Vec<Unblock>,
    /// What a person types for those of them that a person can bring about, or look into.
    pub commands: Vec<String>,
}

/// Something that lets a run or a step go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Unblock {
    /// People approve.
    Approval {
        /// The gate.
        step: StepId,
        /// How many more.
        missing: usize,
        /// Users and groups of whom one comes next, or any may.
        from: Vec<String>,
    },
    /// A moment comes.
    Time {
        /// Which.
        at: Timestamp,
    },
    /// The answer of a step that asks again becomes yes.
    Evidence {
        /// The step.
        step: StepId,
        /// When it asks again at the latest.
        asks_at: Timestamp,
        /// From when on a "no" is final.
        deadline: Option<Timestamp>,
    },
    /// A person decides of a lost attempt.
    Settlement {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// Another step ends.
    StepEnds {
        /// Which.
        step: StepId,
    },
    /// Another run ends, or gives up its place.
    RunEnds {
        /// Which.
        run: RunId,
    },
    /// Any other run ends.
    AnyRunEnds,
    /// A process takes the run up.
    Resumption,
}

impl Unblock {
    /// What a person types to bring it about, where a person can.
    #[must_use]
    pub fn command(&self, run: &RunId) -> Option<String> {
        match self {
            Self::Approval { step, .. } => Some(format!("fairlead approve {run} {step}")),
            Self::Settlement { step, .. } => {
                Some(format!("fairlead settle {run} {step} --passed|--failed|--again"))
            }
            Self::Resumption => Some(format!("fairlead resume {run}")),
            Self::RunEnds { run } => Some(format!("fairlead explain {run}")),
            Self::Time { .. }
            | Self::Evidence { .. }
            | Self::StepEnds { .. }
            | Self::AnyRunEnds => None,
        }
    }
}

impl fmt::Display for Unblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { step, missing, from } => {
                match missing {
                    1 => write!(f, "one approval at `{step}`")?,
                    more => write!(f, "{more} approvals at `{step}`")?,
                }
                if from.is_empty() {
                    return f.write_str(", but nobody who is named may still give one");
                }
                write!(f, " by {}", from.join(" or "))
            }
            Self::Time { at } => write!(f, "the time {at}"),
            Self::Evidence { step, asks_at, deadline } => {
                write!(
                    f,
                    "a yes of `{step}`, which asks again at {asks_at} or at once when notified"
                )?;
                match deadline {
                    Some(deadline) => write!(f, ", until {deadline}"),
                    None => Ok(()),
                }
            }
            Self::Settlement { step, attempt } => {
                write!(f, "a decision whether attempt {attempt} of `{step}` took effect")
            }
            Self::StepEnds { step } => write!(f, "the end of `{step}`"),
            Self::RunEnds { run } => write!(f, "the end of run {run}"),
            Self::AnyRunEnds => f.write_str("the end of any run that goes on"),
            Self::Resumption => f.write_str("a process that takes the run up"),
        }
    }
}

impl Explanation {
    /// Says of steps that nothing holds back what keeps them from a machine, where somebody knows it.
    pub fn wait_for_machines(&mut self, why: &BTreeMap<StepId, String>) {
        for step in &mut self.steps {
            if let Some(why) = why.get(&step.step) {
                for reason in step.why.iter_mut().filter(|reason| *reason == FREE) {
                    *reason = format!("it waits for a machine: {why}");
                }
            }
        }
    }
}

impl Run {
    /// Why the run and each of its steps are where they are.
    #[must_use]
    pub fn explain(&self, around: Around) -> Explanation {
        let status = self.status();
        let steps: Vec<StepExplanation> =
            self.steps().filter_map(|step| self.explain_step(step.id())).collect();
        let (why, mut unblocks) = self.explain_run(status, around);
        if self.ended().is_none() && self.is_admitted() {
            // What lets a step go on lets the run go on, but for the end of another step.
            let others = steps.iter().flat_map(|step| &step.unblocks);
            let others = others.filter(|by| !matches!(by, Unblock::StepEnds { .. }));
            unblocks.extend(others.cloned());
        }
        let mut seen = HashSet::new();
        unblocks.retain(|by| seen.insert(by.clone()));
        let commands = self.to_type(&unblocks);
        let (run, status) = (self.id().clone(), status.name());
        Explanation { run, status, why, unblocks, commands, steps }
    }

    fn to_type(&self, unblocks: &[Unblock]) -> Vec<String> {
        unblocks.iter().filter_map(|by| by.command(self.id())).collect()
    }

    fn explain_run(&self, status: RunStatus, around: Around) -> (Vec<String>, Vec<Unblock>) {
        let (mut why, mut unblocks) = (Vec::new(), Vec::new());
        if let Some(origin) = &self.request().origin {
            why.push(match origin.purpose {
                Purpose::Retry => format!("it makes run {} again", origin.run),
                Purpose::Undo => format!("it takes back what run {} did", origin.run),
            });
        }
        if let Some(cancel) = self.cancellation() {
            why.push(format!("{} told it to stop at {}: {}", cancel.by, cancel.at, cancel.reason));
        }
        match status {
            RunStatus::Ended(outcome) => why.push(self.summary(outcome)),
            RunStatus::Queued => {
                let group = self.request().group.as_ref();
                why.push(match (group, self.queued()) {
                    (Some(group), _) => format!("it waits to be admitted in group `{group}`"),
                    (None, _) => "as many runs go on as may at a time".to_owned(),
                });
                match self.queued().and_then(|queue| queue.behind.clone()) {
                    Some(run) => {
                        why.push(format!("it stood behind run {run} when it began to wait"));
                        unblocks.push(Unblock::RunEnds { run });
                    }
                    None if self.queued().is_some() => unblocks.push(Unblock::AnyRunEnds),
                    None => unblocks.push(Unblock::Resumption),
                }
            }
            RunStatus::Running | RunStatus::Cancelling if self.seq() == Seq(1) && !around.held => {
                why.push("nobody has taken it up yet".to_owned());
                unblocks.push(Unblock::Resumption);
            }
            RunStatus::Running | RunStatus::Cancelling if !around.held => {
                why.push("nobody drives it: the process that did has ended".to_owned());
                unblocks.push(Unblock::Resumption);
            }
            RunStatus::Running | RunStatus::Cancelling => {
                why.push("a process drives it".to_owned());
            }
            RunStatus::Waiting => why.push("nothing is under way, and it only waits".to_owned()),
            RunStatus::NeedsAttention => {
                why.push("a person must decide of a lost attempt".to_owned());
            }
        }
        if around.signals > 0 && !around.held && self.ended().is_none() {
            let count = around.signals;
            why.push(format!(
                "{count} things that were said to it wait for whoever drives it next"
            ));
            unblocks.push(Unblock::Resumption);
        }
        if let (Some(deadline), None) = (self.deadline(), self.ended()) {
            why.push(format!("it is out of time at {deadline}, times of waiting not counted"));
        }
        (why, unblocks)
    }

    /// Why one step, or one item of a step, is where it is; none when there is no such step.
    #[must_use]
    pub fn explain_step(&self, step: &StepId) -> Option<StepExplanation> {
        let i = self.index_of(step)?;
        let status = self.step(step)?.status();
        let (mut why, mut unblocks) = (self.attempts_told(i), Vec::new());
        match &self.nodes[i].state {
            State::Waiting => self.waiting_told(i, &mut why, &mut unblocks),
            State::Items { left } => {
                let of = self.nodes[i].items.len();
                why.push(format!("{left} of its {of} items have not ended"));
                let open = self.nodes[i].items.iter().map(|&n| &self.nodes[n]);
                let open = open.filter(|node| node.state.ended().is_none());
                unblocks.extend(open.map(|node| Unblock::StepEnds { step: node.id.clone() }));
            }
            State::Open { due, ballots } => {
                self.gate_told(i, *due, ballots, &mut why, &mut unblocks);
            }
            State::Running { attempt, .. } => why.push(format!("attempt {attempt} is under way")),
            State::Lost { attempt } => why.push(format!("attempt {} follows", attempt + 1)),
            State::Failing { attempt, due } => {
                why.push(self.next_attempt_told(i, attempt + 1));
                unblocks.push(Unblock::Time { at: *due });
            }
            State::Backoff { attempt, due } => {
                why.push(self.next_attempt_told(i, *attempt));
                unblocks.push(Unblock::Time { at: *due });
            }
            State::Asking { due, .. } => {
                let first = self.nodes[i].attempts.first().map(|first| first.started_at);
                let wait = self.planned(i).wait.as_ref();
                let deadline = wait.zip(first).map(|(wait, first)| wait.deadline.after(first));
                why.push("the answer was no, and there is time to ask again".to_owned());
                let (step, asks_at) = (step.clone(), *due);
                unblocks.push(Unblock::Evidence { step, asks_at, deadline });
            }
            State::Attention { attempt, reason: _ } => {
                why.push(format!(
                    "`{}` must not be made twice: somebody has to look whether attempt {attempt} took \
                     effect",
                    self.planned(i).kind
                ));
                let (step, attempt) = (step.clone(), *attempt);
                unblocks.push(Unblock::Settlement { step, attempt });
            }
            State::Ended { why: Some(reason), .. } => why.push(self.end_told(i, reason)),
            State::Ended { why: None, .. } => {}
        }
        let commands = self.to_type(&unblocks);
        Some(StepExplanation { step: step.clone(), status: status.name(), why, unblocks, commands })
    }

    /// What became of the attempts, but for one that simply passed.
    fn attempts_told(&self, i: usize) -> Vec<String> {
        let attempts = self.nodes[i].attempts.iter();
        let last = attempts.len();
        let over = self.nodes[i].state.ended().is_some();
        attempts
            .filter_map(|attempt| {
                let (at, end) = attempt.ended.as_ref()?;
                let number = attempt.number;
                Some(match end {
                    AttemptEnd::Passed => return None,
                    AttemptEnd::CacheHit { run, key } => format!(
                        "the same went into a step of run {run}, whose result stands (key {key})"
                    ),
                    AttemptEnd::Failed(failure) => {
                        // What a failure means for the step depends on its `retry`, too.
                        let how = match failure.class {
                            ErrorClass::Cancelled => " because it was told to stop",
                            ErrorClass::Retryable | ErrorClass::Terminal
                                if over && number as usize == last =>
                            {
                                " for good"
                            }
                            ErrorClass::Retryable => " in passing",
                            ErrorClass::Terminal => "",
                        };
                        format!("attempt {number} failed{how} at {at}: {end}")
                    }
                    AttemptEnd::Rejected { .. } => {
                        format!("attempt {number} said no at {at}: {end}")
                    }
                    AttemptEnd::Skipped { .. } => {
                        format!("attempt {number} had nothing to do: {end}")
                    }
                    AttemptEnd::TimedOut { .. }
                    | AttemptEnd::Cancelled { .. }
                    | AttemptEnd::Lost { .. } => format!("attempt {number} ended at {at}: {end}"),
                })
            })
            .collect()
    }

    fn next_attempt_told(&self, i: usize, attempt: u32) -> String {
        let left = self.planned(i).retry.max.saturating_sub(self.nodes[i].failures);
        format!("attempt {attempt} follows; {left} more may after it")
    }

    fn waiting_told(&self, i: usize, why: &mut Vec<String>, unblocks: &mut Vec<Unblock>) {
        if !self.is_admitted() {
            why.push("the run waits to be admitted".to_owned());
            return;
        }
        let planned = self.planned(i);
        if let Some((group, _)) = self.nodes[i].item.as_ref() {
            let most = self.planned(*group).for_each.as_ref().and_then(|each| each.max_parallel);
            match (self.nodes[i].decided.is_some(), most) {
                (false, Some(most)) => {
                    why.push(format!("{most} other items of `{}` go on", self.nodes[*group].id));
                }
                (true, _) | (false, None) => why.push(FREE.to_owned()),
            }
            return;
        }
        let open: Vec<&StepId> = planned
            .needs
            .iter()
            .map(|need| &need.step)
            .filter(|need| !self.scope().outcomes.contains_key(*need))
            .collect();
        for step in &open {
            why.push(format!("it needs `{step}`, which has not ended"));
            unblocks.push(Unblock::StepEnds { step: (*step).clone() });
        }
        if !self.has_come(planned.phase) {
            why.push(format!("what stands under `{}` comes after the others", planned.phase.key()));
        } else if open.is_empty() {
            why.push(FREE.to_owned());
        }
    }

    fn gate_told(
        &self,
        i: usize,
        due: Option<Timestamp>,
        ballots: &[Ballot],
        why: &mut Vec<String>,
        unblocks: &mut Vec<Unblock>,
    ) {
        let step = self.name(i);
        match &self.planned(i).gate {
            Some(Gate::Approval(approval)) => {
                for ballot in ballots {
                    let reason = ballot.reason.as_ref().map(|reason| format!(": {reason}"));
                    let reason = reason.unwrap_or_default();
                    why.push(format!("{} approved at {}{reason}", ballot.by.name, ballot.at));
                }
                let missing = (approval.min as usize).saturating_sub(ballots.len());
                why.push(format!(
                    "{missing} of {} approvals are missing; a rejection ends it",
                    approval.min
                ));
                if approval.ordered {
                    why.push(format!("they come in this order: {}", approval.from.join(", ")));
                }
                if !approval.not.is_empty() {
                    let not: Vec<String> = approval.not.iter().map(ToString::to_string).collect();
                    why.push(format!("excluded are: {}", not.join(", ")));
                }
                if let Some(due) = due {
                    why.push(format!("it expires at {due}, which rejects"));
                }
                let from = self.may_still_approve(i, approval, ballots);
                unblocks.push(Unblock::Approval { step, missing, from });
            }
            Some(Gate::Wait(wait)) => {
                why.push(match wait {
                    WaitFor::Duration(wait) => format!("it lets {wait} pass"),
                    WaitFor::Until(text) => format!("it waits for a moment: {text}"),
                });
                unblocks.extend(due.map(|at| Unblock::Time { at }));
            }
            None => {}
        }
    }

    /// Who of `from` may approve now: the next one where they come in order; nobody who is known to be
    /// excluded, or has approved. Who is in a group is for whoever takes the vote to say.
    fn may_still_approve(&self, i: usize, approval: &Approval, ballots: &[Ballot]) -> Vec<String> {
        if approval.ordered {
            return approval.from.get(ballots.len()).cloned().into_iter().collect();
        }
        let may = |word: &&String| {
            let by = Voter { name: (*word).clone(), groups: BTreeSet::new() };
            self.excludes(i, approval, &by).is_none()
                && !ballots.iter().any(|ballot| ballot.by.name == by.name)
        };
        approval.from.iter().filter(may).cloned().collect()
    }

    fn end_told(&self, i: usize, reason: &Why) -> String {
        match reason {
            Why::Skipped(SkipReason::Condition) => {
                let when = self.planned(i).when().unwrap_or_default();
                format!("its `when` is false: {when}")
            }
            Why::Items { .. } => {
                let nodes = self.nodes[i].items.iter().map(|&n| &self.nodes[n]);
                let bad: Vec<String> = nodes
                    .filter_map(|node| match node.state.ended()?.0 {
                        Outcome::Passed | Outcome::Skipped => None,
                        outcome @ (Outcome::Rejected | Outcome::Failed | Outcome::Cancelled) => {
                            Some(format!("`{}` {outcome}", node.id))
                        }
                    })
                    .collect();
                format!("{reason}: {}", bad.join(", "))
            }
            Why::Skipped(SkipReason::Need { .. } | SkipReason::NotFor { .. })
            | Why::NotStarted(_)
            | Why::RunCancelled
            | Why::Undecided(_)
            | Why::LostForGood(_)
            | Why::TooOftenLost
            | Why::Gate(_)
            | Why::Kept(_)
            | Why::Settled { .. } => reason.to_string(),
        }
    }
}

impl StepExplanation {
    /// Whether there is anything to tell: a step that simply passed needs no words.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.why.is_empty() && self.unblocks.is_empty() && self.status == Outcome::Passed.name()
    }
}

impl fmt::Display for StepExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.step, self.status)?;
        self.why.iter().try_for_each(|why| write!(f, "\n    {why}"))?;
        self.unblocks.iter().try_for_each(|by| write!(f, "\n    goes on with: {by}"))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} is {}", self.run, self.status)?;
        self.why.iter().try_for_each(|why| write!(f, "\n  {why}"))?;
        for by in &self.unblocks {
            write!(f, "\n  goes on with: {by}")?;
            if let Some(command) = by.command(&self.run) {
                write!(f, " ({command})")?;
            }
        }
        let told = self.steps.iter().filter(|step| !step.is_plain());
        told.map(|step| format!("\n  {step}")).try_for_each(|text| f.write_str(&text))
    }
}
