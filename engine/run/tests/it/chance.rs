//! Random plans under random outcomes, crashes, late results, cancellations and jumps of the clock.
//! Whatever happens, a run keeps its promises, and so does every prefix of its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fairlead_plan::{Outcome, Phase, Plan, RetryOn, RunOutcome};
use fairlead_run::{
    CancelReason, Command, Decision, Epoch, Record, RunEvent, StepResult, StepStatus, Voter,
    check_chain,
};
use fairlead_step::{Effect, ErrorClass, HumanDuration, StepId, Verdict};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, failed, id, need, passed, plan, step};

/// What chance decides, one byte at a time. When the bytes are used up, every choice is the first
/// one, which always leads on.
struct Chance<'a>(&'a [u8]);

impl Chance<'_> {
    fn of(&mut self, choices: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % choices
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        if from.is_empty() { None } else { from.get(self.of(from.len())) }
    }
}

fn random_plan(chance: &mut Chance<'_>) -> Arc<Plan> {
    let main = 1 + chance.of(8);
    let finally = chance.of(3);
    let mut steps = Vec::new();
    for i in 0..main + finally {
        let mut step: Value = step(&format!("s{i}"));
        let mut needs = Vec::new();
        for earlier in 0..i {
            if chance.of(3) == 1 {
                let accepted: Vec<Outcome> = match chance.of(4) {
                    0 | 1 => vec![Outcome::Passed],
                    2 => vec![Outcome::Passed, Outcome::Skipped],
                    _ => Outcome::ALL.into_iter().filter(|_| chance.of(2) == 0).collect(),
                };
                needs.push(need(&format!("s{earlier}"), &accepted));
            }
        }
        step["needs"] = needs.into();
        step["effect"] = ["idempotent", "pure", "check-then-act", "once"][chance.of(4)].into();
        let on = ["infra", "timeout", "any"][chance.of(3)];
        step["retry"] = json!({ "max": chance.of(4), "first": "1s", "cap": "5s", "on": on });
        match chance.of(8) {
            6 => step["when"] = "false".into(),
            7 => step["when"] = "params.nothing".into(),
            _ => {}
        }
        if i >= main {
            step["phase"] = "finally".into();
            let on = RunOutcome::ALL.into_iter().filter(|_| chance.of(4) != 3);
            step["on"] = on.map(RunOutcome::name).collect();
        }
        steps.push(step);
    }
    plan(steps, [None, None, None, Some("20s")][chance.of(4)])
}

fn random_result(chance: &mut Chance<'_>) -> StepResult {
    match chance.of(8) {
        0 | 1 => passed(),
        2 => StepResult::Verdict(Verdict::Rejected { reason: "no".into(), outputs: json!({}) }),
        3 => StepResult::Verdict(Verdict::Skipped { reason: "nothing to do".into() }),
        4 => failed(ErrorClass::Retryable),
        5 => failed(ErrorClass::Terminal),
        6 => StepResult::TimedOut { after: HumanDuration(Duration::from_secs(1)) },
        _ => StepResult::Cancelled { message: "ended by itself".into() },
    }
}

fn running(world: &World) -> Vec<StepId> {
    let running = world.run.steps().filter(|s| matches!(s.status(), StepStatus::Running { .. }));
    running.map(|step| step.id().clone()).collect()
}

fn finished(world: &World, step: &StepId, result: StepResult) -> RunEvent {
    let (attempt, token) = world.token(step.as_str());
    RunEvent::Finished { step: step.clone(), attempt, token, result }
}

/// The process dies and another one reads the journal. Answers the results that the old one may
/// still send.
fn crash(world: &mut World) -> Vec<RunEvent> {
    let late = running(world).iter().map(|step| finished(world, step, passed())).collect();
    let mut next = World::from_journal(Arc::clone(&world.plan), world.records.clone());
    next.now = world.now;
    next.epoch = Epoch(world.epoch.0 + 1);
    assert_eq!(next.picture(), world.picture(), "replayed as it was live");
    assert_eq!(next.commands(), world.commands(), "and it wants the same");
    for fact in next.run.recovery(next.epoch, "the process ended") {
        next.tell(fact).expect("recovery is always possible");
    }
    *world = next;
    late
}

/// What a person may decide now.
fn decisions(world: &World, chance: &mut Chance<'_>) -> Vec<RunEvent> {
    let settled = world.run.steps().filter_map(|step| {
        let StepStatus::NeedsAttention { attempt } = step.status() else { return None };
        let decision = match chance.of(3) {
            0 => Decision::Passed { outputs: json!({ "ok": true }) },
            1 => Decision::Failed,
            _ => Decision::Again,
        };
        let by = Voter { name: "chance".into(), groups: BTreeSet::new() };
        Some(RunEvent::Settled { step: step.id().clone(), attempt, by, decision, reason: None })
    });
    settled.collect()
}

/// Drives a run to its end, as chance has it.
fn drive(world: &mut World, chance: &mut Chance<'_>) {
    let mut late: Vec<RunEvent> = Vec::new();
    for turn in 0.. {
        assert!(turn < 3000, "the run does not end:\n{}", world.picture());
        let commands = world.commands();
        if world.run.ended().is_some() {
            assert_eq!(commands, []);
            break;
        }
        let mut facts: Vec<RunEvent> =
            commands.iter().filter_map(|c| c.fact(world.run.id(), world.epoch)).collect();
        facts.extend(decisions(world, chance));
        let busy = running(world);
        match chance.of(16) {
            0..=6 => match (chance.pick(&facts), chance.pick(&busy)) {
                (Some(fact), _) => world.tell(fact.clone()).expect("a command's fact is taken"),
                (None, Some(step)) => {
                    world.tell(finished(world, step, passed())).expect("a result is taken");
                }
                (None, None) => match commands.last() {
                    Some(Command::WaitUntil(due)) => world.now = *due,
                    other => panic!("nothing runs, and all it wants is {other:?}"),
                },
            },
            7..=10 => {
                if let Some(step) = chance.pick(&busy) {
                    let result = random_result(chance);
                    let fact = finished(world, step, result);
                    world.tell(fact.clone()).expect("a result is taken");
                    world.tell(fact.clone()).expect_err("and not twice");
                    late.push(fact);
                }
            }
            11 => late.extend(crash(world)),
            12 => {
                if let Some(fact) = chance.pick(&late) {
                    world.tell(fact.clone()).expect_err("a late result is refused");
                }
            }
            13 => {
                if chance.of(4) == 3 {
                    let reason = CancelReason::Asked { why: None };
                    let possible = world.run.can_cancel();
                    let told =
                        world.tell(RunEvent::CancelRequested { by: "chance".into(), reason });
                    assert_eq!(told.is_ok(), possible);
                }
            }
            14 => world.now += SignedDuration::from_secs(chance.of(8) as i64),
            _ => world.now -= SignedDuration::from_secs(chance.of(60) as i64),
        }
    }
}

/// What a journal says of each step, worked out from the rules on paper and without the help of the
/// state machine.
#[derive(Default)]
struct History<'a> {
    running: BTreeMap<&'a StepId, u32>,
    made: BTreeMap<&'a StepId, u32>,
    failures: BTreeMap<&'a StepId, u32>,
    settled: BTreeSet<(&'a StepId, u32)>,
    ended: BTreeMap<&'a StepId, Outcome>,
    stopping: BTreeSet<&'a StepId>,
    /// Lost attempts of which a person decides.
    undecided: BTreeSet<&'a StepId>,
    cancels: usize,
}

impl<'a> History<'a> {
    fn end(&mut self, step: &'a StepId, outcome: Outcome) {
        assert_eq!(self.ended.insert(step, outcome), None, "{step} ended twice");
    }

    fn main_ended(&self, plan: &Plan) -> bool {
        let mut main = plan.steps().iter().filter(|step| step.phase == Phase::Main);
        main.all(|step| self.ended.contains_key(&step.id))
    }

    fn started(&mut self, plan: &Plan, step: &'a StepId, attempt: u32) {
        let planned = plan.step(step).expect("a step of the plan");
        assert_eq!(self.running.insert(step, attempt), None, "{step} runs already");
        let before = self.made.insert(step, attempt).unwrap_or(0);
        assert_eq!(attempt, before + 1, "attempts of {step} are numbered without gaps");
        assert!(!self.ended.contains_key(step), "{step} has ended");
        assert!(!self.stopping.contains(step), "{step} is to stop");
        assert!(!self.undecided.contains(step), "{step} waits for a person");
        for need in &planned.needs {
            let outcome = self.ended.get(&need.step);
            let outcome = outcome.unwrap_or_else(|| panic!("{step} before {}", need.step));
            assert!(need.outcomes.contains(outcome), "{step} after {} {outcome}", need.step);
        }
        if planned.phase == Phase::Finally {
            assert!(self.main_ended(plan), "{step} is early");
        }
    }

    fn settle(&mut self, step: &'a StepId, attempt: u32) {
        assert_eq!(self.running.remove(step), Some(attempt), "{step} does not run");
        assert!(self.settled.insert((step, attempt)), "{step} finished twice");
    }

    fn finished(&mut self, plan: &Plan, step: &'a StepId, result: &StepResult) {
        let retry = &plan.step(step).expect("a step of the plan").retry;
        let retried = match result {
            StepResult::Verdict(Verdict::Passed { .. }) => return self.end(step, Outcome::Passed),
            StepResult::Verdict(Verdict::Rejected { .. }) => {
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
        let failures = self.failures.entry(step).or_default();
        *failures += 1;
        if !retried || *failures > retry.max || self.stopping.contains(step) {
            self.end(step, Outcome::Failed);
        }
    }

    fn cancel(&mut self, plan: &'a Plan) {
        self.cancels += 1;
        assert!(self.cancels <= 2, "there is nothing left to cancel");
        let all = self.cancels == 2 || self.main_ended(plan);
        if all {
            self.cancels = 2;
        }
        for step in plan.steps().iter().filter(|step| all || step.phase == Phase::Main) {
            self.stopping.insert(&step.id);
            if !self.ended.contains_key(&step.id) && !self.running.contains_key(&step.id) {
                self.end(&step.id, Outcome::Cancelled);
                self.undecided.remove(&step.id);
            }
        }
    }
}

/// Checks a finished journal against the plan.
fn check_history(plan: &Plan, records: &[Record]) {
    check_chain(records).expect("a whole chain");
    assert!(records.is_sorted_by_key(Record::at), "time goes forward");
    let mut history = History::default();
    for (i, record) in records.iter().enumerate() {
        match record.event() {
            RunEvent::Requested(_) => assert_eq!(i, 0),
            RunEvent::Resumed { .. } => {}
            RunEvent::Started { step, attempt, .. } => history.started(plan, step, *attempt),
            RunEvent::Finished { step, attempt, result, .. } => {
                history.settle(step, *attempt);
                history.finished(plan, step, result);
            }
            RunEvent::AttemptLost { step, attempt, .. } => {
                history.settle(step, *attempt);
                if history.stopping.contains(step) {
                    history.end(step, Outcome::Cancelled);
                } else if plan.step(step).is_some_and(|step| step.effect == Effect::Once) {
                    assert!(history.undecided.insert(step), "{step} waits for a person");
                }
            }
            RunEvent::Settled { step, attempt, decision, .. } => {
                assert!(history.undecided.remove(step), "{step} asks for nothing");
                assert_eq!(history.made.get(step), Some(attempt));
                match decision {
                    Decision::Passed { .. } => history.end(step, Outcome::Passed),
                    Decision::Failed => history.end(step, Outcome::Failed),
                    Decision::Again => {}
                }
            }
            RunEvent::RetryScheduled { step, attempt, .. } => {
                assert!(!history.ended.contains_key(step), "{step} has ended");
                assert_eq!(history.made.get(step).map(|made| made + 1), Some(*attempt));
            }
            RunEvent::Skipped { step, .. } => {
                assert_eq!(history.made.get(step), None, "{step} was begun");
                history.end(step, Outcome::Skipped);
            }
            RunEvent::NotStarted { step, .. } => {
                assert_eq!(history.made.get(step), None, "{step} was begun");
                history.end(step, Outcome::Failed);
            }
            RunEvent::CancelRequested { .. } => history.cancel(plan),
            // Nothing of these plans waits for its turn, has items, or is a gate.
            RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Remembered { .. } => panic!("{:?}", record.event()),
            RunEvent::Ended { outcome } => {
                assert_eq!(i + 1, records.len(), "nothing follows the end");
                assert_eq!(history.ended.len(), plan.steps().len(), "every step has ended");
                let any = |wanted| history.ended.values().any(|outcome| *outcome == wanted);
                let passed = !any(Outcome::Cancelled) && !any(Outcome::Failed);
                assert_eq!(*outcome == RunOutcome::Passed, passed && !any(Outcome::Rejected));
            }
        }
    }
    assert!(matches!(records.last().map(Record::event), Some(RunEvent::Ended { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_keeps_the_rules(shape in prop::collection::vec(any::<u8>(), 0..120),
                                          fate in prop::collection::vec(any::<u8>(), 0..400)) {
        let plan = random_plan(&mut Chance(&shape));
        let mut world = World::new(Arc::clone(&plan));
        drive(&mut world, &mut Chance(&fate));
        check_history(&plan, &world.records);
        prop_assert!(world.run.steps().all(|step| step.outcome().is_some()));
    }

    #[test]
    fn a_journal_cut_anywhere_goes_on_to_the_end(shape in prop::collection::vec(any::<u8>(), 0..80),
                                                 fate in prop::collection::vec(any::<u8>(), 0..120)) {
        let plan = random_plan(&mut Chance(&shape));
        let mut whole = World::new(Arc::clone(&plan));
        drive(&mut whole, &mut Chance(&fate));
        for cut in 1..=whole.records.len() {
            let mut world = World::from_journal(Arc::clone(&plan), whole.records[..cut].to_vec());
            world.epoch = Epoch(9);
            for fact in world.run.recovery(world.epoch, "the process ended") {
                world.tell(fact).expect("recovery is always possible");
            }
            drive(&mut world, &mut Chance(&fate[fate.len() / 2..]));
            check_history(&plan, &world.records);
            prop_assert_eq!(&world.records[..cut], &whole.records[..cut]);
        }
    }
}

#[test]
fn a_chain_of_four_hundred_costs_what_is_open_and_not_what_is_done() {
    let steps = (0..400).map(|i| {
        let mut step = step(&format!("s{i}"));
        if i > 0 {
            step["needs"] = json!([need(&format!("s{}", i - 1), &[Outcome::Passed])]);
        }
        step
    });
    let mut world = World::new(plan(steps.collect(), None));
    for i in 0..400 {
        let name = format!("s{i}");
        assert_eq!(world.commands(), [Command::Start { step: id(&name), attempt: 1 }]);
        world.settle();
        let (attempt, token) = world.token(&name);
        world
            .tell(RunEvent::Finished { step: id(&name), attempt, token, result: passed() })
            .expect("a result is taken");
    }
    world.settle();
    assert_eq!(world.run.seq().0, 802);
}
