//! What a journal says of each step, worked out from the rules on paper and without the help of the
//! state machine.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_plan::{Approval, Gate, Outcome, Phase, Plan, PlanStep, RetryOn, RunOutcome};
use fairlead_run::{
    Decision, Purpose, Record, Request, RunEvent, StepResult, Vote, Voter, check_chain,
};
use fairlead_step::{Effect, ErrorClass, StepId, Verdict};
use jiff::Timestamp;

struct History<'a> {
    plan: &'a Plan,
    request: &'a Request,
    running: BTreeMap<StepId, u32>,
    made: BTreeMap<StepId, u32>,
    first: BTreeMap<StepId, Timestamp>,
    failures: BTreeMap<StepId, u32>,
    settled: BTreeSet<(StepId, u32)>,
    ended: BTreeMap<StepId, Outcome>,
    stopping: BTreeSet<StepId>,
    /// Lost attempts of which a person decides.
    undecided: BTreeSet<StepId>,
    /// Open gates, when they are due, and who approved.
    open: BTreeMap<StepId, (Option<Timestamp>, Vec<&'a Voter>)>,
    asking: BTreeSet<StepId>,
    items: BTreeMap<StepId, Vec<StepId>>,
    is_admitted: bool,
    queued: bool,
    cancels: usize,
}

impl<'a> History<'a> {
    fn new(plan: &'a Plan, request: &'a Request) -> Self {
        let mut history = Self {
            plan,
            request,
            running: BTreeMap::new(),
            made: BTreeMap::new(),
            first: BTreeMap::new(),
            failures: BTreeMap::new(),
            settled: BTreeSet::new(),
            ended: BTreeMap::new(),
            stopping: BTreeSet::new(),
            undecided: BTreeSet::new(),
            open: BTreeMap::new(),
            asking: BTreeSet::new(),
            items: BTreeMap::new(),
            is_admitted: request.group.is_none(),
            queued: false,
            cancels: 0,
        };
        for step in plan.steps() {
            if let Some(outcome) = history.kept(&step.id) {
                history.ended.insert(step.id.clone(), outcome);
            }
        }
        history
    }

    fn kept(&self, step: &StepId) -> Option<Outcome> {
        let origin = self.request.origin.as_ref().filter(|o| o.purpose == Purpose::Retry)?;
        origin.kept.iter().find(|kept| kept.step == *step).map(|kept| kept.outcome)
    }

    fn whole(step: &StepId) -> StepId {
        step.parts().0.parse().expect("a step name")
    }

    fn planned(&self, step: &StepId) -> &'a PlanStep {
        self.plan.step(&Self::whole(step)).expect("a step of the plan")
    }

    fn approval(&self, step: &StepId) -> &'a Approval {
        match &self.planned(step).gate {
            Some(Gate::Approval(approval)) => approval,
            other => panic!("{step} is {other:?}"),
        }
    }

    fn end(&mut self, step: &StepId, outcome: Outcome) {
        assert_eq!(self.ended.insert(step.clone(), outcome), None, "{step} ended twice");
        self.undecided.remove(step);
        self.asking.remove(step);
        self.open.remove(step);
        let whole = Self::whole(step);
        if whole != *step {
            self.item_ended(&whole);
        }
    }

    fn item_ended(&mut self, whole: &StepId) {
        let outcomes: Option<Vec<Outcome>> =
            self.items[whole].iter().map(|item| self.ended.get(item).copied()).collect();
        let Some(outcomes) = outcomes else { return };
        let worst = [Outcome::Cancelled, Outcome::Failed, Outcome::Rejected, Outcome::Passed];
        let worst = worst.into_iter().find(|worst| outcomes.contains(worst));
        self.end(whole, worst.unwrap_or(Outcome::Skipped));
    }

    fn phases_ended(&self, before: Phase) -> bool {
        let mut earlier = self.plan.steps().iter().filter(|step| step.phase < before);
        earlier.all(|step| self.ended.contains_key(&step.id))
    }

    fn main_outcome(&self) -> RunOutcome {
        let main = self.plan.steps().iter().filter(|step| step.phase == Phase::Main);
        let outcomes: Vec<Outcome> = main.map(|step| self.ended[&step.id]).collect();
        let any = |outcome| outcomes.contains(&outcome);
        match (any(Outcome::Cancelled), any(Outcome::Failed), any(Outcome::Rejected)) {
            (true, ..) => RunOutcome::Cancelled,
            (false, true, _) => RunOutcome::Failed,
            (false, false, true) => RunOutcome::Rejected,
            (false, false, false) => RunOutcome::Passed,
        }
    }

    /// Whether what stands in the way of a step is out of it.
    fn begins(&self, step: &StepId) {
        assert!(self.is_admitted, "{step} before it is admitted");
        assert!(!self.ended.contains_key(step), "{step} has ended");
        assert!(!self.stopping.contains(step), "{step} is to stop");
        assert!(!self.undecided.contains(step), "{step} waits for a person");
        let planned = self.planned(step);
        for need in &planned.needs {
            let outcome = self.ended.get(&need.step);
            let outcome = outcome.unwrap_or_else(|| panic!("{step} before {}", need.step));
            assert!(need.outcomes.contains(outcome), "{step} after {} {outcome}", need.step);
        }
        assert!(self.phases_ended(planned.phase), "{step} is early");
        if planned.phase != Phase::Main {
            let outcome = self.main_outcome();
            // One that was too slow has failed, and one without room is rejected.
            let other = outcome == RunOutcome::Cancelled;
            assert!(other || planned.on.contains(&outcome), "{step} after {outcome}");
        }
    }

    fn started(&mut self, step: &StepId, attempt: u32, at: Timestamp) {
        self.begins(step);
        let planned = self.planned(step);
        assert!(planned.gate.is_none(), "{step} is a gate");
        let whole = Self::whole(step);
        assert_eq!(planned.for_each.is_some(), whole != *step, "{step} is a step of items");
        if let Some(most) = planned.for_each.as_ref().and_then(|each| each.max_parallel) {
            let on =
                |item: &&StepId| self.made.contains_key(*item) && !self.ended.contains_key(*item);
            let others = self.items[&whole].iter().filter(|item| *item != step).filter(on).count();
            assert!(others < most as usize, "{step} is one of more than {most}");
        }
        assert_eq!(self.running.insert(step.clone(), attempt), None, "{step} runs already");
        let before = self.made.insert(step.clone(), attempt).unwrap_or(0);
        assert_eq!(attempt, before + 1, "attempts of {step} are numbered without gaps");
        self.first.entry(step.clone()).or_insert(at);
        self.asking.remove(step);
    }

    fn settle(&mut self, step: &StepId, attempt: u32) {
        assert_eq!(self.running.remove(step), Some(attempt), "{step} does not run");
        assert!(self.settled.insert((step.clone(), attempt)), "{step} finished twice");
    }

    fn finished(&mut self, step: &StepId, result: &StepResult, at: Timestamp) {
        let planned = self.planned(step);
        let retry = &planned.retry;
        let retried = match result {
            StepResult::Verdict(Verdict::Passed { .. }) => return self.end(step, Outcome::Passed),
            StepResult::Verdict(Verdict::Rejected { .. }) => {
                let last = planned.wait.as_ref().map(|wait| wait.deadline.after(self.first[step]));
                if last.is_some_and(|last| at < last) && !self.stopping.contains(step) {
                    self.failures.remove(step);
                    assert!(self.asking.insert(step.clone()), "{step} asked already");
                    return;
                }
                return self.end(step, Outcome::Rejected);
            }
            StepResult::Verdict(Verdict::Skipped { .. }) => {
                return self.end(step, Outcome::Skipped);
            }
            StepResult::Cancelled { .. } => return self.end(step, Outcome::Cancelled),
            StepResult::TimedOut { .. } => retry.on != RetryOn::Infra,
            StepResult::Failure(failure) => {
                failure.class == ErrorClass::Retryable || retry.on == RetryOn::Any
            }
        };
        let failures = self.failures.entry(step.clone()).or_default();
        *failures += 1;
        if !retried || *failures > retry.max || self.stopping.contains(step) {
            self.end(step, Outcome::Failed);
        }
    }

    fn voted(&mut self, step: &StepId, by: &'a Voter, vote: Vote) {
        let approval = self.approval(step);
        let (_, ballots) = self.open.get_mut(step).expect("an open gate");
        assert!(approval.from.iter().any(|word| by.is(word)), "{} has no say", by.name);
        if vote == Vote::Reject {
            return self.end(step, Outcome::Rejected);
        }
        assert!(ballots.iter().all(|other| other.name != by.name), "{} counts twice", by.name);
        if approval.ordered {
            assert!(by.is(&approval.from[ballots.len()]), "{} is out of order", by.name);
        }
        ballots.push(by);
        if ballots.len() == approval.min as usize {
            self.end(step, Outcome::Passed);
        }
    }

    fn expanded(&mut self, step: &StepId, keys: impl Iterator<Item = &'a str>) {
        self.begins(step);
        let items: Vec<StepId> = keys.map(|key| step.item(key).expect("a key")).collect();
        if items.is_empty() {
            return self.end(step, Outcome::Passed);
        }
        assert_eq!(self.items.insert(step.clone(), items.clone()), None, "{step} has items");
        for item in items {
            if let Some(outcome) = self.kept(&item) {
                self.end(&item, outcome);
            }
        }
    }

    fn cancel(&mut self) {
        self.cancels += 1;
        assert!(self.cancels <= 2, "there is nothing left to cancel");
        let all = self.cancels == 2 || !self.is_admitted || self.phases_ended(Phase::OnFailure);
        if all {
            self.cancels = 2;
        }
        let within: Vec<StepId> = self
            .plan
            .steps()
            .iter()
            .filter(|step| all || step.phase == Phase::Main)
            .flat_map(|step| match self.items.get(&step.id) {
                Some(items) => items.clone(),
                None => vec![step.id.clone()],
            })
            .collect();
        for step in within {
            self.stopping.insert(step.clone());
            if !self.ended.contains_key(&step) && !self.running.contains_key(&step) {
                self.end(&step, Outcome::Cancelled);
            }
        }
    }

    fn record(&mut self, record: &'a Record) {
        match record.event() {
            RunEvent::Requested(_) => panic!("it is requested once"),
            RunEvent::Resumed { .. } => {}
            RunEvent::Queued { .. } => {
                assert!(!self.queued && self.made.is_empty(), "it waits to be admitted once");
                (self.queued, self.is_admitted) = (true, false);
            }
            RunEvent::Admitted => self.is_admitted = true,
            RunEvent::Expanded { step, items } => {
                self.expanded(step, items.iter().map(|item| item.key.as_str()));
            }
            RunEvent::GateOpened { step, due } => {
                self.begins(step);
                assert!(self.planned(step).gate.is_some(), "{step} is no gate");
                let open = self.open.insert(step.clone(), (*due, Vec::new()));
                assert_eq!(open, None, "{step} is open");
            }
            RunEvent::Voted { step, by, vote, .. } => self.voted(step, by, *vote),
            RunEvent::GateDue { step } => {
                let (due, _) = self.open.remove(step).expect("an open gate");
                assert!(due.is_some_and(|due| due <= record.at()), "{step} is not due");
                let approval = matches!(self.planned(step).gate, Some(Gate::Approval(_)));
                self.end(step, if approval { Outcome::Rejected } else { Outcome::Passed });
            }
            RunEvent::Woken { step, .. } => assert!(self.asking.contains(step), "{step} sleeps"),
            RunEvent::Started { step, attempt, .. } => self.started(step, *attempt, record.at()),
            RunEvent::Finished { step, attempt, result, .. } => {
                self.settle(step, *attempt);
                self.finished(step, result, record.at());
            }
            RunEvent::CacheHit { step, attempt, .. } => {
                self.settle(step, *attempt);
                self.end(step, Outcome::Passed);
            }
            RunEvent::AttemptLost { step, attempt, .. } => {
                self.settle(step, *attempt);
                if self.stopping.contains(step) {
                    self.end(step, Outcome::Cancelled);
                } else if self.planned(step).effect == Effect::Once {
                    assert!(self.undecided.insert(step.clone()), "{step} waits for a person");
                }
            }
            RunEvent::Settled { step, attempt, decision, .. } => {
                assert!(self.undecided.remove(step), "{step} asks for nothing");
                assert_eq!(self.made.get(step), Some(attempt));
                match decision {
                    Decision::Passed { .. } => self.end(step, Outcome::Passed),
                    Decision::Failed => self.end(step, Outcome::Failed),
                    Decision::Again => {}
                }
            }
            RunEvent::RetryScheduled { step, attempt, .. } => {
                assert!(!self.ended.contains_key(step), "{step} has ended");
                assert_eq!(self.made.get(step).map(|made| made + 1), Some(*attempt));
            }
            RunEvent::Skipped { step, .. } => {
                assert!(self.is_admitted, "{step} before it is admitted");
                assert_eq!(self.made.get(step), None, "{step} was begun");
                self.end(step, Outcome::Skipped);
            }
            RunEvent::NotStarted { step, .. } => {
                assert_eq!(self.made.get(step), None, "{step} was begun");
                self.end(step, Outcome::Failed);
            }
            RunEvent::CancelRequested { .. } => self.cancel(),
            // A person does that, and whatever has not ended is cancelled.
            RunEvent::Abandoned { .. } => unreachable!("no run here is abandoned"),
            RunEvent::Ended { outcome } => {
                let ended = |step: &PlanStep| self.ended.get(&step.id).copied();
                let outcomes: Option<Vec<Outcome>> = self.plan.steps().iter().map(ended).collect();
                let outcomes = outcomes.expect("every step has ended");
                let good =
                    |outcome: &Outcome| matches!(outcome, Outcome::Passed | Outcome::Skipped);
                assert_eq!(*outcome == RunOutcome::Passed, outcomes.iter().all(good));
            }
        }
    }
}

/// Checks a finished journal against the plan.
pub(crate) fn check_history(plan: &Plan, records: &[Record]) {
    check_chain(records).expect("a whole chain");
    assert!(records.is_sorted_by_key(Record::at), "time goes forward");
    let (first, rest) = records.split_first().expect("a journal");
    let RunEvent::Requested(request) = first.event() else { panic!("{:?}", first.event()) };
    let mut history = History::new(plan, request);
    for record in rest {
        history.record(record);
        // It is stored, and reads back as what it was.
        assert_eq!(Record::read(record.bytes()).expect("a record"), *record);
    }
    let ends = records.iter().filter(|record| matches!(record.event(), RunEvent::Ended { .. }));
    assert_eq!(ends.count(), 1);
    assert!(matches!(records.last().map(Record::event), Some(RunEvent::Ended { .. })));
}
