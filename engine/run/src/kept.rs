//! Results that stand for a later run. A later run refers to them in the journal of the run that made
//! them: copied into its own first record, many of them together would be more than a record takes.

use std::collections::BTreeMap;

use fairlead_plan::Outcome;
use fairlead_step::{Digest, RunId, StepId, Verdict};
use serde_json::{Map, Value};

use crate::{Decision, Record, ReplayError, Request, RunEvent, Seq, StepResult};

/// A step that is not made again, because an earlier run made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The step, or one item of it.
    pub step: StepId,
    /// How it ended.
    pub outcome: Outcome,
    /// What it gave, where it gave something.
    pub outputs: Option<KeptOutputs>,
}

/// What a kept step gave, or where that stands.
#[derive(Debug, Clone, PartialEq)]
pub enum KeptOutputs {
    /// This. For what no attempt gave, such as the approvals of a gate; and of everything in records of
    /// version 2.
    Copied(Value),
    /// The result of an attempt.
    Result(ResultRef),
    /// What its items gave, each with its key, in their order.
    Items(Vec<(String, KeptOutputs)>),
}

/// The place of a result: the record in which an attempt of a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRef {
    /// The run that made it, and in whose journal it stands.
    pub run: RunId,
    /// The record there.
    pub record: Seq,
    /// The attempt that gave it.
    pub attempt: u32,
    /// The digest of the outputs.
    pub digest: Digest,
}

/// The records that a run refers to, of whichever runs made them.
pub type KeptRecords = BTreeMap<(RunId, Seq), Record>;

impl Request {
    /// The results of other runs that stand for this one. Whoever keeps the journal must keep these
    /// records as long.
    #[must_use]
    pub fn kept_results(&self) -> Vec<&ResultRef> {
        let mut found = Vec::new();
        let kept = self.origin.iter().flat_map(|origin| &origin.kept);
        kept.filter_map(|kept| kept.outputs.as_ref()).for_each(|outputs| outputs.refs(&mut found));
        found
    }
}

impl KeptOutputs {
    fn refs<'k>(&'k self, found: &mut Vec<&'k ResultRef>) {
        match self {
            Self::Copied(_) => {}
            Self::Result(result) => found.push(result),
            Self::Items(items) => items.iter().for_each(|(_, outputs)| outputs.refs(found)),
        }
    }

    /// What `step` gave, looked up in `records`.
    pub(crate) fn look_up(
        &self,
        step: &StepId,
        records: &KeptRecords,
    ) -> Result<Value, ReplayError> {
        match self {
            Self::Copied(outputs) => Ok(outputs.clone()),
            Self::Result(result) => result.look_up(step, records),
            Self::Items(items) => {
                let (mut list, mut by_key) = (Vec::new(), Map::new());
                for (key, outputs) in items {
                    let item = step.item(key).map_err(|error| ReplayError::Kept {
                        step: step.clone(),
                        problem: error.to_string(),
                    })?;
                    let outputs = outputs.look_up(&item, records)?;
                    list.push(outputs.clone());
                    by_key.insert(key.clone(), outputs);
                }
                Ok(outputs_of_items(list, by_key))
            }
        }
    }
}

impl ResultRef {
    /// A reference to `outputs`, which stand in this record.
    pub(crate) fn to(run: &RunId, record: Seq, attempt: u32, outputs: &Value) -> Self {
        let digest = Digest::sha256(outputs.to_string().as_bytes());
        Self { run: run.clone(), record, attempt, digest }
    }

    fn look_up(&self, step: &StepId, records: &KeptRecords) -> Result<Value, ReplayError> {
        let Self { run, record, attempt, digest } = self;
        let lost = |problem: String| ReplayError::Kept { step: step.clone(), problem };
        let found = records
            .get(&(run.clone(), *record))
            .ok_or_else(|| lost(format!("record {record} of run {run} is not there")))?;
        let outputs = outputs_in(found.event(), step, *attempt).ok_or_else(|| {
            lost(format!("record {record} of run {run} is not the end of attempt {attempt}"))
        })?;
        let is = Digest::sha256(outputs.to_string().as_bytes());
        if is == *digest {
            return Ok(outputs.clone());
        }
        Err(lost(format!("record {record} of run {run} holds {is}, not {digest}")))
    }
}

/// What a step with items gives.
pub(crate) fn outputs_of_items(list: Vec<Value>, by_key: Map<String, Value>) -> Value {
    serde_json::json!({ "items": list, "by_key": Value::Object(by_key) })
}

/// What an attempt gave, where `event` is its end and it gave something.
fn outputs_in<'e>(event: &'e RunEvent, of: &StepId, number: u32) -> Option<&'e Value> {
    match event {
        RunEvent::Finished { step, attempt, result, .. } if step == of && *attempt == number => {
            match result {
                StepResult::Verdict(
                    Verdict::Passed { outputs } | Verdict::Rejected { outputs, .. },
                ) => Some(outputs),
                StepResult::Verdict(Verdict::Skipped { .. })
                | StepResult::Failure(_)
                | StepResult::TimedOut { .. }
                | StepResult::Cancelled { .. } => None,
            }
        }
        RunEvent::CacheHit { step, attempt, outputs, .. } if step == of && *attempt == number => {
            Some(outputs)
        }
        RunEvent::Settled { step, attempt, decision: Decision::Passed { outputs }, .. }
            if step == of && *attempt == number =>
        {
            Some(outputs)
        }
        RunEvent::Finished { .. }
        | RunEvent::CacheHit { .. }
        | RunEvent::Settled { .. }
        | RunEvent::Requested(_)
        | RunEvent::Resumed { .. }
        | RunEvent::Queued { .. }
        | RunEvent::Admitted
        | RunEvent::Expanded { .. }
        | RunEvent::GateOpened { .. }
        | RunEvent::Voted { .. }
        | RunEvent::GateDue { .. }
        | RunEvent::Woken { .. }
        | RunEvent::Started { .. }
        | RunEvent::AttemptLost { .. }
        | RunEvent::RetryScheduled { .. }
        | RunEvent::Skipped { .. }
        | RunEvent::NotStarted { .. }
        | RunEvent::CancelRequested { .. }
        | RunEvent::Abandoned { .. }
        | RunEvent::Ended { .. } => None,
    }
}
