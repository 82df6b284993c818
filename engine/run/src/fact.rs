//! The facts of a run, in the past tense: everything that a journal can say.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fairlead_plan::{Item, Outcome, RunOutcome};
use fairlead_step::{
    Digest, ErrorClass, HumanDuration, RunId, StepError, StepId, Verdict, Workspace,
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::Kept;

/// The place of a record within its run's journal. The first is 1; 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The place that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which holding of a run's lease this is. Each acquisition gets a higher one, so that a writer
/// that lost its lease without noticing cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells one attempt of a step from every other: a result must carry the token of the
/// attempt that is running, or it is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptToken(Box<str>);

impl AttemptToken {
    /// The token of an attempt that the holder of `epoch` starts. The epoch is part of it, so two
    /// writers that both believe in their lease never mint the same one.
    #[must_use]
    pub fn mint(run: &RunId, step: &StepId, attempt: u32, epoch: Epoch) -> Self {
        let digest = Digest::sha256(format!("{run}/{step}/{attempt}/{epoch}").as_bytes());
        Self(digest.hex()[..32].into())
    }

    /// A token as it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no token of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token of an attempt is 32 hex digits")]
pub struct TokenError;

impl FromStr for AttemptToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) {
            Ok(Self(text.into()))
        } else {
            Err(TokenError)
        }
    }
}

impl Serialize for AttemptToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AttemptToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What was asked for when a run was created.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The pipeline's name.
    pub pipeline: String,
    /// The digest of the stored plan that the run is pinned to.
    pub plan: Digest,
    /// The parameters, bound: every one of the plan has its value.
    pub params: Value,
    /// What expressions see as `event`; an empty object when no event started the run.
    pub event: Value,
    /// The id of the event that started the run, where one did.
    pub event_id: Option<String>,
    /// Who asked: a user, or the source of the event.
    pub by: String,
    /// What the run works on.
    pub workspace: Workspace,
    /// The version of the engine that took the request.
    pub engine: String,
    /// The concurrency group the run waits in, where its plan has one.
    pub group: Option<String>,
    /// The run that this one makes again or takes back, where it does.
    pub origin: Option<Origin>,
}

/// The run that another one begins from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// What is done about it.
    pub purpose: Purpose,
    /// The steps that are made again, with all that needs them; empty for a run that takes back.
    pub from: Vec<StepId>,
    /// How steps of that run ended, which stands for this one.
    pub kept: Vec<Kept>,
}

/// Why a run begins from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To make a part of it again.
    Retry,
    /// To take back what it did.
    Undo,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Retry => "retry",
            Self::Undo => "undo",
        })
    }
}

/// Somebody who votes or decides, as the one who took the vote knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voter {
    /// The user's name.
    pub name: String,
    /// The groups that the user was in then.
    pub groups: BTreeSet<String>,
}

impl Voter {
    /// Whether `word` names this user, or a group of theirs.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.name == word || self.groups.contains(word)
    }
}

/// What a voter says of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Let the run on.
    Approve,
    /// Stop it here. One is enough.
    Reject,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        })
    }
}

/// What a person decides of an attempt that must not be made twice, and whose end nobody saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It took effect.
    Passed {
        /// What the step would have given.
        outputs: Value,
    },
    /// It did not, and shall not.
    Failed,
    /// It did not; it is made again.
    Again,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed { .. } => "passed",
            Self::Failed => "failed",
            Self::Again => "again",
        })
    }
}

/// Why a step has no verdict, in the form that the journal keeps. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether trying again can help.
    pub class: ErrorClass,
    /// One line: the place and the cause.
    pub message: String,
    /// The way out, where one is known.
    pub hint: Option<String>,
}

impl From<&StepError> for Failure {
    fn from(error: &StepError) -> Self {
        Self {
            class: error.class(),
            message: error.chain(),
            hint: error.way_out().map(str::to_owned),
        }
    }
}

/// How one attempt of a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// With a verdict.
    Verdict(Verdict),
    /// With an error.
    Failure(Failure),
    /// It ran longer than it may, and was stopped.
    TimedOut {
        /// How long it was allowed.
        after: HumanDuration,
    },
    /// It was told to stop, and stopped.
    Cancelled {
        /// How: by itself, or by which signal.
        message: String,
    },
}

impl StepResult {
    /// The result that a step's answer stands for.
    #[must_use]
    pub fn of(answer: Result<Verdict, StepError>) -> Self {
        match answer {
            Ok(verdict) => Self::Verdict(verdict),
            Err(error) => match error.class() {
                ErrorClass::Retryable | ErrorClass::Terminal => Self::Failure((&error).into()),
                ErrorClass::Cancelled => Self::Cancelled { message: error.chain() },
            },
        }
    }
}

/// Why a step was not run although nothing failed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// Its `when` is false.
    Condition,
    /// A step that it needs ended in a way that it does not accept.
    Need {
        /// The step that it needs.
        step: StepId,
        /// How that one ended.
        outcome: Outcome,
        /// Where the trouble began; the same as `step` when that is the cause itself.
        root: StepId,
        /// How the root ended.
        root_outcome: Outcome,
    },
    /// It is a `finally` step for other outcomes than this run's.
    NotFor {
        /// How the main steps ended.
        outcome: RunOutcome,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition => f.write_str("its `when` is false"),
            Self::Need { step, outcome, root, root_outcome } if step == root => {
                let _ = root_outcome;
                write!(f, "`{step}` {}", past(*outcome))
            }
            Self::Need { step, outcome, root, root_outcome } => {
                write!(f, "`{step}` {}, because `{root}` {}", past(*outcome), past(*root_outcome))
            }
            Self::NotFor { outcome } => write!(f, "its `on` does not name `{outcome}`"),
        }
    }
}

fn past(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Rejected => "was rejected",
        Outcome::Skipped => "was skipped",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "was cancelled",
    }
}

/// Why a run was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelReason {
    /// Somebody asked.
    Asked {
        /// What they gave as the reason.
        why: Option<String>,
    },
    /// It ran longer than the pipeline's `timeout`.
    TimedOut {
        /// How long it was allowed.
        after: HumanDuration,
    },
    /// A later run of its group takes its place.
    Superseded {
        /// That run.
        by: RunId,
    },
    /// Its group had no room, and its pipeline does not wait.
    Busy {
        /// A run that holds the group.
        holder: RunId,
    },
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { why: Some(why) } => f.write_str(why),
            Self::Asked { why: None } => f.write_str("no reason was given"),
            Self::TimedOut { after } => write!(f, "it ran longer than {after}"),
            Self::Superseded { by } => write!(f, "run {by} takes its place"),
            Self::Busy { holder } => write!(f, "its group is held by run {holder}"),
        }
    }
}

/// One fact of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// The run was asked for. Always the first record, and never a later one.
    Requested(Box<Request>),
    /// A process took up a run that an earlier one had left unfinished.
    Resumed {
        /// The lease under which it goes on.
        epoch: Epoch,
    },
    /// The run waits to be admitted. Written once, when the first try found no room.
    Queued {
        /// The group; none when it is the limit of all runs that is reached.
        group: Option<String>,
        /// The run right before it: one that waits longer, or one that has the place.
        behind: Option<RunId>,
    },
    /// The run is admitted, and keeps it until it ends.
    Admitted,
    /// The items of a step are known.
    Expanded {
        /// The step.
        step: StepId,
        /// Its items, in order.
        items: Vec<Item>,
    },
    /// A gate is reached, and open.
    GateOpened {
        /// The step.
        step: StepId,
        /// When time decides.
        due: Option<Timestamp>,
    },
    /// Somebody voted at an open gate.
    Voted {
        /// The step.
        step: StepId,
        /// Who.
        by: Voter,
        /// What.
        vote: Vote,
        /// Why.
        reason: Option<String>,
    },
    /// The time of an open gate came: an approval has expired, a wait is over.
    GateDue {
        /// The step.
        step: StepId,
    },
    /// A step that asks again was notified: it asks now.
    Woken {
        /// The step.
        step: StepId,
        /// What happened.
        why: String,
    },
    /// A person decided of an attempt whose end nobody saw.
    Settled {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// Who.
        by: Voter,
        /// What.
        decision: Decision,
        /// Why.
        reason: Option<String>,
    },
    /// An attempt ended with the result of an earlier run, for the same went in.
    CacheHit {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// The token of that attempt.
        token: AttemptToken,
        /// The digest of all that went in.
        key: Digest,
        /// The run whose result it is.
        run: RunId,
        /// What that gave.
        outputs: Value,
    },
    /// An attempt of a step began.
    Started {
        /// The step.
        step: StepId,
        /// Counts from 1.
        attempt: u32,
        /// What its result must carry.
        token: AttemptToken,
        /// The pool whose runners make it; the process that began it where there is none, and where a
        /// build wrote this that did not say so.
        pool: Option<String>,
    },
    /// An attempt ended and its result was seen.
    Finished {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// The token of that attempt.
        token: AttemptToken,
        /// How it ended.
        result: StepResult,
    },
    /// An attempt began, and nobody can say how it ended.
    AttemptLost {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// What is known of why.
        reason: String,
    },
    /// The step will be tried again.
    RetryScheduled {
        /// The step.
        step: StepId,
        /// The attempt to come.
        attempt: u32,
        /// The earliest time for it.
        due: Timestamp,
    },
    /// The step was not run, and nothing failed in it.
    Skipped {
        /// The step.
        step: StepId,
        /// Why.
        reason: SkipReason,
    },
    /// The step failed before an attempt could begin: its `when` has no value.
    NotStarted {
        /// The step.
        step: StepId,
        /// What went wrong.
        failure: Failure,
    },
    /// The run was told to stop. The first request stops the main steps and lets `finally` run; one
    /// more, or one that finds the main steps ended, stops the `finally` steps as well.
    CancelRequested {
        /// Who asked.
        by: String,
        /// Why.
        reason: CancelReason,
    },
    /// A person ended a run that nothing else could end. The last record where it stands. Whatever had
    /// not ended then is cancelled.
    Abandoned {
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
        /// What kept the run from being driven, as the build that wrote this saw it.
        problem: Option<String>,
    },
    /// The run is over. The last record of every run that was not abandoned.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}

impl RunEvent {
    /// How the run ended, where this is the end of one.
    #[must_use]
    pub const fn ends_as(&self) -> Option<RunOutcome> {
        match self {
            Self::Ended { outcome } => Some(*outcome),
            Self::Abandoned { .. } => Some(RunOutcome::Cancelled),
            Self::Requested(_)
            | Self::Resumed { .. }
            | Self::Queued { .. }
            | Self::Admitted
            | Self::Expanded { .. }
            | Self::GateOpened { .. }
            | Self::Voted { .. }
            | Self::GateDue { .. }
            | Self::Woken { .. }
            | Self::Settled { .. }
            | Self::CacheHit { .. }
            | Self::Started { .. }
            | Self::Finished { .. }
            | Self::AttemptLost { .. }
            | Self::RetryScheduled { .. }
            | Self::Skipped { .. }
            | Self::NotStarted { .. }
            | Self::CancelRequested { .. } => None,
        }
    }
}
