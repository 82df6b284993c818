//! The transition table, one situation at a time.

use fairlead_plan::{Outcome, RunOutcome};
use fairlead_run::{
    ApplyError, ChainError, Command, Decision, Epoch, Record, RecordHash, ReplayError, Run,
    RunEvent, RunStatus, Seq, StepResult, StepStatus, Voter,
};
use fairlead_step::{ErrorClass, HumanDuration, Verdict};
use insta::assert_snapshot;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::{
    World, after, cancel, cancelled, failed, finally, id, need, passed, plan, start_time, step,
};

#[test]
fn a_diamond_runs_each_step_the_moment_it_is_ready() {
    let steps = vec![step("a"), after("b", &["a"]), after("c", &["a"]), after("d", &["b", "c"])];
    let mut world = World::new(plan(steps, None));
    assert_eq!(world.commands(), [Command::Start { step: id("a"), attempt: 1 }]);
    assert_eq!(world.commands(), world.commands(), "asking changes nothing");
    world.settle();
    world.finish("a", passed());
    world.finish("c", passed());
    assert_snapshot!(world.picture(), @r"
    a: passed
    b: running, attempt 1
    c: passed
    d: waiting
    run: running
    ");
    world.finish("b", passed());
    world.finish("d", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed));
    assert_eq!(world.commands(), []);
    assert_eq!(world.run.step(&id("a")).unwrap().outputs(), Some(&json!({ "ok": true })));
}

#[test]
fn what_a_failure_skips_is_named_with_its_cause() {
    let mut steps =
        vec![step("a"), after("b", &["a"]), after("c", &["b"]), after("d", &["c"]), step("e")];
    steps.push(step("mend"));
    steps[5]["needs"] = json!([need("b", &[Outcome::Failed])]);
    steps.push(step("mild"));
    steps[6]["needs"] = json!([need("c", &[Outcome::Passed, Outcome::Skipped])]);
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.finish("a", passed());
    world.finish("b", failed(ErrorClass::Terminal));
    assert_snapshot!(world.picture(), @r"
    a: passed
    b: failed (it broke)
    c: skipped (`b` failed)
    d: skipped (`c` was skipped, because `b` failed)
    e: running, attempt 1
    mend: running, attempt 1
    mild: running, attempt 1
    run: running
    ");
    world.finish("e", passed());
    world.finish("mend", passed());
    world.finish("mild", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));
}

#[test]
fn a_skip_does_not_wait_for_the_needs_that_no_longer_matter() {
    let mut world = World::new(plan(vec![step("a"), step("b"), after("c", &["a", "b"])], None));
    world.settle();
    world.finish("a", StepResult::Verdict(Verdict::Skipped { reason: "no difference".into() }));
    assert_snapshot!(world.picture(), @r"
    a: skipped (no difference)
    b: running, attempt 1
    c: skipped (`a` was skipped)
    run: running
    ");
    world.finish("b", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed), "a skip is no failure");
}

#[test]
fn conditions_decide_and_may_fail() {
    let mut steps = vec![step("a"), step("b"), step("c"), step("d")];
    steps[0]["when"] = "false".into();
    steps[1]["when"] = "true".into();
    steps[2]["when"] = "params.nothing == 1".into();
    steps[3]["when"] = "1 + 1".into();
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.finish("b", passed());
    let picture = world.picture();
    assert!(picture.contains("a: skipped (its `when` is false)"), "{picture}");
    assert!(picture.contains("b: passed"), "{picture}");
    assert!(picture.contains("c: failed (when: "), "{picture}");
    assert!(picture.contains("d: failed (when: "), "{picture}");
    assert!(picture.ends_with("run: failed"), "{picture}");
}

#[test]
fn retries_wait_longer_each_time_up_to_the_cap() {
    let mut flaky = step("flaky");
    flaky["retry"] = json!({ "max": 3, "first": "10s", "cap": "30s", "on": "infra" });
    let mut world = World::new(plan(vec![flaky], None));
    world.settle();
    for (attempt, wait) in [(1, 10), (2, 20), (3, 30)] {
        let (now, longest) = (world.now, jiff::SignedDuration::from_secs(wait));
        let waits = world.finish("flaky", failed(ErrorClass::Retryable));
        let [Command::WaitUntil(due)] = waits[..] else { panic!("{waits:?}") };
        let drawn = due.duration_since(now);
        assert!(longest / 2 <= drawn && drawn <= longest, "{drawn} after attempt {attempt}");
        world.now = due - jiff::SignedDuration::from_millis(1);
        assert_eq!(world.settle(), [Command::WaitUntil(due)]);
        world.now = due;
        assert_eq!(world.settle(), []);
        assert_eq!(world.token("flaky").0, attempt + 1);
    }
    world.finish("flaky", failed(ErrorClass::Retryable));
    assert_snapshot!(world.picture(), @r"
    flaky: failed (it broke)
    run: failed
    ");
}

#[test]
fn only_the_wanted_failures_are_retried() {
    let timed_out = StepResult::TimedOut { after: HumanDuration(Duration::from_secs(5)) };
    let rejected =
        StepResult::Verdict(Verdict::Rejected { reason: "no".into(), outputs: json!({}) });
    for (on, result, again) in [
        ("infra", failed(ErrorClass::Retryable), true),
        ("infra", timed_out.clone(), false),
        ("infra", failed(ErrorClass::Terminal), false),
        ("timeout", failed(ErrorClass::Retryable), true),
        ("timeout", timed_out.clone(), true),
        ("timeout", failed(ErrorClass::Terminal), false),
        ("any", failed(ErrorClass::Retryable), true),
        ("any", timed_out, true),
        ("any", failed(ErrorClass::Terminal), true),
        ("any", failed(ErrorClass::Cancelled), false),
        ("any", rejected, false),
    ] {
        let mut only = step("only");
        only["retry"] = json!({ "max": 1, "first": "1s", "cap": "1s", "on": on });
        let mut world = World::new(plan(vec![only], None));
        world.settle();
        world.finish("only", result.clone());
        let status = world.run.step(&id("only")).unwrap().status();
        let retries = matches!(status, StepStatus::Retrying { attempt: 2, .. });
        assert_eq!(retries, again, "{on}: {result:?} gave {status:?}");
    }
}

#[test]
fn a_result_is_taken_once_and_only_from_the_running_attempt() {
    let mut only = step("only");
    only["retry"] = json!({ "max": 1, "first": "1s", "cap": "1s", "on": "infra" });
    let mut world = World::new(plan(vec![only], None));
    let early = RunEvent::Finished {
        step: id("only"),
        attempt: 1,
        token: fairlead_run::AttemptToken::mint(world.run.id(), &id("only"), 1, Epoch(1)),
        result: passed(),
    };
    assert_eq!(world.tell(early.clone()), Err(ApplyError::NotRunning { step: id("only") }));
    world.settle();
    let stale = || Err(ApplyError::StaleResult { step: id("only"), attempt: 1 });
    let (_, token) = world.token("only");
    let foreign = fairlead_run::AttemptToken::mint(world.run.id(), &id("only"), 1, Epoch(9));
    let with = |token| RunEvent::Finished { step: id("only"), attempt: 1, token, result: passed() };
    assert_eq!(world.tell(with(foreign)), stale(), "another writer's attempt");
    world.finish("only", failed(ErrorClass::Retryable));
    assert_eq!(world.tell(with(token.clone())), stale(), "while it waits to be tried again");
    world.wait(1);
    assert_eq!(world.tell(with(token)), stale(), "while the next attempt runs");
    world.finish("only", passed());
    assert_eq!(world.tell(early), Err(ApplyError::RunEnded), "after the end");
}

#[test]
fn what_cannot_happen_is_refused_and_changes_nothing() {
    let mut world = World::new(plan(vec![step("a"), after("b", &["a"])], None));
    let token = fairlead_run::AttemptToken::mint(world.run.id(), &id("b"), 1, Epoch(1));
    let started = |step: &str, attempt| RunEvent::Started {
        step: id(step),
        attempt,
        token: token.clone(),
        pool: None,
    };
    let skipped = |step: &str, reason| RunEvent::Skipped { step: id(step), reason };
    let root = fairlead_run::SkipReason::Need {
        step: id("a"),
        outcome: Outcome::Failed,
        root: id("a"),
        root_outcome: Outcome::Failed,
    };
    let passed_run = RunEvent::Ended { outcome: RunOutcome::Passed };
    let before = world.picture();
    for (event, error) in [
        (started("b", 1), ApplyError::NotReady { step: id("b") }),
        (started("a", 2), ApplyError::OtherAttempt { step: id("a"), is: 1, said: 2 }),
        (started("x", 1), ApplyError::NoSuchStep { step: id("x") }),
        (skipped("b", root), ApplyError::NoReasonToSkip { step: id("b") }),
        (skipped("b", fairlead_run::SkipReason::Condition), ApplyError::NotReady { step: id("b") }),
        (
            RunEvent::RetryScheduled { step: id("a"), attempt: 2, due: start_time() },
            ApplyError::NothingToRetry { step: id("a") },
        ),
        (
            RunEvent::AttemptLost { step: id("a"), attempt: 1, reason: String::new() },
            ApplyError::NotRunning { step: id("a") },
        ),
        (passed_run.clone(), ApplyError::StepsLeft),
    ] {
        assert_eq!(world.tell(event), Err(error));
        assert_eq!(world.picture(), before);
    }
    world.settle();
    assert_eq!(world.tell(started("a", 1)), Err(ApplyError::Running { step: id("a") }));
    world.tell(RunEvent::AttemptLost { step: id("a"), attempt: 1, reason: "x".into() }).unwrap();
    world.settle();
    world.finish("a", failed(ErrorClass::Terminal));
    let error = ApplyError::RunEnded;
    assert_eq!(world.tell(passed_run), Err(error), "and it ended as failed");
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));
}

#[test]
fn a_run_ends_as_its_steps_make_it_end() {
    let mut world = World::new(plan(vec![step("a")], None));
    world.settle();
    let (attempt, token) = world.token("a");
    let result =
        StepResult::Verdict(Verdict::Rejected { reason: "2 findings".into(), outputs: json!({}) });
    world.tell(RunEvent::Finished { step: id("a"), attempt, token, result }).unwrap();
    let error = ApplyError::OtherOutcome { is: RunOutcome::Rejected, said: RunOutcome::Passed };
    assert_eq!(world.tell(RunEvent::Ended { outcome: RunOutcome::Passed }), Err(error));
    assert_eq!(world.commands(), [Command::End { outcome: RunOutcome::Rejected }]);
}

#[test]
fn finally_runs_after_the_main_steps_for_the_outcomes_it_names() {
    let steps = vec![
        step("a"),
        step("b"),
        finally("always", &["passed", "rejected", "failed", "cancelled"]),
        finally("sorry", &["failed", "rejected"]),
        finally("party", &["passed"]),
    ];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.finish("a", failed(ErrorClass::Terminal));
    assert!(world.picture().contains("always: waiting"), "b still runs");
    world.finish("b", passed());
    assert_snapshot!(world.picture(), @r"
    a: failed (it broke)
    b: passed
    always: running, attempt 1
    sorry: running, attempt 1
    party: skipped (its `on` does not name `failed`)
    run: running
    ");
    let run = &world.run.scope().run;
    assert_eq!(run["outcome"], "failed");
    assert_eq!(run["summary"], "failed: a (it broke)");
    world.finish("always", passed());
    world.finish("sorry", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));
}

#[test]
fn a_finally_step_that_fails_makes_the_run_fail() {
    let mut world = World::new(plan(vec![step("a"), finally("z", &["passed"])], None));
    world.settle();
    world.finish("a", passed());
    assert_eq!(world.run.main_outcome(), Some(RunOutcome::Passed));
    world.finish("z", failed(ErrorClass::Terminal));
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));
}

#[test]
fn cancel_stops_what_runs_drops_what_waits_and_lets_finally_run() {
    let mut flaky = step("flaky");
    flaky["retry"] = json!({ "max": 3, "first": "10s", "cap": "30s", "on": "any" });
    let steps = vec![
        step("a"),
        after("b", &["a"]),
        flaky,
        finally("clean", &["cancelled"]),
        finally("party", &["passed"]),
    ];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.finish("flaky", failed(ErrorClass::Retryable));
    assert!(world.run.can_cancel());
    world.tell(cancel()).unwrap();
    assert_eq!(world.settle(), [Command::StopAttempt { step: id("a"), attempt: 1 }]);
    assert_snapshot!(world.picture(), @r"
    a: running, attempt 1
    b: cancelled (the run was cancelled)
    flaky: cancelled (the run was cancelled)
    clean: waiting
    party: waiting
    run: cancelling
    ");
    world.finish("a", cancelled());
    assert_snapshot!(world.picture(), @r"
    a: cancelled (ended by SIGTERM)
    b: cancelled (the run was cancelled)
    flaky: cancelled (the run was cancelled)
    clean: running, attempt 1
    party: skipped (its `on` does not name `cancelled`)
    run: cancelling
    ");
    assert_eq!(world.run.scope().run["summary"], "cancelled by ada: wrong version");
    // Once more: now the clean-up stops as well.
    world.tell(cancel()).unwrap();
    assert_eq!(world.settle(), [Command::StopAttempt { step: id("clean"), attempt: 1 }]);
    assert!(!world.run.can_cancel());
    assert_eq!(world.tell(cancel()), Err(ApplyError::CancelledAlready));
    world.finish("clean", cancelled());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}

#[test]
fn a_step_that_passes_while_the_run_is_cancelled_has_passed_and_failures_are_not_retried() {
    let mut b = step("b");
    b["retry"] = json!({ "max": 3, "first": "10s", "cap": "30s", "on": "any" });
    let mut world = World::new(plan(vec![step("a"), b], None));
    world.settle();
    world.tell(cancel()).unwrap();
    world.finish("a", passed());
    world.finish("b", failed(ErrorClass::Retryable));
    assert_snapshot!(world.picture(), @r"
    a: passed
    b: failed (it broke)
    run: failed
    ");
}

#[test]
fn a_run_that_is_out_of_time_stops_and_has_failed() {
    let mut world = World::new(plan(vec![step("a"), after("b", &["a"])], Some("1m")));
    world.settle();
    let deadline = start_time() + jiff::SignedDuration::from_secs(60);
    assert_eq!(world.run.deadline(), Some(deadline));
    assert_eq!(world.wait(59), [Command::WaitUntil(deadline)]);
    assert_eq!(world.wait(1), [Command::StopAttempt { step: id("a"), attempt: 1 }]);
    world.finish("a", cancelled());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));
    assert!(world.run.cancellation().unwrap().reason.to_string().contains("longer than 1m"));
}

#[test]
fn a_lost_attempt_is_begun_again_and_uses_up_no_retry() {
    let mut a = step("a");
    a["retry"] = json!({ "max": 1, "first": "1s", "cap": "1s", "on": "infra" });
    a["effect"] = "check-then-act".into();
    let mut world = World::new(plan(vec![a], Some("1m")));
    assert_eq!(world.run.recovery(Epoch(1), "first"), [], "a new run has nothing to recover");
    world.settle();
    let (_, old) = world.token("a");

    // The process dies; an hour later another one takes over.
    let mut world = World::from_journal(world.plan, world.records);
    world.now += jiff::SignedDuration::from_hours(1);
    world.epoch = Epoch(2);
    for fact in world.run.recovery(Epoch(2), "the process ended") {
        world.tell(fact).unwrap();
    }
    assert_eq!(
        world.commands().first(),
        Some(&Command::Start { step: id("a"), attempt: 2 }),
        "the hour does not count towards the timeout"
    );
    world.settle();
    let late = RunEvent::Finished { step: id("a"), attempt: 1, token: old, result: passed() };
    assert_eq!(
        world.tell(late),
        Err(ApplyError::StaleResult { step: id("a"), attempt: 1 }),
        "the one that was thought dead has no say"
    );
    world.finish("a", failed(ErrorClass::Retryable));
    world.wait(1);
    assert_eq!(world.token("a").0, 3, "the one retry is still there");
    world.finish("a", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed));
}

#[test]
fn a_lost_attempt_of_a_step_that_must_not_run_twice_needs_attention() {
    let mut a = step("a");
    a["effect"] = "once".into();
    let mut world = World::new(plan(vec![a], None));
    world.settle();
    for fact in world.run.recovery(Epoch(2), "the process ended") {
        world.tell(fact).unwrap();
    }
    world.settle();
    let picture = world.picture();
    assert!(picture.contains("a: needs attention, attempt 1 ("), "{picture}");
    assert!(picture.ends_with("run: needs-attention"), "{picture}");
    assert!(world.run.only_waits() && world.run.recovery(Epoch(3), "again").is_empty());
    for (decision, picture) in [
        (
            Decision::Failed,
            "a: failed (ada decided that its lost attempt did not take effect: looked)",
        ),
        (
            Decision::Passed { outputs: json!({ "tag": "v1" }) },
            "a: passed (ada decided that its lost attempt took effect: looked)",
        ),
        (Decision::Again, "a: running, attempt 2"),
    ] {
        let mut world = World::from_journal(world.plan.clone(), world.records.clone());
        let settled = |attempt| RunEvent::Settled {
            step: id("a"),
            attempt,
            by: Voter { name: "ada".into(), groups: BTreeSet::new() },
            decision: decision.clone(),
            reason: Some("looked".into()),
        };
        assert!(matches!(world.tell(settled(2)), Err(ApplyError::OtherAttempt { .. })));
        world.tell(settled(1)).unwrap();
        assert!(matches!(world.tell(settled(1)), Err(ApplyError::NothingToSettle { .. })));
        world.settle();
        assert!(world.picture().contains(picture), "{}", world.picture());
    }
}

#[test]
fn attempts_are_not_lost_for_ever() {
    let mut world = World::new(plan(vec![step("a")], None));
    for lost in 1..=fairlead_run::MOST_LOST_ATTEMPTS {
        world.settle();
        assert_eq!(world.token("a").0 as usize, lost);
        for fact in world.run.recovery(Epoch(2), "the process ended") {
            world.tell(fact).unwrap();
        }
    }
    world.settle();
    assert!(world.picture().contains("20 attempts were lost"), "{}", world.picture());
}

#[test]
fn a_lost_attempt_of_a_cancelled_step_is_not_begun_again() {
    let mut world = World::new(plan(vec![step("a")], None));
    world.settle();
    world.tell(cancel()).unwrap();
    for fact in world.run.recovery(Epoch(2), "the process ended") {
        world.tell(fact).unwrap();
    }
    world.settle();
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}

#[test]
fn a_clock_that_goes_back_does_not_take_the_journal_along() {
    let mut world = World::new(plan(vec![step("a")], None));
    world.now -= jiff::SignedDuration::from_hours(5);
    world.settle();
    assert!(world.records.iter().all(|record| record.at() >= start_time()));
}

#[test]
fn a_journal_that_is_not_whole_makes_no_run() {
    let mut world = World::new(plan(vec![step("a"), step("b")], None));
    world.settle();
    world.finish("a", passed());
    world.finish("b", passed());
    let (plan, records) = (world.plan, world.records);
    let replay = |records: &[Record]| {
        Run::replay(world.run.id().clone(), plan.clone(), records).map(|run| run.status())
    };
    assert_eq!(replay(&records).unwrap(), RunStatus::Ended(RunOutcome::Passed));
    let source = |error| {
        let ReplayError::Impossible { source, .. } = error else { panic!("{error}") };
        source
    };

    let mut missing = records.clone();
    missing.remove(2);
    assert_eq!(
        source(replay(&missing).unwrap_err()),
        ChainError::Gap { expected: Seq(3), found: Seq(4) }.into()
    );
    let mut changed = records.clone();
    let lie = records[3].bytes().replace("\"ok\":true", "\"ok\":null");
    assert_ne!(lie, records[3].bytes());
    changed[3] = Record::read(&lie).unwrap();
    assert_eq!(source(replay(&changed).unwrap_err()), ChainError::Broken { seq: Seq(5) }.into());
    assert!(matches!(replay(&records[1..]), Err(ReplayError::Impossible { .. })));
    assert!(matches!(replay(&[]), Err(ReplayError::Empty)));
    let other = crate::world::plan(vec![step("c")], None);
    let other = Run::replay(world.run.id().clone(), other, &records);
    assert!(matches!(other, Err(ReplayError::OtherPlan { .. })), "{other:?}");
    assert_eq!(records[0].prev(), RecordHash::ZERO);
}
