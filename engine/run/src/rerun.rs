//! Runs that begin from another one: a part of it made again, or what it did taken back.

use std::collections::{BTreeMap, HashSet};

use fairlead_plan::{Item, Outcome, ParamProblem, Phase, Plan, RunOutcome};
use fairlead_step::{RunId, StepId};
use jiff::Timestamp;
use serde_json::Value;

use crate::run::{Made, State, Why};
use crate::{AttemptEnd, Kept, KeptOutputs, Origin, Purpose, ResultRef, Run};

/// Why there is no run that begins from this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RerunError {
    /// It goes on.
    #[error("run {run} has not ended")]
    NotEnded {
        /// The run.
        run: RunId,
    },
    /// It has no such step.
    #[error("run {run} has no step `{step}`")]
    NoSuchStep {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
    },
    /// Steps behind the main ones are made by every run.
    #[error("`{step}` stands under `{phase}`, whose steps each run makes")]
    NotMain {
        /// The step.
        step: StepId,
        /// Where it stands.
        phase: &'static str,
    },
    /// Every step passed, and none was named.
    #[error("nothing of run {run} is left to be made again")]
    NothingLeft {
        /// The run.
        run: RunId,
    },
    /// No step that took effect says how it is taken back.
    #[error("nothing of run {run} can be taken back: no step that passed in it has `on_undo`")]
    NothingToUndo {
        /// The run.
        run: RunId,
    },
    /// It took something back itself.
    #[error("run {run} takes back what run {origin} did; make that one again instead")]
    IsUndo {
        /// The run.
        run: RunId,
        /// The run whose work it took back.
        origin: RunId,
    },
}

impl Run {
    /// What a run that makes this one again under `plan` begins with. It makes the steps `from`,
    /// which may be items, those that did not end well here, those that are other steps in `plan`,
    /// and all that needs one of them; the others are kept.
    ///
    /// # Errors
    /// When this run has not ended, a step of `from` is none of its main steps, or nothing is left.
    pub fn to_retry(&self, from: &[StepId], plan: &Plan) -> Result<Origin, RerunError> {
        self.may_begin_from()?;
        let mut again: HashSet<StepId> = HashSet::new();
        let mut items: HashSet<StepId> = HashSet::new();
        for step in from {
            let (name, key) = step.parts();
            let missing = || RerunError::NoSuchStep { run: self.id().clone(), step: step.clone() };
            let whole: StepId = name.parse().map_err(|_| missing())?;
            let planned = plan.step(&whole).ok_or_else(missing)?;
            if planned.phase != Phase::Main {
                let phase = planned.phase.key();
                return Err(RerunError::NotMain { step: step.clone(), phase });
            }
            match key {
                Some(_) if self.index_of(step).is_none() => return Err(missing()),
                Some(_) => {
                    items.insert(step.clone());
                    again.extend(plan.dependents_of(&whole));
                }
                None => again.extend(plan.dependents_of(&whole)),
            }
        }
        let main = || plan.steps().iter().filter(|step| step.phase == Phase::Main);
        // In the order of the plan each step stands behind what it needs.
        for step in main() {
            let moved = step.needs.iter().any(|need| again.contains(&need.step));
            if moved || !self.ended_well(&step.id) || !self.plan().same_step(plan, &step.id) {
                again.insert(step.id.clone());
            }
        }
        if !main().any(|step| again.contains(&step.id)) {
            return Err(RerunError::NothingLeft { run: self.id().clone() });
        }
        let mut kept = Vec::new();
        for step in main() {
            if !again.contains(&step.id) {
                kept.extend(self.kept(&step.id));
                continue;
            }
            // Of a step that is made again only because some of its items are, the others stand.
            let of_items = !from.contains(&step.id)
                && self.plan().same_step(plan, &step.id)
                && !step.needs.iter().any(|need| again.contains(&need.step));
            let Some(i) = self.index_of(&step.id).filter(|_| of_items) else { continue };
            let ids = self.nodes[i].items.iter().map(|&n| &self.nodes[n].id);
            let good = ids.filter(|id| !items.contains(*id) && self.ended_well(id));
            kept.extend(good.filter_map(|id| self.kept(id)));
        }
        let (run, purpose) = (self.id().clone(), Purpose::Retry);
        Ok(Origin { run, purpose, from: from.to_vec(), kept })
    }

    /// The parameters of this run, bound to another plan; those that it does not know are left out.
    ///
    /// # Errors
    /// As [`Plan::bind`].
    pub fn params_for(&self, plan: &Plan) -> Result<Value, Vec<ParamProblem>> {
        let params = self.request().params.as_object().into_iter().flatten();
        let known = params.filter(|(name, _)| plan.params().get(name).is_some());
        let given: BTreeMap<String, Value> =
            known.map(|(name, value)| (name.clone(), value.clone())).collect();
        plan.bind(&given)
    }

    /// Whether this run has taken back what another one did, or is about to.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        let undoes = self.request().origin.as_ref().is_some_and(|it| it.purpose == Purpose::Undo);
        undoes && self.ended().is_none_or(|(outcome, _)| outcome == RunOutcome::Passed)
    }

    /// The plan that takes back what this run did, in reverse, and what its run begins with. What was
    /// kept from an earlier run is not this one's, and stays.
    ///
    /// # Errors
    /// When this run has not ended, or nothing can be taken back.
    pub fn to_undo(&self) -> Result<(Plan, Origin), RerunError> {
        self.may_begin_from()?;
        let mut done: Vec<(Timestamp, usize)> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let State::Ended { outcome: Outcome::Passed, at, why } = &node.state else { continue };
            let kept = matches!(why, Some(Why::Kept(_)));
            if !kept && node.items.is_empty() {
                done.push((*at, i));
            }
        }
        done.sort();
        let done: Vec<(StepId, Option<Item>)> = done
            .into_iter()
            .map(|(_, i)| {
                let node = &self.nodes[i];
                (node.id.clone(), node.item.as_ref().map(|(_, item)| item.clone()))
            })
            .collect();
        let plan = self.plan().undo(&done);
        let plan = plan.ok_or_else(|| RerunError::NothingToUndo { run: self.id().clone() })?;
        let steps = self.plan().steps().iter();
        let kept = steps.filter_map(|step| self.kept(&step.id)).collect();
        let (run, purpose) = (self.id().clone(), Purpose::Undo);
        Ok((plan, Origin { run, purpose, from: Vec::new(), kept }))
    }

    fn may_begin_from(&self) -> Result<(), RerunError> {
        if self.ended().is_none() {
            return Err(RerunError::NotEnded { run: self.id().clone() });
        }
        match &self.request.origin {
            Some(Origin { run, purpose: Purpose::Undo, .. }) => {
                Err(RerunError::IsUndo { run: self.id().clone(), origin: run.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether what a step gave may stand for another run: it passed, or its own answer was that there
    /// is nothing to do. Whether one was skipped for any other reason is decided anew.
    fn ended_well(&self, step: &StepId) -> bool {
        let Some(node) = self.index_of(step).map(|i| &self.nodes[i]) else { return false };
        match node.state.ended() {
            Some((Outcome::Passed, _)) => true,
            Some((Outcome::Skipped, _)) => match node.state.why() {
                Some(Why::Kept(_)) => true,
                Some(_) => false,
                None => node.attempts.last().is_some_and(|last| {
                    matches!(last.ended, Some((_, AttemptEnd::Skipped { .. })))
                }),
            },
            Some((Outcome::Rejected | Outcome::Failed | Outcome::Cancelled, _)) | None => false,
        }
    }

    fn kept(&self, step: &StepId) -> Option<Kept> {
        let i = self.index_of(step)?;
        let (outcome, _) = self.nodes[i].state.ended()?;
        Some(Kept { step: step.clone(), outcome, outputs: self.where_given(i) })
    }

    /// Where that stands what node `i` gave, where it gave something.
    fn where_given(&self, i: usize) -> Option<KeptOutputs> {
        let outputs = self.outputs_of(i)?;
        let node = &self.nodes[i];
        Some(match &node.made {
            Some(Made::Kept(from)) => from.clone(),
            Some(Made::Here { record, attempt }) => {
                KeptOutputs::Result(ResultRef::to(self.id(), *record, *attempt, outputs))
            }
            None if !node.items.is_empty() => {
                let items = node.items.iter().filter_map(|&n| {
                    let (_, item) = self.nodes[n].item.as_ref()?;
                    Some((item.key.clone(), self.where_given(n)?))
                });
                KeptOutputs::Items(items.collect())
            }
            // A gate, or a list without items: no attempt gave it, and it is small.
            None => KeptOutputs::Copied(outputs.clone()),
        })
    }
}
