//! The harness of a test: everything a server is made of, kept across restarts of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairlead_event::SenderKind;
use fairlead_exec::{
    Engine, EngineOptions, Policy, ProcessOptions, RunFolders, RunRequest, SecretError,
    SecretProvider,
};
use fairlead_plan::{Plan, Source};
use fairlead_run::{EventFilter, Journal, Projects, RunEvent, RunFilter, RunStatus, RunSummary};
use fairlead_step::{
    BoxFuture, Capability, Catalog, Clock, Digest, Effect, Globs, Image, ImageRef, Registries,
    RegistryAccess, RegistryAuth, Secret, StepContext, StepError, StepKind, Verdict, Workspace,
};
use fairlead_store::Store;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::fakes::{Fetched, NothingToPrune};
use super::forge::{FORGE, Forge};
use super::nats::FakeNats;
use super::pipelines::PIPELINES;
use super::take_ups::Counting;
use super::telemetry::Collector;
use crate::{
    ApiAccess, Definitions, Destinations, FoundImage, ImageResolver, Issuers, Limits, Metrics,
    Options, Pipeline, Pipelines, PlanRules, Ports, RepositorySettings, ServeError, Server, Setup,
    SourceSettings, Sources, TrustedProxies,
};

pub(super) const TOKEN: &str = "api-token";
pub(super) const REGISTRY: &str = "registry.example.com";
/// The name of the secret of the sources of every kind. It is long enough to stand in an address.
const EVERY: &str = "every-sender-of-events";
/// That secret.
pub(super) const EVERY_SECRET: &str = "every-sender-of-events-secret";

/// A step whose answer is no until there is proof.
struct Proof(Arc<AtomicBool>);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProofInput {
    /// The image that it asks about.
    image: String,
}

impl StepKind for Proof {
    const KIND: &'static str = "proof";
    const SUMMARY: &'static str = "asks for proof";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = ProofInput;
    type Output = NoteOutput;

    async fn run(
        &self,
        input: ProofInput,
        _: &StepContext,
    ) -> Result<Verdict<NoteOutput>, StepError> {
        let outputs = NoteOutput { text: input.image };
        Ok(if self.0.load(Ordering::Relaxed) {
            Verdict::passed(outputs)
        } else {
            Verdict::Rejected { reason: "there is no proof yet".to_owned(), outputs }
        })
    }
}

/// A step that says its text and waits for leave to pass.
struct Note(Arc<Semaphore>);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoteInput {
    /// What to say.
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct NoteOutput {
    /// What was said.
    text: String,
}

impl StepKind for Note {
    const KIND: &'static str = "note";
    const SUMMARY: &'static str = "says something";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = NoteInput;
    type Output = NoteOutput;

    async fn run(
        &self,
        input: NoteInput,
        context: &StepContext,
    ) -> Result<Verdict<NoteOutput>, StepError> {
        context.say(&input.text);
        let leave = async { self.0.acquire().await.map_err(|_| StepError::terminal("closed")) };
        context.cancel().guard(leave).await?.forget();
        Ok(Verdict::passed(NoteOutput { text: input.text }))
    }
}

/// A step that must not be made twice; otherwise as the other one.
struct Deed(Note);

impl StepKind for Deed {
    const KIND: &'static str = "deed";
    const SUMMARY: &'static str = "does something once";
    const EFFECT: Effect = Effect::Once;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = NoteInput;
    type Output = NoteOutput;

    async fn run(
        &self,
        input: NoteInput,
        context: &StepContext,
    ) -> Result<Verdict<NoteOutput>, StepError> {
        self.0.run(input, context).await
    }
}

/// A clock that goes on whenever it is looked at, and by itself once it is told to.
#[derive(Default)]
pub(super) struct Ticking {
    millis: AtomicI64,
    flows: Mutex<Option<Instant>>,
}

impl Ticking {
    /// Goes on by so much at once, and by itself from now on.
    pub(super) fn flow_from(&self, later: Duration) {
        self.millis.fetch_add(i64::try_from(later.as_millis()).unwrap(), Ordering::Relaxed);
        *self.flows.lock().unwrap() = Some(Instant::now());
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let flown = self.flows.lock().unwrap().map_or(Duration::ZERO, |since| since.elapsed());
        let millis =
            self.millis.fetch_add(1, Ordering::Relaxed) + i64::try_from(flown.as_millis()).unwrap();
        Timestamp::from_millisecond(1_767_225_600_000 + millis).unwrap()
    }
}

struct Known;

impl SecretProvider for Known {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        Box::pin(async move { Ok(Secret::new(format!("{name}-secret"))) })
    }
}

impl Registries for Known {
    fn access(&self, _host: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        Box::pin(async {
            let auth = RegistryAuth::Anonymous;
            Ok(RegistryAccess {
                auth,
                plain_http: false,
                extra_ca: Vec::new(),
                egress: fairlead_step::Egress::open(),
            })
        })
    }
}

/// A registry that knows tags, and may be away.
#[derive(Default)]
pub(super) struct Registry {
    tags: Mutex<BTreeMap<String, Digest>>,
    /// What is attached to what, by the reference of the manifest.
    subjects: Mutex<BTreeMap<String, Digest>>,
    away: AtomicBool,
    /// Whoever asks about these waits until they are let go.
    hangs: Mutex<BTreeSet<String>>,
    asked: Notify,
    /// How often it was asked anything.
    questions: AtomicUsize,
}

impl Registry {
    /// Does not answer about `name` any more.
    pub(super) fn hang(&self, name: &str) {
        self.hangs.lock().unwrap().insert(format!("{REGISTRY}/{name}"));
    }

    pub(super) fn let_go(&self) {
        self.hangs.lock().unwrap().clear();
    }

    pub(super) fn put(&self, name: &str, content: &str) {
        let digest = Digest::sha256(content.as_bytes());
        self.tags.lock().unwrap().insert(format!("{REGISTRY}/{name}"), digest);
    }

    /// Attaches a manifest to an image in the same repository.
    pub(super) fn attach(&self, name: &str, content: &str, subject: &Digest) {
        let digest = Digest::sha256(content.as_bytes());
        let reference = format!("{REGISTRY}/{name}@{digest}");
        self.subjects.lock().unwrap().insert(reference, subject.clone());
    }

    pub(super) fn remove(&self, name: &str) {
        self.tags.lock().unwrap().remove(&format!("{REGISTRY}/{name}"));
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How often it was asked anything.
    pub(super) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// Waits until somebody asks.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl ImageResolver for Registry {
    fn find<'a>(
        &'a self,
        reference: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Option<FoundImage>, StepError>> {
        Box::pin(async move {
            self.asked.notify_one();
            self.questions.fetch_add(1, Ordering::SeqCst);
            while self.hangs.lock().unwrap().contains(&reference.to_string()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if self.away.load(Ordering::SeqCst) {
                return Err(StepError::retryable("connection refused"));
            }
            let found = self.tags.lock().unwrap().get(&reference.to_string()).cloned();
            Ok(found.map(|digest| FoundImage { digest, media_type: None }))
        })
    }

    fn subject<'a>(
        &'a self,
        manifest: &'a Image,
    ) -> BoxFuture<'a, Result<Option<Digest>, StepError>> {
        Box::pin(async move {
            self.asked.notify_one();
            if self.away.load(Ordering::SeqCst) {
                return Err(StepError::retryable("connection refused"));
            }
            Ok(self.subjects.lock().unwrap().get(&manifest.to_string()).cloned())
        })
    }
}

pub(super) struct Harness {
    pub(super) store: Store,
    pub(super) registry: Arc<Registry>,
    pub(super) forge: Arc<Forge>,
    pub(super) nats: Arc<FakeNats>,
    /// How many steps may pass.
    pub(super) leave: Arc<Semaphore>,
    /// Whether there is proof.
    pub(super) proven: Arc<AtomicBool>,
    /// How many runs may go on at a time.
    pub(super) max_runs: Option<NonZeroU32>,
    /// How long the bus has to take an event.
    pub(super) direct: Duration,
    /// How old an event becomes.
    pub(super) give_up: Duration,
    /// How often a server took a run up.
    takings: Arc<AtomicUsize>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) collector: Arc<Collector>,
    /// Pipelines beside those that every harness has.
    pub(super) more: Vec<&'static str>,
    pub(super) clock: Arc<Ticking>,
    /// How much one address may ask.
    pub(super) limits: Limits,
    /// The proxies that are believed.
    pub(super) proxies: TrustedProxies,
    projects: Projects,
    /// The repositories that are followed.
    pub(super) repositories: Vec<RepositorySettings>,
    /// Who is told of what happens.
    pub(super) destinations: Destinations,
    scratch: tempfile::TempDir,
}

pub(super) struct Serving {
    pub(super) address: SocketAddr,
    pub(super) definitions: Arc<Definitions>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

struct NoRules;

impl PlanRules for NoRules {
    fn refusals(&self, _: &Plan) -> Vec<String> {
        Vec::new()
    }
}

impl Harness {
    pub(super) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self {
            store: Store::memory(),
            registry: Arc::new(Registry::default()),
            forge: Arc::new(Forge::default()),
            nats: Arc::new(FakeNats::new()),
            leave: Arc::new(Semaphore::new(1000)),
            proven: Arc::default(),
            max_runs: None,
            direct: Duration::from_millis(50),
            give_up: Options::default().give_up,
            metrics: Arc::new(Metrics::new()),
            collector: Arc::default(),
            takings: Arc::default(),
            more: Vec::new(),
            clock: Arc::default(),
            limits: Limits {
                requests: 1_000_000,
                burst: 1_000_000,
                failures: 1_000_000,
                ..Limits::default()
            },
            proxies: TrustedProxies::default(),
            projects: Projects::default(),
            repositories: Vec::new(),
            destinations: Destinations::default(),
            scratch,
        }
    }

    /// The projects, as a configuration has them.
    pub(super) fn projects(&mut self, settings: Value) {
        let settings: BTreeMap<String, Globs> = serde_json::from_value(settings).unwrap();
        self.projects = Projects::new(settings).unwrap();
    }

    /// A server of this harness, which hears nothing on NATS.
    pub(super) async fn serve(&self) -> Serving {
        self.serve_with(None, ApiAccess::Token(Secret::new(TOKEN.to_owned()))).await
    }

    pub(super) async fn serve_with(&self, subject: Option<&str>, access: ApiAccess) -> Serving {
        let server = self.server(subject, access).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let definitions = server.definitions();
        let task = tokio::spawn(Box::pin(server.serve(listener, shutdown)));
        Serving { address, definitions, stop, task }
    }

    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new();
        catalog.add(Note(Arc::clone(&self.leave))).unwrap();
        catalog.add(Deed(Note(Arc::clone(&self.leave)))).unwrap();
        catalog.add(Proof(Arc::clone(&self.proven))).unwrap();
        catalog
    }

    fn plans(&self) -> impl Iterator<Item = Arc<Plan>> {
        let catalog = self.catalog();
        PIPELINES.into_iter().chain(self.more.iter().copied()).map(move |text| {
            let source = Source::new("test.yaml", text);
            let compiled = fairlead_plan::compile(&source, &catalog);
            Arc::new(compiled.unwrap_or_else(|e| panic!("{e:?}")).plan)
        })
    }

    /// A pipeline that a client brings.
    pub(super) fn compiled(&self, source: &Source) -> Arc<Plan> {
        let compiled = fairlead_plan::compile(source, &self.catalog());
        Arc::new(compiled.unwrap_or_else(|e| panic!("{e:?}")).plan)
    }

    /// Creates so many runs of a pipeline that nobody takes up.
    pub(super) async fn leave_lying(&self, pipeline: &str, count: usize) {
        let (engine, plan) = (self.engine(), self.plans().find(|plan| plan.name() == pipeline));
        let plan = plan.unwrap();
        let request = RunRequest {
            params: plan.bind(&BTreeMap::new()).unwrap(),
            plan,
            event: serde_json::json!({}),
            event_id: None,
            started_by: None,
            by: "ann".into(),
            workspace: Workspace::EMPTY,
            origin: None,
        };
        for _ in 0..count {
            engine.request(request.clone()).await.unwrap();
        }
    }

    /// The journal as a server of this harness has it.
    fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(Counting::new(self.store.journal(), Arc::clone(&self.takings)))
    }

    /// An engine of its own, as a process has that is no server.
    pub(super) fn engine(&self) -> Engine {
        let options = EngineOptions {
            catalog: Arc::new(self.catalog()),
            journal: self.journal(),
            logs: self.store.logs(),
            artifacts: self.store.artifacts(),
            result_cache: self.store.result_cache(),
            registries: Arc::new(Known),
            egress: fairlead_step::Egress::open(),
            policy: Policy::open(),
            secrets: Arc::new(Known),
            clock: self.clock.clone(),
            processes: ProcessOptions::default(),
            workspaces: Arc::new(RunFolders::new(
                self.scratch.path().join("workspaces"),
                Arc::new(Fetched),
            )),
            scratch: self.scratch.path().join("scratch"),
            max_parallel: None,
            max_runs: self.max_runs,
            runners: None,
            default_pool: None,
            injections: Vec::new(),
            version: "0".into(),
        };
        Engine::measured(options, self.metrics.clone())
    }

    pub(super) async fn server(&self, subject: Option<&str>, access: ApiAccess) -> Server {
        self.server_of(self.setup(subject).await, access)
    }

    /// What such a server is configured to have.
    pub(super) async fn setup(&self, subject: Option<&str>) -> Setup {
        let pipelines = self.plans().map(Pipeline::of_file);
        let mut sources: BTreeMap<String, SourceSettings> =
            serde_json::from_value(serde_json::json!({
                "registry": { "kind": "distribution", "secret": "registry", "registry": REGISTRY },
                "github": { "kind": "github", "secret": "github", "forge": FORGE },
                "gitea": { "kind": "gitea", "unsigned": true, "forge": FORGE },
                "zot": { "kind": "zot", "secret": "zot", "registry": REGISTRY, "subject": subject },
            }))
            .unwrap();
        // One of every kind besides, under its own name.
        for kind in SenderKind::ALL {
            let settings = serde_json::json!({ "kind": kind, "secret": EVERY,
                "registry": kind.reports_images().then_some(REGISTRY),
                "forge": kind.is_forge().then_some(FORGE) });
            let settings = serde_json::from_value(settings).unwrap();
            sources.insert(format!("every-{kind}"), settings);
        }
        Setup {
            pipelines: Pipelines::new(pipelines).unwrap(),
            repositories: self.repositories.clone(),
            sources: Sources::open(&sources, &Known).await.unwrap(),
            projects: self.projects.clone(),
            rules: Arc::new(NoRules),
            destinations: self.destinations.clone(),
        }
    }

    fn server_of(&self, setup: Setup, access: ApiAccess) -> Server {
        let ports = Ports {
            engine: self.engine(),
            journal: self.journal(),
            events: self.store.events(),
            deliveries: self.store.deliveries(),
            logs: self.store.logs(),
            artifacts: self.store.artifacts(),
            retention: Arc::new(NothingToPrune),
            catalog: Arc::new(self.catalog()),
            bus: self.nats.clone(),
            images: self.registry.clone(),
            forges: self.forge.clone(),
            clock: self.clock.clone(),
            access,
            tokens: self.store.tokens(),
            issuers: Issuers::default(),
            audit: self.store.audit(),
            keyed: self.store.keyed_requests(),
            proxies: self.proxies.clone(),
            metrics: Arc::clone(&self.metrics),
            traces: Some(self.collector.clone()),
            groups: [("qa".to_owned(), BTreeSet::from(["bob".to_owned()]))].into_iter().collect(),
        };
        let options = Options {
            drain: Duration::from_millis(1),
            retry: Duration::from_millis(5),
            // By the clock of this harness, which goes on by a millisecond whenever it is looked at.
            settle: Duration::from_millis(5),
            direct: self.direct,
            give_up: self.give_up,
            limits: self.limits,
            ..Options::default()
        };
        Server::new(ports, setup, options).unwrap()
    }

    pub(super) async fn runs(&self) -> Vec<RunSummary> {
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        self.store.journal().list(filter).await.unwrap()
    }

    /// Waits until `count` runs have ended.
    pub(super) async fn ended(&self, count: usize) -> Vec<RunSummary> {
        let ended = async {
            loop {
                let runs = self.runs().await;
                let over = |run: &&RunSummary| matches!(run.status, RunStatus::Ended(_));
                if runs.iter().filter(over).count() >= count {
                    return runs;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the runs end")
    }

    /// Waits until every event is handled.
    pub(super) async fn settled(&self) {
        let settled = async {
            while !self.store.events().due(1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("the events settle");
    }

    /// Waits until a step of the run is under way.
    pub(super) async fn went_on(&self, run: &str) {
        let run = run.parse().unwrap();
        let begun = async {
            loop {
                let stored = self.store.journal().load(&run).await.unwrap();
                if stored.records.iter().any(|it| matches!(it.event(), RunEvent::Started { .. })) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), begun).await.expect("the run begins");
    }

    /// Waits until nobody takes a run up any more, and answers how often one was.
    pub(super) async fn takings(&self) -> usize {
        let still = async {
            let mut count = self.takings.load(Ordering::SeqCst);
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = self.takings.load(Ordering::SeqCst);
                if now == count {
                    return count;
                }
                count = now;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), still).await.expect("it becomes quiet")
    }

    pub(super) async fn stored_events(&self) -> usize {
        let all = EventFilter { limit: 100, ..EventFilter::default() };
        self.store.events().list(all).await.unwrap().len()
    }
}

impl Serving {
    pub(super) async fn stop(self) {
        drop(self.stop);
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap().unwrap();
    }

    /// One request over a connection of its own (HTTP/1.1, read to its end).
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        head.push_str("Connection: close\r\n");
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a large body closes before it has read it.
        let _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        // The stream of all runs has no end; its head says enough.
        let endless = path.ends_with("/stream");
        let reading = async {
            let whole = |bytes: &[u8]| bytes.windows(4).any(|end| end == b"\r\n\r\n");
            while !(endless && bytes.starts_with(b"HTTP/1.1 200") && whole(&bytes)) {
                if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the server answers");
        let text = String::from_utf8(bytes).unwrap();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let headers = headers.to_ascii_lowercase();
        let chunked = headers.contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.to_owned() };
        Answer { status, headers, body }
    }

    pub(super) async fn api(&self, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        self.send(method, path, &[("Authorization", &authorization)], body.as_bytes()).await
    }

    /// A notification of the registry, with an id of its own.
    pub(super) async fn notify(&self, id: &str, name: &str, tag: &str, content: &str) -> Answer {
        let body = notification(id, name, tag, content);
        let headers = [("Authorization", "Bearer registry-secret")];
        self.send("POST", "/webhooks/registry", &headers, body.as_bytes()).await
    }
}

pub(super) fn notification(id: &str, name: &str, tag: &str, content: &str) -> String {
    serde_json::json!({ "events": [{
        "id": id, "action": "push", "timestamp": "2026-01-01T00:00:00Z",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "repository": name,
            "digest": Digest::sha256(content.as_bytes()), "tag": tag,
        },
    }]})
    .to_string()
}

/// The chunks of a chunked body, put together.
fn joined(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(&rest[..size]);
        text = &rest[size + 2..];
    }
    body
}
