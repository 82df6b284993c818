//! The facts of a run, in the past tense: everything that a journal can say.

use std::fmt;
use std::path::PathBuf;

use fairlead_plan::{Outcome, RunOutcome};
use fairlead_step::{Digest, ErrorClass, HumanDuration, RunId, StepError, StepId, Verdict};
use jiff::Timestamp;
use serde_json::Value;

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
    /// The folder that relative paths in `with` start from.
    pub workspace: PathBuf,
    /// The version of the engine that took the request.
    pub engine: String,
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
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { why: Some(why) } => f.write_str(why),
            Self::Asked { why: None } => f.write_str("no reason was given"),
            Self::TimedOut { after } => write!(f, "it ran longer than {after}"),
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
    /// An attempt of a step began.
    Started {
        /// The step.
        step: StepId,
        /// Counts from 1.
        attempt: u32,
        /// What its result must carry.
        token: AttemptToken,
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
    /// The run is over. Always the last record.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}
