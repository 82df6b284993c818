//! Version 2: what version 1 cannot say, and nothing else.

use std::collections::BTreeSet;
use std::path::PathBuf;

use fairlead_plan::Item;
use fairlead_step::{Digest, HumanDuration, RunId, StepId, Workspace};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::v1::{OutcomeV1, local};
use crate::{
    AttemptToken, CancelReason, Decision, Kept, KeptOutputs, Origin, Purpose, Request, RunEvent,
    Vote, Voter,
};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FactV2 {
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<OriginV2>,
    },
    Queued {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<RunId>,
    },
    Admitted {},
    Expanded {
        step: StepId,
        items: Vec<ItemV2>,
    },
    GateOpened {
        step: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
    },
    Voted {
        vote: VotedV2,
    },
    GateDue {
        step: StepId,
    },
    Woken {
        step: StepId,
        why: String,
    },
    Settled {
        settled: SettledV2,
    },
    Remembered {
        step: StepId,
        attempt: u32,
        token: String,
        key: Digest,
        run: RunId,
        outputs: Value,
    },
    CancelRequested {
        by: String,
        reason: CancelV2,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginV2 {
    run: RunId,
    purpose: PurposeV2,
    from: Vec<StepId>,
    kept: Vec<KeptV2>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PurposeV2 {
    Retry,
    Undo,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptV2 {
    step: StepId,
    outcome: OutcomeV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemV2 {
    key: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VoterV2 {
    name: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VoteV2 {
    Approve,
    Reject,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VotedV2 {
    step: StepId,
    by: VoterV2,
    vote: VoteV2,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum DecisionV2 {
    Passed { outputs: Value },
    Failed {},
    Again {},
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettledV2 {
    step: StepId,
    attempt: u32,
    by: VoterV2,
    decision: DecisionV2,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Every reason there is; a signal may carry those of version 1, too.
#[derive(Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CancelV2 {
    Asked {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    TimedOut {
        after: HumanDuration,
    },
    Superseded {
        by: RunId,
    },
    Busy {
        holder: RunId,
    },
}

impl From<Voter> for VoterV2 {
    fn from(voter: Voter) -> Self {
        Self { name: voter.name, groups: voter.groups }
    }
}

impl From<VoterV2> for Voter {
    fn from(stored: VoterV2) -> Self {
        Self { name: stored.name, groups: stored.groups }
    }
}

impl VotedV2 {
    pub(crate) fn new(step: StepId, by: Voter, vote: Vote, reason: Option<String>) -> Self {
        let vote = match vote {
            Vote::Approve => VoteV2::Approve,
            Vote::Reject => VoteV2::Reject,
        };
        Self { step, by: by.into(), vote, reason }
    }

    pub(crate) fn parts(self) -> (StepId, Voter, Vote, Option<String>) {
        let vote = match self.vote {
            VoteV2::Approve => Vote::Approve,
            VoteV2::Reject => Vote::Reject,
        };
        (self.step, self.by.into(), vote, self.reason)
    }
}

impl SettledV2 {
    pub(crate) fn new(
        step: StepId,
        attempt: u32,
        by: Voter,
        decision: Decision,
        reason: Option<String>,
    ) -> Self {
        let decision = match decision {
            Decision::Passed { outputs } => DecisionV2::Passed { outputs },
            Decision::Failed => DecisionV2::Failed {},
            Decision::Again => DecisionV2::Again {},
        };
        Self { step, attempt, by: by.into(), decision, reason }
    }

    pub(crate) fn parts(self) -> (StepId, u32, Voter, Decision, Option<String>) {
        let decision = match self.decision {
            DecisionV2::Passed { outputs } => Decision::Passed { outputs },
            DecisionV2::Failed {} => Decision::Failed,
            DecisionV2::Again {} => Decision::Again,
        };
        (self.step, self.attempt, self.by.into(), decision, self.reason)
    }
}

impl From<&CancelReason> for CancelV2 {
    fn from(reason: &CancelReason) -> Self {
        match reason {
            CancelReason::Asked { why } => Self::Asked { text: why.clone() },
            CancelReason::TimedOut { after } => Self::TimedOut { after: *after },
            CancelReason::Superseded { by } => Self::Superseded { by: by.clone() },
            CancelReason::Busy { holder } => Self::Busy { holder: holder.clone() },
        }
    }
}

impl From<CancelV2> for CancelReason {
    fn from(stored: CancelV2) -> Self {
        match stored {
            CancelV2::Asked { text } => Self::Asked { why: text },
            CancelV2::TimedOut { after } => Self::TimedOut { after },
            CancelV2::Superseded { by } => Self::Superseded { by },
            CancelV2::Busy { holder } => Self::Busy { holder },
        }
    }
}

impl From<Purpose> for PurposeV2 {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Retry => Self::Retry,
            Purpose::Undo => Self::Undo,
        }
    }
}

impl From<PurposeV2> for Purpose {
    fn from(stored: PurposeV2) -> Self {
        match stored {
            PurposeV2::Retry => Self::Retry,
            PurposeV2::Undo => Self::Undo,
        }
    }
}

impl OriginV2 {
    /// The stored form of an origin that refers to nothing.
    fn of(origin: Origin) -> Option<Self> {
        let kept = origin.kept.into_iter().map(|kept| {
            let outputs = match kept.outputs {
                None => None,
                Some(KeptOutputs::Copied(outputs)) => Some(outputs),
                Some(KeptOutputs::Result(_) | KeptOutputs::Items(_)) => return None,
            };
            Some(KeptV2 { step: kept.step, outcome: kept.outcome.into(), outputs })
        });
        let (purpose, kept) = (origin.purpose.into(), kept.collect::<Option<_>>()?);
        Some(Self { run: origin.run, purpose, from: origin.from, kept })
    }
}

impl From<OriginV2> for Origin {
    fn from(stored: OriginV2) -> Self {
        let kept = stored.kept.into_iter().map(|kept| Kept {
            step: kept.step,
            outcome: kept.outcome.into(),
            outputs: kept.outputs.map(KeptOutputs::Copied),
        });
        let (purpose, kept) = (stored.purpose.into(), kept.collect());
        Self { run: stored.run, purpose, from: stored.from, kept }
    }
}

impl FactV2 {
    /// The stored form; nothing for a fact that version 1 has, or that only a later one can say.
    pub(super) fn of(event: &RunEvent) -> Option<Self> {
        Some(match event.clone() {
            RunEvent::Requested(request) => Self::Requested {
                workspace: local(request.workspace)?,
                pipeline: request.pipeline,
                plan: request.plan,
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                engine: request.engine,
                group: request.group,
                origin: match request.origin {
                    Some(origin) => Some(OriginV2::of(origin)?),
                    None => None,
                },
            },
            RunEvent::Queued { group, behind } => Self::Queued { group, behind },
            RunEvent::Admitted => Self::Admitted {},
            RunEvent::Expanded { step, items } => {
                let items = items.into_iter().map(|Item { key, value }| ItemV2 { key, value });
                Self::Expanded { step, items: items.collect() }
            }
            RunEvent::GateOpened { step, due } => Self::GateOpened { step, due },
            RunEvent::Voted { step, by, vote, reason } => {
                Self::Voted { vote: VotedV2::new(step, by, vote, reason) }
            }
            RunEvent::GateDue { step } => Self::GateDue { step },
            RunEvent::Woken { step, why } => Self::Woken { step, why },
            RunEvent::Settled { step, attempt, by, decision, reason } => {
                Self::Settled { settled: SettledV2::new(step, attempt, by, decision, reason) }
            }
            RunEvent::CacheHit { step, attempt, token, key, run, outputs } => Self::Remembered {
                step,
                attempt,
                token: token.as_str().to_owned(),
                key,
                run,
                outputs,
            },
            RunEvent::CancelRequested { by, reason } => {
                Self::CancelRequested { by, reason: (&reason).into() }
            }
            RunEvent::Resumed { .. }
            | RunEvent::Started { .. }
            | RunEvent::Finished { .. }
            | RunEvent::AttemptLost { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => return None,
        })
    }
}

impl From<FactV2> for RunEvent {
    fn from(stored: FactV2) -> Self {
        match stored {
            FactV2::Requested {
                pipeline,
                plan,
                params,
                event,
                event_id,
                by,
                workspace,
                engine,
                group,
                origin,
            } => Self::Requested(Box::new(Request {
                pipeline,
                plan,
                params,
                event,
                event_id,
                by,
                workspace: Workspace::Local { path: workspace },
                engine,
                group,
                origin: origin.map(Origin::from),
            })),
            FactV2::Queued { group, behind } => Self::Queued { group, behind },
            FactV2::Admitted {} => Self::Admitted,
            FactV2::Expanded { step, items } => {
                let items = items.into_iter().map(|ItemV2 { key, value }| Item { key, value });
                Self::Expanded { step, items: items.collect() }
            }
            FactV2::GateOpened { step, due } => Self::GateOpened { step, due },
            FactV2::Voted { vote } => {
                let (step, by, vote, reason) = vote.parts();
                Self::Voted { step, by, vote, reason }
            }
            FactV2::GateDue { step } => Self::GateDue { step },
            FactV2::Woken { step, why } => Self::Woken { step, why },
            FactV2::Settled { settled } => {
                let (step, attempt, by, decision, reason) = settled.parts();
                Self::Settled { step, attempt, by, decision, reason }
            }
            FactV2::Remembered { step, attempt, token, key, run, outputs } => Self::CacheHit {
                step,
                attempt,
                token: AttemptToken::stored(token),
                key,
                run,
                outputs,
            },
            FactV2::CancelRequested { by, reason } => {
                Self::CancelRequested { by, reason: reason.into() }
            }
        }
    }
}
