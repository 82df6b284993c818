//! Runs whose steps are made on runners: what becomes of them when a runner, a server or the bus goes
//! away, and that nothing is made twice or lost.

use fairlead_bus::InProcessJobs;
use fairlead_event::JobBus as _;
use fairlead_run::AttemptEnd;
use fairlead_step::StepId;

use super::ports::{LEASE, go, remote, runner_options};
use super::*;
use crate::attempts::conformance::POOL;
use crate::{RemoteAttempts, RunnerEnd};

const SOON: Duration = Duration::from_secs(20);

/// An engine whose steps are made on runners, over this bus and store.
fn engine_on(bus: &InProcessJobs, store: &Store, bench: &Bench) -> Engine {
    Engine::new(options_on(remote(bus, store), store, bench))
}

fn options_on(runners: RemoteAttempts, store: &Store, bench: &Bench) -> EngineOptions {
    let mut options = bench.options(store);
    options.runners = Some(Arc::new(runners));
    options.default_pool = Some(POOL.into());
    options
}

async fn requested(engine: &Engine, bench: &Bench, yaml: &str) -> RunId {
    let mut request = bench.ask(yaml);
    request.workspace = Workspace::Empty {};
    match engine.request(request).await.unwrap() {
        Requested::New(run) | Requested::Already(run) => run,
    }
}

async fn finished(engine: &Engine, run: &RunId) -> RunOutcome {
    let (_canceller, cancel) = cancellation();
    let finish = engine.finish(run, cancel, |_| {});
    tokio::time::timeout(SOON, finish).await.expect("it ends").unwrap().0
}

async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let looking = async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.expect(what);
}

#[tokio::test]
async fn a_run_is_made_on_a_runner_and_reads_like_any_other() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let _runner = go(runner_options(&bus, &bench.catalog, folder.path()));
    let run = requested(
        &engine,
        &bench,
        "steps:
  a: {uses: fake, with: {do: pass, text: hello}}
  b: {uses: fake, with: {do: pass, text: '{{ steps.a.text }} world'}}
  c: {uses: fake, with: {do: sh, text: 'echo out; echo err >&2'}}
  d: {uses: fake, with: {do: log, secret: '{{ secrets.token }}'}}
",
    )
    .await;
    assert_eq!(finished(&engine, &run).await, RunOutcome::Failed);
    let state = bench.load(&run).await;
    let step = |id: &str| state.step(&id.parse().unwrap()).unwrap();
    assert_eq!(step("b").outputs().unwrap()["text"], "hello world");
    assert_eq!(bench.log(&run, "c").await, "attempt 1 is made on runner r1\nout\nerr\n");
    // The secret is the runner's, and leaves it nowhere.
    assert_eq!(step("d").reason().unwrap(), "cannot log in with ****");
    assert!(bench.log(&run, "d").await.ends_with("the secret is ****\n"));
}

#[tokio::test]
async fn a_server_that_restarts_finds_what_lives_and_makes_it_no_second_time() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let folder = tempfile::tempdir().unwrap();
    let _runner = go(runner_options(&bus, &bench.catalog, folder.path()));
    let first = engine_on(&bus, &bench.store, &bench);
    let yaml =
        "steps: {a: {uses: fake, with: {do: gate}}, b: {uses: fake, needs: [a], with: {do: pass}}}";
    let run = requested(&first, &bench, yaml).await;
    let driving = tokio::spawn({
        let (first, run) = (first.clone(), run.clone());
        async move {
            let (_canceller, mut cancel) = cancellation();
            first.drive(&run, &mut cancel).await.map(drop)
        }
    });
    until("it begins", || !bench.world.began().is_empty()).await;
    // As when the process ends: nobody hears its runner any more.
    driving.abort();
    let _ = driving.await;
    drop(first);
    let second = engine_on(&bus, &bench.store, &bench);
    let opening = async {
        tokio::time::sleep(LEASE / 2).await;
        bench.world.gate.notify_waiters();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = finished(&second, &run) => outcome,
        () = opening => unreachable!("it goes on"),
    };
    assert_eq!(outcome, RunOutcome::Passed);
    assert_eq!(bench.world.began(), ["a@1", "b@1"]);
    let story = bench.story(&run).await.join(", ");
    assert!(!story.contains("lost"), "{story}");
}

#[tokio::test]
async fn a_runner_that_is_gone_loses_its_attempt_and_another_makes_it_again() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let options = |n: usize| {
        let mut options = runner_options(&bus, &bench.catalog, folders[n].path());
        options.name = format!("r{n}");
        options
    };
    let runner = go(options(0));
    let run = requested(&engine, &bench, "steps: {a: {uses: fake, with: {do: gate}}}").await;
    let finishing = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move { finished(&engine, &run).await }
    });
    until("it begins", || !bench.world.began().is_empty()).await;
    drop(runner);
    let _other = go(options(1));
    until("it is made again", || bench.world.began().len() == 2).await;
    bench.world.gate.notify_waiters();
    assert_eq!(finishing.await.unwrap(), RunOutcome::Passed);
    let state = bench.load(&run).await;
    let attempts = state.step(&"a".parse().unwrap()).unwrap().attempts().to_vec();
    let Some((_, AttemptEnd::Lost { reason })) = &attempts[0].ended else { panic!("{attempts:?}") };
    assert_eq!(reason, "runner r0 was not heard of for 2s");
}

#[tokio::test]
async fn a_runner_that_is_cut_off_ends_its_work_before_another_begins_it() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let runner = go(runner_options(&bus, &bench.catalog, folder.path()));
    let run = requested(&engine, &bench, "steps: {a: {uses: fake, with: {do: stubborn}}}").await;
    let finishing = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move { finished(&engine, &run).await }
    });
    until("it begins", || !bench.world.began().is_empty()).await;
    bus.set_away(true);
    let cut = tokio::time::Instant::now();
    until("the runner ends it", || locked(&bench.world.running).0 == 0).await;
    assert!(cut.elapsed() < LEASE, "it took {:?}", cut.elapsed());
    bus.set_away(false);
    until("it is made again", || bench.world.began().len() == 2).await;
    assert!(cut.elapsed() > LEASE * 4 / 5, "after {:?} the first may still run", cut.elapsed());
    assert_eq!(locked(&bench.world.running).1, 1, "never two at a time");
    engine.cancel(&run, "tester", None);
    assert_eq!(finishing.await.unwrap(), RunOutcome::Cancelled);
    drop(runner);
}

#[tokio::test]
async fn what_is_cancelled_before_a_runner_has_it_leaves_the_queue() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let mut options = runner_options(&bus, &bench.catalog, folder.path());
    options.slots = NonZeroUsize::MIN;
    let _runner = go(options);
    let yaml = "steps: {a: {uses: fake, with: {do: hang}}, b: {uses: fake, with: {do: pass}}}";
    let run = requested(&engine, &bench, yaml).await;
    let finishing = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move { finished(&engine, &run).await }
    });
    until("one begins", || !bench.world.began().is_empty()).await;
    let state = bench.load(&run).await;
    let why = engine.why_waiting(&state);
    let waits: Vec<&str> = why.values().map(String::as_str).collect();
    assert!(
        waits.contains(&"all 1 slots of the one runner of pool `conformance` are taken"),
        "{why:?}"
    );
    engine.cancel(&run, "tester", None);
    assert_eq!(finishing.await.unwrap(), RunOutcome::Cancelled);
    assert_eq!(bench.world.began(), ["a@1"]);
    assert!(bus.waiting().is_empty());
}

#[tokio::test]
async fn a_bus_that_goes_away_and_comes_back_in_time_costs_nothing() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let _runner = go(runner_options(&bus, &bench.catalog, folder.path()));
    let yaml = "steps: {a: {uses: fake, with: {do: sh, text: 'for n in 1 2 3 4 5; do echo $n; sleep 0.1; done'}}}";
    let run = requested(&engine, &bench, yaml).await;
    let cutting = async {
        until("it begins", || !bench.world.began().is_empty()).await;
        bus.set_away(true);
        tokio::time::sleep(LEASE / 3).await;
        bus.set_away(false);
    };
    let (outcome, ()) = tokio::join!(finished(&engine, &run), cutting);
    assert_eq!(outcome, RunOutcome::Passed);
    assert_eq!(bench.log(&run, "a").await, "attempt 1 is made on runner r1\n1\n2\n3\n4\n5\n");
    assert_eq!(bench.world.began(), ["a@1"]);
}

#[tokio::test]
async fn a_runner_that_drains_finishes_what_it_has_and_hands_back_what_takes_too_long() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let mut options = runner_options(&bus, &bench.catalog, folder.path());
    options.grace = Some(Duration::from_millis(300));
    let runner = crate::Runner::new(options).unwrap();
    let (drain, told) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runner.run(async { _ = told.await }, std::future::pending()));
    let run = requested(&engine, &bench, "steps: {a: {uses: fake, with: {do: gate}}}").await;
    let finishing = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move { finished(&engine, &run).await }
    });
    until("it begins", || !bench.world.began().is_empty()).await;
    drain.send(()).unwrap();
    assert_eq!(running.await.unwrap(), RunnerEnd::GaveUp { attempts: 1 });
    let next = go(runner_options(&bus, &bench.catalog, folder.path()));
    until("it is made again", || bench.world.began().len() == 2).await;
    bench.world.gate.notify_waiters();
    assert_eq!(finishing.await.unwrap(), RunOutcome::Passed);
    let state = bench.load(&run).await;
    let attempts = state.step(&"a".parse().unwrap()).unwrap().attempts().to_vec();
    let Some((_, AttemptEnd::Lost { reason })) = &attempts[0].ended else { panic!("{attempts:?}") };
    assert_eq!(reason, "runner r1 was told to end, and its grace of 300ms was over");
    drop(next);
}

#[tokio::test]
async fn an_engine_without_a_way_to_runners_calls_nothing_lost() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let engine = engine_on(&bus, &bench.store, &bench);
    let folder = tempfile::tempdir().unwrap();
    let _runner = go(runner_options(&bus, &bench.catalog, folder.path()));
    let run = requested(&engine, &bench, "steps: {a: {uses: fake, with: {do: gate}}}").await;
    let driving = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move {
            let (_canceller, mut cancel) = cancellation();
            engine.drive(&run, &mut cancel).await.map(drop)
        }
    });
    until("it begins", || !bench.world.began().is_empty()).await;
    driving.abort();
    let _ = driving.await;
    // It knows nothing of the pool that the server gives to steps that name none: the record says it.
    let blind = Engine::new(bench.options(&bench.store));
    let (_canceller, mut cancel) = cancellation();
    let error = blind.drive(&run, &mut cancel).await.unwrap_err();
    assert!(matches!(error, DriveError::Dispatch(crate::DispatchError::Unreachable { .. })));
    let cancel = fairlead_run::Signal::Cancel {
        by: "tester".into(),
        reason: fairlead_run::CancelReason::Asked { why: None },
    };
    blind.signal(&run, cancel).await.unwrap();
    let story = bench.story(&run).await.join(", ");
    assert!(!story.contains("lost"), "{story}");
    assert_eq!(finished(&engine, &run).await, RunOutcome::Cancelled);
    assert!(bus.connected());
}

#[tokio::test]
async fn a_step_that_names_a_pool_is_made_there_and_the_others_here() {
    let (bench, bus) = (bench(), InProcessJobs::default());
    let mut options = options_on(remote(&bus, &bench.store), &bench.store, &bench);
    options.default_pool = None;
    let engine = Engine::new(options);
    let folder = tempfile::tempdir().unwrap();
    let mut runner = runner_options(&bus, &bench.catalog, folder.path());
    runner.labels.insert("disk".into(), "fast".into());
    let _runner = go(runner);
    let yaml = "steps:
  here: {uses: fake, with: {do: sh, text: 'echo here'}}
  there: {uses: fake, pool: conformance, labels: {disk: fast}, with: {do: sh, text: 'echo there'}}
  nowhere: {uses: fake, pool: conformance, labels: {disk: slow}, with: {do: pass}}
";
    let run = requested(&engine, &bench, yaml).await;
    let finishing = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        async move { finished(&engine, &run).await }
    });
    until("two are made", || bench.world.began().len() == 2).await;
    let why = engine.why_waiting(&bench.load(&run).await);
    let nowhere = why.get(&"nowhere".parse::<StepId>().unwrap()).map(String::as_str);
    assert_eq!(nowhere, Some("none of the 1 runners of pool `conformance` has disk=slow"));
    engine.cancel(&run, "tester", None);
    assert_eq!(finishing.await.unwrap(), RunOutcome::Cancelled);
    assert_eq!(bench.log(&run, "here").await, "here\n");
    assert_eq!(bench.log(&run, "there").await, "attempt 1 is made on runner r1\nthere\n");
}
