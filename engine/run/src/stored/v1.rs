//! Version 1.

use std::path::PathBuf;

use fairlead_plan::{Outcome, RunOutcome};
use fairlead_step::{Digest, ErrorClass, HumanDuration, StepId, Verdict, Workspace};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AttemptToken, CancelReason, Epoch, Failure, Request, RunEvent, SkipReason, StepResult,
};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FactV1 {
    Requested {
        pipeline: String,
        plan: Digest,
        params: Value,
        event: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event_id: Option<String>,
        by: String,
        workspace: PathBuf,
        engine: String,
    },
    Resumed {
        epoch: u64,
    },
    Started {
        step: StepId,
        attempt: u32,
        token: String,
    },
    Finished {
        step: StepId,
        attempt: u32,
        token: String,
        result: ResultV1,
    },
    AttemptLost {
        step: StepId,
        attempt: u32,
        reason: String,
    },
    RetryScheduled {
        step: StepId,
        attempt: u32,
        due: Timestamp,
    },
    Skipped {
        step: StepId,
        reason: SkipV1,
    },
    NotStarted {
        step: StepId,
        failure: FailureV1,
    },
    CancelRequested {
        by: String,
        reason: CancelV1,
    },
    Ended {
        outcome: RunOutcomeV1,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ResultV1 {
    Passed { outputs: Value },
    Rejected { reason: String, outputs: Value },
    Skipped { reason: String },
    Failed { failure: FailureV1 },
    TimedOut { after: HumanDuration },
    Cancelled { message: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailureV1 {
    class: ClassV1,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClassV1 {
    Retryable,
    Terminal,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SkipV1 {
    Condition,
    Need { step: StepId, outcome: OutcomeV1, root: StepId, root_outcome: OutcomeV1 },
    NotFor { outcome: RunOutcomeV1 },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum CancelV1 {
    Asked {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    TimedOut {
        after: HumanDuration,
    },
}

/// Writes the pairs of an enum and its shadow once, for both directions.
macro_rules! shadow {
    ($domain:ident, $stored:ident { $($variant:ident),+ $(,)? }) => {
        impl From<$domain> for $stored {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }

        impl From<$stored> for $domain {
            fn from(value: $stored) -> Self {
                match value { $($stored::$variant => Self::$variant),+ }
            }
        }
    };
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutcomeV1 {
    Passed,
    Rejected,
    Skipped,
    Failed,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunOutcomeV1 {
    Passed,
    Rejected,
    Failed,
    Cancelled,
}

shadow!(Outcome, OutcomeV1 { Passed, Rejected, Skipped, Failed, Cancelled });
shadow!(RunOutcome, RunOutcomeV1 { Passed, Rejected, Failed, Cancelled });
shadow!(ErrorClass, ClassV1 { Retryable, Terminal, Cancelled });

impl From<&Failure> for FailureV1 {
    fn from(failure: &Failure) -> Self {
        Self {
            class: failure.class.into(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        }
    }
}

impl From<FailureV1> for Failure {
    fn from(stored: FailureV1) -> Self {
        Self { class: stored.class.into(), message: stored.message, hint: stored.hint }
    }
}

impl From<&StepResult> for ResultV1 {
    fn from(result: &StepResult) -> Self {
        match result {
            StepResult::Verdict(Verdict::Passed { outputs }) => {
                Self::Passed { outputs: outputs.clone() }
            }
            StepResult::Verdict(Verdict::Rejected { reason, outputs }) => {
                Self::Rejected { reason: reason.clone(), outputs: outputs.clone() }
            }
            StepResult::Verdict(Verdict::Skipped { reason }) => {
                Self::Skipped { reason: reason.clone() }
            }
            StepResult::Failure(failure) => Self::Failed { failure: failure.into() },
            StepResult::TimedOut { after } => Self::TimedOut { after: *after },
            StepResult::Cancelled { message } => Self::Cancelled { message: message.clone() },
        }
    }
}

impl From<ResultV1> for StepResult {
    fn from(stored: ResultV1) -> Self {
        match stored {
            ResultV1::Passed { outputs } => Self::Verdict(Verdict::Passed { outputs }),
            ResultV1::Rejected { reason, outputs } => {
                Self::Verdict(Verdict::Rejected { reason, outputs })
            }
            ResultV1::Skipped { reason } => Self::Verdict(Verdict::Skipped { reason }),
            ResultV1::Failed { failure } => Self::Failure(failure.into()),
            ResultV1::TimedOut { after } => Self::TimedOut { after },
            ResultV1::Cancelled { message } => Self::Cancelled { message },
        }
    }
}

impl From<&SkipReason> for SkipV1 {
    fn from(reason: &SkipReason) -> Self {
        match reason {
            SkipReason::Condition => Self::Condition,
            SkipReason::Need { step, outcome, root, root_outcome } => Self::Need {
                step: step.clone(),
                outcome: (*outcome).into(),
                root: root.clone(),
                root_outcome: (*root_outcome).into(),
            },
            SkipReason::NotFor { outcome } => Self::NotFor { outcome: (*outcome).into() },
        }
    }
}

impl From<SkipV1> for SkipReason {
    fn from(stored: SkipV1) -> Self {
        match stored {
            SkipV1::Condition => Self::Condition,
            SkipV1::Need { step, outcome, root, root_outcome } => Self::Need {
                step,
                outcome: outcome.into(),
                root,
                root_outcome: root_outcome.into(),
            },
            SkipV1::NotFor { outcome } => Self::NotFor { outcome: outcome.into() },
        }
    }
}

impl CancelV1 {
    fn of(reason: &CancelReason) -> Option<Self> {
        match reason {
            CancelReason::Asked { why } => Some(Self::Asked { text: why.clone() }),
            CancelReason::TimedOut { after } => Some(Self::TimedOut { after: *after }),
            CancelReason::Superseded { .. } | CancelReason::Busy { .. } => None,
        }
    }
}

impl From<CancelV1> for CancelReason {
    fn from(stored: CancelV1) -> Self {
        match stored {
            CancelV1::Asked { text } => Self::Asked { why: text },
            CancelV1::TimedOut { after } => Self::TimedOut { after },
        }
    }
}

/// The path of a workspace that is a folder of a machine: the versions before the fourth knew no other.
pub(super) fn local(workspace: Workspace) -> Option<PathBuf> {
    match workspace {
        Workspace::Local { path } => Some(path),
        Workspace::Empty {} | Workspace::Git(_) | Workspace::Archive { .. } => None,
    }
}

impl FactV1 {
    /// The stored form of a fact that this version can say.
    pub(super) fn of(event: &RunEvent) -> Option<Self> {
        Some(match event {
            RunEvent::Requested(request) => {
                let request = (**request).clone();
                let workspace = local(request.workspace)?;
                if request.group.is_some() || request.origin.is_some() {
                    return None;
                }
                Self::Requested {
                    pipeline: request.pipeline,
                    plan: request.plan,
                    params: request.params,
                    event: request.event,
                    event_id: request.event_id,
                    by: request.by,
                    workspace,
                    engine: request.engine,
                }
            }
            RunEvent::Resumed { epoch } => Self::Resumed { epoch: epoch.0 },
            RunEvent::Started { step, attempt, token, pool: None } => Self::Started {
                step: step.clone(),
                attempt: *attempt,
                token: token.as_str().to_owned(),
            },
            RunEvent::Finished { step, attempt, token, result } => Self::Finished {
                step: step.clone(),
                attempt: *attempt,
                token: token.as_str().to_owned(),
                result: result.into(),
            },
            RunEvent::AttemptLost { step, attempt, reason } => {
                Self::AttemptLost { step: step.clone(), attempt: *attempt, reason: reason.clone() }
            }
            RunEvent::RetryScheduled { step, attempt, due } => {
                Self::RetryScheduled { step: step.clone(), attempt: *attempt, due: *due }
            }
            RunEvent::Skipped { step, reason } => {
                Self::Skipped { step: step.clone(), reason: reason.into() }
            }
            RunEvent::NotStarted { step, failure } => {
                Self::NotStarted { step: step.clone(), failure: failure.into() }
            }
            RunEvent::CancelRequested { by, reason } => {
                Self::CancelRequested { by: by.clone(), reason: CancelV1::of(reason)? }
            }
            RunEvent::Ended { outcome } => Self::Ended { outcome: (*outcome).into() },
            RunEvent::Started { pool: Some(_), .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CacheHit { .. }
            | RunEvent::Abandoned { .. } => return None,
        })
    }
}

impl From<FactV1> for RunEvent {
    fn from(stored: FactV1) -> Self {
        match stored {
            FactV1::Requested {
                pipeline,
                plan,
                params,
                event,
                event_id,
                by,
                workspace,
                engine,
            } => Self::Requested(Box::new(Request {
                pipeline,
                plan,
                params,
                event,
                event_id,
                by,
                workspace: Workspace::Local { path: workspace },
                engine,
                group: None,
                origin: None,
            })),
            FactV1::Resumed { epoch } => Self::Resumed { epoch: Epoch(epoch) },
            FactV1::Started { step, attempt, token } => {
                Self::Started { step, attempt, token: AttemptToken::stored(token), pool: None }
            }
            FactV1::Finished { step, attempt, token, result } => Self::Finished {
                step,
                attempt,
                token: AttemptToken::stored(token),
                result: result.into(),
            },
            FactV1::AttemptLost { step, attempt, reason } => {
                Self::AttemptLost { step, attempt, reason }
            }
            FactV1::RetryScheduled { step, attempt, due } => {
                Self::RetryScheduled { step, attempt, due }
            }
            FactV1::Skipped { step, reason } => Self::Skipped { step, reason: reason.into() },
            FactV1::NotStarted { step, failure } => {
                Self::NotStarted { step, failure: failure.into() }
            }
            FactV1::CancelRequested { by, reason } => {
                Self::CancelRequested { by, reason: reason.into() }
            }
            FactV1::Ended { outcome } => Self::Ended { outcome: outcome.into() },
        }
    }
}
