//! Why a record is not taken in, and why a journal does not make a run.

use fairlead_plan::RunOutcome;
use fairlead_step::{Digest, StepId};

use crate::{ChainError, Seq};

/// Why a record was refused. The run is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It does not follow the last record.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded,
    /// A run is requested once.
    #[error("the run was requested before")]
    RequestedTwice,
    /// The plan has no such step.
    #[error("the plan has no step `{step}`")]
    NoSuchStep {
        /// What was named.
        step: StepId,
    },
    /// A step that it needs has not ended, or ended in a way that it does not accept.
    #[error("step `{step}` is not ready: what it needs has not ended as it must")]
    NotReady {
        /// The step.
        step: StepId,
    },
    /// An attempt is under way.
    #[error("step `{step}` is running")]
    Running {
        /// The step.
        step: StepId,
    },
    /// An attempt was made, so it is too late to skip or refuse the step.
    #[error("step `{step}` has begun")]
    Begun {
        /// The step.
        step: StepId,
    },
    /// No attempt was ever made.
    #[error("step `{step}` is not running")]
    NotRunning {
        /// The step.
        step: StepId,
    },
    /// The step has ended.
    #[error("step `{step}` has ended")]
    StepEnded {
        /// The step.
        step: StepId,
    },
    /// The result of an attempt that is not the one under way: late, repeated, or foreign.
    #[error("attempt {attempt} of step `{step}` is not the one that is running")]
    StaleResult {
        /// The step.
        step: StepId,
        /// The attempt that the result is of.
        attempt: u32,
    },
    /// Attempts are numbered without gaps.
    #[error("the next attempt of step `{step}` is {is}, not {said}")]
    OtherAttempt {
        /// The step.
        step: StepId,
        /// The number that is next.
        is: u32,
        /// The number that the record says.
        said: u32,
    },
    /// The step failed and waits for the time of its next attempt to be set.
    #[error("the next attempt of step `{step}` has no time yet")]
    NoRetryTime {
        /// The step.
        step: StepId,
    },
    /// The step has not failed, or its next attempt has its time already.
    #[error("step `{step}` has nothing to retry")]
    NothingToRetry {
        /// The step.
        step: StepId,
    },
    /// The reason to skip it does not hold.
    #[error("the reason to skip step `{step}` does not hold")]
    NoReasonToSkip {
        /// The step.
        step: StepId,
    },
    /// A gate, or a step with items, has no attempts of its own.
    #[error("step `{step}` has no attempts of its own")]
    NoAttempts {
        /// The step.
        step: StepId,
    },
    /// A person must decide of its last attempt first.
    #[error("step `{step}` waits for a decision about its last attempt")]
    Undecided {
        /// The step.
        step: StepId,
    },
    /// No attempt of it waits for a decision.
    #[error("step `{step}` has no attempt that waits for a decision")]
    NothingToSettle {
        /// The step.
        step: StepId,
    },
    /// The items are no items.
    #[error("the items of step `{step}` cannot be made: {problem}")]
    BadItems {
        /// The step.
        step: StepId,
        /// What is wrong.
        problem: String,
    },
    /// It is no gate, or not one where people vote.
    #[error("step `{step}` is not a gate at which one votes")]
    NoGate {
        /// The step.
        step: StepId,
    },
    /// What it needs has not ended.
    #[error("gate `{step}` is not open yet")]
    GateNotOpen {
        /// The step.
        step: StepId,
    },
    /// The voter has no say at this gate, or not now.
    #[error("{by} cannot vote at gate `{step}`: {why}")]
    MayNotVote {
        /// The step.
        step: StepId,
        /// The voter.
        by: String,
        /// Why not.
        why: String,
    },
    /// It does not ask again.
    #[error("step `{step}` is not waiting for a notification")]
    NotAsking {
        /// The step.
        step: StepId,
    },
    /// The run waits to be admitted.
    #[error("the run is not admitted yet")]
    NotAdmitted,
    /// The run need not, or need no longer, wait to be admitted.
    #[error("the run is admitted")]
    AlreadyAdmitted,
    /// Everything that can be stopped is stopping.
    #[error("the run is being cancelled")]
    CancelledAlready,
    /// A run ends after its steps.
    #[error("the run has steps that have not ended")]
    StepsLeft,
    /// The steps make it end otherwise.
    #[error("the steps make the run end as {is}, not as {said}")]
    OtherOutcome {
        /// How it ends.
        is: RunOutcome,
        /// What the record says.
        said: RunOutcome,
    },
}

/// Why a journal does not make a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It has no record.
    #[error("the journal is empty")]
    Empty,
    /// It does not begin with the request.
    #[error("the journal does not begin with the request for a run")]
    NoRequest,
    /// The plan is not the one that the run is pinned to.
    #[error("the run is pinned to plan {pinned}, and was given {given}")]
    OtherPlan {
        /// What the first record names.
        pinned: Digest,
        /// The digest of what was given.
        given: Digest,
    },
    /// The stored plan cannot be read.
    #[error("the stored plan cannot be read")]
    Plan(#[source] serde_json::Error),
    /// The stored plan was written by a newer build.
    #[error(
        "the stored plan has the format `{format}`: a newer build of Fairlead wrote it, and reads it"
    )]
    NewerPlan {
        /// The format.
        format: String,
    },
    /// The plan has a step that can never be reached.
    #[error("step `{step}` needs `{need}`, which does not come before it")]
    BadNeed {
        /// The step.
        step: StepId,
        /// What it needs.
        need: StepId,
    },
    /// A result of another run, which stands for this one, is not what the request says.
    #[error("what `{step}` gave is kept from another run, and cannot be read there: {problem}")]
    Kept {
        /// The step, or one item of it.
        step: StepId,
        /// What is wrong.
        problem: String,
    },
    /// A record does not follow, or speaks of what cannot have happened.
    #[error("record {seq} cannot follow the records before it")]
    Impossible {
        /// The record.
        seq: Seq,
        /// Why.
        #[source]
        source: ApplyError,
    },
}
