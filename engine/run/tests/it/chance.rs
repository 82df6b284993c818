//! Random plans with everything in them, under random outcomes, votes, notifications, crashes, late results,
//! cancellations and jumps of the clock. Whatever happens, a run keeps its promises, and so does every
//! prefix of its journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_plan::{Outcome, Plan, RunOutcome};
use fairlead_run::{
    CancelReason, Command, Decision, Epoch, RunEvent, RunStatus, StepResult, StepStatus, Vote,
    Voter,
};
use fairlead_step::{Digest, ErrorClass, HumanDuration, RunId, StepId, Verdict};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::paper::check_history;
use crate::world::{
    World, approval, each, failed, need, passed, pause, plan, rejected, step, under, voter,
};

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

fn random_gate(id: &str, chance: &mut Chance<'_>) -> Value {
    let mut gate = match chance.of(3) {
        0 => {
            return pause(
                id,
                [json!({ "duration": "5s" }), json!({ "until": "no" })][chance.of(2)].clone(),
            );
        }
        1 => json!({ "from": ["qa", "boss"], "min": 1 + chance.of(2) }),
        _ => json!({ "from": ["boss", "ann", "qa"], "min": 3, "ordered": true }),
    };
    if chance.of(3) == 1 {
        gate["expires"] = "8s".into();
    }
    gate["not"] = match chance.of(5) {
        1 => json!(["requester"]),
        2 => json!(["approvers"]),
        3 => json!(["builder", "bob"]),
        _ => json!([]),
    };
    approval(id, gate)
}

fn random_step(id: &str, chance: &mut Chance<'_>) -> Value {
    let mut step: Value = match chance.of(6) {
        4 => {
            let lists =
                [json!(["x", "y", "z"]), json!([]), "{{ event.list }}".into(), json!(["x"])];
            let most = [None, Some(1), Some(2)][chance.of(3)];
            each(id, lists[chance.of(4)].clone(), most)
        }
        5 => return random_gate(id, chance),
        _ => step(id),
    };
    step["effect"] = ["idempotent", "pure", "check-then-act", "once"][chance.of(4)].into();
    let on = ["infra", "timeout", "any"][chance.of(3)];
    step["retry"] = json!({ "max": chance.of(4), "first": "1s", "cap": "5s", "on": on });
    if chance.of(3) == 2 {
        step["wait"] = json!({ "deadline": "9s", "every": "4s" });
    }
    if chance.of(4) == 3 {
        step["undo"] = json!({
            "kind": "fake", "kind_version": "1", "effect": "idempotent", "with": { "of": id },
            "retry": { "max": 1, "first": "1s", "cap": "1s", "on": "any" },
        });
    }
    match chance.of(14) {
        6 => step["when"] = "false".into(),
        7 => step["when"] = "params.nothing".into(),
        8 if step["for_each"].is_object() => step["when"] = "item == 'x'".into(),
        _ => {}
    }
    step
}

fn random_plan(chance: &mut Chance<'_>) -> Arc<Plan> {
    let parts =
        [("main", 1 + chance.of(7)), ("on_failure", chance.of(3)), ("finally", chance.of(3))];
    let mut steps: Vec<Value> = Vec::new();
    for (part, count) in parts {
        let first = steps.len();
        for i in first..first + count {
            let mut step = random_step(&format!("s{i}"), chance);
            let mut needs = Vec::new();
            for earlier in first..i {
                if chance.of(4) == 1 {
                    let accepted: Vec<Outcome> = match chance.of(4) {
                        0 | 1 => vec![Outcome::Passed],
                        2 => vec![Outcome::Passed, Outcome::Skipped],
                        _ => Outcome::ALL.into_iter().filter(|_| chance.of(2) == 0).collect(),
                    };
                    needs.push(need(&format!("s{earlier}"), &accepted));
                }
            }
            step["needs"] = needs.into();
            if part != "main" {
                step = under(part, step);
                let all = if part == "finally" { 0 } else { 1 };
                let on = RunOutcome::ALL[all..].iter().filter(|_| chance.of(4) != 3);
                step["on"] = on.map(|outcome| outcome.name()).collect();
            }
            steps.push(step);
        }
    }
    plan(steps, [None, None, None, Some("20s")][chance.of(4)])
}

fn random_world(plan: &Arc<Plan>, chance: &mut Chance<'_>) -> World {
    World::asked(Arc::clone(plan), |request| {
        request.event = json!({ "list": ["x", "w"], "actor": "cat" });
        request.group = [None, None, Some("release".to_owned())][chance.of(3)].clone();
    })
}

fn random_result(world: &World, step: &StepId, chance: &mut Chance<'_>) -> StepResult {
    if world.run.step(step).is_some_and(|step| step.plan().wait.is_some()) && chance.of(2) == 1 {
        return rejected();
    }
    match chance.of(8) {
        0 | 1 => passed(),
        2 => rejected(),
        3 => StepResult::Verdict(Verdict::Skipped { reason: "nothing to do".into() }),
        4 => failed(ErrorClass::Retryable),
        5 => failed(ErrorClass::Terminal),
        6 => StepResult::TimedOut { after: HumanDuration(Duration::from_secs(1)) },
        _ => StepResult::Cancelled { message: "ended by itself".into() },
    }
}

fn people() -> [Voter; 5] {
    [
        voter("ann", &["qa"]),
        voter("bob", &["boss", "qa"]),
        voter("cat", &["boss"]),
        voter("somebody", &["qa", "boss"]),
        voter("eve", &["dev"]),
    ]
}

fn running(world: &World) -> Vec<StepId> {
    let running = world.run.steps().filter(|s| matches!(s.status(), StepStatus::Running { .. }));
    running.map(|step| step.id().clone()).collect()
}

fn finished(world: &World, step: &StepId, result: StepResult) -> RunEvent {
    let (attempt, token) = world.token(step.as_str());
    RunEvent::Finished { step: step.clone(), attempt, token, result }
}

/// What people, groups and the world outside may do now that leads on.
fn outside(world: &World, chance: &mut Chance<'_>) -> Vec<RunEvent> {
    let mut facts = Vec::new();
    if !world.run.is_admitted() {
        facts.push(RunEvent::Admitted);
    }
    for step in world.run.steps() {
        match step.status() {
            StepStatus::NeedsAttention { attempt } => {
                let decision = match chance.of(3) {
                    0 => Decision::Passed { outputs: json!({ "ok": true }) },
                    1 => Decision::Failed,
                    _ => Decision::Again,
                };
                let (step, by) = (step.id().clone(), voter("chance", &[]));
                facts.push(RunEvent::Settled { step, attempt, by, decision, reason: None });
            }
            StepStatus::Open { .. } => {
                let vote = [Vote::Approve, Vote::Approve, Vote::Reject][chance.of(3)];
                let can = |by: &Voter| world.run.check_vote(step.id(), by, vote).is_ok();
                let able: Vec<Voter> = people().into_iter().filter(can).collect();
                if let Some(by) = chance.pick(&able).cloned() {
                    let step = step.id().clone();
                    facts.push(RunEvent::Voted { step, by, vote, reason: None });
                }
            }
            StepStatus::Asking { .. } => {
                if chance.of(3) == 1 {
                    facts.push(RunEvent::Woken { step: step.id().clone(), why: "notified".into() });
                }
            }
            StepStatus::Waiting
            | StepStatus::Running { .. }
            | StepStatus::Retrying { .. }
            | StepStatus::Items { .. }
            | StepStatus::Ended(_) => {}
        }
    }
    facts
}

/// The process dies and another one reads the journal. Answers the results that the old one may
/// still send.
fn crash(world: &mut World) -> Vec<RunEvent> {
    let late = running(world).iter().map(|step| finished(world, step, passed())).collect();
    let mut next = world.taken_up();
    next.now = world.now;
    next.epoch = Epoch(world.epoch.0 + 1);
    assert_eq!(next.picture(), world.picture(), "replayed as it was live");
    assert_eq!(next.commands(), world.commands(), "and it wants the same");
    assert_eq!(next.run.deadline(), world.run.deadline());
    for fact in next.run.recovery(next.epoch, "the process ended") {
        next.tell(fact).expect("recovery is always possible");
    }
    *world = next;
    late
}

/// What must hold at every moment.
fn check_now(world: &World) {
    let run = &world.run;
    let waits = run.only_waits();
    if waits {
        assert_eq!(run.recovery(Epoch(99), "x"), [], "who only waits has nothing to recover");
        assert_eq!(running(world), []);
    }
    let rests =
        matches!(run.status(), RunStatus::Queued | RunStatus::Waiting | RunStatus::NeedsAttention);
    assert_eq!(rests, waits, "{}", world.picture());
    if run.ended().is_none() && !waits {
        let idle = world.commands().is_empty() && running(world).is_empty();
        assert!(!idle, "nothing goes on and nothing is waited for:\n{}", world.picture());
    }
    let few = run.commands_with(world.now, 1);
    let starts = few.iter().filter(|command| matches!(command, Command::Start { .. }));
    assert!(starts.count() <= 1);
    let told = run.explain(fairlead_run::Around { held: true, signals: 0 });
    assert_eq!(told.steps.len(), run.steps().count());
    if waits {
        assert!(!told.unblocks.is_empty(), "what lets it go on is told:\n{told}");
    }
}

/// Drives a run to its end, as chance has it.
fn drive(world: &mut World, chance: &mut Chance<'_>) {
    let mut late: Vec<RunEvent> = Vec::new();
    for round in 0.. {
        assert!(round < 3000, "the run does not end:\n{}", world.picture());
        let commands = world.commands();
        if world.run.ended().is_some() {
            assert_eq!(commands, []);
            break;
        }
        check_now(world);
        let mut facts: Vec<RunEvent> =
            commands.iter().filter_map(|c| c.fact(world.run.id(), world.epoch)).collect();
        facts.extend(outside(world, chance));
        let busy = running(world);
        match chance.of(21) {
            0..=6 => match (chance.pick(&facts), chance.pick(&busy)) {
                (Some(fact), _) => world.tell(fact.clone()).expect("a command's fact is taken"),
                (None, Some(step)) => {
                    world.tell(finished(world, step, passed())).expect("a result is taken");
                }
                (None, None) => match commands.last() {
                    Some(Command::WaitUntil(due)) => world.now = *due,
                    Some(other) => panic!("nothing runs, and all it wants is {other:?}"),
                    // A gate at which nobody is left who may vote.
                    None => {
                        let open = |status| matches!(status, StepStatus::Open { due: None });
                        let mut steps = world.run.steps();
                        assert!(steps.any(|step| open(step.status())), "{}", world.picture());
                        drop(steps);
                        world.tell(crate::world::cancel()).expect("it can be stopped");
                    }
                },
            },
            7..=10 => {
                if let Some(step) = chance.pick(&busy) {
                    let result = random_result(world, step, chance);
                    let fact = finished(world, step, result);
                    world.tell(fact.clone()).expect("a result is taken");
                    world.tell(fact.clone()).expect_err("and not twice");
                    late.push(fact);
                }
            }
            11 => late.extend(crash(world)),
            19 => {
                // All that one answer says, as the dispatcher takes it in.
                for command in &commands {
                    if let Some(fact) = command.fact(world.run.id(), world.epoch) {
                        world.tell(fact).expect("no command stands in the way of another");
                    }
                }
            }
            12 => {
                if let Some(fact) = chance.pick(&late) {
                    world.tell(fact.clone()).expect_err("a late result is refused");
                }
            }
            13 => {
                if chance.of(4) == 3 {
                    let by = RunId::mint(1, 2);
                    let reason = match chance.of(3) {
                        0 => CancelReason::Asked { why: None },
                        1 => CancelReason::Superseded { by },
                        _ => CancelReason::Busy { holder: by },
                    };
                    let possible = world.run.can_cancel();
                    let told =
                        world.tell(RunEvent::CancelRequested { by: "chance".into(), reason });
                    assert_eq!(told.is_ok(), possible);
                }
            }
            14 => world.now += SignedDuration::from_secs(chance.of(8) as i64),
            15 => world.now -= SignedDuration::from_secs(chance.of(60) as i64),
            16 => {
                // Anybody votes anywhere; what is refused changes nothing.
                let steps: Vec<StepId> = world.run.steps().map(|step| step.id().clone()).collect();
                let people = people();
                if let (Some(step), Some(by)) = (chance.pick(&steps), chance.pick(&people)) {
                    let (before, vote) =
                        (world.picture(), [Vote::Approve, Vote::Reject][chance.of(2)]);
                    if world.vote(step.as_str(), by, vote).is_err() {
                        assert_eq!(world.picture(), before);
                    }
                }
            }
            17 => {
                if let Some(step) = chance.pick(&busy).cloned() {
                    let (attempt, token) = world.token(step.as_str());
                    let (key, run) = (Digest::sha256(b"key"), RunId::mint(1, 3));
                    let outputs = json!({ "ok": true });
                    world
                        .tell(RunEvent::CacheHit { step, attempt, token, key, run, outputs })
                        .expect("a cached result is taken");
                }
            }
            _ => {
                let fact = RunEvent::Queued { group: None, behind: None };
                let before = world.picture();
                if world.run.seq().0 > 1 && world.run.is_admitted() {
                    let begun = world.run.steps().any(|step| {
                        !matches!(step.status(), StepStatus::Waiting | StepStatus::Ended(_))
                    });
                    if begun {
                        world.tell(fact).expect_err("it has begun");
                        assert_eq!(world.picture(), before);
                    }
                } else if world.run.queued().is_none() && world.run.ended().is_none() {
                    let done = world.run.steps().any(|step| step.outcome().is_some());
                    if !done {
                        world.tell(fact).expect("it may wait before it begins");
                    }
                }
            }
        }
    }
}

/// The runs that begin from one that has ended, driven to their ends as well.
fn drive_again(old: &World, chance: &mut Chance<'_>) {
    let steps: Vec<StepId> = old.run.steps().map(|step| step.id().clone()).collect();
    let from: Vec<StepId> =
        (0..chance.of(3)).filter_map(|_| chance.pick(&steps).cloned()).collect();
    if let Ok(origin) = old.run.to_retry(&from, &old.plan) {
        let kept = origin.kept.clone();
        let mut new = World::after(old, Arc::clone(&old.plan), origin, |request| {
            request.event = old.run.request().event.clone();
        });
        drive(&mut new, chance);
        check_history(&new.plan, &new.records);
        for kept in kept {
            let Some(step) = new.run.step(&kept.step) else { continue };
            assert_eq!(step.attempts().len(), 0, "{} is kept", kept.step);
            // One of a list that was never come to was cancelled with its step.
            assert_eq!(step.outcome(), Some(kept.outcome));
            let was = old.run.step(&kept.step).and_then(|step| step.outputs());
            assert_eq!(step.outputs(), was);
        }
    }
    if let Ok((plan, origin)) = old.run.to_undo() {
        let mut undo = World::after(old, Arc::new(plan), origin, |request| {
            request.event = old.run.request().event.clone();
        });
        drive(&mut undo, chance);
        check_history(&undo.plan, &undo.records);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_keeps_the_rules(shape in prop::collection::vec(any::<u8>(), 0..160),
                                          fate in prop::collection::vec(any::<u8>(), 0..500)) {
        let chance = &mut Chance(&shape);
        let plan = random_plan(chance);
        let mut world = random_world(&plan, chance);
        drive(&mut world, &mut Chance(&fate));
        check_history(&plan, &world.records);
        prop_assert!(world.run.steps().all(|step| step.outcome().is_some()));
        drive_again(&world, &mut Chance(&fate[fate.len() / 3..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_cut_anywhere_goes_on_to_the_end(shape in prop::collection::vec(any::<u8>(), 0..120),
                                                 fate in prop::collection::vec(any::<u8>(), 0..160)) {
        let chance = &mut Chance(&shape);
        let plan = random_plan(chance);
        let mut whole = random_world(&plan, chance);
        drive(&mut whole, &mut Chance(&fate));
        for cut in 1..=whole.records.len() {
            let taken_up = || {
                let mut world =
                    World::from_journal(Arc::clone(&plan), whole.records[..cut].to_vec());
                world.epoch = Epoch(9);
                world
            };
            let mut world = taken_up();
            for command in world.commands() {
                if let Some(fact) = command.fact(world.run.id(), world.epoch) {
                    taken_up().tell(fact).expect("a command's fact is taken");
                }
            }
            for fact in world.run.recovery(world.epoch, "the process ended") {
                world.tell(fact).expect("recovery is always possible");
            }
            drive(&mut world, &mut Chance(&fate[fate.len() / 2..]));
            check_history(&plan, &world.records);
            prop_assert_eq!(&world.records[..cut], &whole.records[..cut]);
        }
    }
}

/// Bytes that look random and are the same each time.
fn bytes(seed: usize, blocks: usize) -> Vec<u8> {
    let block = |n| Digest::sha256(format!("{seed}/{n}").as_bytes()).hex().to_owned();
    let hex: String = (0..blocks).map(block).collect();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte");
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[test]
fn chance_comes_to_everything_that_there_is() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut retried, mut undone) = (0, 0);
    for seed in 0..300 {
        let shape = bytes(seed, 5);
        let chance = &mut Chance(&shape);
        let plan = random_plan(chance);
        let mut world = random_world(&plan, chance);
        drive(&mut world, &mut Chance(&bytes(seed + 1000, 12)));
        for record in &world.records {
            *seen.entry(crate::stored::kind_of(record.event())).or_default() += 1;
        }
        for step in world.run.steps().filter(|step| step.item().is_some()) {
            let what = if step.attempts().is_empty() { "item without" } else { "item with" };
            *seen.entry(what).or_default() += 1;
        }
        retried += usize::from(world.run.to_retry(&[], &plan).is_ok_and(|o| !o.kept.is_empty()));
        undone += usize::from(world.run.to_undo().is_ok());
    }
    assert_eq!(seen.len(), 19 + 2, "{seen:?}");
    assert!(seen.values().all(|&times| times >= 20), "{seen:?}");
    assert!(retried >= 20 && undone >= 20, "{retried} made again, {undone} taken back");
}
