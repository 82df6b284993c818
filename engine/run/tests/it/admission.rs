//! Runs that wait to be admitted, and the ways to stop a run: by a person, by a successor, by a group
//! without room, by time.

use fairlead_plan::{Outcome, RunOutcome};
use fairlead_run::{ApplyError, CancelReason, Command, Epoch, RunEvent, RunStatus, StepStatus};
use fairlead_step::{ErrorClass, RunId};
use insta::assert_snapshot;
use jiff::SignedDuration;
use serde_json::json;

use crate::world::{
    World, after, approval, cancel, cancelled, failed, finally, id, need, passed, plan, start_time,
    step, under,
};

fn other() -> RunId {
    RunId::mint(1_790_000_000_000, 2)
}

fn queued() -> RunEvent {
    RunEvent::Queued { group: Some("release".into()), behind: Some(other()) }
}

fn in_group(steps: Vec<serde_json::Value>) -> World {
    World::asked(plan(steps, Some("1m")), |request| request.group = Some("release".into()))
}

#[test]
fn a_run_of_a_group_begins_with_its_turn_and_not_before() {
    let mut skipped = step("skipped");
    skipped["when"] = "false".into();
    let ask = approval("ask", json!({ "from": ["qa"], "min": 1 }));
    let mut world = in_group(vec![step("a"), skipped, ask]);
    assert!(!world.run.is_admitted());
    assert_eq!((world.run.status(), world.commands()), (RunStatus::Queued, vec![]));
    let token = fairlead_run::AttemptToken::mint(world.run.id(), &id("a"), 1, Epoch(1));
    let failure =
        fairlead_run::Failure { class: ErrorClass::Terminal, message: "no".into(), hint: None };
    for early in [
        RunEvent::Started { step: id("a"), attempt: 1, token, pool: None },
        RunEvent::Skipped { step: id("skipped"), reason: fairlead_run::SkipReason::Condition },
        RunEvent::GateOpened { step: id("ask"), due: None },
        RunEvent::NotStarted { step: id("a"), failure },
    ] {
        assert_eq!(world.tell(early), Err(ApplyError::NotAdmitted));
    }
    world.tell(queued()).unwrap();
    assert_eq!(world.tell(queued()), Err(ApplyError::AlreadyAdmitted), "it is told once");
    world.restart(86_400);
    let queue = world.run.queued().unwrap();
    assert_eq!((queue.behind.clone(), queue.since), (Some(other()), start_time()));
    assert!(world.run.only_waits() && world.run.wakes_at().is_none());
    world.tell(RunEvent::Admitted).unwrap();
    assert_eq!(world.tell(RunEvent::Admitted), Err(ApplyError::AlreadyAdmitted));
    assert_eq!(world.tell(queued()), Err(ApplyError::AlreadyAdmitted));
    let left = world.run.deadline().unwrap().duration_since(world.now);
    assert_eq!(left, SignedDuration::from_secs(60), "waiting to be admitted takes no time");
    world.settle();
    assert_eq!(world.status("a"), StepStatus::Running { attempt: 1 });
    assert_eq!(world.restart(1).len(), 1, "admission survives a crash");
    assert_eq!(world.status("a"), StepStatus::Running { attempt: 2 });
}

#[test]
fn a_turn_is_had_once_whether_the_run_waited_or_not() {
    let mut at_once = in_group(vec![step("a")]);
    at_once.tell(RunEvent::Admitted).unwrap();
    assert_eq!(at_once.tell(RunEvent::Admitted), Err(ApplyError::AlreadyAdmitted));
    assert_eq!(at_once.tell(queued()), Err(ApplyError::AlreadyAdmitted));

    // The limit of all runs: a run without a group waits, too, but only before it begins.
    let mut limited = World::new(plan(vec![step("a")], None));
    assert!(limited.run.is_admitted());
    limited.tell(RunEvent::Queued { group: None, behind: None }).unwrap();
    assert_eq!((limited.run.status(), limited.commands()), (RunStatus::Queued, vec![]));
    limited.tell(RunEvent::Admitted).unwrap();
    assert_eq!(limited.settle(), []);
    assert_eq!(limited.status("a"), StepStatus::Running { attempt: 1 });

    let gate = approval("ask", json!({ "from": ["qa"], "min": 1 }));
    let mut begun = World::new(plan(vec![gate], None));
    begun.settle();
    let late = begun.tell(RunEvent::Queued { group: None, behind: None });
    assert_eq!(late, Err(ApplyError::AlreadyAdmitted), "a gate is open");
}

#[test]
fn one_that_is_stopped_before_its_turn_does_nothing_at_all() {
    let by = || other();
    for (reason, outcome, summary) in [
        (
            CancelReason::Asked { why: None },
            RunOutcome::Cancelled,
            "cancelled by ada: no reason was given",
        ),
        (
            CancelReason::Superseded { by: by() },
            RunOutcome::Cancelled,
            "cancelled by ada: run 01m3250v0000000002 takes its place",
        ),
        (
            CancelReason::Busy { holder: by() },
            RunOutcome::Rejected,
            "rejected: its group is held by run 01m3250v0000000002",
        ),
    ] {
        let steps = vec![
            step("a"),
            under("on_failure", step("mend")),
            finally("tell", &["rejected", "cancelled"]),
        ];
        let mut world = in_group(steps);
        world.tell(RunEvent::CancelRequested { by: "ada".into(), reason }).unwrap();
        assert!(!world.run.can_cancel());
        assert_eq!(world.commands(), [Command::End { outcome }]);
        assert_eq!(world.run.scope().run["summary"], summary);
        world.settle();
        assert_eq!(world.run.status(), RunStatus::Ended(outcome));
        assert!(world.run.steps().all(|step| step.outcome() == Some(Outcome::Cancelled)));
        assert!(world.run.steps().all(|step| step.attempts().is_empty()));
    }
}

#[test]
fn one_that_goes_on_and_is_superseded_tidies_up() {
    let steps = vec![step("a"), under("on_failure", step("mend")), finally("tell", &["cancelled"])];
    let mut world = in_group(steps);
    world.tell(RunEvent::Admitted).unwrap();
    world.settle();
    let reason = CancelReason::Superseded { by: other() };
    world.tell(RunEvent::CancelRequested { by: "fairlead".into(), reason }).unwrap();
    world.finish("a", cancelled());
    world.finish("mend", passed());
    world.finish("tell", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}

#[test]
fn what_stands_under_on_failure_runs_unless_the_main_steps_passed() {
    let steps = || {
        let mut only = under("on_failure", step("only-rejected"));
        only["on"] = json!(["rejected"]);
        let mut next = under("on_failure", step("next"));
        next["needs"] = json!([need("mend", &[Outcome::Passed])]);
        vec![
            step("a"),
            under("on_failure", step("mend")),
            only,
            next,
            finally("last", &["passed", "failed"]),
        ]
    };
    let mut world = World::new(plan(steps(), None));
    world.settle();
    world.finish("a", failed(ErrorClass::Terminal));
    assert_snapshot!(world.picture(), @r"
    a: failed (it broke)
    mend: running, attempt 1
    only-rejected: skipped (its `on` does not name `failed`)
    next: waiting
    last: waiting
    run: running
    ");
    world.finish("mend", failed(ErrorClass::Terminal));
    assert_eq!(world.reason("next"), "`mend` failed");
    assert_eq!(world.status("last"), StepStatus::Running { attempt: 1 }, "`finally` comes last");
    world.finish("last", passed());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Failed));

    let mut world = World::new(plan(steps(), None));
    world.settle();
    world.finish("a", passed());
    assert_eq!(world.reason("mend"), "its `on` does not name `passed`");
    assert_eq!(world.status("last"), StepStatus::Running { attempt: 1 });
}

#[test]
fn cancel_reaches_the_phases_one_after_another() {
    let steps = vec![step("a"), under("on_failure", step("mend")), finally("last", &["cancelled"])];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.tell(cancel()).unwrap();
    world.finish("a", cancelled());
    assert_eq!(world.status("mend"), StepStatus::Running { attempt: 1 });
    world.restart(1);
    assert_eq!(world.status("mend"), StepStatus::Running { attempt: 2 }, "it is not cancelled");
    assert!(world.run.can_cancel());
    world.tell(cancel()).unwrap();
    assert_eq!(world.settle(), [Command::StopAttempt { step: id("mend"), attempt: 2 }]);
    assert_eq!(world.status("last"), StepStatus::Ended(Outcome::Cancelled));
    assert_eq!(world.tell(cancel()), Err(ApplyError::CancelledAlready));
    world.finish("mend", cancelled());
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}

#[test]
fn a_summary_names_what_made_the_run_end_so() {
    // Stopped, but nothing had to be: the failure is what counts.
    let steps = vec![step("a"), finally("z", &["failed"])];
    let mut world = World::new(plan(steps, None));
    world.settle();
    world.tell(cancel()).unwrap();
    world.finish("a", failed(ErrorClass::Terminal));
    assert_eq!(world.run.scope().run["summary"], "failed: a (it broke)");

    let mut slow = World::new(plan(vec![step("a"), after("b", &["a"])], Some("1m")));
    slow.settle();
    slow.wait(60);
    slow.finish("a", cancelled());
    assert_eq!(slow.run.scope().run["summary"], "failed: it ran longer than 1m");

    let mut alone = World::new(plan(vec![step("a")], None));
    alone.settle();
    alone.finish("a", cancelled());
    assert_eq!(alone.run.scope().run["summary"], "cancelled: a (ended by SIGTERM)");
}
