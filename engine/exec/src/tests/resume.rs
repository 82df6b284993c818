//! Crashes: at every place of the journal, and on demand.

use fairlead_run::{Batch, Created, NewRun, PlanBlob, Record, RunStatus};

use super::*;
use crate::{DispatchError, Injection};

const PIPELINE: &str = "steps:
  a: {uses: fake, with: {do: pass, text: one}}
  b: {uses: fake, with: {do: flaky, text: '2'}, retry: {max: 3, backoff: 1ms..1ms}}
  c: {uses: fake, needs: [a, b], with: {do: pass, text: '{{ steps.a.text }}'}}
  d: {uses: fake, needs: [c], when: 'false', with: {do: pass}}
  e: {uses: fake, needs: [c], with: {do: reject}}
  f: {uses: fake, needs: [e], with: {do: pass}}
finally:
  g: {uses: fake, with: {do: pass, text: '{{ run.summary }}'}}
";

/// A store in which the process of a run ended when `records` were written.
async fn crashed(plan: &Plan, run: &RunId, records: &[Record]) -> Store {
    let store = Store::memory();
    let journal = store.journal();
    let plan = PlanBlob::of(plan).unwrap();
    let first = records[0].clone();
    let created = journal
        .create(NewRun { id: run.clone(), plan, first, started_by: None, group: None })
        .await;
    assert_eq!(created.unwrap(), Created::New);
    let lease = journal.acquire(run).await.unwrap();
    let status = match records.last().map(Record::event) {
        Some(RunEvent::Ended { outcome }) => RunStatus::Ended(*outcome),
        _ => RunStatus::Running,
    };
    let batch = Batch {
        run: run.clone(),
        epoch: lease.epoch(),
        records: records[1..].to_vec(),
        status,
        wake_at: None,
        taken: Vec::new(),
    };
    journal.append(batch).await.unwrap();
    store
}

#[tokio::test]
async fn a_run_goes_on_from_every_place_of_its_journal() {
    let bench = bench();
    let (outcome, whole) = bench.run(PIPELINE).await;
    assert_eq!(outcome, RunOutcome::Rejected);
    let records = bench.store.journal().load(whole.id()).await.unwrap().records;
    assert!(records.len() > 15);
    for cut in 1..=records.len() {
        let store = crashed(whole.plan(), whole.id(), &records[..cut]).await;
        let bench = bench_with(store, |_| {});
        assert_eq!(bench.drive(whole.id()).await.unwrap(), RunOutcome::Rejected, "cut at {cut}");

        let after = bench.load(whole.id()).await;
        for step in whole.steps() {
            let again = after.step(step.id()).unwrap();
            assert_eq!(again.outcome(), step.outcome(), "{} after the cut at {cut}", step.id());
            assert_eq!(again.outputs(), step.outputs(), "{} after the cut at {cut}", step.id());
        }
        // What was under way at the cut, and only that, was lost and made again.
        let story: Vec<String> = records[..cut].iter().map(|r| in_short(r.event())).collect();
        let mut lost: Vec<String> = story
            .iter()
            .filter_map(|fact| fact.strip_prefix("started "))
            .filter(|a| !story.iter().any(|fact| fact.starts_with(&format!("finished {a} "))))
            .map(|a| format!("lost {a}"))
            .collect();
        let told: Vec<String> = bench.story(whole.id()).await[cut - 1..]
            .iter()
            .filter(|fact| fact.starts_with("lost "))
            .cloned()
            .collect();
        lost.sort_by_key(|fact| told.iter().position(|t| t == fact));
        assert_eq!(told, lost, "cut at {cut}");
        let ended_before: Vec<&str> =
            story.iter().filter_map(|fact| fact.strip_prefix("finished ")).collect();
        for began in bench.world.began() {
            let again = ended_before.iter().any(|fact| fact.starts_with(&format!("{began} ")));
            assert!(!again, "{began} was made again after the cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_lost_attempt_is_left_as_a_crash_would_and_then_made_again() {
    let bench = bench_with(Store::memory(), |options| {
        options.injections = vec!["a=lost@1".parse::<Injection>().unwrap()];
    });
    let run = bench.request("steps: {a: {uses: fake, with: {do: pass}}}\n").await;
    let error = bench.drive(&run).await.unwrap_err();
    assert!(matches!(error, DriveError::Dispatch(DispatchError::Injected { .. })), "{error}");
    assert_eq!(bench.story(&run).await, ["started a@1"]);

    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Passed);
    assert_eq!(
        bench.story(&run).await,
        [
            "started a@1",
            "resumed",
            "lost a@1",
            "started a@2",
            "finished a@2 passed",
            "ended passed"
        ]
    );
    // What has ended is not driven again.
    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Passed);
    assert_eq!(bench.world.began(), ["a@1", "a@2"]);
}

#[tokio::test]
async fn injected_failures_are_retried_as_real_ones() {
    for (fault, on, told) in [
        ("a=fail@1", "infra", "finished a@1 failed: it failed, as injected"),
        ("a=timeout@1", "timeout", "finished a@1 timed out after 5s"),
    ] {
        let bench = bench_with(Store::memory(), |options| {
            options.injections = vec![fault.parse().unwrap()];
        });
        let yaml = format!(
            "steps: {{a: {{uses: fake, timeout: 5s, retry: {{max: 1, backoff: 1ms..1ms, on: {on}}}, \
             with: {{do: pass}}}}}}\n"
        );
        let (outcome, run) = bench.run(&yaml).await;
        assert_eq!(outcome, RunOutcome::Passed);
        assert_eq!(bench.story(run.id()).await[1], told);
        assert_eq!(bench.world.began(), ["a@2"], "the injected attempt does not run");
    }
}

#[tokio::test]
async fn a_dropped_drive_can_be_resumed() {
    let bench = bench();
    let run = bench
        .request("steps: {a: {uses: fake, with: {do: sh, text: 'echo $$ > pid; sleep 1000'}}}\n")
        .await;
    tokio::select! {
        outcome = bench.drive(&run) => panic!("{outcome:?}"),
        _ = bench.line_in("pid") => {}
    }
    let pid = bench.line_in("pid").await;
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
    std::fs::remove_file(bench.folder.path().join("pid")).unwrap();
    let (outcome, ()) = tokio::join!(bench.drive(&run), async {
        bench.line_in("pid").await;
        bench.engine.cancel(&run, "tester", None);
    });
    assert_eq!(outcome.unwrap(), RunOutcome::Cancelled);
    assert_eq!(bench.story(&run).await[1..4], ["resumed", "lost a@1", "started a@2"]);
}

#[tokio::test]
async fn a_run_whose_results_are_larger_than_a_record_is_made_again() {
    let bench = bench();
    let mut yaml = String::from("steps:\n");
    for step in ["a", "b", "c", "d", "e"] {
        yaml.push_str(&format!("  {step}: {{uses: fake, with: {{do: much}}}}\n"));
    }
    yaml.push_str(
        "  each: {uses: fake, for_each: {items: [x, y]}, with: {do: much}}
  last:
    uses: fake
    needs: [a, b, c, d, e, each]
    with: {do: pass, text: '{{ steps.e.text | length }} {{ steps.each.by_key.y.text | length }}'}
",
    );
    let (outcome, first) = bench.run(&yaml).await;
    assert_eq!(outcome, RunOutcome::Passed);
    let mut old = first;
    let maker = old.id().clone();
    for _ in 0..2 {
        let from = ["last".parse().unwrap()];
        let request = RunRequest::retry(&old, &from, None, "ann".into()).unwrap();
        let Requested::New(run) = bench.engine.request(request).await.unwrap() else { panic!() };
        assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Passed);
        let stored = bench.store.journal().load(&run).await.unwrap();
        let request = stored.records[0].bytes();
        assert!(request.starts_with("{\"v\":3,") && request.len() < 8 << 10, "{request}");
        // It names who made the results, and nobody who kept them in between.
        assert!(stored.kept.keys().all(|(run, _)| *run == maker), "{:?}", stored.kept.keys());
        let new = bench.load(&run).await;
        for step in old.steps() {
            let again = new.step(step.id());
            assert!(again.is_none_or(|again| again.outputs() == step.outputs()), "{}", step.id());
        }
        let last = new.step(&"last".parse().unwrap()).unwrap().outputs().unwrap();
        assert_eq!(last["text"], "900000 900000");
        // What is kept has to be what it was.
        let mut lie = stored.clone();
        let changed = stored.records[1].clone();
        lie.kept.values_mut().next().map(|record| *record = changed).unwrap();
        let error = Run::restore(&lie).unwrap_err().to_string();
        assert!(error.contains("kept from another run, and cannot be read there"), "{error}");
        old = new;
    }
}
