//! The plan: a pipeline that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use fairlead_event::Triggers;
use fairlead_step::{Catalog, CheckoutOptions, Digest, Effect, HumanDuration, Step, StepId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::template::{self, Seen};
use crate::{
    AskAgain, Cache, Concurrency, ForEach, Gate, Item, Outcome, ParamProblem, Params, Phase,
    Placement, RenderError, RenderedInput, Retry, RunOutcome, Scope, StoredPlan, Undo,
};

/// A compiled pipeline. Immutable; a run pins it, so recovery never meets another graph.
///
/// Serializes through [`StoredPlan`], which has versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredPlan", into = "StoredPlan")]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) source_name: String,
    pub(crate) source_digest: Digest,
    pub(crate) triggers: Triggers,
    pub(crate) params: Params,
    /// The values that the file names, each behind those that it reads.
    pub(crate) vars: Vec<(String, Value)>,
    pub(crate) timeout: Option<HumanDuration>,
    pub(crate) concurrency: Option<Concurrency>,
    pub(crate) checkout: CheckoutOptions,
    pub(crate) steps: Steps,
}

/// The steps of a plan, found by name without a walk along all of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Steps {
    list: Vec<PlanStep>,
    /// Places in the list, in the order of the names.
    by_name: Vec<usize>,
}

impl Steps {
    /// Steps in topological order, no two with one name.
    pub(crate) fn new(list: Vec<PlanStep>) -> Self {
        let mut by_name: Vec<usize> = (0..list.len()).collect();
        by_name.sort_unstable_by(|a, b| list[*a].id.cmp(&list[*b].id));
        Self { list, by_name }
    }

    pub(crate) fn into_list(self) -> Vec<PlanStep> {
        self.list
    }

    fn place(&self, id: &StepId) -> Option<usize> {
        let found = self.by_name.binary_search_by(|at| self.list[*at].id.cmp(id)).ok()?;
        Some(self.by_name[found])
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanStep {
    /// Its name.
    pub id: StepId,
    /// The step kind behind `uses`, or the word for the gate.
    pub kind: String,
    /// The version of the kind when the plan was made; empty for a gate.
    pub kind_version: String,
    /// What becomes of a lost attempt.
    pub effect: Effect,
    /// When it runs.
    pub phase: Phase,
    /// The steps it waits for, in the order of the plan, each once.
    pub needs: Vec<Need>,
    /// How often it is tried again.
    pub retry: Retry,
    /// How long one attempt may take.
    pub timeout: Option<HumanDuration>,
    /// For a step that is not a main one: the outcomes of the main steps for which it runs. All of
    /// them for a main step.
    pub on: BTreeSet<RunOutcome>,
    /// The gate that it is, in the place of a kind.
    pub gate: Option<Gate>,
    /// The items it is made for, when it is made more than once.
    pub for_each: Option<ForEach>,
    /// How long and how often it asks again while its kind rejects.
    pub wait: Option<AskAgain>,
    /// Whether its results are cached; for kinds that are pure.
    pub cache: Option<Cache>,
    /// How it is taken back.
    pub undo: Option<Undo>,
    /// The step of another plan that it takes back: see [`Plan::undo`].
    pub undoes: Option<StepId>,
    /// Where its attempts are made, and how much each may take.
    pub placement: Placement,
    /// One line for people.
    pub description: Option<String>,
    pub(crate) when: Option<String>,
    pub(crate) with: Value,
}

/// An edge: a step waits until another one has ended, and runs only if it ended so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The step waited for.
    pub step: StepId,
    /// The outcomes with which this step may run; otherwise it is skipped.
    pub outcomes: BTreeSet<Outcome>,
    /// What drew the edge.
    pub from: NeedFrom,
}

/// What drew an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedFrom {
    /// It is written under `needs`.
    Explicit,
    /// An expression reads the step.
    Reference,
}

impl Plan {
    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// What the file was called when it was compiled.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// The digest of the file's bytes.
    #[must_use]
    pub const fn source_digest(&self) -> &Digest {
        &self.source_digest
    }

    /// The digest of the stored plan's canonical JSON: the identity of the graph a run is pinned to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::sha256(&StoredPlan::from(self.clone()).canonical_json())
    }

    /// What starts the pipeline.
    #[must_use]
    pub const fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// The parameters.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// What expressions see when a run is asked for with these parameters, as [`Plan::bind`] answered
    /// them, and this event: no step has run. The values that the file names are made here; one that
    /// cannot be made is left out, and those that read it.
    #[must_use]
    pub fn scope(&self, params: &Value, event: &Value) -> Scope {
        self.early_scope(params, event).0
    }

    /// The same, where every value must be there.
    ///
    /// # Errors
    /// When a value that the file names cannot be made.
    pub fn whole_scope(&self, params: &Value, event: &Value) -> Result<Scope, RenderError> {
        let (scope, failed) = self.early_scope(params, event);
        failed.map_or(Ok(scope), Err)
    }

    fn early_scope(&self, params: &Value, event: &Value) -> (Scope, Option<RenderError>) {
        let event = if event.is_null() { Value::Object(Map::new()) } else { event.clone() };
        let params = self.params.seen(params);
        let mut scope = Scope { params, event, ..Scope::default() };
        let mut failed = None;
        for (name, value) in &self.vars {
            match template::render(&format!("vars.{name}"), value, (&scope).into()) {
                Ok(made) => {
                    if let Value::Object(vars) = &mut scope.vars {
                        vars.insert(name.clone(), made.display().clone());
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        (scope, failed)
    }

    /// The names of the values that the file names, each behind those that it reads.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.vars.iter().map(|(name, _)| name.as_str())
    }

    /// How long a run may take.
    #[must_use]
    pub const fn timeout(&self) -> Option<HumanDuration> {
        self.timeout
    }

    /// Which runs must not go on at the same time.
    #[must_use]
    pub const fn concurrency(&self) -> Option<&Concurrency> {
        self.concurrency.as_ref()
    }

    /// How much of a commit is laid out for a run, where an event brings one.
    #[must_use]
    pub const fn checkout(&self) -> &CheckoutOptions {
        &self.checkout
    }

    /// The steps in topological order, otherwise in the order of the file; by phase, finally last.
    #[must_use]
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps.list
    }

    /// The step called `id`.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlanStep> {
        self.steps.place(id).map(|at| &self.steps.list[at])
    }

    /// `step` and every step that waits for it, directly or through others: what is made again when
    /// it is. In the order of the plan, `step` first; empty when the plan does not have it.
    ///
    /// Every step of a later phase is among them: it waits for all steps of the phases before its own,
    /// and may look at how the run went. An item, as in `scan[web]`, stands for its step.
    #[must_use]
    pub fn dependents_of(&self, step: &StepId) -> Vec<StepId> {
        let whole = step.parts().0.parse::<StepId>().ok();
        let Some(first) = whole.and_then(|id| self.steps.place(&id)) else { return Vec::new() };
        let list = &self.steps.list;
        // Each step stands behind those that it needs, so that one walk finds them all.
        let mut waits: HashSet<&StepId> = HashSet::from([&list[first].id]);
        for later in &list[first + 1..] {
            let over = later.phase > list[first].phase;
            if over || later.needs.iter().any(|need| waits.contains(&need.step)) {
                waits.insert(&later.id);
            }
        }
        let found = list.iter().map(|step| &step.id).filter(|id| waits.contains(id));
        found.cloned().collect()
    }

    /// Whether step `id` is the same in `other`, so that what it gave under one plan may stand under
    /// the other: its kind in the same version, its inputs, what it needs and how that must end, its
    /// condition, its phase, its gate, and the list that it is made for.
    ///
    /// What says only how hard it is tried (`retry`, `timeout`, `wait`, `cache`, `max_parallel`), on
    /// which machine, how it is taken back, and its description may differ. So may the steps that it needs: whether
    /// those are the same is theirs to say.
    #[must_use]
    pub fn same_step(&self, other: &Self, id: &StepId) -> bool {
        let (Some(a), Some(b)) = (self.step(id), other.step(id)) else { return false };
        let list = |step: &PlanStep| {
            step.for_each.as_ref().map(|each| (each.items.clone(), each.key.clone()))
        };
        fn needs(step: &PlanStep) -> BTreeMap<&StepId, &BTreeSet<Outcome>> {
            step.needs.iter().map(|need| (&need.step, &need.outcomes)).collect()
        }
        (&a.kind, &a.kind_version, &a.with, &a.when) == (&b.kind, &b.kind_version, &b.with, &b.when)
            && (a.phase, &a.on, &a.gate) == (b.phase, &b.on, &b.gate)
            && needs(a) == needs(b)
            && list(a) == list(b)
            && a.undoes == b.undoes
    }

    /// The name of every secret that some step reads.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<String> {
        self.secrets_of(|_| true)
    }

    /// The name of every secret that some of these steps reads.
    #[must_use]
    pub fn secrets_of(&self, which: impl Fn(&PlanStep) -> bool) -> BTreeSet<String> {
        let undo = |step: &PlanStep| step.undo.as_ref().map(|undo| template::secrets(&undo.with));
        let steps = self.steps().iter().filter(|step| which(step));
        steps
            .flat_map(|step| {
                template::secrets(&step.with).into_iter().chain(undo(step).into_iter().flatten())
            })
            .collect()
    }

    /// The names of the secrets that steps read which may run, as far as that is known before they do.
    #[must_use]
    pub fn secrets_foreseen(&self, scope: &Scope) -> BTreeSet<String> {
        let steps = self.steps().iter();
        let may_run = steps.filter(|step| step.foresee_condition(scope) != Some(false));
        may_run.flat_map(|step| template::secrets(&step.with)).collect()
    }

    /// Binds parameters: see [`Params::bind`].
    ///
    /// # Errors
    /// Every problem.
    pub fn bind(&self, given: &BTreeMap<String, Value>) -> Result<Value, Vec<ParamProblem>> {
        self.params.bind(given)
    }
}

/// A step kind that this build does not have as the plan knew it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "step `{step}` was planned with `{kind}` version {planned}, and this build has {}",
    .found.as_deref().map_or("no such kind".to_owned(), |version| format!("version {version}"))
)]
pub struct KindMismatch {
    /// The step that uses it.
    pub step: StepId,
    /// The kind.
    pub kind: String,
    /// The version in the plan.
    pub planned: String,
    /// The version in this build, if it has the kind.
    pub found: Option<String>,
}

impl PlanStep {
    /// The kind of a step that has attempts, in the version that the plan was made with: an attempt must
    /// not meet another one.
    ///
    /// # Errors
    /// When `catalog` does not have the kind, or has another version of it.
    pub fn kind_in<'c>(&self, catalog: &'c Catalog) -> Result<&'c Arc<dyn Step>, KindMismatch> {
        let found = catalog.get(&self.kind);
        let mismatch = || KindMismatch {
            step: self.id.clone(),
            kind: self.kind.clone(),
            planned: self.kind_version.clone(),
            found: found.map(|kind| kind.spec().version.to_owned()),
        };
        found.filter(|kind| kind.spec().version == self.kind_version).ok_or_else(mismatch)
    }

    /// The text of its `when`, if it has one.
    #[must_use]
    pub fn when(&self) -> Option<&str> {
        self.when.as_deref()
    }

    /// What stands under `with`, expressions and all.
    #[must_use]
    pub const fn with(&self) -> &Value {
        &self.with
    }

    /// Fills the expressions of `with`, for one item where the step has some. Secrets stay
    /// placeholders.
    ///
    /// # Errors
    /// When an expression reads what is not there, fails, or works beyond its limit.
    pub fn render(&self, scope: &Scope, item: Option<&Item>) -> Result<RenderedInput, RenderError> {
        template::render("with", &self.with, self.seen(scope, item))
    }

    /// Decides `when`; true where there is none.
    ///
    /// # Errors
    /// When the expression reads what is not there, fails, or does not give a boolean.
    pub fn condition(&self, scope: &Scope, item: Option<&Item>) -> Result<bool, RenderError> {
        match &self.when {
            None => Ok(true),
            Some(text) => template::condition("when", text, self.seen(scope, item)),
        }
    }

    /// Fills what is known of `with` before a run begins: what reads parameters, the event and secrets
    /// alone. Null stands for the rest.
    #[must_use]
    pub fn foresee(&self, scope: &Scope) -> RenderedInput {
        template::foresee(&self.with, scope)
    }

    /// What `when` comes to, where that is known before a run begins; true where there is none.
    #[must_use]
    pub fn foresee_condition(&self, scope: &Scope) -> Option<bool> {
        self.when.as_deref().map_or(Some(true), |text| template::foreseen_condition(text, scope))
    }

    const fn seen<'a>(&'a self, scope: &'a Scope, item: Option<&'a Item>) -> Seen<'a> {
        Seen { scope, item, undoes: self.undoes.as_ref() }
    }

    /// Whether `when` is decided for each item, and not once for all of them.
    #[must_use]
    pub fn condition_is_of_items(&self) -> bool {
        self.for_each.is_some() && self.when.as_deref().is_some_and(template::reads_item)
    }
}
