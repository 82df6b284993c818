//! Measures what durable runs cost, with steps that do nothing in this process, so that nothing but
//! the engine and its store is measured. Prints a line of JSON. Runs are tasks of a runtime like that of
//! `fairlead serve`.
//!
//! `durability WORK STORE`, where STORE is `memory`, a folder for SQLite, or the address of an empty
//! schema in Postgres, and WORK one of:
//!
//! * `noop`: runs of 3 steps in a row, one after another: the median of a whole run;
//! * `chain`: one run of 400 steps in a row;
//! * `many`: 200 runs of 10 steps at the same time: step transitions a second;
//! * `flat`: one run of 1,000 and one of 10,000 steps without needs, and as many in a row: the time
//!   for each transition;
//! * `finished`: listing and starting runs in an empty store, and beside 100,000 finished ones.

#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_exec::{
    Driven, Engine, EngineOptions, FetchesNothing, Policy, ProcessOptions, Requested, RunFolders,
    RunRequest, SecretError, SecretProvider, cancellation,
};
use fairlead_plan::{Plan, RunOutcome};
use fairlead_run::{Batch, NewRun, PlanBlob, Record, Request, RunEvent, RunFilter, RunStatus};
use fairlead_step::{
    BoxFuture, Capability, Catalog, Clock, Digest, Effect, Registries, RegistryAccess, RunId,
    Secret, StepContext, StepError, StepKind, Verdict, Workspace,
};
use fairlead_store::Store;
use futures::future::try_join_all;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

/// A step that does nothing.
struct Noop;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Done {}

impl StepKind for Noop {
    const KIND: &'static str = "noop";
    const SUMMARY: &'static str = "does nothing";
    const VERSION: &'static str = "1";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = Nothing;
    type Output = Done;

    async fn run(&self, _: Nothing, _: &StepContext) -> Result<Verdict<Done>, StepError> {
        Ok(Verdict::passed(Done {}))
    }
}

struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the port's answer")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Registries for System {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        Box::pin(std::future::ready(Err(StepError::terminal("there are no registries here"))))
    }
}

impl SecretProvider for System {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let (name, hint) = (name.to_owned(), "there are none".to_owned());
        Box::pin(std::future::ready(Err(SecretError::Missing { name, hint })))
    }
}

/// A plan of so many steps, in a row or side by side.
fn plan(steps: usize, in_a_row: bool) -> Result<Arc<Plan>, Failure> {
    let step = |n: usize| {
        let needs = if in_a_row && n > 0 {
            let before = format!("s{}", n - 1);
            json!([{ "step": before, "outcomes": ["passed"], "from": "explicit" }])
        } else {
            json!([])
        };
        json!({
            "id": format!("s{n}"), "kind": "noop", "kind_version": "1", "effect": "idempotent",
            "phase": "main", "needs": needs, "with": {},
            "retry": { "max": 0, "first": "2s", "cap": "1m", "on": "infra" },
            "on": ["passed", "rejected", "failed", "cancelled"],
        })
    };
    let steps: Vec<Value> = (0..steps).map(step).collect();
    Ok(Arc::new(serde_json::from_value(json!({
        "format": "fairlead.dev/plan/v1", "name": "noop", "source_name": "noop.yaml",
        "source_digest": Digest::sha256(b"noop"), "steps": steps,
    }))?))
}

async fn open(place: &str) -> Result<Store, Failure> {
    let artifacts = std::env::temp_dir().join(format!("fairlead-bench-{}", std::process::id()));
    Ok(match place {
        "memory" => Store::memory(),
        url if url.starts_with("postgres") => Store::connect(url, &artifacts).await?,
        folder => Store::open(Path::new(folder)).await?,
    })
}

fn engine(store: &Store) -> Result<Engine, Failure> {
    let mut catalog = Catalog::new();
    catalog.add(Noop)?;
    Ok(Engine::new(EngineOptions {
        catalog: Arc::new(catalog),
        journal: store.journal(),
        logs: store.logs(),
        artifacts: store.artifacts(),
        result_cache: store.result_cache(),
        registries: Arc::new(System),
        egress: fairlead_step::Egress::open(),
        policy: Policy::open(),
        secrets: Arc::new(System),
        clock: Arc::new(System),
        processes: ProcessOptions::default(),
        workspaces: Arc::new(RunFolders::new(std::env::temp_dir(), Arc::new(FetchesNothing))),
        scratch: std::env::temp_dir().join(format!("fairlead-scratch-{}", std::process::id())),
        max_parallel: NonZeroUsize::new(64),
        max_runs: None,
        runners: None,
        default_pool: None,
        injections: Vec::new(),
        version: "bench".to_owned(),
    }))
}

/// Requests a run and drives it to its end.
async fn run(engine: &Engine, plan: &Arc<Plan>) -> Result<RunId, Failure> {
    let request = RunRequest {
        plan: Arc::clone(plan),
        params: plan.bind(&BTreeMap::new()).map_err(|problems| format!("{problems:?}"))?,
        event: json!({}),
        event_id: None,
        started_by: None,
        by: "bench".to_owned(),
        workspace: Workspace::local("/"),
        origin: None,
    };
    let (Requested::New(id) | Requested::Already(id)) = engine.request(request).await?;
    let (_canceller, mut cancel) = cancellation();
    match engine.drive(&id, &mut cancel).await?.0 {
        Driven::Ended(RunOutcome::Passed) => Ok(id),
        other @ (Driven::Ended(_) | Driven::Parked(_)) => {
            Err(format!("the run did not pass: {other:?}").into())
        }
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    millis(times[times.len() / 2])
}

/// Runs one after another; answers the median time of one.
async fn one_by_one(engine: &Engine, plan: &Arc<Plan>, count: usize) -> Result<f64, Failure> {
    let mut times = Vec::with_capacity(count);
    for n in 0..count + 10 {
        let begin = Instant::now();
        run(engine, plan).await?;
        // The first few warm up.
        if n >= 10 {
            times.push(begin.elapsed());
        }
    }
    Ok(median(times))
}

async fn many(engine: &Engine, plan: &Arc<Plan>, runs: usize) -> Result<f64, Failure> {
    let begin = Instant::now();
    let mut drives = JoinSet::new();
    for _ in 0..runs {
        let (engine, plan) = (engine.clone(), Arc::clone(plan));
        drives.spawn(async move { run(&engine, &plan).await });
    }
    while let Some(driven) = drives.join_next().await {
        driven??;
    }
    let transitions = runs * plan.steps().len() * 2;
    Ok(transitions as f64 / begin.elapsed().as_secs_f64())
}

/// Microseconds for each transition of one run.
async fn each(engine: &Engine, plan: &Arc<Plan>) -> Result<f64, Failure> {
    let begin = Instant::now();
    run(engine, plan).await?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / (plan.steps().len() * 2) as f64)
}

/// Milliseconds for the newest page of runs, and for a run of 3 steps.
async fn here(store: &Store, engine: &Engine) -> Result<Value, Failure> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        let page = RunFilter { limit: 50, ..RunFilter::default() };
        let _ = store.journal().list(page).await?;
        times.push(begin.elapsed());
    }
    let run = one_by_one(engine, &plan(3, true)?, 50).await?;
    Ok(json!({ "list_ms": median(times), "run_ms": run }))
}

/// Puts finished runs into the store, many at a time.
async fn fill(store: &Store, count: usize) -> Result<(), Failure> {
    let blob = PlanBlob::of(&*plan(3, true)?)?;
    let journal = store.journal();
    let one = async |n: usize| -> Result<(), Failure> {
        let at = Timestamp::from_second(1_700_000_000 + i64::try_from(n)?)?;
        let id = RunId::mint(1_700_000_000_000 + u64::try_from(n)? * 1000, u64::try_from(n)?);
        let request = Request {
            pipeline: "noop".to_owned(),
            plan: blob.digest().clone(),
            params: json!({}),
            event: json!({}),
            event_id: None,
            by: "bench".to_owned(),
            workspace: Workspace::local("/"),
            engine: "bench".to_owned(),
            group: None,
            origin: None,
        };
        let first = Record::first(at, request)?;
        let outcome = RunOutcome::Cancelled;
        let last = Record::seal(first.seq().next(), at, first.hash(), RunEvent::Ended { outcome })?;
        let plan = blob.clone();
        let new = NewRun { id: id.clone(), plan, first, started_by: None, group: None };
        journal.create(new).await?;
        let lease = journal.acquire(&id).await?;
        let batch = Batch {
            run: id,
            epoch: lease.epoch(),
            records: vec![last],
            status: RunStatus::Ended(outcome),
            wake_at: None,
            taken: Vec::new(),
        };
        Ok(journal.append(batch).await?)
    };
    for hundreds in (0..count).step_by(200) {
        try_join_all((hundreds..(hundreds + 200).min(count)).map(one)).await?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [work, place] = args.as_slice() else { return Err("say: durability WORK STORE".into()) };
    let (work, place) = (work.clone(), place.clone());
    let runtime = tokio::runtime::Runtime::new()?;
    // Not on this thread, which is no worker: each wake would go from thread to thread.
    runtime.block_on(runtime.spawn(async move { measure(&work, &place).await }))?
}

async fn measure(work: &str, place: &str) -> Result<(), Failure> {
    let store = open(place).await?;
    let engine = engine(&store)?;
    let told = match work {
        "noop" => json!({ "median_ms": one_by_one(&engine, &plan(3, true)?, 300).await? }),
        "chain" => json!({ "median_ms": one_by_one(&engine, &plan(400, true)?, 5).await? }),
        "many" => {
            let ten = plan(10, true)?;
            many(&engine, &ten, 20).await?;
            let mut rates = Vec::new();
            for _ in 0..5 {
                rates.push(many(&engine, &ten, 200).await?);
            }
            rates.sort_unstable_by(f64::total_cmp);
            json!({ "transitions_a_second": rates[rates.len() / 2] })
        }
        "flat" => {
            let mut told = serde_json::Map::new();
            for (name, in_a_row) in [("fan", false), ("chain", true)] {
                for steps in [1000, 10_000] {
                    let us = each(&engine, &plan(steps, in_a_row)?).await?;
                    told.insert(format!("{name}_{steps}_us"), json!(us));
                }
            }
            Value::Object(told)
        }
        "finished" => {
            let empty = here(&store, &engine).await?;
            fill(&store, 100_000).await?;
            json!({ "empty": empty, "full": here(&store, &engine).await? })
        }
        other => return Err(format!("there is no work `{other}`").into()),
    };
    println!("{told}");
    store.close().await;
    Ok(())
}
