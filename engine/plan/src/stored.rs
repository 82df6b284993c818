//! The stored shape of a plan: a shadow with versions, so that old runs stay readable.

use std::collections::BTreeSet;

use fairlead_event::Triggers;
use fairlead_step::{Digest, Effect, HumanDuration, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Need, Params, Phase, Plan, PlanStep, Retry, RunOutcome};

/// A plan as it is stored. Versions are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum StoredPlan {
    /// Since 0.1.
    #[serde(rename = "fairlead.dev/plan/v1")]
    V1(PlanV1),
}

/// [`StoredPlan::V1`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanV1 {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    source_name: String,
    source_digest: Digest,
    #[serde(default)]
    on: Triggers,
    #[serde(default)]
    params: Params,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<HumanDuration>,
    steps: Vec<StepV1>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StepV1 {
    id: StepId,
    kind: String,
    kind_version: String,
    effect: Effect,
    phase: Phase,
    #[serde(default)]
    needs: Vec<Need>,
    retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<HumanDuration>,
    on: BTreeSet<RunOutcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    #[serde(default)]
    with: Value,
}

/// Why a stored plan is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored plan is damaged: {problem}")]
pub struct StoredPlanError {
    problem: String,
}

impl StoredPlan {
    /// JSON with sorted keys and no spaces: the bytes that [`Plan::digest`] hashes.
    pub(crate) fn canonical_json(&self) -> Vec<u8> {
        // A JSON value sorts the keys of every object, and this one has no keys but texts.
        serde_json::to_value(self).map(|value| value.to_string().into_bytes()).unwrap_or_default()
    }
}

impl From<Plan> for StoredPlan {
    fn from(plan: Plan) -> Self {
        let steps = plan
            .steps
            .into_iter()
            .map(|step| StepV1 {
                id: step.id,
                kind: step.kind,
                kind_version: step.kind_version,
                effect: step.effect,
                phase: step.phase,
                needs: step.needs,
                retry: step.retry,
                timeout: step.timeout,
                on: step.on,
                description: step.description,
                when: step.when,
                with: step.with,
            })
            .collect();
        Self::V1(PlanV1 {
            name: plan.name,
            description: plan.description,
            source_name: plan.source_name,
            source_digest: plan.source_digest,
            on: plan.triggers,
            params: plan.params,
            timeout: plan.timeout,
            steps,
        })
    }
}

impl TryFrom<StoredPlan> for Plan {
    type Error = StoredPlanError;

    /// Demands what every reader of a plan relies on: each name once, and each step behind the
    /// steps it needs.
    fn try_from(stored: StoredPlan) -> Result<Self, StoredPlanError> {
        let StoredPlan::V1(v1) = stored;
        let mut before = BTreeSet::new();
        let mut steps = Vec::with_capacity(v1.steps.len());
        for step in v1.steps {
            let fail = |problem: String| Err(StoredPlanError { problem });
            for need in &step.needs {
                if !before.contains(&need.step) {
                    return fail(format!(
                        "step `{}` stands before `{}`, which it needs",
                        step.id, need.step
                    ));
                }
            }
            if !before.insert(step.id.clone()) {
                return fail(format!("step `{}` stands twice", step.id));
            }
            steps.push(PlanStep {
                id: step.id,
                kind: step.kind,
                kind_version: step.kind_version,
                effect: step.effect,
                phase: step.phase,
                needs: step.needs,
                retry: step.retry,
                timeout: step.timeout,
                on: step.on,
                description: step.description,
                when: step.when,
                with: step.with,
            });
        }
        Ok(Self {
            name: v1.name,
            description: v1.description,
            source_name: v1.source_name,
            source_digest: v1.source_digest,
            triggers: v1.on,
            params: v1.params,
            timeout: v1.timeout,
            steps,
        })
    }
}
