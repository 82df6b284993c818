//! What runs when: readiness, slots, retries, time, and stopping.

use super::*;
use crate::Update;

#[tokio::test]
async fn a_slow_branch_does_not_hold_the_other() {
    let bench = bench();
    let run = bench
        .request(
            "steps:
  slow: {uses: fake, with: {do: gate}}
  a: {uses: fake, with: {do: pass}}
  b: {uses: fake, needs: [a], with: {do: pass}}
  c: {uses: fake, needs: [b], with: {do: pass}}
  end: {uses: fake, needs: [slow, c], with: {do: pass}}
",
        )
        .await;
    let mut updates = bench.engine.subscribe();
    let watch = async {
        // The gate opens only when the fast branch is through.
        while let Some(update) = updates.next().await {
            if let Update::Record { record, .. } = &*update
                && in_short(record.event()) == "finished c@1 passed"
            {
                bench.world.gate.notify_waiters();
                return;
            }
        }
    };
    let (outcome, ()) = tokio::join!(bench.drive(&run), watch);
    assert_eq!(outcome.unwrap(), RunOutcome::Passed);
    assert_eq!(bench.world.began().last().unwrap(), "end@1");
}

#[tokio::test]
async fn no_more_run_than_there_are_slots_and_first_come_is_first_served() {
    let bench = bench_with(Store::memory(), |options| options.max_parallel = NonZeroUsize::new(2));
    let mut yaml = String::from("steps:\n");
    for i in 0..20 {
        yaml.push_str(&format!("  s{i:02}: {{uses: fake, with: {{do: sh, text: 'true'}}}}\n"));
    }
    // Ready only when the others wait already, so last in the line.
    yaml.push_str("  aa: {uses: fake, needs: [s00], with: {do: pass}}\n");
    let (outcome, _) = bench.run(&yaml).await;
    assert_eq!(outcome, RunOutcome::Passed);
    assert_eq!(locked(&bench.world.running).1, 2);
    let began = bench.world.began();
    let place = |step: &str| began.iter().position(|b| b == step).unwrap();
    assert!(place("s00@1") < 2 && place("s01@1") < 2, "{began:?}");
    assert!(place("aa@1") >= 19, "{began:?}");
}

#[tokio::test]
async fn two_runs_share_the_slots() {
    let bench = bench_with(Store::memory(), |options| options.max_parallel = NonZeroUsize::new(1));
    let yaml = "steps:
  a: {uses: fake, with: {do: sh, text: 'true'}}
  b: {uses: fake, with: {do: sh, text: 'true'}}
";
    let (one, two) = (bench.request(yaml).await, bench.request(yaml).await);
    let (one, two) = tokio::join!(bench.drive(&one), bench.drive(&two));
    assert_eq!((one.unwrap(), two.unwrap()), (RunOutcome::Passed, RunOutcome::Passed));
    assert_eq!(locked(&bench.world.running).1, 1);
}

#[tokio::test]
async fn what_fails_in_passing_is_tried_again() {
    let step = |max: u32| {
        format!(
            "steps: {{a: {{uses: fake, with: {{do: flaky, text: '3'}}, \
             retry: {{max: {max}, backoff: 1ms..2ms}}}}}}\n"
        )
    };
    let bench = bench();
    let (outcome, run) = bench.run(&step(2)).await;
    assert_eq!(outcome, RunOutcome::Passed);
    assert_eq!(
        bench.story(run.id()).await,
        [
            "started a@1",
            "finished a@1 failed: it is busy",
            "retry a@2",
            "started a@2",
            "finished a@2 failed: it is busy",
            "retry a@3",
            "started a@3",
            "finished a@3 passed",
            "ended passed",
        ]
    );
    assert_eq!(bench.run(&step(1)).await.0, RunOutcome::Failed);
}

#[tokio::test]
async fn a_step_that_runs_too_long_is_stopped() {
    let bench = bench();
    for does in ["hang", "stubborn"] {
        let yaml = format!("steps: {{a: {{uses: fake, timeout: 20ms, with: {{do: {does}}}}}}}\n");
        let (outcome, run) = bench.run(&yaml).await;
        assert_eq!(outcome, RunOutcome::Failed);
        assert_eq!(bench.story(run.id()).await[1], "finished a@1 timed out after 20ms");
    }
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped_and_cleans_up() {
    let bench = bench();
    let (outcome, run) = bench
        .run(
            "timeout: 50ms
steps:
  a: {uses: fake, with: {do: hang}}
  b: {uses: fake, needs: [a], with: {do: pass}}
finally:
  c: {uses: fake, with: {do: pass}}
",
        )
        .await;
    assert_eq!(outcome, RunOutcome::Failed);
    assert_eq!(
        bench.story(run.id()).await,
        [
            "started a@1",
            "cancel by fairlead: it ran longer than 50ms",
            "finished a@1 cancelled: the step was cancelled",
            "started c@1",
            "finished c@1 passed",
            "ended failed",
        ]
    );
}

#[tokio::test]
async fn a_cancel_ends_the_process_group_and_lets_finally_run() {
    let bench = bench();
    let script = "sleep 1000 & echo $! > pid; wait";
    let run = bench
        .request(&format!(
            "steps:
  a: {{uses: fake, with: {{do: sh, text: '{script}'}}}}
finally:
  b: {{uses: fake, with: {{do: pass}}}}
"
        ))
        .await;
    let (outcome, ()) = tokio::join!(bench.drive(&run), async {
        bench.line_in("pid").await;
        assert!(bench.engine.cancel(&run, "tester", Some("enough".into())));
    });
    assert_eq!(outcome.unwrap(), RunOutcome::Cancelled);
    let pid = bench.line_in("pid").await;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert_eq!(
        bench.story(&run).await,
        [
            "started a@1",
            "cancel by tester: enough",
            "finished a@1 cancelled: the step was told to stop, and `sh` ended after SIGTERM",
            "started b@1",
            "finished b@1 passed",
            "ended cancelled",
        ]
    );
    assert!(bench.log(&run, "a").await.contains("ended by SIGTERM"));
    assert!(!bench.engine.cancel(&run, "tester", None), "the run is over");
}

#[tokio::test]
async fn a_second_cancel_stops_finally() {
    let bench = bench();
    let run = bench
        .request(
            "steps: {a: {uses: fake, with: {do: hang}}}
finally: {b: {uses: fake, with: {do: hang}}}
",
        )
        .await;
    let (canceller, cancel) = cancellation();
    let mut updates = bench.engine.subscribe();
    let watch = async {
        while let Some(update) = updates.next().await {
            if let Update::Record { record, .. } = &*update
                && matches!(record.event(), RunEvent::Started { .. })
            {
                canceller.cancel("tester", None);
            }
        }
    };
    tokio::select! {
        outcome = bench.engine.finish(&run, cancel, |_| {}) => {
            assert_eq!(outcome.unwrap().0, RunOutcome::Cancelled);
        }
        () = watch => panic!("the engine is gone"),
    }
}

#[tokio::test]
async fn a_chain_of_a_thousand_steps_runs_through() {
    let bench = bench();
    // Made from the stored form of one step: to compile a file of this length is another's test.
    let mut request = bench.ask("steps: {s0: {uses: fake, with: {do: pass}}}\n");
    let mut stored = serde_json::to_value(&*request.plan).unwrap();
    let steps = stored["steps"].as_array_mut().unwrap();
    for i in 1..1000 {
        let mut step = steps[0].clone();
        step["id"] = format!("s{i}").into();
        let before = format!("s{}", i - 1);
        step["needs"] =
            serde_json::json!([{ "step": before, "outcomes": ["passed"], "from": "explicit" }]);
        steps.push(step);
    }
    request.plan = Arc::new(serde_json::from_value(stored).unwrap());
    let Requested::New(run) = bench.engine.request(request).await.unwrap() else {
        panic!("the run was there before")
    };
    assert_eq!(bench.drive(&run).await.unwrap(), RunOutcome::Passed);
    assert_eq!(bench.load(&run).await.seq().0, 2002);
    assert_eq!(locked(&bench.world.running).1, 1);
}
