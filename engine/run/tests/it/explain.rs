//! Why a run is where it is, as people read it and as machines do.

use fairlead_plan::Outcome;
use fairlead_run::{Around, CancelReason, Kept, Origin, Purpose, RunEvent, Unblock, Vote};
use fairlead_step::{Digest, ErrorClass, HumanDuration, RunId};
use insta::assert_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

use crate::world::{
    World, after, approval, cancel, cancelled, each, failed, finally, id, passed, pause, plan,
    rejected, step, voter,
};

const DRIVEN: Around = Around { held: true, signals: 0 };
const LEFT: Around = Around { held: false, signals: 0 };

fn told(world: &World, around: Around) -> String {
    world.run.explain(around).to_string()
}

fn step_told(world: &World, step: &str) -> String {
    world.run.explain_step(&id(step)).expect("a step").to_string()
}

fn retried(name: &str, max: u32) -> Value {
    let mut step = step(name);
    step["retry"] = json!({ "max": max, "first": "10s", "cap": "10s", "on": "any" });
    step
}

#[test]
fn a_step_that_is_tried_again_tells_of_each_attempt_and_what_is_left() {
    let mut world = World::new(plan(vec![retried("a", 4)], None));
    world.settle();
    world.finish("a", failed(ErrorClass::Retryable));
    world.wait(10);
    world.restart(5);
    world.finish(
        "a",
        fairlead_run::StepResult::TimedOut { after: HumanDuration(Duration::from_secs(3)) },
    );
    world.wait(10);
    world.finish("a", failed(ErrorClass::Terminal));
    assert_snapshot!(told(&world, DRIVEN), @r"
    run 01m3250v0000000001 is running
      a process drives it
      goes on with: the time 2026-09-21T14:13:55Z
      a is retrying
        attempt 1 failed in passing at 2026-09-21T14:13:20Z: it broke
        attempt 2 ended at 2026-09-21T14:13:35Z: the attempt was lost: the process ended
        attempt 3 ended at 2026-09-21T14:13:35Z: it did not end within 3s
        attempt 4 failed at 2026-09-21T14:13:45Z: it broke
        attempt 5 follows; 1 more may after it
        goes on with: the time 2026-09-21T14:13:55Z
    ");
}

#[test]
fn a_step_that_waits_names_what_it_needs_and_one_that_was_skipped_the_root() {
    let mut never = step("never");
    never["when"] = "params.dry".into();
    let steps = vec![
        step("a"),
        step("b"),
        after("c", &["a", "b"]),
        never,
        after("d", &["never"]),
        after("e", &["d"]),
        finally("z", &["passed"]),
    ];
    let mut world = World::asked(plan(steps, Some("1h")), |r| r.params = json!({ "dry": false }));
    world.settle();
    world.finish("a", passed());
    assert_snapshot!(told(&world, DRIVEN), @r"
    run 01m3250v0000000001 is running
      a process drives it
      it is out of time at 2026-09-21T15:13:20Z, times of waiting not counted
      b is running
        attempt 1 is under way
      c is waiting
        it needs `b`, which has not ended
        goes on with: the end of `b`
      never is skipped
        its `when` is false: params.dry
      d is skipped
        `never` was skipped
      e is skipped
        `d` was skipped, because `never` was skipped
      z is waiting
        what stands under `finally` comes after the others
    ");
    world.finish("b", failed(ErrorClass::Terminal));
    assert_snapshot!(told(&world, DRIVEN), @r"
    run 01m3250v0000000001 is failed
      failed: b (it broke)
      b is failed
        attempt 1 failed for good at 2026-09-21T14:13:20Z: it broke
      c is skipped
        `b` failed
      never is skipped
        its `when` is false: params.dry
      d is skipped
        `never` was skipped
      e is skipped
        `d` was skipped, because `never` was skipped
      z is skipped
        its `on` does not name `failed`
    ");
}

#[test]
fn results_of_earlier_runs_are_told_with_their_run() {
    let mut cached = step("cached");
    cached["effect"] = "pure".into();
    cached["cache"] = json!({});
    let origin = Origin {
        run: RunId::mint(1_780_000_000_000, 5),
        purpose: Purpose::Retry,
        from: vec![id("cached")],
        kept: vec![Kept { step: id("kept"), outcome: Outcome::Passed, outputs: None }],
    };
    let steps = vec![step("kept"), cached];
    let mut world = World::asked(plan(steps, None), |request| request.origin = Some(origin));
    world.settle();
    let (attempt, token) = world.token("cached");
    world
        .tell(RunEvent::CacheHit {
            step: id("cached"),
            attempt,
            token,
            key: Digest::sha256(b"all that went in"),
            run: RunId::mint(1_780_000_000_000, 6),
            outputs: json!({}),
        })
        .unwrap();
    world.settle();
    assert_snapshot!(told(&world, LEFT), @r"
    run 01m3250v0000000001 is passed
      it makes run 01ksr4920000000005 again
      passed
      kept is passed
        kept from run 01ksr4920000000005
      cached is passed
        the same went into a step of run 01ksr4920000000006, whose result stands (key sha256:709c3639f2175f6fa548c51a5b62c45e7004f1c1bc6c290c5d981b5413f9eca8)
    ");
}

#[test]
fn an_open_gate_tells_who_approved_who_may_and_what_to_type() {
    let from = json!(["ann", "bob", "somebody", "carla", "qa"]);
    let rule = json!({
        "from": from, "min": 3, "expires": "1h", "not": ["requester", "builder", "interns"]
    });
    let mut world = World::asked(plan(vec![approval("ask", rule)], None), |request| {
        request.event = json!({ "actor": "carla" });
    });
    world.settle();
    world.vote("ask", &voter("ann", &[]), Vote::Approve).unwrap();
    assert_snapshot!(told(&world, LEFT), @r"
    run 01m3250v0000000001 is waiting
      nothing is under way, and it only waits
      goes on with: 2 approvals at `ask` by bob or qa (fairlead approve 01m3250v0000000001 ask)
      ask is open
        ann approved at 2026-09-21T14:13:20Z
        2 of 3 approvals are missing; a rejection ends it
        excluded are: requester, builder, interns
        it expires at 2026-09-21T15:13:20Z, which rejects
        goes on with: 2 approvals at `ask` by bob or qa
    ");
    world.vote("ask", &voter("zoe", &["qa"]), Vote::Approve).unwrap();
    assert!(step_told(&world, "ask").contains("one approval at `ask` by bob or qa"));

    let rule = json!({ "from": ["qa", "boss"], "min": 2, "ordered": true });
    let mut world = World::new(plan(vec![approval("ask", rule)], None));
    world.settle();
    world.vote("ask", &voter("zoe", &["qa"]), Vote::Approve).unwrap();
    assert_snapshot!(step_told(&world, "ask"), @r"
    ask is open
        zoe approved at 2026-09-21T14:13:20Z
        1 of 2 approvals are missing; a rejection ends it
        they come in this order: qa, boss
        goes on with: one approval at `ask` by boss
    ");

    let rule = json!({ "from": ["somebody"], "min": 1, "not": ["requester"] });
    let mut world = World::new(plan(vec![approval("ask", rule)], None));
    world.settle();
    assert!(step_told(&world, "ask").contains("nobody who is named may still give one"));
}

#[test]
fn how_a_gate_ended_is_told() {
    let rule = json!({ "from": ["qa"], "min": 1, "expires": "1h" });
    let steps = vec![
        approval("yes", rule.clone()),
        approval("no", rule.clone()),
        approval("late", rule),
        pause("soak", json!({ "duration": "2h" })),
    ];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.vote("yes", &voter("ann", &["qa"]), Vote::Approve).unwrap();
    world.vote("no", &voter("bob", &["qa"]), Vote::Reject).unwrap();
    world.wait(3600);
    assert_snapshot!(told(&world, LEFT), @r"
    run 01m3250v0000000001 is waiting
      nothing is under way, and it only waits
      goes on with: the time 2026-09-21T16:13:20Z
      yes is passed
        approved by ann
      no is rejected
        rejected by bob
      late is rejected
        too few approved within 1h
      soak is open
        it lets 2h pass
        goes on with: the time 2026-09-21T16:13:20Z
    ");
}

#[test]
fn a_step_that_asks_and_one_that_needs_a_person() {
    let mut evidence = step("evidence");
    evidence["wait"] = json!({ "deadline": "10m", "every": "4m" });
    let mut ship = step("ship");
    ship["effect"] = "once".into();
    let mut world = World::new(plan(vec![evidence, ship], None));
    world.settle();
    world.finish("evidence", rejected());
    world.restart(3);
    assert_snapshot!(told(&world, Around { held: false, signals: 2 }), @r"
    run 01m3250v0000000001 is needs-attention
      a person must decide of a lost attempt
      2 things that were said to it wait for whoever drives it next
      goes on with: a process that takes the run up (fairlead resume 01m3250v0000000001)
      goes on with: a yes of `evidence`, which asks again at 2026-09-21T14:17:20Z or at once when notified, until 2026-09-21T14:23:20Z
      goes on with: a decision whether attempt 1 of `ship` took effect (fairlead settle 01m3250v0000000001 ship --passed|--failed|--again)
      evidence is asking
        attempt 1 said no at 2026-09-21T14:13:20Z: not yet
        the answer was no, and there is time to ask again
        goes on with: a yes of `evidence`, which asks again at 2026-09-21T14:17:20Z or at once when notified, until 2026-09-21T14:23:20Z
      ship is needs-attention
        attempt 1 ended at 2026-09-21T14:13:23Z: the attempt was lost: the process ended
        `fake` must not be made twice: somebody has to look whether attempt 1 took effect
        goes on with: a decision whether attempt 1 of `ship` took effect
    ");
}

#[test]
fn a_step_with_items_tells_which_are_left_and_which_were_bad() {
    let mut scan = each("scan", json!(["a", "b", "c", "d"]), Some(2));
    scan["retry"] = retried("x", 1)["retry"].clone();
    let mut world = World::new(plan(vec![scan], None));
    world.settle();
    world.finish("scan[a]", rejected());
    world.finish("scan[b]", failed(ErrorClass::Retryable));
    assert_snapshot!(told(&world, DRIVEN), @r"
    run 01m3250v0000000001 is running
      a process drives it
      goes on with: the time 2026-09-21T14:13:30Z
      scan is running
        3 of its 4 items have not ended
        goes on with: the end of `scan[b]`
        goes on with: the end of `scan[c]`
        goes on with: the end of `scan[d]`
      scan[a] is rejected
        attempt 1 said no at 2026-09-21T14:13:20Z: not yet
      scan[b] is retrying
        attempt 1 failed in passing at 2026-09-21T14:13:20Z: it broke
        attempt 2 follows; 0 more may after it
        goes on with: the time 2026-09-21T14:13:30Z
      scan[c] is running
        attempt 1 is under way
      scan[d] is waiting
        2 other items of `scan` go on
    ");
    world.finish("scan[c]", passed());
    world.wait(10);
    world.finish("scan[b]", failed(ErrorClass::Terminal));
    world.finish("scan[d]", passed());
    assert_snapshot!(step_told(&world, "scan"), @r"
    scan is failed
        2 of 4 items did not pass: `scan[a]` rejected, `scan[b]` failed
    ");
}

#[test]
fn a_run_tells_of_its_turn_its_driver_and_its_end() {
    let behind = RunId::mint(1_780_000_000_000, 2);
    let group = |steps| World::asked(plan(steps, None), |r| r.group = Some("release".into()));
    let mut queued = group(vec![step("a")]);
    assert_snapshot!(told(&queued, LEFT), @r"
    run 01m3250v0000000001 is queued
      it waits to be admitted in group `release`
      goes on with: a process that takes the run up (fairlead resume 01m3250v0000000001)
      a is waiting
        the run waits to be admitted
    ");
    let fact = RunEvent::Queued { group: Some("release".into()), behind: Some(behind.clone()) };
    queued.tell(fact).unwrap();
    assert_snapshot!(told(&queued, LEFT), @r"
    run 01m3250v0000000001 is queued
      it waits to be admitted in group `release`
      it stood behind run 01ksr4920000000002 when it began to wait
      goes on with: the end of run 01ksr4920000000002 (fairlead explain 01ksr4920000000002)
      a is waiting
        the run waits to be admitted
    ");

    let mut limited = World::new(plan(vec![step("a")], None));
    limited.tell(RunEvent::Queued { group: None, behind: None }).unwrap();
    assert_snapshot!(told(&limited, LEFT), @r"
    run 01m3250v0000000001 is queued
      as many runs go on as may at a time
      goes on with: the end of any run that goes on
      a is waiting
        the run waits to be admitted
    ");

    let mut new = World::new(plan(vec![step("a")], None));
    assert_snapshot!(told(&new, LEFT), @r"
    run 01m3250v0000000001 is running
      nobody has taken it up yet
      goes on with: a process that takes the run up (fairlead resume 01m3250v0000000001)
      a is waiting
        nothing holds it back: it begins when whoever drives the run has a slot for it
    ");
    new.settle();
    assert_snapshot!(told(&new, LEFT), @r"
    run 01m3250v0000000001 is running
      nobody drives it: the process that did has ended
      goes on with: a process that takes the run up (fairlead resume 01m3250v0000000001)
      a is running
        attempt 1 is under way
    ");
    new.tell(cancel()).unwrap();
    assert_snapshot!(told(&new, DRIVEN), @r"
    run 01m3250v0000000001 is cancelling
      ada told it to stop at 2026-09-21T14:13:20Z: wrong version
      a process drives it
      a is running
        attempt 1 is under way
    ");
    new.finish("a", cancelled());
    assert_snapshot!(told(&new, LEFT), @r"
    run 01m3250v0000000001 is cancelled
      ada told it to stop at 2026-09-21T14:13:20Z: wrong version
      cancelled by ada: wrong version
      a is cancelled
        attempt 1 ended at 2026-09-21T14:13:20Z: ended by SIGTERM
    ");

    let mut superseded = group(vec![step("a")]);
    let reason = CancelReason::Superseded { by: behind };
    superseded.tell(RunEvent::CancelRequested { by: "fairlead".into(), reason }).unwrap();
    superseded.settle();
    assert_snapshot!(told(&superseded, LEFT), @r"
    run 01m3250v0000000001 is cancelled
      fairlead told it to stop at 2026-09-21T14:13:20Z: run 01ksr4920000000002 takes its place
      cancelled by fairlead: run 01ksr4920000000002 takes its place
      a is cancelled
        the run was cancelled
    ");
}

#[test]
fn the_json_says_what_the_text_says() {
    let mut once = step("ship");
    once["effect"] = "once".into();
    let gate = approval("ask", json!({ "from": ["qa"], "min": 1, "expires": "1h" }));
    let mut world = World::new(plan(vec![once, gate], None));
    world.settle();
    world.restart(1);
    let told = world.run.explain(LEFT);
    let json = serde_json::to_value(&told).expect("JSON");
    assert_snapshot!(serde_json::to_string_pretty(&json).expect("JSON"), @r#"
    {
      "commands": [
        "fairlead settle 01m3250v0000000001 ship --passed|--failed|--again",
        "fairlead approve 01m3250v0000000001 ask"
      ],
      "run": "01m3250v0000000001",
      "status": "needs-attention",
      "steps": [
        {
          "commands": [
            "fairlead settle 01m3250v0000000001 ship --passed|--failed|--again"
          ],
          "status": "needs-attention",
          "step": "ship",
          "unblocks": [
            {
              "attempt": 1,
              "by": "settlement",
              "step": "ship"
            }
          ],
          "why": [
            "attempt 1 ended at 2026-09-21T14:13:21Z: the attempt was lost: the process ended",
            "`fake` must not be made twice: somebody has to look whether attempt 1 took effect"
          ]
        },
        {
          "commands": [
            "fairlead approve 01m3250v0000000001 ask"
          ],
          "status": "open",
          "step": "ask",
          "unblocks": [
            {
              "by": "approval",
              "from": [
                "qa"
              ],
              "missing": 1,
              "step": "ask"
            }
          ],
          "why": [
            "1 of 1 approvals are missing; a rejection ends it",
            "it expires at 2026-09-21T15:13:20Z, which rejects"
          ]
        }
      ],
      "unblocks": [
        {
          "attempt": 1,
          "by": "settlement",
          "step": "ship"
        },
        {
          "by": "approval",
          "from": [
            "qa"
          ],
          "missing": 1,
          "step": "ask"
        }
      ],
      "why": [
        "a person must decide of a lost attempt"
      ]
    }
    "#);
    let text = told.to_string();
    for said in json["why"].as_array().into_iter().chain(json["commands"].as_array()).flatten() {
        assert!(text.contains(said.as_str().expect("a text")), "{said} in\n{text}");
    }
}

#[test]
fn everything_that_lets_a_run_go_on_is_one_sentence() {
    let run = RunId::mint(1_780_000_000_000, 2);
    let at = crate::world::start_time();
    let (step, deadline) = (id("a"), Some(at));
    let all = [
        Unblock::Approval { step: step.clone(), missing: 2, from: vec!["qa".into(), "ann".into()] },
        Unblock::Time { at },
        Unblock::Evidence { step: step.clone(), asks_at: at, deadline },
        Unblock::Settlement { step: step.clone(), attempt: 3 },
        Unblock::StepEnds { step },
        Unblock::RunEnds { run: run.clone() },
        Unblock::AnyRunEnds,
        Unblock::Resumption,
    ];
    let line = |by: &Unblock| format!("{by} | {}", by.command(&run).unwrap_or_default());
    assert_snapshot!(all.iter().map(line).collect::<Vec<_>>().join("\n"), @r"
    2 approvals at `a` by qa or ann | fairlead approve 01ksr4920000000002 a
    the time 2026-09-21T14:13:20Z | 
    a yes of `a`, which asks again at 2026-09-21T14:13:20Z or at once when notified, until 2026-09-21T14:13:20Z | 
    a decision whether attempt 3 of `a` took effect | fairlead settle 01ksr4920000000002 a --passed|--failed|--again
    the end of `a` | 
    the end of run 01ksr4920000000002 | fairlead explain 01ksr4920000000002
    the end of any run that goes on | 
    a process that takes the run up | fairlead resume 01ksr4920000000002
    ");
}
