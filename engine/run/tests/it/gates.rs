//! Gates of people and of time, steps that ask again, and runs that only wait.

use fairlead_plan::{Outcome, RunOutcome};
use fairlead_run::{ApplyError, Command, Epoch, RunEvent, RunStatus, StepStatus, Vote, Voter};
use fairlead_step::{Digest, ErrorClass};
use insta::assert_snapshot;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::world::{
    World, after, approval, cancel, failed, finally, id, need, passed, pause, plan, rejected,
    start_time, step, under, voter,
};

const APPROVED: StepStatus = StepStatus::Ended(Outcome::Passed);

fn gate(rule: Value) -> World {
    let mut world = World::new(plan(vec![approval("ask", rule)], None));
    world.settle();
    world
}

fn refusal(world: &mut World, by: &Voter, vote: Vote) -> String {
    let before = world.picture();
    let error = world.vote("ask", by, vote).expect_err("the vote does not count");
    assert_eq!(world.picture(), before, "what is refused changes nothing");
    error.to_string()
}

#[test]
fn a_gate_takes_as_many_approvals_as_it_wants_each_of_another_person() {
    let mut world = gate(json!({ "from": ["qa", "ada"], "min": 2 }));
    assert_eq!(world.status("ask"), StepStatus::Open { due: None });
    assert_eq!(world.run.status(), RunStatus::Waiting);
    let (bob, eve) = (voter("bob", &["qa"]), voter("eve", &["dev"]));
    assert_eq!(
        refusal(&mut world, &eve, Vote::Approve),
        "eve cannot vote at gate `ask`: it asks for qa, ada"
    );
    assert_eq!(
        refusal(&mut world, &eve, Vote::Reject),
        "eve cannot vote at gate `ask`: it asks for qa, ada"
    );
    world.vote("ask", &bob, Vote::Approve).unwrap();
    assert_eq!(
        refusal(&mut world, &bob, Vote::Approve),
        "bob cannot vote at gate `ask`: their approval is counted already"
    );
    world.restart(86_400);
    assert_eq!(world.run.step(&id("ask")).unwrap().ballots()[0].by, bob);
    world.vote("ask", &voter("ada", &[]), Vote::Approve).unwrap();
    assert_eq!(world.status("ask"), APPROVED);
    assert_eq!(world.reason("ask"), "approved by bob, ada");
    let outputs = world.run.step(&id("ask")).unwrap().outputs();
    assert_eq!(outputs, Some(&json!({ "approved_by": ["bob", "ada"] })));
    let late = world.vote("ask", &voter("cat", &["qa"]), Vote::Reject);
    assert_eq!(late, Err(ApplyError::StepEnded { step: id("ask") }));
    world.settle();
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Passed));
}

#[test]
fn approvals_in_order_come_one_after_another() {
    let mut world = gate(json!({ "from": ["qa", "ada", "boss"], "min": 3, "ordered": true }));
    let (bob, ada) = (voter("bob", &["qa", "boss"]), voter("ada", &["qa"]));
    assert_eq!(
        refusal(&mut world, &voter("max", &["boss"]), Vote::Approve),
        "max cannot vote at gate `ask`: qa votes next"
    );
    world.vote("ask", &bob, Vote::Approve).unwrap();
    assert_eq!(
        refusal(&mut world, &bob, Vote::Approve),
        "bob cannot vote at gate `ask`: their approval is counted already"
    );
    world.vote("ask", &ada, Vote::Approve).unwrap();
    assert!(matches!(world.status("ask"), StepStatus::Open { .. }));
    world.vote("ask", &voter("max", &["boss"]), Vote::Approve).unwrap();
    assert_eq!(world.reason("ask"), "approved by bob, ada, max");
}

#[test]
fn a_rejection_is_final_also_out_of_order_and_by_who_approved() {
    let rule = json!({ "from": ["qa", "boss"], "min": 2, "ordered": true });
    for (first, by) in [(None, voter("max", &["boss"])), (Some("bob"), voter("bob", &["qa"]))] {
        let steps = vec![
            approval("ask", rule.clone()),
            after("deploy", &["ask"]),
            under("on_failure", step("tell")),
        ];
        let mut world = World::new(plan(steps, None));
        world.settle();
        if let Some(first) = first {
            world.vote("ask", &voter(first, &["qa"]), Vote::Approve).unwrap();
        }
        world.vote("ask", &by, Vote::Reject).unwrap();
        world.settle();
        assert_eq!(world.reason("ask"), format!("rejected by {}", by.name));
        assert_eq!(world.status("deploy"), StepStatus::Ended(Outcome::Skipped));
        assert!(matches!(world.status("tell"), StepStatus::Running { .. }));
        world.finish("tell", passed());
        assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Rejected));
    }
}

#[test]
fn who_asked_built_or_approved_elsewhere_may_be_excluded() {
    let rule = |not: &[&str]| json!({ "from": ["qa"], "min": 1, "not": not });
    for (not, name, groups, why) in [
        ("requester", "somebody", vec!["qa"], "it excludes who asked for the run"),
        ("builder", "carla", vec!["qa"], "it excludes who built it"),
        ("approvers", "ada", vec!["qa"], "it excludes who approved at another gate"),
        ("interns", "tim", vec!["interns", "qa"], "it excludes interns"),
        ("tom", "tom", vec!["qa"], "it excludes tom"),
    ] {
        let steps = vec![
            approval("first", json!({ "from": ["qa"], "min": 1 })),
            approval("ask", rule(&[not])),
            approval("open", json!({ "from": ["qa"], "min": 2 })),
        ];
        let mut world = World::asked(plan(steps, None), |r| r.event = json!({ "actor": "carla" }));
        world.settle();
        let ada = voter("ada", &["qa"]);
        world.vote("first", &ada, Vote::Approve).unwrap();
        world.vote("open", &ada, Vote::Approve).unwrap();
        let by = voter(name, &groups);
        for vote in [Vote::Approve, Vote::Reject] {
            let text = refusal(&mut world, &by, vote);
            assert_eq!(text, format!("{name} cannot vote at gate `ask`: {why}"));
        }
        world.vote("ask", &voter("zoe", &["qa"]), Vote::Approve).unwrap();
        assert_eq!(world.status("ask"), APPROVED);
    }
}

#[test]
fn a_gate_that_expires_rejects_and_a_vote_after_that_is_told_apart() {
    let mut world = gate(json!({ "from": ["qa"], "min": 1, "expires": "1h" }));
    let due = start_time() + SignedDuration::from_secs(3600);
    assert_eq!(world.status("ask"), StepStatus::Open { due: Some(due) });
    assert_eq!(
        (world.run.wakes_at(), world.commands()),
        (Some(due), vec![Command::WaitUntil(due)])
    );
    // Nobody drove it when it expired. A vote that was posted before counts, one from after does not.
    let mut late = World::from_journal(world.plan.clone(), world.records.clone());
    late.now = due + SignedDuration::from_secs(60);
    assert!(late.run.recovery(Epoch(2), "x").is_empty());
    let bob = voter("bob", &["qa"]);
    let check = |at| late.run.check_vote_at(&id("ask"), &bob, Vote::Approve, at);
    assert_eq!(check(due - SignedDuration::from_secs(1)), Ok(()));
    let error = check(due).unwrap_err().to_string();
    assert_eq!(error, format!("bob cannot vote at gate `ask`: it expired at {due}"));
    let stranger = late.run.check_vote_at(&id("ask"), &voter("eve", &[]), Vote::Approve, due);
    assert!(stranger.unwrap_err().to_string().ends_with("it asks for qa"));
    late.vote("ask", &bob, Vote::Approve).unwrap();
    assert_eq!(late.status("ask"), APPROVED);

    world.wait(3600);
    assert_snapshot!(world.picture(), @r"
    ask: rejected (too few approved within 1h)
    run: rejected
    ");
}

#[test]
fn what_is_no_open_approval_takes_no_vote() {
    let steps = vec![step("a"), pause("soak", json!({ "duration": "5m" })), {
        let mut gate = approval("ask", json!({ "from": ["qa"], "min": 1 }));
        gate["needs"] = json!([need("a", &[Outcome::Passed])]);
        gate
    }];
    let mut world = World::new(plan(steps, None));
    let bob = voter("bob", &["qa"]);
    let opened = |step: &str| RunEvent::GateOpened { step: id(step), due: None };
    assert_eq!(world.tell(opened("ask")), Err(ApplyError::NotReady { step: id("ask") }));
    assert_eq!(world.tell(opened("a")), Err(ApplyError::NoGate { step: id("a") }));
    world.settle();
    let mut vote = |step: &str| world.vote(step, &bob, Vote::Approve);
    assert_eq!(vote("ask"), Err(ApplyError::GateNotOpen { step: id("ask") }));
    assert_eq!(vote("soak"), Err(ApplyError::NoGate { step: id("soak") }));
    assert_eq!(vote("a"), Err(ApplyError::NoGate { step: id("a") }));
    assert_eq!(vote("nix"), Err(ApplyError::NoSuchStep { step: id("nix") }));
    let due = |step: &str| RunEvent::GateDue { step: id(step) };
    assert_eq!(world.tell(due("ask")), Err(ApplyError::GateNotOpen { step: id("ask") }));
    world.finish("a", passed());
    assert_eq!(world.tell(opened("ask")), Err(ApplyError::Begun { step: id("ask") }));
    assert_eq!(
        world.tell(due("ask")),
        Err(ApplyError::GateNotOpen { step: id("ask") }),
        "it never expires"
    );
    let token = fairlead_run::AttemptToken::mint(world.run.id(), &id("ask"), 1, Epoch(1));
    let started = RunEvent::Started { step: id("ask"), attempt: 1, token, pool: None };
    assert_eq!(world.tell(started), Err(ApplyError::NoAttempts { step: id("ask") }));
}

#[test]
fn gates_of_time_open_after_a_while_or_at_a_moment() {
    let moment = start_time() + SignedDuration::from_secs(90);
    let mut never = pause("never", json!({ "until": "tomorrow" }));
    never["when"] = "true".into();
    let steps = vec![
        pause("soak", json!({ "duration": "2m" })),
        pause("window", json!({ "until": "{{ event.opens }}" })),
        pause("past", json!({ "until": "2020-01-01T00:00:00Z" })),
        never,
    ];
    let opens = json!({ "opens": moment });
    let mut world = World::asked(plan(steps, None), |request| request.event = opens);
    world.settle();
    assert_eq!(world.status("past"), APPROVED, "a moment that has passed holds up nothing");
    assert_eq!(world.status("never"), StepStatus::Ended(Outcome::Failed));
    assert_eq!(
        world.reason("never"),
        "wait.until: `tomorrow` is not a time such as 2026-11-25T08:00:00Z"
    );
    assert_eq!(world.run.wakes_at(), Some(moment));
    world.wait(90);
    assert_eq!(
        (world.status("window"), world.reason("window")),
        (APPROVED, "its time came".into())
    );
    assert!(matches!(world.status("soak"), StepStatus::Open { .. }));
    world.restart(3600);
    assert_eq!(world.status("soak"), APPROVED);
}

fn asking(retry: u32) -> Value {
    let mut step = step("evidence");
    step["wait"] = json!({ "deadline": "10m", "every": "4m" });
    step["retry"] = json!({ "max": retry, "first": "1s", "cap": "1s", "on": "infra" });
    step["with"] = json!({ "image": image("shop"), "note": "for {{ params.who }}" });
    step
}

fn digest() -> Digest {
    Digest::sha256(b"shop")
}

fn image(name: &str) -> String {
    format!("registry.example.com/apps/{name}@{}", digest())
}

fn asked(retry: u32) -> World {
    let who = json!({ "who": "ada" });
    let mut world = World::asked(plan(vec![asking(retry)], None), |r| r.params = who);
    world.settle();
    world
}

#[test]
fn a_no_is_no_answer_until_the_deadline() {
    let mut world = asked(0);
    for (attempt, at) in [(2, 240), (3, 480), (4, 600)] {
        world.finish("evidence", rejected());
        let due = start_time() + SignedDuration::from_secs(at);
        assert_eq!(world.status("evidence"), StepStatus::Asking { attempt, due });
        assert_eq!((world.run.status(), world.run.wakes_at()), (RunStatus::Waiting, Some(due)));
        assert_eq!(world.restart(0), [Command::WaitUntil(due)]);
        world.now = due;
        world.settle();
    }
    world.finish("evidence", rejected());
    assert_snapshot!(world.picture(), @r"
    evidence: rejected (not yet)
    run: rejected
    ");
}

#[test]
fn news_lets_a_step_ask_at_once() {
    let mut world = asked(0);
    let woken = || RunEvent::Woken { step: id("evidence"), why: "a signature was pushed".into() };
    assert_eq!(world.tell(woken()), Err(ApplyError::NotAsking { step: id("evidence") }));
    let asks = |world: &World, about: &str| !world.run.asks_about(about).is_empty();
    assert!(!asks(&world, &image("shop")), "an attempt is under way");
    world.finish("evidence", rejected());
    assert_eq!(world.run.asks_about(&image("shop")), BTreeSet::from([id("evidence")]));
    assert!(
        asks(&world, &digest().to_string()),
        "the digest alone is the image in every repository"
    );
    assert!(asks(&world, "ada"), "as it would be rendered");
    let other = Digest::sha256(b"other");
    for about in [
        "",
        "ad",
        "for ada",
        "registry.example.com/apps/shop",
        &image("shop/shop"),
        &image("hop"),
        &format!("apps/shop@{}", digest()),
        &format!("other.example.com/apps/shop@{}", digest()),
        &format!("registry.example.com/apps/shop@{other}"),
        &other.to_string(),
        &digest().to_string()[..70],
    ] {
        assert!(!asks(&world, about), "`{about}` is not what it asks about");
    }
    world.tell(woken()).unwrap();
    assert!(world.run.only_waits() && world.run.recovery(Epoch(2), "x").is_empty());
    assert_eq!(world.restart(5), [], "and it is not forgotten");
    assert_eq!(world.status("evidence"), StepStatus::Running { attempt: 2 });
    world.finish("evidence", passed());
    assert_eq!(world.tell(woken()), Err(ApplyError::RunEnded));
}

#[test]
fn an_image_is_found_wherever_a_text_names_it() {
    let asks = |with: Value, about: &str| {
        let mut step = asking(0);
        step["with"] = with;
        let mut world = World::asked(plan(vec![step], None), |r| r.params = json!({ "who": "x" }));
        world.settle();
        world.finish("evidence", rejected());
        !world.run.asks_about(about).is_empty()
    };
    for with in [
        json!({ "args": ["verify", format!("--image={}", image("shop"))] }),
        json!({ "image": { "name": format!("oci://{}", image("shop")) } }),
        json!({ "text": format!("look at {}, please", image("shop").replace('@', ":1.0@")) }),
        json!({ "digest": digest() }),
    ] {
        assert!(asks(with.clone(), &image("shop")), "{with}");
        assert!(!asks(with.clone(), &image("shop").replace("sha256:", "sha256:0")), "{with}");
    }
    assert!(!asks(json!({ image("shop"): "a key" }), &image("shop")), "keys are not values");
    assert!(!asks(json!({ "image": image("a/shop") }), &image("shop")), "another repository");
}

#[test]
fn a_gate_shows_what_it_asks_for() {
    let rule = json!({ "from": ["qa", "ada"], "min": 2, "expires": "1h", "not": ["requester"] });
    let soak = pause("soak", json!({ "duration": "30m" }));
    let mut world = World::new(plan(vec![approval("ask", rule), soak, step("note")], None));
    let shown = |world: &World, step: &str| {
        let step = world.run.step(&id(step)).unwrap();
        (serde_json::to_value(step.gate()).unwrap(), step.gate().map(|gate| gate.to_string()))
    };
    let ask = |missing: Option<u32>, due: Option<jiff::Timestamp>| {
        json!({ "kind": "approval", "from": ["qa", "ada"], "min": 2, "ordered": false,
            "not": ["requester"], "expires": "1h", "missing": missing, "due": due })
    };
    assert_eq!(shown(&world, "ask").0, ask(Some(2), None), "it is not open yet");
    assert_eq!(shown(&world, "note"), (Value::Null, None));
    world.settle();
    let expires = start_time() + SignedDuration::from_hours(1);
    world.vote("ask", &voter("bob", &["qa"]), Vote::Approve).unwrap();
    let (told, text) = shown(&world, "ask");
    assert_eq!(told, ask(Some(1), Some(expires)));
    let said = format!("1 of 2 approvals are missing, by qa, ada; it expires at {expires}");
    assert_eq!(text, Some(said));
    assert_eq!(world.run.step(&id("ask")).unwrap().due(), Some(expires));
    let ends = start_time() + SignedDuration::from_mins(30);
    let (told, text) = shown(&world, "soak");
    assert_eq!(told, json!({ "kind": "wait", "duration": "30m", "due": ends }));
    assert_eq!(text, Some(format!("it lets 30m pass; it ends at {ends}")));
    world.vote("ask", &voter("ada", &[]), Vote::Approve).unwrap();
    assert_eq!(shown(&world, "ask").0, ask(None, None));
}

#[test]
fn an_answer_gives_a_step_that_asks_its_retries_back() {
    let mut world = asked(1);
    for _ in 0..2 {
        world.finish("evidence", failed(ErrorClass::Retryable));
        world.wait(1);
        world.finish("evidence", rejected());
        world.wait(240);
    }
    world.finish("evidence", failed(ErrorClass::Retryable));
    world.wait(1);
    world.finish("evidence", failed(ErrorClass::Retryable));
    assert_eq!(world.status("evidence"), StepStatus::Ended(Outcome::Failed), "two in a row");
}

#[test]
fn cancel_ends_what_waits_and_a_no_after_it_is_final() {
    let steps = vec![
        approval("ask", json!({ "from": ["qa"], "min": 1 })),
        pause("soak", json!({ "duration": "1h" })),
        asking(0),
        {
            let mut running = asking(0);
            running["id"] = "busy".into();
            running
        },
    ];
    let mut world = World::asked(plan(steps, None), |r| r.params = json!({ "who": "ada" }));
    world.settle();
    world.finish("evidence", rejected());
    world.tell(cancel()).unwrap();
    world.settle();
    assert_eq!(
        world.vote("ask", &voter("bob", &["qa"]), Vote::Approve),
        Err(ApplyError::StepEnded { step: id("ask") })
    );
    world.finish("busy", rejected());
    assert_snapshot!(world.picture(), @r"
    ask: cancelled (the run was cancelled)
    soak: cancelled (the run was cancelled)
    evidence: cancelled (the run was cancelled)
    busy: rejected (not yet)
    run: cancelled
    ");
}

#[test]
fn a_run_that_only_waits_writes_nothing_when_it_is_taken_up_and_has_no_deadline_meanwhile() {
    let steps = vec![
        step("a"),
        {
            let mut gate = approval("ask", json!({ "from": ["qa"], "min": 1 }));
            gate["needs"] = json!([need("a", &[Outcome::Passed])]);
            gate
        },
        after("b", &["ask"]),
    ];
    let mut world = World::new(plan(steps, Some("1m")));
    world.settle();
    world.wait(20);
    world.finish("a", passed());
    assert_eq!(world.run.wakes_at(), None, "only a vote matters");
    let written = world.records.len();
    for _ in 0..5 {
        assert_eq!(world.restart(3600), []);
    }
    assert_eq!(world.records.len(), written);
    world.vote("ask", &voter("bob", &["qa"]), Vote::Approve).unwrap();
    let left = world.run.deadline().unwrap().duration_since(world.now);
    assert_eq!(left, SignedDuration::from_secs(40), "the five hours are not its own");
    world.settle();
    world.wait(39);
    assert_eq!(world.status("b"), StepStatus::Running { attempt: 1 });
    assert_eq!(world.wait(1), [Command::StopAttempt { step: id("b"), attempt: 1 }]);
}

#[test]
fn a_run_that_nobody_took_up_has_all_of_its_time() {
    let mut world = World::new(plan(vec![step("a")], Some("1m")));
    world.now += SignedDuration::from_hours(1);
    assert!(world.run.recovery(Epoch(1), "x").is_empty());
    world.settle();
    assert_eq!(world.status("a"), StepStatus::Running { attempt: 1 });
    let left = world.run.deadline().unwrap().duration_since(world.now);
    assert_eq!(left, SignedDuration::from_secs(60));
}

#[test]
fn what_goes_on_beside_a_gate_or_a_decision_must_be_driven() {
    let mut once = step("once");
    once["effect"] = "once".into();
    let steps = vec![once, step("a"), approval("ask", json!({ "from": ["qa"], "min": 1 }))];
    let mut world = World::new(plan(steps, None));
    world.settle();
    assert_eq!(world.run.status(), RunStatus::Running);
    world.restart(1);
    assert!(matches!(world.status("once"), StepStatus::NeedsAttention { attempt: 1 }));
    assert_eq!(world.run.status(), RunStatus::Running, "`a` was begun again");
    assert_eq!(world.run.recovery(Epoch(9), "x").len(), 2, "and would be lost");
    world.finish("a", passed());
    assert_eq!(world.run.status(), RunStatus::NeedsAttention);
    assert!(world.run.recovery(Epoch(9), "x").is_empty());
}

#[test]
fn a_cancelled_run_that_waits_at_a_gate_of_what_comes_after_rests_too() {
    let mut gate = finally("ask", &["cancelled"]);
    gate["gate"] = json!({ "approval": { "from": ["qa"], "min": 1 } });
    let mut world = World::new(plan(vec![step("a"), gate], None));
    world.settle();
    world.tell(cancel()).unwrap();
    assert_eq!(world.run.status(), RunStatus::Cancelling);
    world.finish("a", crate::world::cancelled());
    assert_eq!(world.run.status(), RunStatus::Waiting);
    assert!(world.run.only_waits() && world.run.recovery(Epoch(2), "x").is_empty());
    world.vote("ask", &voter("bob", &["qa"]), Vote::Approve).unwrap();
    world.settle();
    assert_eq!(world.run.status(), RunStatus::Ended(RunOutcome::Cancelled));
}
