//! A run that a stranger may have started reads no secrets: neither is it begun where it would, nor does
//! an attempt of it get any.

use fairlead_plan::Outcome;
use fairlead_run::{NewRun, PlanBlob, Record, Request, RunFilter};
use serde_json::json;

use super::*;
use crate::RequestError;

const YAML: &str = "on: {run.finished: {}}
steps:
  a: {uses: fake, with: {do: pass, text: open}}
  b: {uses: fake, when: event.trusted, with: {do: log, secret: '{{ secrets.token }}'}}
";

fn untrusted(bench: &Bench, yaml: &str) -> RunRequest {
    RunRequest { event: json!({ "trusted": false }), ..bench.ask(yaml) }
}

#[tokio::test]
async fn a_run_of_a_stranger_that_would_read_a_secret_is_not_begun() {
    let bench = bench();
    let open = "on: {run.finished: {}}
steps:
  a: {uses: fake, when: event.depth > 0 or event.trusted, with: {do: log, secret: '{{ secrets.token }}'}}
";
    let refused = bench.engine.request(untrusted(&bench, open)).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Untrusted(names) if names == &["token"]), "{refused}");
    assert_eq!(
        bench.store.journal().list(RunFilter { limit: 9, ..RunFilter::default() }).await.unwrap(),
        []
    );
    // What is known not to run reads nothing.
    let run = match bench.engine.request(untrusted(&bench, YAML)).await.unwrap() {
        Requested::New(run) | Requested::Already(run) => run,
    };
    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Passed);
    let state = bench.load(&run).await;
    assert_eq!(state.step(&"b".parse().unwrap()).unwrap().outcome(), Some(Outcome::Skipped));
}

#[tokio::test]
async fn an_attempt_of_such_a_run_gets_no_secret_however_the_run_came_about() {
    let bench = bench();
    let plan =
        bench.plan("steps: {b: {uses: fake, with: {do: log, secret: '{{ secrets.token }}'}}}");
    let blob = PlanBlob::of(&plan).unwrap();
    let id = RunId::mint(1, 7);
    let first = Record::first(
        SystemClock.now(),
        Request {
            pipeline: "test".into(),
            plan: blob.digest().clone(),
            params: json!({}),
            event: json!({ "trusted": false }),
            event_id: None,
            by: "tester".into(),
            workspace: Workspace::local(bench.folder.path()),
            engine: "test".into(),
            group: None,
            origin: None,
        },
    )
    .unwrap();
    let new = NewRun { id: id.clone(), plan: blob, first, started_by: None, group: None };
    bench.store.journal().create(new).await.unwrap();
    assert_eq!(bench.drive(&id).await.unwrap(), RunOutcome::Failed);
    let state = bench.load(&id).await;
    let reason = state.step(&"b".parse().unwrap()).unwrap().reason().unwrap().to_owned();
    assert_eq!(reason, "the secret `token` is not given to a run that a stranger may have started");
    assert!(bench.world.began.lock().unwrap().is_empty());
}
