//! Runs that something keeps from going on: each of them ends all the same, and frees its group.

use fairlead_plan::Outcome;
use fairlead_run::{
    CancelReason, Group, LeaseError, NewRun, PlanBlob, Record, Request, RunStatus, Signal,
    StoreError, Vote, Voter,
};
use serde_json::json;

use super::*;
use crate::{Driven, Noted};

/// What waits for a person, with a step behind it that another build may not know, one that needs
/// nothing of it, and steps that come after all.
const WAITS: &str = "concurrency: {group: one, policy: queue}
steps:
  ask: {approval: {from: [ann]}}
  changed: {uses: fake, needs: [ask], with: {do: pass, secret: '{{ secrets.token }}'}}
  behind: {uses: fake, needs: [changed], with: {do: pass}}
  ask-again: {approval: {from: [ann]}, needs: {changed: [failed]}}
on_failure:
  told: {uses: fake, with: {do: pass}}
finally:
  end: {uses: fake, with: {do: pass}}
";

async fn parked(bench: &Bench, run: &RunId) -> RunStatus {
    let (_canceller, mut cancel) = cancellation();
    match bench.engine.drive(run, &mut cancel).await.unwrap() {
        (Driven::Parked(parked), _) => parked.status,
        (Driven::Ended(outcome), _) => RunStatus::Ended(outcome),
    }
}

async fn approve(bench: &Bench, run: &RunId, step: &str) {
    let by = Voter { name: "ann".into(), groups: std::collections::BTreeSet::new() };
    let step = step.parse().unwrap();
    let vote = Signal::Vote { step, by, vote: Vote::Approve, reason: None };
    assert!(matches!(bench.engine.signal(run, vote).await, Ok(Noted::Taken(_))));
}

fn cancel() -> Signal {
    Signal::Cancel { by: "ann".into(), reason: CancelReason::Asked { why: Some("enough".into()) } }
}

/// The run goes on in `poor`, which cannot make one of its steps, and ends there; then the one that
/// waits behind it is admitted.
async fn ends_and_frees_its_group(
    bench: &Bench,
    poor: &Bench,
    run: &RunId,
    (why, others): (&str, Outcome),
) {
    let second = bench.request(WAITS).await;
    assert_eq!(parked(bench, &second).await, RunStatus::Queued);
    // Taking the run up is no failure, and people can still vote.
    assert_eq!(parked(poor, run).await, RunStatus::Waiting);
    approve(poor, run, "ask").await;
    assert_eq!(parked(poor, run).await, RunStatus::Waiting);
    let state = poor.load(run).await;
    let changed = state.step(&"changed".parse().unwrap()).unwrap();
    assert_eq!(changed.outcome(), Some(Outcome::Failed));
    assert!(changed.reason().unwrap().contains(why), "{:?}", changed.reason());
    assert!(changed.hint().is_some(), "it names the way out");
    assert_eq!(state.step(&"behind".parse().unwrap()).unwrap().outcome(), Some(Outcome::Skipped));
    approve(poor, run, "ask-again").await;
    assert_eq!(poor.drive(run).await.unwrap(), RunOutcome::Failed);
    let state = poor.load(run).await;
    for step in ["told", "end"] {
        let step = state.step(&step.parse().unwrap()).unwrap();
        assert_eq!(step.outcome(), Some(others), "{}", step.id());
    }
    assert_eq!(parked(bench, &second).await, RunStatus::Waiting, "its group is free");
}

#[tokio::test]
async fn a_step_whose_kind_is_gone_fails_and_the_run_ends() {
    let bench = bench();
    let run = bench.request(WAITS).await;
    assert_eq!(parked(&bench, &run).await, RunStatus::Waiting);
    let poor = bench_with(bench.store.clone(), |options| {
        options.catalog = Arc::new(Catalog::new());
    });
    ends_and_frees_its_group(&bench, &poor, &run, ("no such kind", Outcome::Failed)).await;
    // In one transaction, so that it can never look like an attempt that was lost.
    let story = bench.story(&run).await;
    let at = story.iter().position(|fact| fact == "started changed@1").unwrap();
    assert!(
        story[at + 1].starts_with("finished changed@1 failed: step `changed` was planned with")
    );
    assert!(bench.world.began().is_empty() && poor.world.began().is_empty());
}

#[tokio::test]
async fn a_step_whose_kind_has_another_version_fails_and_the_run_ends() {
    let bench = bench();
    // As an older build planned it.
    let mut request = bench.ask(WAITS);
    let mut plan = serde_json::to_value(&*request.plan).unwrap();
    for step in plan["steps"].as_array_mut().unwrap() {
        if step["id"] == "changed" {
            step["kind_version"] = "0.0.1".into();
        }
    }
    request.plan = Arc::new(serde_json::from_value(plan).unwrap());
    let run = created(&bench, request, None).await;
    assert_eq!(parked(&bench, &run).await, RunStatus::Waiting);
    ends_and_frees_its_group(&bench, &bench, &run, ("version 0.0.1", Outcome::Passed)).await;
}

#[tokio::test]
async fn a_step_whose_secret_went_fails_and_the_run_ends() {
    let bench = bench();
    let run = bench.request(WAITS).await;
    assert_eq!(parked(&bench, &run).await, RunStatus::Waiting);
    let poor = bench_with(bench.store.clone(), |options| {
        options.secrets = Arc::new(Secrets(BTreeMap::new()));
    });
    ends_and_frees_its_group(&bench, &poor, &run, ("`token` is not set", Outcome::Passed)).await;
}

#[tokio::test]
async fn a_step_whose_folder_is_gone_fails_and_those_that_need_none_go_on() {
    let bench = bench();
    let mut request = bench.ask(
        "steps:
  ask: {approval: {from: [ann]}}
  sh: {uses: fake, needs: [ask], with: {do: sh, text: 'true'}}
  pure: {uses: fake, needs: [ask], with: {do: pass}}
",
    );
    let folder = bench.folder.path().join("checkout");
    std::fs::create_dir(&folder).unwrap();
    request.workspace = Workspace::local(&folder);
    let Requested::New(run) = bench.engine.request(request).await.unwrap() else { panic!() };
    assert_eq!(parked(&bench, &run).await, RunStatus::Waiting);
    std::fs::remove_dir(folder).unwrap();
    approve(&bench, &run, "ask").await;
    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Failed);
    let state = bench.load(&run).await;
    let reason = |step: &str| state.step(&step.parse().unwrap()).unwrap().reason();
    assert!(reason("sh").unwrap().contains("is not there"), "{:?}", reason("sh"));
    assert_eq!(reason("pure"), None);
}

#[tokio::test]
async fn a_list_that_is_too_large_to_write_down_is_the_failure_of_its_step() {
    let bench = bench();
    let (mut yaml, mut items) = (String::from("steps:\n"), Vec::new());
    for step in ["a", "b", "c", "d", "e"] {
        yaml.push_str(&format!("  {step}: {{uses: fake, with: {{do: much}}}}\n"));
        items.push(format!("{{'name': '{step}', 'text': steps.{step}.text}}"));
    }
    let items = items.join(", ");
    yaml.push_str(&format!(
        "  each:
    uses: fake
    for_each: {{items: \"{{{{ [{items}] }}}}\", key: item.name}}
    with: {{do: pass}}
finally:
  end: {{uses: fake, with: {{do: pass, text: '{{{{ run.summary }}}}'}}}}
"
    ));
    let (outcome, state) = bench.run(&yaml).await;
    assert_eq!(outcome, RunOutcome::Failed);
    let each = state.step(&"each".parse().unwrap()).unwrap();
    let reason = each.reason().unwrap();
    assert!(reason.starts_with("its list has 5 items, which take"), "{reason}");
    assert!(each.hint().is_some());
    assert_eq!(bench.world.began().last().unwrap(), "end@1", "what comes after it is made");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_when_it_is_made() {
    let bench = bench();
    let mut request = bench.ask("steps: {a: {uses: fake, with: {do: pass}}}\n");
    request.event = json!({ "body": "x".repeat(5 << 20) });
    let error = bench.engine.request(request).await.unwrap_err();
    let text = fairlead_step::error_chain(&error);
    assert!(text.contains("more than the 4194304 that a journal takes"), "{text}");
}

/// A run of this plan, whatever that is.
async fn created(bench: &Bench, request: RunRequest, plan: Option<&str>) -> RunId {
    let blob = match plan {
        Some(text) => PlanBlob::new(text.to_owned()),
        None => PlanBlob::of(&request.plan).unwrap(),
    };
    let id = RunId::mint(1_790_000_000_000, rand::random());
    let group = Some(Group {
        name: "one".to_owned(),
        policy: fairlead_plan::ConcurrencyPolicy::Queue,
        max: std::num::NonZeroU32::MIN,
    });
    let first = Record::first(
        SystemClock.now(),
        Request {
            pipeline: "test".into(),
            plan: blob.digest().clone(),
            params: request.params,
            event: request.event,
            event_id: None,
            by: request.by,
            workspace: request.workspace,
            engine: "another".into(),
            group: Some("one".into()),
            origin: None,
        },
    )
    .unwrap();
    let run = NewRun { id: id.clone(), plan: blob, first, started_by: None, group };
    bench.store.journal().create(run).await.unwrap();
    id
}

#[tokio::test]
async fn a_run_whose_plan_cannot_be_read_can_be_cancelled_and_frees_its_group() {
    let bench = bench();
    let run = created(&bench, bench.ask(WAITS), Some("{\"format\": \"something else\"}")).await;
    assert!(matches!(bench.drive(&run).await, Err(DriveError::Replay { .. })));
    let second = bench.request(WAITS).await;
    assert_eq!(parked(&bench, &second).await, RunStatus::Queued);
    let Noted::Ended(problem) = bench.engine.signal(&run, cancel()).await.unwrap() else {
        panic!("nobody can drive it, so it is over");
    };
    assert!(problem.contains("the stored plan cannot be read"), "{problem}");
    assert_eq!(bench.story(&run).await, ["abandoned by ann: enough"]);
    assert_eq!(parked(&bench, &second).await, RunStatus::Waiting);
    let ended = bench.engine.abandon(&run, "ann".into(), None).await.unwrap_err();
    assert!(matches!(ended, DriveError::Store(StoreError::RunEnded { .. })), "{ended}");
}

#[tokio::test]
async fn what_a_newer_build_wrote_is_left_to_it_until_somebody_abandons_it() {
    let bench = bench();
    let run =
        created(&bench, bench.ask(WAITS), Some("{\"format\": \"fairlead.dev/plan/v9\"}")).await;
    let error = bench.drive(&run).await.unwrap_err();
    assert!(error.is_of_newer_build(), "{error}");
    assert!(matches!(bench.engine.signal(&run, cancel()).await, Ok(Noted::Left(_))));
    assert!(bench.story(&run).await.is_empty(), "nothing is written to it");
    assert_eq!(bench.store.journal().signals(&run).await.unwrap().len(), 1, "and nothing is lost");
    let problem = bench.engine.abandon(&run, "ann".into(), Some("no such build".into())).await;
    assert!(problem.unwrap().unwrap().contains("fairlead.dev/plan/v9"));
    assert_eq!(bench.story(&run).await, ["abandoned by ann: no such build"]);
}

#[tokio::test]
async fn a_run_that_is_driven_is_not_abandoned() {
    let bench = bench();
    let run = bench.request("steps: {a: {uses: fake, with: {do: gate}}}\n").await;
    let (driven, refused) = tokio::join!(bench.drive(&run), async {
        tokio::task::yield_now().await;
        let refused = bench.engine.abandon(&run, "ann".into(), None).await;
        while bench.world.began().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.world.gate.notify_waiters();
        refused
    });
    assert_eq!(driven.unwrap(), RunOutcome::Passed);
    assert!(matches!(refused, Err(DriveError::Lease(LeaseError::Held { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_run_that_was_left_in_the_middle_is_abandoned_and_reads_so() {
    let bench = bench_with(Store::memory(), |options| {
        options.injections = vec!["a=lost@1".parse().unwrap()];
    });
    let yaml = "steps: {a: {uses: fake, with: {do: pass}}, b: {uses: fake, needs: [a], with: {do: pass}}}\n";
    let run = bench.request(yaml).await;
    bench.drive(&run).await.unwrap_err();
    assert_eq!(bench.engine.abandon(&run, "ann".into(), Some("lost".into())).await.unwrap(), None);
    let state = bench.load(&run).await;
    assert_eq!(state.status(), RunStatus::Ended(RunOutcome::Cancelled));
    assert!(state.steps().all(|step| step.outcome() == Some(Outcome::Cancelled)));
    let last = state.step(&"a".parse().unwrap()).unwrap().attempts().last().unwrap();
    let (_, end) = last.ended.as_ref().unwrap();
    assert_eq!(end.to_string(), "the attempt was lost: the run was abandoned");
    // It is over for everybody.
    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Cancelled);
}
