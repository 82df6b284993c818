//! What every implementation of [`Attempts`] must do. Run it in the implementation's own tests, with a
//! time limit around the whole.

#![expect(clippy::unwrap_used, reason = "a suite of tests, which fails by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_plan::RenderedInput;
use fairlead_run::{AttemptToken, Epoch, LogStore, MAX_LOG_BYTES, StepResult};
use fairlead_step::{
    Catalog, Effect, ErrorClass, HumanDuration, Limits, RunId, StepContext, StepError, StepKind,
    Verdict, Workspace,
};
use futures::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::{AttemptEvent, AttemptResult, AttemptSession, Attempts, Demand, JobSpec, UnderWay};
use crate::slots::{Slot, Slots};

/// How long anything may take that is to happen.
const SOON: Duration = Duration::from_secs(30);

/// How long it is looked whether something happens that must not.
const QUIET: Duration = Duration::from_millis(300);

/// The pool of the jobs, for implementations that make attempts elsewhere.
pub const POOL: &str = "conformance";

/// An implementation to test, with what it needs to go on.
pub struct Bench {
    /// The implementation. Whoever makes its attempts has the catalog of the suite.
    pub attempts: Arc<dyn Attempts>,
    /// Where the logs of its attempts come to be.
    pub logs: Arc<dyn LogStore>,
    /// Another instance, as after a restart, where attempts may outlive the first one.
    pub restarted: Option<Arc<dyn Attempts>>,
    /// Whatever must live as long as the test.
    pub keep: Box<dyn std::any::Any + Send>,
}

/// What the steps of the suite share with it.
#[derive(Default)]
pub struct World {
    began: Mutex<Vec<String>>,
    gate: Notify,
}

impl World {
    fn began(&self, of: &JobSpec) -> usize {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began.iter().filter(|began| **began == of.run.to_string()).count()
    }
}

struct Conform(Arc<World>);

#[derive(Deserialize, JsonSchema)]
struct Input {
    does: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    text: String,
}

impl StepKind for Conform {
    const KIND: &'static str = "conform";
    const SUMMARY: &'static str = "does what the suite wants";
    const VERSION: &'static str = "1";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [fairlead_step::Capability] = &[];
    type Input = Input;
    type Output = Output;

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let run = context.info().run.to_string();
        self.0.began.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        match input.does.as_str() {
            "log" => (0..1000).for_each(|n| context.say(format!("line {n}"))),
            "gate" => {
                let open = async {
                    self.0.gate.notified().await;
                    Ok::<_, StepError>(())
                };
                context.cancel().guard(open).await?;
            }
            "hang" => {
                context.cancel().cancelled().await;
                return Err(StepError::cancelled());
            }
            "panic" => panic!("it panics, as the suite wants"),
            "fail" => return Err(StepError::retryable("it is busy").hint("wait")),
            "big" => return Ok(Verdict::passed(Output { text: "x".repeat(900_000) })),
            _ => {}
        }
        Ok(Verdict::passed(Output { text: input.does }))
    }
}

/// The step kinds of the suite.
///
/// # Panics
/// Never: there is one.
#[must_use]
pub fn catalog(world: &Arc<World>) -> Arc<Catalog> {
    let mut catalog = Catalog::new();
    catalog.add(Conform(Arc::clone(world))).unwrap();
    Arc::new(catalog)
}

fn job(does: &str, n: u64) -> JobSpec {
    let run = RunId::mint(n, rand::random());
    let step = "only".parse().unwrap();
    JobSpec {
        token: AttemptToken::mint(&run, &step, 1, Epoch(1)),
        run,
        pipeline: "suite".into(),
        step,
        attempt: 1,
        kind: "conform".into(),
        kind_version: "1".into(),
        input: RenderedInput::new(json!({ "does": does }), Vec::new()),
        workspace: Workspace::Empty {},
        timeout: None,
        limits: Limits::default(),
        cache: None,
        pool: Some(POOL.into()),
        labels: BTreeMap::new(),
        artifacts: Vec::new(),
        history: None,
        max_log: MAX_LOG_BYTES,
    }
}

fn slot() -> Slot {
    let slots = Slots::new(1, None);
    slots.try_take(&Demand::default(), &Arc::from("suite")).unwrap()
}

fn start(session: &mut Box<dyn AttemptSession>, job: &JobSpec) {
    let (begin, is_written) = oneshot::channel();
    session.start(job.clone(), slot(), is_written);
    begin.send(()).unwrap();
}

/// The end of the attempt of `job`, and who was told to have accepted it.
async fn end(session: &mut Box<dyn AttemptSession>, job: &JobSpec) -> (AttemptResult, Vec<String>) {
    let mut accepted = Vec::new();
    loop {
        let event = timeout(SOON, session.next()).await.expect("something happens").unwrap();
        match event {
            AttemptEvent::Accepted { token, by, .. } => {
                assert_eq!(token, job.token);
                accepted.push(by);
            }
            AttemptEvent::Logged { log, .. } => assert_eq!(log, job.log_key()),
            AttemptEvent::Ended { step, attempt, token, end } => {
                assert_eq!((&step, attempt, &token), (&job.step, job.attempt, &job.token));
                return (end, accepted);
            }
        }
    }
}

async fn nothing_more(session: &mut Box<dyn AttemptSession>) {
    while let Ok(event) = timeout(QUIET, session.next()).await {
        assert!(!matches!(event, Some(AttemptEvent::Ended { .. })), "{event:?}");
    }
}

async fn begins(world: &World, job: &JobSpec) {
    let begun = async {
        while world.began(job) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, begun).await.expect("it begins");
}

fn outputs(end: &AttemptResult) -> Option<&Value> {
    match end {
        AttemptResult::Made { result: StepResult::Verdict(Verdict::Passed { outputs }) } => {
            Some(outputs)
        }
        AttemptResult::Made { .. }
        | AttemptResult::CacheHit { .. }
        | AttemptResult::Lost { .. } => None,
    }
}

/// Runs every check, each on an implementation that `make` answers.
///
/// # Panics
/// When the implementation breaks its contract.
pub async fn attempts_conformance<F: Future<Output = Bench>>(
    make: impl Fn(Arc<World>, Arc<Catalog>) -> F,
) {
    let world = Arc::new(World::default());
    let made = || make(Arc::clone(&world), catalog(&world));
    an_attempt_is_made_once_and_told_once(&world, made().await).await;
    what_it_logged_is_stored_before_its_end(made().await).await;
    every_kind_of_end_is_told(made().await).await;
    a_large_result_arrives(made().await).await;
    what_is_not_written_does_not_begin(&world, made().await).await;
    it_is_stopped_before_and_after_it_begins(&world, made().await).await;
    a_late_stop_changes_nothing(made().await).await;
    a_timeout_ends_it(made().await).await;
    many_at_a_time_are_told_apart(made().await).await;
    what_is_let_go_is_told_no_more(&world, made().await).await;
    what_lives_is_found_by_its_token(&world, made().await).await;
}

async fn an_attempt_is_made_once_and_told_once(world: &World, bench: Bench) {
    let job = job("pass", 1);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    let (result, accepted) = end(&mut session, &job).await;
    assert_eq!(outputs(&result).unwrap()["text"], "pass", "{result:?}");
    assert!(accepted.len() <= 1, "{accepted:?}");
    nothing_more(&mut session).await;
    assert_eq!(world.began(&job), 1);
    session.close().await;
}

async fn what_it_logged_is_stored_before_its_end(bench: Bench) {
    let job = job("log", 2);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    let (result, _) = end(&mut session, &job).await;
    assert!(outputs(&result).is_some(), "{result:?}");
    let page = bench.logs.read(&job.log_key(), 0, 4 << 20).await.unwrap();
    let lines = page.lines.iter().map(|line| line.text.as_str());
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("line ")).collect();
    let wanted: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, wanted, "all of them, each once, in order");
    session.close().await;
}

async fn every_kind_of_end_is_told(bench: Bench) {
    let failing = job("fail", 3);
    let mut session = bench.attempts.open(&failing.run);
    start(&mut session, &failing);
    let (result, _) = end(&mut session, &failing).await;
    let AttemptResult::Made { result: StepResult::Failure(failure) } = result else {
        panic!("{result:?}")
    };
    assert_eq!(failure.class, ErrorClass::Retryable);
    assert_eq!((&*failure.message, failure.hint.as_deref()), ("it is busy", Some("wait")));
    let panicking = JobSpec { run: failing.run.clone(), attempt: 2, ..job("panic", 4) };
    start(&mut session, &panicking);
    let (result, _) = end(&mut session, &panicking).await;
    let AttemptResult::Made { result: StepResult::Failure(failure) } = result else {
        panic!("{result:?}")
    };
    assert!(failure.message.contains("it panics, as the suite wants"), "{}", failure.message);
    session.close().await;
}

async fn a_large_result_arrives(bench: Bench) {
    let job = job("big", 5);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    let (result, _) = end(&mut session, &job).await;
    assert_eq!(outputs(&result).unwrap()["text"].as_str().unwrap().len(), 900_000);
    session.close().await;
}

async fn what_is_not_written_does_not_begin(world: &World, bench: Bench) {
    let job = job("pass", 6);
    let mut session = bench.attempts.open(&job.run);
    let (begin, is_written) = oneshot::channel();
    session.start(job.clone(), slot(), is_written);
    tokio::time::sleep(QUIET).await;
    assert_eq!(world.began(&job), 0, "it waits for its start to be durable");
    drop(begin);
    tokio::time::sleep(QUIET).await;
    assert_eq!(world.began(&job), 0);
    session.close().await;
}

async fn it_is_stopped_before_and_after_it_begins(world: &World, bench: Bench) {
    let early = job("hang", 7);
    let mut session = bench.attempts.open(&early.run);
    start(&mut session, &early);
    session.stop(&early.token);
    let (result, _) = end(&mut session, &early).await;
    let cancelled = |result: &AttemptResult| {
        matches!(result, AttemptResult::Made { result: StepResult::Cancelled { .. } })
    };
    assert!(cancelled(&result), "{result:?}");
    let late = job("hang", 8);
    start(&mut session, &late);
    begins(world, &late).await;
    session.stop(&late.token);
    session.stop(&late.token);
    let (result, _) = end(&mut session, &late).await;
    assert!(cancelled(&result), "{result:?}");
    nothing_more(&mut session).await;
    session.close().await;
}

async fn a_late_stop_changes_nothing(bench: Bench) {
    let job = job("pass", 9);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    let (result, _) = end(&mut session, &job).await;
    assert!(outputs(&result).is_some(), "{result:?}");
    session.stop(&job.token);
    nothing_more(&mut session).await;
    session.close().await;
}

async fn a_timeout_ends_it(bench: Bench) {
    let after = HumanDuration(Duration::from_millis(100));
    let job = JobSpec { timeout: Some(after), ..job("hang", 10) };
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    let (result, _) = end(&mut session, &job).await;
    assert_eq!(result, AttemptResult::Made { result: StepResult::TimedOut { after } });
    session.close().await;
}

async fn many_at_a_time_are_told_apart(bench: Bench) {
    let count = 8;
    let jobs: Vec<JobSpec> = (0..count).map(|n| job(&format!("pass {n}"), 20 + n)).collect();
    let mut session = bench.attempts.open(&jobs[0].run);
    jobs.iter().for_each(|job| start(&mut session, job));
    let mut ended = BTreeMap::new();
    while ended.len() < jobs.len() {
        let event = timeout(SOON, session.next()).await.expect("something happens").unwrap();
        if let AttemptEvent::Ended { token, end, .. } = event {
            assert!(ended.insert(token, end).is_none(), "told twice");
        }
    }
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(outputs(&ended[&job.token]).unwrap()["text"], format!("pass {n}"));
    }
    session.close().await;
}

async fn what_is_let_go_is_told_no_more(world: &World, bench: Bench) {
    let job = job("gate", 40);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    begins(world, &job).await;
    timeout(SOON, session.close()).await.expect("it does not hold its run up");
    world.gate.notify_waiters();
}

async fn what_lives_is_found_by_its_token(world: &World, bench: Bench) {
    let job = job("gate", 41);
    let mut session = bench.attempts.open(&job.run);
    start(&mut session, &job);
    begins(world, &job).await;
    let under_way = [UnderWay {
        step: job.step.clone(),
        attempt: job.attempt,
        token: job.token.clone(),
        demand: job.demand(),
    }];
    let Some(restarted) = bench.restarted else {
        session.close().await;
        // Its attempts ended with it, and in no pool can it ask.
        let mut next = bench.attempts.open(&job.run);
        let here = [UnderWay { demand: Demand::default(), ..under_way[0].clone() }];
        assert!(next.living(&here).await.unwrap().is_empty());
        return;
    };
    session.close().await;
    drop(bench.attempts);
    let mut next = restarted.open(&job.run);
    let living = next.living(&under_way).await.unwrap();
    assert!(living.contains(&job.token));
    // It says what it did meanwhile, and is begun no second time.
    let opening = async {
        loop {
            world.gate.notify_waiters();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (result, _) = tokio::select! {
        end = end(&mut next, &job) => end,
        () = opening => unreachable!("it goes on"),
    };
    assert_eq!(outputs(&result).unwrap()["text"], "gate", "{result:?}");
    assert_eq!(world.began(&job), 1);
    nothing_more(&mut next).await;
    // What nobody has is lost, and said to be.
    let gone = JobSpec { attempt: NonZeroU32::MIN.get(), ..self::job("gate", 42) };
    let lost = [UnderWay { token: gone.token.clone(), ..under_way[0].clone() }];
    next.living(&lost).await.unwrap();
    let event = loop {
        let event = timeout(SOON, next.next()).await.expect("it is told").unwrap();
        if let AttemptEvent::Ended { token, end, .. } = event {
            assert_eq!(token, gone.token);
            break end;
        }
    };
    assert!(matches!(event, AttemptResult::Lost { .. }), "{event:?}");
    next.close().await;
}
