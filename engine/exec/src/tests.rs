//! Runs on the memory journal, with a fake step kind that does what its input says.

mod attempts;
mod faults;
mod policy;
mod ports;
mod resume;
mod runners;
mod scheduling;
mod stuck;
mod trust;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_plan::{Plan, RunOutcome, Source, compile};
use fairlead_run::{LogKey, Run, RunEvent, RunFilter, StepResult};
use fairlead_step::{
    BoxFuture, Capability, Catalog, Clock, Effect, ProcessSpec, Registries, RegistryAccess,
    RegistryAuth, Required, Requirement, RunId, Secret, StepContext, StepError, StepKind, Verdict,
    Workspace,
};
use fairlead_store::Store;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    Cancellation, DriveError, Engine, EngineOptions, FetchesNothing, Policy, ProcessOptions,
    Requested, RunFolders, RunRequest, SecretError, SecretProvider, cancellation,
};

/// What the fake steps of one test share.
#[derive(Default)]
struct World {
    /// Every attempt that ran, in the order in which they began.
    began: Mutex<Vec<String>>,
    /// How many run, and how many did at most.
    running: Mutex<(usize, usize)>,
    /// What the steps that wait for it are woken by.
    gate: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn began(&self) -> Vec<String> {
        locked(&self.began).clone()
    }
}

/// A fake step kind.
struct Fake(Arc<World>);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FakeInput {
    /// What to do.
    #[serde(rename = "do")]
    does: Do,
    /// What to do it with.
    #[serde(default)]
    text: String,
    /// A secret to misuse.
    secret: Option<Secret<String>>,
    /// What it would have, such as `program sh` or `network bridge`.
    #[serde(default)]
    requires: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Do {
    /// Pass, with `text` as the output.
    Pass,
    /// Answer no.
    Reject,
    /// Fail for good.
    Fail,
    /// Fail in passing, until attempt number `text`.
    Flaky,
    /// Wait for the gate.
    Gate,
    /// Wait until told to stop.
    Hang,
    /// Never stop.
    Stubborn,
    /// Panic.
    Panic,
    /// Give more output than is kept.
    Big,
    /// Give as much output as a step well may.
    Much,
    /// Run `text` in a shell.
    Sh,
    /// Log the secret, and fail with it in the message.
    Log,
    /// Hand on the secret as an output.
    Leak,
}

#[derive(Serialize, JsonSchema)]
struct FakeOutput {
    text: String,
}

/// Counts an attempt as running for as long as it is there.
struct Counted<'w>(&'w World);

impl<'w> Counted<'w> {
    fn begin(world: &'w World, context: &StepContext) -> Self {
        let info = context.info();
        locked(&world.began).push(format!("{}@{}", info.step, info.attempt));
        let mut running = locked(&world.running);
        running.0 += 1;
        running.1 = running.1.max(running.0);
        Self(world)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        locked(&self.0.running).0 -= 1;
    }
}

impl StepKind for Fake {
    const KIND: &'static str = "fake";
    const SUMMARY: &'static str = "Does what it is told";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::Process, Capability::Secrets];
    type Input = FakeInput;
    type Output = FakeOutput;

    fn requirements(&self, input: &FakeInput) -> Vec<Requirement> {
        let required = input.requires.iter().enumerate().filter_map(|(index, text)| {
            let (what, which) = text.split_once(' ')?;
            let what = match what {
                "program" => Required::HostProgram(which.to_owned()),
                "network" => Required::Network(which.to_owned()),
                "image" => Required::Image(which.parse().ok()?),
                "path" => Required::HostPath(which.into()),
                "capability" => Required::LinuxCapability(which.to_owned()),
                "root" => Required::ContainerRoot,
                _ => return None,
            };
            Some(Requirement::at(format!("/requires/{index}"), what))
        });
        required.collect()
    }

    async fn run(
        &self,
        input: FakeInput,
        context: &StepContext,
    ) -> Result<Verdict<FakeOutput>, StepError> {
        let _counted = Counted::begin(&self.0, context);
        let secret = input.secret.as_ref().map_or("", |secret| secret.expose().as_str());
        let text = input.text;
        match input.does {
            Do::Pass => {}
            Do::Reject => {
                let outputs = FakeOutput { text };
                return Ok(Verdict::Rejected { reason: "no".into(), outputs });
            }
            Do::Fail => return Err(StepError::terminal("it broke").hint("mend it")),
            Do::Flaky => {
                if context.info().attempt < text.parse().unwrap() {
                    return Err(StepError::retryable("it is busy"));
                }
            }
            Do::Gate => {
                let open = async {
                    self.0.gate.notified().await;
                    Ok::<_, StepError>(())
                };
                context.cancel().guard(open).await?;
            }
            Do::Hang => {
                context.cancel().cancelled().await;
                return Err(StepError::cancelled());
            }
            Do::Stubborn => std::future::pending().await,
            Do::Panic => panic!("the fake panics, as it was told"),
            Do::Much => return Ok(Verdict::passed(FakeOutput { text: "x".repeat(900_000) })),
            Do::Big => return Ok(Verdict::passed(FakeOutput { text: "x".repeat(2 << 20) })),
            Do::Sh => {
                let exit = context.spawn()?.run(ProcessSpec::new("sh", ["-c", &text])).await?;
                assert!(exit.success(), "{}", exit.stderr_tail);
            }
            Do::Log => {
                context.say(format!("the secret is {secret}"));
                return Err(StepError::terminal(format!("cannot log in with {secret}")));
            }
            Do::Leak => {
                return Ok(Verdict::passed(FakeOutput { text: format!("<{secret}>") }));
            }
        }
        assert!(context.scratch().read_dir().unwrap().next().is_none());
        std::fs::write(context.scratch().join("left"), "behind").unwrap();
        Ok(Verdict::passed(FakeOutput { text }))
    }
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the tests")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A fake: there are no registries in these tests.
struct NoRegistries;

impl Registries for NoRegistries {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        let (auth, extra_ca) = (RegistryAuth::Anonymous, Vec::new());
        Box::pin(std::future::ready(Ok(RegistryAccess {
            auth,
            plain_http: true,
            extra_ca,
            egress: fairlead_step::Egress::open(),
        })))
    }
}

/// A fake: the secrets that a test sets.
struct Secrets(BTreeMap<&'static str, &'static str>);

impl SecretProvider for Secrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let found = self.0.get(name).map(|value| Secret::new((*value).to_owned()));
        let answer = found.ok_or_else(|| SecretError::Missing {
            name: name.to_owned(),
            hint: "set it".to_owned(),
        });
        Box::pin(std::future::ready(answer))
    }
}

/// An engine with its store and its world.
struct Bench {
    engine: Engine,
    catalog: Arc<Catalog>,
    store: Store,
    world: Arc<World>,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    bench_with(Store::memory(), |_| {})
}

fn bench_with(store: Store, change: impl FnOnce(&mut EngineOptions)) -> Bench {
    let world = Arc::new(World::default());
    let mut catalog = Catalog::new();
    catalog.add(Fake(world.clone())).unwrap();
    let catalog = Arc::new(catalog);
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&catalog, folder.path(), &store);
    change(&mut options);
    Bench { engine: Engine::new(options), catalog, store, world, folder }
}

fn options(catalog: &Arc<Catalog>, folder: &Path, store: &Store) -> EngineOptions {
    EngineOptions {
        catalog: catalog.clone(),
        journal: store.journal(),
        logs: store.logs(),
        artifacts: store.artifacts(),
        result_cache: store.result_cache(),
        registries: Arc::new(NoRegistries),
        egress: fairlead_step::Egress::open(),
        policy: Policy::open(),
        secrets: Arc::new(Secrets(BTreeMap::from([
            ("token", "hunter2-hunter2"),
            ("key", "-----BEGIN KEY-----\nfirst-line\nsecond-line\n-----END KEY-----\n"),
        ]))),
        clock: Arc::new(SystemClock),
        processes: ProcessOptions {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            grace: Duration::from_millis(200),
            mark: None,
        },
        workspaces: Arc::new(RunFolders::new(folder.join("workspaces"), Arc::new(FetchesNothing))),
        scratch: folder.join("scratch"),
        max_parallel: NonZeroUsize::new(8),
        max_runs: None,
        runners: None,
        default_pool: None,
        injections: Vec::new(),
        version: "test".into(),
    }
}

impl Bench {
    /// What another engine over a store is made of.
    fn options(&self, store: &Store) -> EngineOptions {
        options(&self.catalog, self.folder.path(), store)
    }

    fn plan(&self, yaml: &str) -> Arc<Plan> {
        let text = format!("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: test\n{yaml}");
        let source = Source::new("test.yaml", text);
        match compile(&source, &self.catalog) {
            Ok(compiled) => Arc::new(compiled.plan),
            Err(diagnostics) => panic!("{diagnostics:?}"),
        }
    }

    fn ask(&self, yaml: &str) -> RunRequest {
        let plan = self.plan(yaml);
        RunRequest {
            params: plan.bind(&BTreeMap::new()).unwrap(),
            plan,
            event: Value::Object(serde_json::Map::new()),
            event_id: None,
            started_by: None,
            by: "tester".into(),
            workspace: Workspace::local(self.folder.path()),
            origin: None,
        }
    }

    async fn request(&self, yaml: &str) -> RunId {
        match self.engine.request(self.ask(yaml)).await.unwrap() {
            Requested::New(run) => run,
            Requested::Already(run) => panic!("{run} was there before"),
        }
    }

    async fn drive(&self, run: &RunId) -> Result<RunOutcome, DriveError> {
        let (_canceller, cancel): (_, Cancellation) = cancellation();
        self.engine.finish(run, cancel, |_| {}).await.map(|(outcome, _)| outcome)
    }

    /// Runs a pipeline to its end.
    async fn run(&self, yaml: &str) -> (RunOutcome, Run) {
        let run = self.request(yaml).await;
        let outcome = self.drive(&run).await.unwrap();
        (outcome, self.load(&run).await)
    }

    async fn load(&self, run: &RunId) -> Run {
        Run::restore(&self.store.journal().load(run).await.unwrap()).unwrap()
    }

    /// The facts of a run in few words, after the request.
    async fn story(&self, run: &RunId) -> Vec<String> {
        let records = self.store.journal().load(run).await.unwrap().records;
        records.iter().skip(1).map(|record| in_short(record.event())).collect()
    }

    async fn log(&self, run: &RunId, step: &str) -> String {
        let key = LogKey { run: run.clone(), step: step.parse().unwrap(), attempt: 1 };
        let page = self.store.logs().read(&key, 0, 1 << 20).await.unwrap();
        page.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    async fn line_in(&self, file: &str) -> String {
        whole_line(&self.folder.path().join(file)).await
    }
}

/// Waits until the file holds a whole line, which a process writes when it is where the test wants
/// it, and answers it.
pub(crate) async fn whole_line(path: &Path) -> String {
    loop {
        if let Ok(text) = std::fs::read_to_string(path)
            && text.ends_with('\n')
        {
            return text.trim().to_owned();
        }
        tokio::task::yield_now().await;
    }
}

fn in_short(event: &RunEvent) -> String {
    match event {
        RunEvent::Requested(_) => "requested".into(),
        RunEvent::Resumed { .. } => "resumed".into(),
        RunEvent::Started { step, attempt, .. } => format!("started {step}@{attempt}"),
        RunEvent::Finished { step, attempt, result, .. } => {
            let how = match result {
                StepResult::Verdict(Verdict::Passed { .. }) => "passed".to_owned(),
                StepResult::Verdict(Verdict::Rejected { reason, .. }) => {
                    format!("rejected: {reason}")
                }
                StepResult::Verdict(Verdict::Skipped { reason }) => format!("skipped: {reason}"),
                StepResult::Failure(failure) => format!("failed: {}", failure.message),
                StepResult::TimedOut { after } => format!("timed out after {after}"),
                StepResult::Cancelled { message } => format!("cancelled: {message}"),
            };
            format!("finished {step}@{attempt} {how}")
        }
        RunEvent::Queued { group, behind } => {
            let behind = behind.as_ref().map_or("nobody".to_owned(), ToString::to_string);
            format!("queued in {} behind {behind}", group.as_deref().unwrap_or("the store"))
        }
        RunEvent::Admitted => "admitted".into(),
        RunEvent::Expanded { step, items } => {
            let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
            format!("items of {step}: {}", keys.join(" "))
        }
        RunEvent::GateOpened { step, .. } => format!("opened {step}"),
        RunEvent::Voted { step, by, vote, .. } => format!("{} by {} at {step}", vote, by.name),
        RunEvent::GateDue { step } => format!("due {step}"),
        RunEvent::Woken { step, why } => format!("woken {step}: {why}"),
        RunEvent::Settled { step, attempt, by, decision, .. } => {
            format!("settled {step}@{attempt} {decision} by {}", by.name)
        }
        RunEvent::CacheHit { step, attempt, run, .. } => {
            format!("remembered {step}@{attempt} of {run}")
        }
        RunEvent::AttemptLost { step, attempt, .. } => format!("lost {step}@{attempt}"),
        RunEvent::RetryScheduled { step, attempt, .. } => format!("retry {step}@{attempt}"),
        RunEvent::Skipped { step, reason } => format!("skipped {step}: {reason}"),
        RunEvent::NotStarted { step, failure } => {
            format!("not started {step}: {}", failure.message)
        }
        RunEvent::CancelRequested { by, reason } => format!("cancel by {by}: {reason}"),
        RunEvent::Abandoned { by, reason, .. } => {
            format!("abandoned by {by}: {}", reason.as_deref().unwrap_or("no reason"))
        }
        RunEvent::Ended { outcome } => format!("ended {outcome}"),
    }
}
