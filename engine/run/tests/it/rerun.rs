//! Runs that begin from another one, and cached results.

use fairlead_plan::{Outcome, Plan, RunOutcome};
use fairlead_run::{
    ApplyError, AttemptEnd, Command, Origin, Purpose, RerunError, RunEvent, RunStatus, StepStatus,
    Vote,
};
use fairlead_step::{Digest, ErrorClass, RunId, StepId};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::world::{
    World, after, approval, cancel, each, failed, finally, id, passed, plan, rejected, step, voter,
};

fn ended(steps: Vec<Value>, drive: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(plan(steps, None));
    world.settle();
    drive(&mut world);
    assert!(world.run.ended().is_some(), "{}", world.picture());
    world
}

fn again(old: &World, from: &[&str]) -> Result<World, RerunError> {
    let from: Vec<StepId> = from.iter().map(|step| id(step)).collect();
    let origin = old.run.to_retry(&from, &old.plan)?;
    let mut world = World::after(old, old.plan.clone(), origin, |_| ());
    world.settle();
    Ok(world)
}

#[test]
fn what_was_good_is_kept_with_its_outputs_and_the_rest_is_made_again() {
    let mut reads = after("reads", &["a", "b"]);
    reads["with"] = json!({ "ok": "{{ steps.a.ok }}", "how": "{{ steps.a.outcome }}" });
    let old = ended(vec![step("a"), step("b"), reads, finally("z", &["passed", "failed"])], |w| {
        w.finish("a", passed());
        w.finish("b", failed(ErrorClass::Terminal));
        w.finish("z", passed());
    });
    let mut new = again(&old, &[]).unwrap();
    assert_snapshot!(new.picture().replace(&old.run.id().to_string(), "OLD"), @r"
    a: passed (kept from run OLD)
    b: running, attempt 1
    reads: waiting
    z: waiting
    run: running
    ");
    new.restart(10);
    new.finish("b", passed());
    assert_eq!(
        new.run.render(&id("reads")).unwrap().display(),
        &json!({ "ok": true, "how": "passed" })
    );
    new.finish("reads", passed());
    new.finish("z", passed());
    assert_eq!(new.run.status(), RunStatus::Ended(RunOutcome::Passed));
    // A third one keeps what the second one kept.
    let third = again(&new, &["reads"]).unwrap();
    assert!(third.reason("a").starts_with("kept from run"), "{}", third.picture());
    assert_eq!(third.status("reads"), StepStatus::Running { attempt: 1 });
    assert_eq!(third.status("b"), StepStatus::Ended(Outcome::Passed));
}

#[test]
fn from_a_step_on_all_that_needs_it_is_made_again() {
    let steps = vec![step("a"), after("b", &["a"]), step("c")];
    let old = ended(steps, |w| {
        w.finish("a", passed());
        w.finish("b", passed());
        w.finish("c", passed());
    });
    let new = again(&old, &["a"]).unwrap();
    assert_eq!(new.status("a"), StepStatus::Running { attempt: 1 });
    assert_eq!(new.status("b"), StepStatus::Waiting);
    assert_eq!(new.status("c"), StepStatus::Ended(Outcome::Passed));
    assert_eq!(again(&old, &[]).err(), Some(RerunError::NothingLeft { run: old.run.id().clone() }));
    let missing = RerunError::NoSuchStep { run: old.run.id().clone(), step: id("x") };
    assert_eq!(again(&old, &["x"]).err(), Some(missing));
}

#[test]
fn what_is_kept_or_not_when_a_run_is_made_again() {
    let gate = |id: &str, rule| approval(id, rule);
    let mut skipped = step("skipped");
    skipped["when"] = "false".into();
    let steps = vec![
        gate("first", json!({ "from": ["qa"], "min": 1 })),
        gate("second", json!({ "from": ["qa"], "min": 1, "not": ["approvers"] })),
        skipped,
        step("idle"),
        finally("z", &["passed", "rejected", "failed", "cancelled"]),
    ];
    let ada = voter("ada", &["qa"]);
    let old = ended(steps, |w| {
        w.vote("first", &ada, Vote::Approve).unwrap();
        w.vote("second", &voter("bob", &["qa"]), Vote::Reject).unwrap();
        let verdict = fairlead_step::Verdict::Skipped { reason: "no difference".into() };
        w.finish("idle", fairlead_run::StepResult::Verdict(verdict));
        w.finish("z", passed());
    });
    let mut new = again(&old, &[]).unwrap();
    let kept: Vec<&str> =
        new.run.request().origin.as_ref().unwrap().kept.iter().map(|k| k.step.as_str()).collect();
    assert_eq!(kept, ["first", "idle"], "a condition is decided anew, and so is a rejected gate");
    let vote = new.vote("second", &ada, Vote::Approve);
    assert!(matches!(vote, Err(ApplyError::MayNotVote { .. })), "her approval was kept: {vote:?}");
    new.vote("second", &voter("bob", &["qa"]), Vote::Approve).unwrap();
    new.settle();
    new.finish("z", passed());
    assert_eq!(new.run.status(), RunStatus::Ended(RunOutcome::Passed));
    let not_main = again(&old, &["z"]).err();
    assert_eq!(not_main, Some(RerunError::NotMain { step: id("z"), phase: "finally" }));
}

#[test]
fn items_that_were_good_are_kept() {
    let steps = vec![each("scan", json!(["a", "b", "c"]), Some(1)), after("last", &["scan"])];
    let old = ended(steps, |w| {
        w.finish("scan[a]", passed());
        w.finish("scan[b]", rejected());
        w.finish("scan[c]", passed());
    });
    let mut new = again(&old, &[]).unwrap();
    assert_eq!(new.status("scan[b]"), StepStatus::Running { attempt: 1 });
    assert_eq!(new.status("scan[c]"), StepStatus::Ended(Outcome::Passed));
    new.finish("scan[b]", passed());
    new.finish("last", passed());
    let one = again(&new, &["scan[c]"]);
    // The step was put together anew in `new`, so that its items are known there.
    let one = one.unwrap();
    assert_eq!(one.status("scan[c]"), StepStatus::Running { attempt: 1 });
    assert_eq!(one.status("scan[a]"), StepStatus::Ended(Outcome::Passed));
    assert_eq!(one.status("last"), StepStatus::Waiting);
    let all = again(&new, &["scan"]).unwrap();
    assert_eq!(all.status("scan[a]"), StepStatus::Running { attempt: 1 });
    let missing = again(&new, &["scan[z]"]).err();
    assert!(matches!(missing, Some(RerunError::NoSuchStep { .. })));
}

#[test]
fn a_run_that_goes_on_is_not_made_again() {
    let mut world = World::new(plan(vec![step("a")], None));
    world.settle();
    let goes_on = RerunError::NotEnded { run: world.run.id().clone() };
    assert_eq!(world.run.to_retry(&[], &world.plan), Err(goes_on.clone()));
    assert_eq!(world.run.to_undo().map(|_| ()), Err(goes_on));
}

fn undoable(mut step: Value) -> Value {
    let name = step["id"].as_str().expect("a name").to_owned();
    let text = format!("{{{{ steps.{name}.ok }}}} of {{{{ params.who }}}}");
    step["undo"] = json!({
        "kind": "fake", "kind_version": "1", "effect": "idempotent",
        "with": { "what": text },
        "retry": { "max": 0, "first": "2s", "cap": "1m", "on": "infra" },
    });
    step
}

#[test]
fn what_a_run_did_is_taken_back_in_reverse_from_its_own_outputs() {
    let steps = vec![
        undoable(step("a")),
        undoable(after("b", &["a"])),
        undoable(step("c")),
        step("undo-a"),
        undoable(each("e", json!(["x", "y"]), None)),
    ];
    let mut old = World::asked(plan(steps, None), |r| r.params = json!({ "who": "ada" }));
    old.settle();
    for done in ["e[x]", "a", "undo-a", "b", "e[y]"] {
        old.finish(done, passed());
        old.now += jiff::SignedDuration::from_secs(1);
    }
    old.finish("c", failed(ErrorClass::Terminal));
    let (plan, origin) = old.run.to_undo().unwrap();
    let names: Vec<&str> = plan.steps().iter().map(|step| step.id.as_str()).collect();
    assert_eq!(names, ["undo-e", "undo-b", "undo-a"], "`c` did nothing");
    assert_eq!((origin.purpose, &origin.run), (Purpose::Undo, old.run.id()));
    let stored = serde_json::to_vec(&plan).expect("a stored plan");
    let plan: Plan = serde_json::from_slice(&stored).expect("the same plan");
    let mut undo = World::after(&old, plan.into(), origin, |request| {
        request.params = json!({ "who": "ada" });
    });
    undo.settle();
    assert!(undo.run.step(&id("undo-e[x]")).is_some(), "{}", undo.picture());
    let show = |world: &World, step: &str| world.run.render(&id(step)).unwrap().display().clone();
    assert_eq!(show(&undo, "undo-e[y]"), json!({ "what": "true of ada" }));
    undo.finish("undo-e[y]", passed());
    undo.finish("undo-e[x]", passed());
    // The old run has a step of this very name; how that ended is not how this one does.
    assert_eq!(undo.status("undo-b"), StepStatus::Running { attempt: 1 });
    assert_eq!(undo.status("undo-a"), StepStatus::Waiting);
    undo.restart(1);
    undo.finish("undo-b", passed());
    assert_eq!(show(&undo, "undo-a"), json!({ "what": "true of ada" }));
    undo.finish("undo-a", failed(ErrorClass::Terminal));
    assert_eq!(undo.run.status(), RunStatus::Ended(RunOutcome::Failed));
    let twice = RerunError::IsUndo { run: undo.run.id().clone(), origin: old.run.id().clone() };
    assert_eq!(undo.run.to_undo().map(|_| ()), Err(twice));
}

#[test]
fn what_was_kept_or_never_took_effect_is_not_taken_back() {
    let steps = vec![undoable(step("a")), after("b", &["a"])];
    let old = ended(steps, |w| {
        w.finish("a", passed());
        w.finish("b", failed(ErrorClass::Terminal));
    });
    let mut new = again(&old, &[]).unwrap();
    new.finish("b", passed());
    let nothing = RerunError::NothingToUndo { run: new.run.id().clone() };
    assert_eq!(new.run.to_undo().map(|_| ()), Err(nothing), "`a` is the work of the run before");
    assert_eq!(old.run.to_undo().map(|(plan, _)| plan.steps().len()), Ok(1));
}

#[test]
fn an_origin_may_name_steps_that_the_plan_no_longer_has() {
    let origin = Origin {
        run: RunId::mint(1, 1),
        purpose: Purpose::Retry,
        from: vec![id("a")],
        kept: vec![fairlead_run::Kept {
            step: id("gone"),
            outcome: Outcome::Passed,
            outputs: None,
        }],
    };
    let mut world = World::asked(plan(vec![step("a")], None), |r| r.origin = Some(origin));
    world.settle();
    world.finish("a", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed));
}

#[test]
fn a_remembered_result_ends_the_attempt_that_runs_and_no_other() {
    let mut a = step("a");
    a["effect"] = "pure".into();
    a["cache"] = json!({});
    let mut world = World::new(plan(vec![a, after("b", &["a"])], None));
    let run = RunId::mint(1_780_000_000_000, 5);
    let key = Digest::sha256(b"all that went in");
    let fact = |world: &World, attempt, epoch| RunEvent::CacheHit {
        step: id("a"),
        attempt,
        token: fairlead_run::AttemptToken::mint(world.run.id(), &id("a"), attempt, epoch),
        key: key.clone(),
        run: run.clone(),
        outputs: json!({ "n": 1 }),
    };
    let now = |world: &World| fact(world, 1, world.epoch);
    assert_eq!(world.tell(now(&world)), Err(ApplyError::NotRunning { step: id("a") }));
    world.settle();
    let stale = |attempt| Err(ApplyError::StaleResult { step: id("a"), attempt });
    assert_eq!(world.tell(fact(&world, 1, fairlead_run::Epoch(9))), stale(1));
    assert_eq!(world.tell(fact(&world, 2, world.epoch)), stale(2));
    world.tell(now(&world)).unwrap();
    assert_eq!(world.tell(now(&world)), stale(1), "and not twice");
    let step = world.run.step(&id("a")).unwrap();
    assert_eq!(step.outputs(), Some(&json!({ "n": 1 })));
    let end = step.attempts()[0].ended.as_ref().map(|(_, end)| end.clone());
    assert_eq!(end, Some(AttemptEnd::CacheHit { run, key }));
    assert_eq!(world.commands(), [Command::Start { step: id("b"), attempt: 1 }]);
    world.settle();
    world.tell(cancel()).unwrap();
}
