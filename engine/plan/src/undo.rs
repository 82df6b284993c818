//! The plan that takes back what a run did.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_event::Triggers;
use fairlead_step::StepId;

use crate::plan::Steps;
use crate::{
    Concurrency, ConcurrencyPolicy, ForEach, Item, Need, NeedFrom, Outcome, Phase, Plan, PlanStep,
    RunOutcome,
};

impl Plan {
    /// The plan of the `on_undo` hooks of `done`: the steps to take back, each with its item where it
    /// has some, in the order in which they ended. Nothing when none of them has a hook.
    ///
    /// The step that takes `deploy` back is called `undo-deploy`. They run one after another, in the
    /// reverse of the order given; each wants the one before it to have passed, or to have had nothing
    /// to do, so that nothing is taken away from under what still stands. The items of one step are
    /// taken back by one step, the last one first, at the place of the last of them; an entry without
    /// an item stands for all items.
    ///
    /// A hook was checked in the file that it comes from, and reads what it could read there: `params`,
    /// `event`, `run` of the new run, and `steps`, its own step among them. So the new run begins with
    /// the outputs and outcomes of the old one in its [`Scope`](crate::Scope), under the names that
    /// they had there. For a step with `for_each` its own outputs are those of the item, and the list
    /// is made again from what it was made from, for the keys that are given.
    ///
    /// Nothing starts this plan but a request. It has the parameters, the limit of time and the group
    /// of the old one; it waits to be admitted there, whatever the policy, as nobody would want it to
    /// be refused.
    #[must_use]
    pub fn undo(&self, done: &[(StepId, Option<Item>)]) -> Option<Self> {
        let mut order: Vec<&PlanStep> = Vec::new();
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        let mut items: BTreeMap<&StepId, Vec<String>> = BTreeMap::new();
        for (id, item) in done.iter().rev() {
            let (name, key) = id.parts();
            let planned = name.parse().ok().and_then(|id| self.step(&id));
            let Some(step) = planned.filter(|step| step.undo.is_some()) else { continue };
            if seen.insert(&step.id) {
                order.push(step);
            }
            let key = item.as_ref().map(|item| item.key.as_str()).or(key);
            if let (Some(_), Some(key)) = (&step.for_each, key) {
                let keys = items.entry(&step.id).or_default();
                if !keys.iter().any(|other| other == key) {
                    keys.push(key.to_owned());
                }
            }
        }
        let mut steps: Vec<PlanStep> = Vec::with_capacity(order.len());
        for step in order {
            let after = steps.last().map(|before| before.id.clone());
            steps.extend(taken_back(step, items.remove(&step.id), after));
        }
        if steps.is_empty() {
            return None;
        }
        let concurrency = self
            .concurrency()
            .map(|group| Concurrency { policy: ConcurrencyPolicy::Queue, ..group.clone() });
        Some(Self {
            name: self.name.clone(),
            description: Some(format!("Takes back what a run of {} did", self.name)),
            source_name: self.source_name.clone(),
            source_digest: self.source_digest.clone(),
            triggers: Triggers::default(),
            params: self.params.clone(),
            vars: self.vars.clone(),
            timeout: self.timeout,
            concurrency,
            checkout: self.checkout.clone(),
            steps: Steps::new(steps),
        })
    }
}

/// The step that takes `step` back, behind `after`.
fn taken_back(
    step: &PlanStep,
    only: Option<Vec<String>>,
    after: Option<StepId>,
) -> Option<PlanStep> {
    let undo = step.undo.clone()?;
    let need = |step| Need {
        step,
        outcomes: BTreeSet::from([Outcome::Passed, Outcome::Skipped]),
        from: NeedFrom::Explicit,
    };
    Some(PlanStep {
        id: format!("undo-{}", step.id).parse().ok()?,
        kind: undo.kind,
        kind_version: undo.kind_version,
        effect: undo.effect,
        phase: Phase::Main,
        needs: after.into_iter().map(need).collect(),
        retry: undo.retry,
        timeout: undo.timeout,
        on: BTreeSet::from(RunOutcome::ALL),
        gate: None,
        for_each: step.for_each.as_ref().map(|each| ForEach {
            max_parallel: Some(1),
            only,
            ..each.clone()
        }),
        wait: None,
        cache: None,
        undo: None,
        undoes: Some(step.id.clone()),
        // What reaches a place from one machine is best taken back from there.
        placement: step.placement.clone(),
        description: None,
        when: None,
        with: undo.with,
    })
}
