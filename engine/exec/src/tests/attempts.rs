//! One attempt: secrets, outputs, panics, and what they leave.

use super::*;
use crate::RequestError;

#[tokio::test]
async fn a_panic_is_the_failure_of_one_step() {
    let bench = bench();
    let (outcome, run) = bench
        .run(
            "steps:
  a: {uses: fake, with: {do: panic}}
  b: {uses: fake, with: {do: pass}}
",
        )
        .await;
    assert_eq!(outcome, RunOutcome::Failed);
    let step = |id: &str| run.step(&id.parse().unwrap()).unwrap();
    assert_eq!(step("a").reason().unwrap(), "the step panicked: the fake panics, as it was told");
    assert_eq!(step("b").outputs().unwrap()["text"], "");
}

#[tokio::test]
async fn outputs_flow_and_are_bounded() {
    let bench = bench();
    let (outcome, run) = bench
        .run(
            "steps:
  a: {uses: fake, with: {do: pass, text: hello}}
  b: {uses: fake, with: {do: pass, text: '{{ steps.a.text }} world'}}
  c: {uses: fake, with: {do: big}}
  d: {uses: fake, with: {do: reject}}
",
        )
        .await;
    assert_eq!(outcome, RunOutcome::Failed);
    let step = |id: &str| run.step(&id.parse().unwrap()).unwrap();
    assert_eq!(step("b").outputs().unwrap()["text"], "hello world");
    assert!(step("c").reason().unwrap().contains("at most 1048576 are kept"));
    assert_eq!(step("d").reason().unwrap(), "no");
}

#[tokio::test]
async fn a_secret_reaches_the_step_and_nothing_else() {
    let bench = bench();
    let (outcome, run) = bench
        .run(
            "steps:
  a: {uses: fake, with: {do: log, secret: '{{ secrets.token }}'}}
  b: {uses: fake, with: {do: leak, secret: '{{ secrets.token }}'}}
  c: {uses: fake, with: {do: log, secret: '{{ secrets.key }}'}}
",
        )
        .await;
    assert_eq!(outcome, RunOutcome::Failed);
    let step = |id: &str| run.step(&id.parse().unwrap()).unwrap();
    assert_eq!(step("a").reason().unwrap(), "cannot log in with ****");
    assert_eq!(bench.log(run.id(), "a").await, "the secret is ****\n");
    assert_eq!(
        step("b").reason().unwrap(),
        "the output `text` of the step holds the secret `token`, and outputs are journaled"
    );
    assert_eq!(bench.log(run.id(), "c").await, "the secret is ****\n****\n****\n****\n");
    let records = bench.store.journal().load(run.id()).await.unwrap().records;
    for record in records {
        for secret in ["hunter2", "first-line", "second-line"] {
            assert!(!record.bytes().contains(secret), "{}", record.bytes());
        }
    }
}

#[tokio::test]
async fn every_missing_secret_is_told_before_anything_runs() {
    let bench = bench();
    let request = bench.ask(
        "steps:
  a: {uses: fake, with: {do: pass}}
  b: {uses: fake, with: {do: pass, secret: '{{ secrets.one }}'}}
  c: {uses: fake, with: {do: pass, secret: '{{ secrets.token }}'}}
  d: {uses: fake, with: {do: pass, secret: '{{ secrets.two }}'}}
",
    );
    let error = bench.engine.request(request).await.unwrap_err();
    assert!(matches!(error, RequestError::Secrets(_)));
    assert_eq!(error.to_string(), "the secret `one` is not set; the secret `two` is not set");
    assert!(bench.world.began().is_empty());
    let filter = fairlead_run::RunFilter { limit: 9, ..Default::default() };
    assert!(bench.store.journal().list(filter).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_attempt_leaves_no_scratch_folder() {
    let bench = bench();
    bench.run("steps: {a: {uses: fake, with: {do: pass}}}\n").await;
    let scratch = bench.folder.path().join("scratch");
    let mut left = Vec::new();
    for own in scratch.read_dir().unwrap().map(|own| own.unwrap().path()) {
        left.extend(own.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_input_that_the_kind_refuses_fails_the_step_with_the_place() {
    let bench = bench();
    let (_, run) = bench
        .run(
            "params: {n: {type: string, default: explode}}
steps: {a: {uses: fake, with: {do: '{{ params.n }}'}}}
",
        )
        .await;
    let reason = run.step(&"a".parse().unwrap()).unwrap().reason().unwrap();
    assert!(reason.contains("`with.do`") && reason.contains("explode"), "{reason}");
}
