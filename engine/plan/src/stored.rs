//! The stored shape of a plan: a shadow with versions, so that old runs stay readable.

use std::collections::BTreeSet;

use fairlead_event::{TriggerKind, Triggers};
use fairlead_step::{CheckoutOptions, Digest, Effect, HumanDuration, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::Steps;
use crate::spec::MAX_UNDO_NAME;
use crate::{
    AskAgain, Cache, Concurrency, ForEach, Gate, Need, Params, Phase, Placement, Plan, PlanStep,
    Retry, RunOutcome, Undo,
};

/// A plan as it is stored. Versions are added, never changed.
///
/// A plan is written in the oldest version that can say it: its digest does not depend on the build
/// that reads it back, and an older build still reads what it can act on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum StoredPlan {
    /// Since 0.1.
    #[serde(rename = "fairlead.dev/plan/v1")]
    V1(PlanV1),
    /// Since 0.2: gates, `for_each`, `wait`, `cache`, `on_undo` and what takes back, `on_failure`,
    /// `concurrency`.
    #[serde(rename = "fairlead.dev/plan/v2")]
    V2(PlanV2),
    /// Since 0.3: where attempts are made (`pool`, `labels`, `resources`), `vars`, what events give to
    /// parameters, and more of what starts a pipeline.
    #[serde(rename = "fairlead.dev/plan/v3")]
    V3(PlanV3),
    /// Since 0.3: how much of a commit is laid out (`workspace`).
    #[serde(rename = "fairlead.dev/plan/v4")]
    V4(PlanV4),
}

/// The format of a stored plan that a newer build wrote: its name is one of ours, and its version is not
/// known here.
#[must_use]
pub fn newer_format(stored: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let Head { format } = serde_json::from_slice(stored).ok()?;
    let version: u32 = format.strip_prefix("fairlead.dev/plan/v")?.parse().ok()?;
    (version > 4).then_some(format)
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

/// [`StoredPlan::V2`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanV2 {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<Concurrency>,
    steps: Vec<StepV2>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StepV2 {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_each: Option<ForEach>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<AskAgain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<Cache>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undo: Option<Undo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undoes: Option<StepId>,
}

/// [`StoredPlan::V3`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanV3 {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    source_name: String,
    source_digest: Digest,
    #[serde(default)]
    on: Triggers,
    #[serde(default)]
    params: Params,
    /// Each behind those that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vars: Vec<(String, Value)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<HumanDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<Concurrency>,
    steps: Vec<StepV3>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StepV3 {
    /// Everything that version 2 can say of it.
    step: StepV2,
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    placement: Placement,
}

/// [`StoredPlan::V4`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanV4 {
    /// Everything that version 3 can say of it.
    plan: PlanV3,
    #[serde(default, skip_serializing_if = "CheckoutOptions::is_default")]
    workspace: CheckoutOptions,
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

impl PlanV1 {
    /// The same plan in the next version.
    fn forward(self) -> PlanV2 {
        let step = |step: StepV1| StepV2 {
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
            gate: None,
            for_each: None,
            wait: None,
            cache: None,
            undo: None,
            undoes: None,
        };
        PlanV2 {
            name: self.name,
            description: self.description,
            source_name: self.source_name,
            source_digest: self.source_digest,
            on: self.on,
            params: self.params,
            timeout: self.timeout,
            concurrency: None,
            steps: self.steps.into_iter().map(step).collect(),
        }
    }
}

impl PlanV2 {
    /// The same plan in the next version.
    fn forward(self) -> PlanV3 {
        let step = |step| StepV3 { step, placement: Placement::default() };
        PlanV3 {
            name: self.name,
            description: self.description,
            source_name: self.source_name,
            source_digest: self.source_digest,
            on: self.on,
            params: self.params,
            vars: Vec::new(),
            timeout: self.timeout,
            concurrency: self.concurrency,
            steps: self.steps.into_iter().map(step).collect(),
        }
    }

    /// Whether version 1 can say it.
    fn fits_v1(&self) -> bool {
        self.concurrency.is_none()
            && self.steps.iter().all(|step| {
                step.phase != Phase::OnFailure
                    && step.gate.is_none()
                    && step.for_each.is_none()
                    && step.wait.is_none()
                    && step.cache.is_none()
                    && step.undo.is_none()
                    && step.undoes.is_none()
            })
    }

    /// The same plan in version 1, which can say it.
    fn back(self) -> PlanV1 {
        let step = |step: StepV2| StepV1 {
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
        };
        PlanV1 {
            name: self.name,
            description: self.description,
            source_name: self.source_name,
            source_digest: self.source_digest,
            on: self.on,
            params: self.params,
            timeout: self.timeout,
            steps: self.steps.into_iter().map(step).collect(),
        }
    }
}

impl PlanV3 {
    /// Whether version 2 can say it.
    fn fits_v2(&self) -> bool {
        self.vars.is_empty()
            && self.steps.iter().all(|step| step.placement.is_empty())
            && fits_v2(&self.on)
    }

    /// The same plan in version 2, which can say it.
    fn back(self) -> PlanV2 {
        PlanV2 {
            name: self.name,
            description: self.description,
            source_name: self.source_name,
            source_digest: self.source_digest,
            on: self.on,
            params: self.params,
            timeout: self.timeout,
            concurrency: self.concurrency,
            steps: self.steps.into_iter().map(|step| step.step).collect(),
        }
    }
}

/// Whether what starts a plan is as the builds that wrote version 2 knew it.
fn fits_v2(on: &Triggers) -> bool {
    let kinds = [TriggerKind::RegistryPush, TriggerKind::GitPush, TriggerKind::Manual];
    on.filters().all(|filter| kinds.contains(&filter.kind) && filter.params.is_empty())
        && on.manual.as_ref().is_none_or(|manual| manual.inputs.is_none())
}

impl From<Plan> for StoredPlan {
    fn from(plan: Plan) -> Self {
        let steps = plan
            .steps
            .into_list()
            .into_iter()
            .map(|step| StepV3 {
                placement: step.placement,
                step: StepV2 {
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
                    gate: step.gate,
                    for_each: step.for_each,
                    wait: step.wait,
                    cache: step.cache,
                    undo: step.undo,
                    undoes: step.undoes,
                },
            })
            .collect();
        let v3 = PlanV3 {
            name: plan.name,
            description: plan.description,
            source_name: plan.source_name,
            source_digest: plan.source_digest,
            on: plan.triggers,
            params: plan.params,
            vars: plan.vars,
            timeout: plan.timeout,
            concurrency: plan.concurrency,
            steps,
        };
        if !plan.checkout.is_default() {
            return Self::V4(PlanV4 { plan: v3, workspace: plan.checkout });
        }
        if !v3.fits_v2() {
            return Self::V3(v3);
        }
        let v2 = v3.back();
        if v2.fits_v1() { Self::V1(v2.back()) } else { Self::V2(v2) }
    }
}

impl TryFrom<StoredPlan> for Plan {
    type Error = StoredPlanError;

    /// Demands what every reader of a plan relies on: each name once, and each step behind the
    /// steps it needs.
    fn try_from(stored: StoredPlan) -> Result<Self, StoredPlanError> {
        let usual = CheckoutOptions::default();
        let (v3, checkout) = match stored {
            StoredPlan::V1(v1) => (v1.forward().forward(), usual),
            StoredPlan::V2(v2) => (v2.forward(), usual),
            StoredPlan::V3(v3) => (v3, usual),
            StoredPlan::V4(PlanV4 { plan, workspace }) => (plan, workspace),
        };
        let mut before = BTreeSet::new();
        let mut steps = Vec::with_capacity(v3.steps.len());
        for StepV3 { step, placement } in v3.steps {
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
            if step.undo.is_some() && step.id.as_str().len() > MAX_UNDO_NAME {
                return fail(format!("step `{}` has too long a name to be taken back", step.id));
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
                gate: step.gate,
                for_each: step.for_each,
                wait: step.wait,
                cache: step.cache,
                undo: step.undo,
                undoes: step.undoes,
                placement,
            });
        }
        Ok(Self {
            name: v3.name,
            description: v3.description,
            source_name: v3.source_name,
            source_digest: v3.source_digest,
            triggers: v3.on,
            params: v3.params,
            vars: v3.vars,
            timeout: v3.timeout,
            concurrency: v3.concurrency,
            checkout,
            steps: Steps::new(steps),
        })
    }
}
