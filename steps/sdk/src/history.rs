//! What the journal of a run says up to the moment in which an attempt begins: what provenance is made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Artifact, Digest, Image, RunId, StepId, Workspace};

/// What a run has done so far, as its journal has it. No secret is in it: journals hold none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The version of the engine that took the request.
    pub engine: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The name of its file.
    pub pipeline_file: String,
    /// The digest of that file.
    pub pipeline_digest: Digest,
    /// The digest of the plan that the run is pinned to.
    pub plan: Digest,
    /// When the run was asked for.
    pub requested_at: Timestamp,
    /// Who asked: a user, or the source of an event.
    pub requested_by: String,
    /// The event that started it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The parameters.
    pub params: Value,
    /// What it works on.
    pub workspace: Workspace,
    /// The commit that a local workspace says it has checked out. Whoever makes provenance fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_commit: Option<String>,
    /// The run that it makes again or takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginHistory>,
    /// How far the journal was.
    pub journal: JournalHead,
    /// Every step of the plan and their items, in its order.
    pub steps: Vec<StepHistory>,
}

/// The run that another one begins from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginHistory {
    /// The run.
    pub run: RunId,
    /// `retry` or `undo`.
    pub purpose: String,
}

/// How far a journal is: each record carries the hash of the one before it, so the last one's stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    /// How many records there are.
    pub records: u64,
    /// The hash of the last one.
    pub digest: Digest,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepHistory {
    /// Its name.
    pub id: StepId,
    /// The step kind, or the word for the gate that it is.
    pub kind: String,
    /// The version of the kind; empty for a gate.
    pub version: String,
    /// Where it is: `passed`, `running`, `waiting` and the like.
    pub status: String,
    /// Why it did not simply pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The digest of its rendered input, with the names of secrets in the places of their values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Digest>,
    /// Its attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptHistory>,
    /// Who let the run on here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The images in its outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// The documents in its outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Artifact>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptHistory {
    /// Counts from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How: `passed`, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}
