//! Version 3: what versions 1 and 2 cannot say, and nothing else. Results that are kept are referred to,
//! and a run may be abandoned.

use std::path::PathBuf;

use fairlead_step::{Digest, RunId, StepId, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::v1::{OutcomeV1, local};
use super::v2::PurposeV2;
use crate::{Kept, KeptOutputs, Origin, Request, ResultRef, RunEvent, Seq};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FactV3 {
    Requested(Box<RequestedV3>),
    Abandoned {
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestedV3 {
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
    origin: OriginV3,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginV3 {
    run: RunId,
    purpose: PurposeV2,
    from: Vec<StepId>,
    kept: Vec<KeptV3>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptV3 {
    step: StepId,
    outcome: OutcomeV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<OutputsV3>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutputsV3 {
    Copied(Value),
    Result(ResultV3),
    Items(Vec<ItemV3>),
}

/// Stores find the runs that others refer to by the name and the form of `made_by`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultV3 {
    made_by: RunId,
    record: u64,
    attempt: u32,
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemV3 {
    key: String,
    outputs: OutputsV3,
}

impl From<KeptOutputs> for OutputsV3 {
    fn from(outputs: KeptOutputs) -> Self {
        match outputs {
            KeptOutputs::Copied(outputs) => Self::Copied(outputs),
            KeptOutputs::Result(ResultRef { run, record, attempt, digest }) => {
                Self::Result(ResultV3 { made_by: run, record: record.0, attempt, digest })
            }
            KeptOutputs::Items(items) => {
                let item = |(key, outputs)| ItemV3 { key, outputs: Self::from(outputs) };
                Self::Items(items.into_iter().map(item).collect())
            }
        }
    }
}

impl From<OutputsV3> for KeptOutputs {
    fn from(stored: OutputsV3) -> Self {
        match stored {
            OutputsV3::Copied(outputs) => Self::Copied(outputs),
            OutputsV3::Result(ResultV3 { made_by, record, attempt, digest }) => {
                Self::Result(ResultRef { run: made_by, record: Seq(record), attempt, digest })
            }
            OutputsV3::Items(items) => {
                let item = |ItemV3 { key, outputs }| (key, Self::from(outputs));
                Self::Items(items.into_iter().map(item).collect())
            }
        }
    }
}

impl From<Origin> for OriginV3 {
    fn from(origin: Origin) -> Self {
        let kept = origin.kept.into_iter().map(|kept| KeptV3 {
            step: kept.step,
            outcome: kept.outcome.into(),
            outputs: kept.outputs.map(OutputsV3::from),
        });
        let (purpose, kept) = (origin.purpose.into(), kept.collect());
        Self { run: origin.run, purpose, from: origin.from, kept }
    }
}

impl From<OriginV3> for Origin {
    fn from(stored: OriginV3) -> Self {
        let kept = stored.kept.into_iter().map(|kept| Kept {
            step: kept.step,
            outcome: kept.outcome.into(),
            outputs: kept.outputs.map(KeptOutputs::from),
        });
        let (purpose, kept) = (stored.purpose.into(), kept.collect());
        Self { run: stored.run, purpose, from: stored.from, kept }
    }
}

impl FactV3 {
    /// The stored form; nothing for a fact that another version has.
    pub(super) fn of(event: &RunEvent) -> Option<Self> {
        Some(match event.clone() {
            RunEvent::Requested(request) => Self::Requested(Box::new(RequestedV3 {
                workspace: local(request.workspace)?,
                pipeline: request.pipeline,
                plan: request.plan,
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                engine: request.engine,
                group: request.group,
                origin: request.origin?.into(),
            })),
            RunEvent::Abandoned { by, reason, problem } => Self::Abandoned { by, reason, problem },
            RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CacheHit { .. }
            | RunEvent::Started { .. }
            | RunEvent::Finished { .. }
            | RunEvent::AttemptLost { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Ended { .. } => return None,
        })
    }
}

impl From<FactV3> for RunEvent {
    fn from(stored: FactV3) -> Self {
        match stored {
            FactV3::Requested(request) => Self::Requested(Box::new(Request {
                pipeline: request.pipeline,
                plan: request.plan,
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                workspace: Workspace::Local { path: request.workspace },
                engine: request.engine,
                group: request.group,
                origin: Some(request.origin.into()),
            })),
            FactV3::Abandoned { by, reason, problem } => Self::Abandoned { by, reason, problem },
        }
    }
}
