//! What many steps cost: each transition what it changes, and not what there is.

use std::time::{Duration, Instant};

use fairlead_plan::Outcome;
use fairlead_run::{Command, RunEvent, RunStatus};
use serde_json::{Value, json};

use crate::world::{World, each, finally, id, need, passed, plan, step};

/// So many steps are a lot: a cost that grows with their square is minutes in a debug build.
const MANY: usize = 10_000;
/// Far above what it takes, and far below a square.
const ENOUGH: Duration = Duration::from_secs(20);

/// Drives a run to its end as the dispatcher does, 16 attempts at a time.
fn drive(world: &mut World) {
    loop {
        let commands = world.run.commands_with(world.now, 16);
        if commands.is_empty() {
            break;
        }
        for command in commands {
            let Some(fact) = command.fact(world.run.id(), world.epoch) else { continue };
            world.tell(fact).expect("a command's fact is taken");
            let Command::Start { step, attempt } = command else { continue };
            let (_, token) = world.token(step.as_str());
            world
                .tell(RunEvent::Finished { step, attempt, token, result: passed() })
                .expect("a result is taken");
        }
    }
}

fn costs(steps: Vec<Value>, change: impl FnOnce(&mut fairlead_run::Request)) {
    let mut world = World::asked(plan(steps, None), change);
    let begun = Instant::now();
    drive(&mut world);
    let took = begun.elapsed();
    assert!(matches!(world.run.status(), RunStatus::Ended(_)), "{}", world.run.status());
    assert!(took < ENOUGH, "{took:?}");
    let begun = Instant::now();
    let replayed = World::from_journal(world.plan.clone(), world.records);
    let took = begun.elapsed();
    assert!(took < ENOUGH, "{took:?} to replay");
    let begun = Instant::now();
    let told = replayed.run.explain(fairlead_run::Around { held: false, signals: 0 });
    let took = begun.elapsed();
    assert!(told.steps.len() >= MANY / 2 && took < ENOUGH, "{took:?} to explain");
}

fn wide(count: usize, accepted: &[Outcome]) -> Vec<Value> {
    let mut steps: Vec<Value> = (0..count - 2).map(|i| step(&format!("s{i}"))).collect();
    let mut last = step("last");
    last["needs"] = (0..count - 2).map(|i| need(&format!("s{i}"), accepted)).collect();
    steps.push(last);
    steps.push(finally("z", &["passed"]));
    steps
}

fn chain(count: usize) -> Vec<Value> {
    let steps = (0..count).map(|i| {
        let mut step = step(&format!("s{i}"));
        if i > 0 {
            step["needs"] = json!([need(&format!("s{}", i - 1), &[Outcome::Passed])]);
        }
        step
    });
    steps.collect()
}

/// Four times as many steps take about four times as long; by the square it would be sixteen. The best
/// of a few is taken, as other tests run beside this one.
fn grows_with_what_there_is(steps: impl Fn(usize) -> Vec<Value>) {
    let best = |count: usize, of: usize| {
        let take = |_| {
            let mut world = World::new(plan(steps(count), None));
            let begun = Instant::now();
            drive(&mut world);
            begun.elapsed()
        };
        (0..of).map(take).min().expect("some")
    };
    let (few, many) = (best(MANY / 4, 4), best(MANY, 2));
    assert!(many < few * 9, "{few:?} for a quarter, and {many:?} for all of it");
}

#[test]
fn a_step_that_needs_ten_thousand_costs_its_needs_once() {
    costs(wide(MANY, &[Outcome::Passed]), |_| ());
    grows_with_what_there_is(|count| wide(count, &[Outcome::Passed]));
}

#[test]
fn a_step_that_ten_thousand_needs_fail_is_skipped_for_the_first_of_them() {
    let mut world = World::new(plan(wide(MANY, &[Outcome::Failed]), None));
    let begun = Instant::now();
    drive(&mut world);
    assert!(begun.elapsed() < ENOUGH, "{:?}", begun.elapsed());
    assert_eq!(world.reason("last"), "`s0` passed");
}

#[test]
fn ten_thousand_in_a_chain_cost_what_is_open() {
    costs(chain(MANY), |_| ());
    grows_with_what_there_is(chain);
}

#[test]
fn ten_steps_of_a_thousand_items_are_taken_over_item_by_item() {
    let keys: Vec<String> = (0..1000).map(|i| format!("k{i}")).collect();
    let steps: Vec<Value> = (0..10).map(|i| each(&format!("s{i}"), json!(keys), Some(4))).collect();
    let kept = (0..10).flat_map(|i| (0..999).map(move |k| format!("s{i}[k{k}]")));
    let kept = kept.map(|step| fairlead_run::Kept {
        step: id(&step),
        outcome: Outcome::Passed,
        outputs: Some(fairlead_run::KeptOutputs::Copied(json!({ "ok": true }))),
    });
    let origin = fairlead_run::Origin {
        run: fairlead_step::RunId::mint(1, 1),
        purpose: fairlead_run::Purpose::Retry,
        from: Vec::new(),
        kept: kept.collect(),
    };
    costs(steps, |request| request.origin = Some(origin));
}

#[test]
fn ten_thousand_that_end_at_once_cost_what_they_are() {
    let mut world = World::new(plan(wide(MANY, &[Outcome::Passed]), None));
    let begun = Instant::now();
    world.tell(crate::world::cancel()).expect("it can be stopped");
    world.settle();
    assert!(begun.elapsed() < ENOUGH, "{:?}", begun.elapsed());
    assert!(world.run.ended().is_some());
}

#[test]
fn a_chain_of_four_hundred_costs_what_is_open_and_not_what_is_done() {
    let mut world = World::new(plan(chain(400), None));
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
