//! Steps that are made once for each item of a list.

use fairlead_plan::{Item, Outcome, RunOutcome};
use fairlead_run::{
    ApplyError, Command, Kept, KeptOutputs, Origin, Purpose, RunEvent, RunStatus, StepStatus,
};
use fairlead_step::{ErrorClass, RunId};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::world::{
    World, after, cancel, cancelled, each, failed, id, passed, plan, rejected, step,
};

fn running(world: &World) -> Vec<String> {
    let running = world.run.steps().filter(|s| matches!(s.status(), StepStatus::Running { .. }));
    running.map(|step| step.id().to_string()).collect()
}

fn items(keys: &[&str]) -> Vec<Item> {
    keys.iter().map(|key| Item { key: (*key).into(), value: (*key).into() }).collect()
}

#[test]
fn each_item_is_a_step_of_its_own_and_their_outputs_become_lists() {
    let mut build = step("build");
    build["when"] = "true".into();
    let mut scan = each("scan", "{{ steps.build.images }}".into(), None);
    scan["needs"] = after("x", &["build"])["needs"].clone();
    scan["with"] = json!({ "image": "{{ item.name }} of {{ item_key }}" });
    scan["for_each"]["key"] = "item.name".into();
    let mut world = World::new(plan(vec![build, scan, after("last", &["scan"])], None));
    world.settle();
    let images = json!({ "images": [{ "name": "web" }, { "name": "api" }] });
    let verdict = fairlead_step::Verdict::passed(images);
    world.finish("build", fairlead_run::StepResult::Verdict(verdict));
    assert_snapshot!(world.picture(), @r"
    build: passed
    scan: 2 items left
    scan[web]: running, attempt 1
    scan[api]: running, attempt 1
    last: waiting
    run: running
    ");
    let input = world.run.render(&id("scan[api]")).unwrap();
    assert_eq!(input.display(), &json!({ "image": "api of api" }));
    world.finish("scan[api]", passed());
    world.finish("scan[web]", rejected());
    assert_eq!(world.status("scan"), StepStatus::Ended(Outcome::Rejected));
    assert_eq!(world.reason("scan"), "1 of 2 items did not pass");
    let outputs = world.run.step(&id("scan")).unwrap().outputs().unwrap().clone();
    let (web, api) = (json!({}), json!({ "ok": true }));
    assert_eq!(outputs, json!({ "items": [web, api], "by_key": { "web": web, "api": api } }));
    assert_eq!(world.reason("last"), "`scan` was rejected");
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Rejected));
}

#[test]
fn a_step_ends_as_the_worst_of_its_items() {
    for (results, outcome, why) in [
        (vec![passed(), passed()], Outcome::Passed, ""),
        (vec![passed(), rejected()], Outcome::Rejected, "1 of 2 items did not pass"),
        (
            vec![failed(ErrorClass::Terminal), rejected()],
            Outcome::Failed,
            "2 of 2 items did not pass",
        ),
        (
            vec![cancelled(), failed(ErrorClass::Terminal)],
            Outcome::Cancelled,
            "2 of 2 items did not pass",
        ),
    ] {
        let mut world = World::new(plan(vec![each("scan", json!(["a", "b"]), None)], None));
        world.settle();
        for (key, result) in ["scan[a]", "scan[b]"].into_iter().zip(results) {
            world.finish(key, result);
        }
        assert_eq!(world.status("scan"), StepStatus::Ended(outcome));
        assert_eq!(world.reason("scan"), why);
    }
}

#[test]
fn no_items_pass_and_no_list_fails() {
    let steps =
        vec![each("none", json!([]), None), each("bad", "{{ event.nothing }}".into(), None)];
    let mut world = World::new(plan(steps, None));
    world.settle();
    assert_eq!(world.status("none"), StepStatus::Ended(Outcome::Passed));
    let outputs = world.run.step(&id("none")).unwrap().outputs();
    assert_eq!(outputs, Some(&json!({ "items": [], "by_key": {} })));
    assert_eq!(world.status("bad"), StepStatus::Ended(Outcome::Failed));
    assert!(world.reason("bad").starts_with("for_each: "), "{}", world.reason("bad"));
}

#[test]
fn no_more_items_go_on_at_a_time_than_may() {
    let list = json!(["a", "b", "c", "d", "e"]);
    let mut scan = each("scan", list, Some(2));
    scan["retry"] = json!({ "max": 1, "first": "9s", "cap": "9s", "on": "infra" });
    let mut world = World::new(plan(vec![scan], None));
    world.settle();
    assert_eq!(running(&world), ["scan[a]", "scan[b]"]);
    world.finish("scan[a]", failed(ErrorClass::Retryable));
    assert_eq!(running(&world), ["scan[b]"], "one that waits to be tried again keeps its place");
    world.finish("scan[b]", passed());
    assert_eq!(running(&world), ["scan[c]"]);
    world.restart(1);
    assert_eq!(running(&world), ["scan[c]"], "also after a crash");
    world.wait(9);
    assert_eq!(running(&world), ["scan[a]", "scan[c]"]);
    world.finish("scan[a]", passed());
    world.finish("scan[d]", passed());
    assert_eq!(running(&world), ["scan[c]", "scan[e]"]);
    world.finish("scan[c]", passed());
    world.finish("scan[e]", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed));
}

#[test]
fn a_condition_that_reads_the_item_is_decided_for_each() {
    let mut some = each("some", json!(["a", "b", "c"]), Some(1));
    some["when"] = "item != 'b'".into();
    let mut all = each("all", json!(["a"]), None);
    all["when"] = "params.nothing == 1".into();
    let mut none = each("none", json!(["a"]), None);
    none["when"] = "false".into();
    let mut skip = each("skip", json!(["a", "b"]), None);
    skip["when"] = "item_key == 'z'".into();
    let mut world = World::new(plan(vec![some, all, none, skip], None));
    world.settle();
    world.finish("some[a]", passed());
    assert_snapshot!(world.picture(), @r"
    some: 1 items left
    some[a]: passed
    some[b]: skipped (its `when` is false)
    some[c]: running, attempt 1
    all: failed (when: `params.nothing == 1`: there is no parameter `nothing`)
    none: skipped (its `when` is false)
    skip: skipped
    skip[a]: skipped (its `when` is false)
    skip[b]: skipped (its `when` is false)
    run: running
    ");
    world.finish("some[c]", passed());
    assert_eq!(world.status("some"), StepStatus::Ended(Outcome::Passed));
}

#[test]
fn a_condition_of_an_item_without_a_value_fails_that_item() {
    let mut some = each("some", json!([{ "k": "a", "on": true }, { "k": "b" }]), None);
    some["for_each"]["key"] = "item.k".into();
    some["when"] = "item.on".into();
    let mut world = World::new(plan(vec![some], None));
    world.settle();
    assert_eq!(world.status("some[b]"), StepStatus::Ended(Outcome::Failed));
    world.finish("some[a]", passed());
    assert_eq!(world.status("some"), StepStatus::Ended(Outcome::Failed));
}

#[test]
fn cancel_stops_the_items_that_run_and_drops_the_others() {
    let steps = vec![each("scan", json!(["a", "b", "c"]), Some(1)), after("z", &["scan"])];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.tell(cancel()).unwrap();
    assert_eq!(world.settle(), [Command::StopAttempt { step: id("scan[a]"), attempt: 1 }]);
    assert_snapshot!(world.picture(), @r"
    scan: 1 items left
    scan[a]: running, attempt 1
    scan[b]: cancelled (the run was cancelled)
    scan[c]: cancelled (the run was cancelled)
    z: cancelled (the run was cancelled)
    run: cancelling
    ");
    world.finish("scan[a]", passed());
    assert_eq!(world.status("scan"), StepStatus::Ended(Outcome::Cancelled));
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}

#[test]
fn a_lost_item_that_must_not_be_made_twice_waits_for_a_person() {
    let mut ship = each("ship", json!(["a", "b"]), None);
    ship["effect"] = "once".into();
    let mut world = World::new(plan(vec![ship], None));
    world.settle();
    world.finish("ship[a]", passed());
    world.restart(1);
    assert_eq!(world.status("ship[b]"), StepStatus::NeedsAttention { attempt: 1 });
    let refused = world.run.check_settle(&id("ship"), 1);
    assert_eq!(refused, Err(ApplyError::NothingToSettle { step: id("ship") }));
    world
        .tell(RunEvent::Settled {
            step: id("ship[b]"),
            attempt: 1,
            by: crate::world::voter("ada", &[]),
            decision: fairlead_run::Decision::Passed { outputs: json!({ "n": 2 }) },
            reason: None,
        })
        .unwrap();
    let outputs = world.run.step(&id("ship")).unwrap().outputs().unwrap();
    assert_eq!(outputs["by_key"]["b"], json!({ "n": 2 }));
    assert_eq!(world.status("ship"), StepStatus::Ended(Outcome::Passed));
}

#[test]
fn items_that_cannot_be_are_refused_and_change_nothing() {
    let mut scan = each("scan", json!(["a"]), None);
    scan["needs"] = after("x", &["first"])["needs"].clone();
    let mut world = World::new(plan(vec![step("first"), scan, step("plain")], None));
    let expanded =
        |step: &str, keys: &[&str]| RunEvent::Expanded { step: id(step), items: items(keys) };
    world.settle();
    assert_eq!(
        world.tell(expanded("scan", &["a"])),
        Err(ApplyError::NotReady { step: id("scan") })
    );
    let started = |step: &str| {
        let token = fairlead_run::AttemptToken::mint(world.run.id(), &id(step), 1, world.epoch);
        RunEvent::Started { step: id(step), attempt: 1, token, pool: None }
    };
    let (whole, item) = (started("scan"), started("scan[a]"));
    let (attempt, token) = world.token("first");
    let result = passed();
    world.tell(RunEvent::Finished { step: id("first"), attempt, token, result }).unwrap();
    let before = world.picture();
    for (event, problem) in [
        (
            expanded("scan", &["a", "a"]),
            "the items of step `scan` cannot be made: a key stands twice",
        ),
        (expanded("plain", &["a"]), "step `plain` has begun"),
        (whole, "step `scan` has no attempts of its own"),
        (item.clone(), "the plan has no step `scan[a]`"),
    ] {
        assert_eq!(world.tell(event).unwrap_err().to_string(), problem);
        assert_eq!(world.picture(), before);
    }
    let bad = world.tell(expanded("scan", &["a", "b c"])).unwrap_err();
    assert!(matches!(bad, ApplyError::BadItems { .. }), "{bad}");
    world.tell(expanded("scan", &["a"])).unwrap();
    assert_eq!(world.tell(expanded("scan", &["a"])), Err(ApplyError::Begun { step: id("scan") }));
    world.tell(item).unwrap();
}

#[test]
fn an_item_held_back_does_not_begin() {
    let mut world = World::new(plan(vec![each("scan", json!(["a", "b"]), Some(1))], None));
    world.settle();
    let token = fairlead_run::AttemptToken::mint(world.run.id(), &id("scan[b]"), 1, world.epoch);
    let started = RunEvent::Started { step: id("scan[b]"), attempt: 1, token, pool: None };
    assert_eq!(world.tell(started), Err(ApplyError::NotReady { step: id("scan[b]") }));
}

fn kept(step: &str, outputs: Value) -> Kept {
    let outputs = Some(KeptOutputs::Copied(outputs));
    Kept { step: id(step), outcome: Outcome::Passed, outputs }
}

#[test]
fn kept_items_hold_no_place_and_count_as_done() {
    let list = json!(["a", "b", "c", "d"]);
    let old = RunId::mint(1_790_000_000_000, 7);
    let origin = |keep: &[&str]| Origin {
        run: old.clone(),
        purpose: Purpose::Retry,
        from: vec![id("scan[b]")],
        kept: keep.iter().map(|key| kept(&format!("scan[{key}]"), json!({ "of": key }))).collect(),
    };
    let plan = plan(vec![each("scan", list, Some(1))], None);
    let mut world = World::asked(plan.clone(), |r| r.origin = Some(origin(&["a", "c", "gone"])));
    world.settle();
    assert_eq!(running(&world), ["scan[b]"], "one at a time, although two are done");
    world.finish("scan[b]", passed());
    assert_eq!(running(&world), ["scan[d]"]);
    world.restart(1);
    world.finish("scan[d]", passed());
    let outputs = world.run.step(&id("scan")).unwrap().outputs().unwrap();
    assert_eq!(outputs["by_key"]["c"], json!({ "of": "c" }));
    assert_eq!(outputs["items"].as_array().map(Vec::len), Some(4));
    assert_eq!(world.reason("scan[a]"), format!("kept from run {old}"));

    let mut whole = World::asked(plan, |r| r.origin = Some(origin(&["a", "b", "c", "d"])));
    whole.settle();
    assert_eq!(whole.run.status(), RunStatus::Ended(RunOutcome::Passed));
}
