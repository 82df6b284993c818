//! A case, lived through: servers drive runs, people vote and decide, and trouble comes and ends.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{
    DispatchError, DriveError, Driven, Engine, EngineOptions, FetchesNothing, Policy,
    ProcessOptions, RunFolders, RunRequest, cancellation,
};
use fairlead_plan::{Plan, Scope, Source, compile};
use fairlead_run::{
    CancelReason, Decision, Group, Journal, NewRun, PlanBlob, Record, Request, Run, RunFilter,
    RunStatus, Signal, StepStatus, Vote, Voter, Wake,
};
use fairlead_step::{Catalog, Clock, RunId, StepId, Workspace};
use futures::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::case::Case;
use crate::check;
use crate::ports::{Nothing, SimClock};
use crate::rng::Rng;
use crate::steps::{Outside, catalog};
use crate::store::{Faulty, NOBODY, Plant, Shared};

/// How long there is trouble.
const TROUBLE: Duration = Duration::from_secs(40);
/// How long runs may take to end afterwards.
const PATIENCE: Duration = Duration::from_secs(1800);
/// When people stop runs at whose gates nobody has the say.
const GIVE_UP: Duration = Duration::from_secs(150);
/// A person decides of a lost attempt when nothing of it can still be going on.
const QUIET: i64 = 10;

/// How a case ended.
pub(crate) struct End {
    problems: Vec<String>,
    /// The facts of every run.
    pub(crate) story: String,
}

impl End {
    pub(crate) fn problem(&self) -> Result<(), String> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.join("\n")) }
    }
}

/// Lives through a case.
pub(crate) fn live(case: &Case, plant: Option<Plant>) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(Simulation::settle(case, plant).live(case))
}

struct Simulation {
    shared: Arc<Shared>,
    outside: Arc<Outside>,
    catalogs: Vec<Arc<Catalog>>,
    plans: Vec<Arc<Plan>>,
    clocks: Vec<Arc<SimClock>>,
    max_runs: Option<NonZeroU32>,
    rng: Rng,
    scratch: PathBuf,
}

impl Simulation {
    fn settle(case: &Case, plant: Option<Plant>) -> Self {
        let outside = Arc::new(Outside::new(case.seed));
        let catalogs: Vec<Arc<Catalog>> =
            (0..case.servers).map(|server| catalog(&outside, server)).collect();
        let plan = |(n, pipeline): (usize, &crate::case::Pipeline)| {
            let name = format!("p{n}");
            let yaml = pipeline.yaml(&name);
            match compile(&Source::new("sim.yaml", yaml.clone()), &catalogs[0]) {
                Ok(compiled) => Arc::new(compiled.plan),
                Err(findings) => panic!("{yaml}\n{findings}"),
            }
        };
        let plans = case.pipelines.iter().enumerate().map(plan).collect();
        Self {
            shared: Shared::new(case.seed, case.trouble, plant, Arc::clone(&outside)),
            outside,
            plans,
            catalogs,
            clocks: Vec::new(),
            max_runs: case.max_runs.and_then(NonZeroU32::new),
            rng: Rng::of(case.seed, "simulation"),
            scratch: std::env::temp_dir().join(format!("fairlead-sim-{}", std::process::id())),
        }
    }

    async fn live(mut self, case: &Case) -> End {
        let begin = Instant::now();
        self.clocks = (0..case.servers).map(|_| Arc::new(SimClock::new(begin))).collect();
        let mut servers: Vec<JoinSet<()>> = (0..case.servers).map(|n| self.server(n)).collect();
        let mut people = JoinSet::new();
        people.spawn(self.people(case));
        if case.trouble.hangs {
            people.spawn(Arc::clone(&self.shared).renew_leases());
        }
        let mut asked: Vec<(u64, usize)> =
            case.runs.iter().enumerate().map(|(n, run)| (run.at, n)).collect();
        asked.sort_unstable();
        let mut ids = BTreeMap::new();
        let mut to_retry: BTreeSet<usize> =
            (0..case.runs.len()).filter(|n| case.runs[*n].retried).collect();
        let mut calm = false;
        loop {
            let gone = begin.elapsed();
            while let Some((at, n)) = asked.first().copied()
                && u128::from(at) <= gone.as_millis()
            {
                asked.remove(0);
                ids.insert(n, self.request(case.runs[n].pipeline, n, None).await);
            }
            if gone >= TROUBLE && !calm {
                calm = true;
                self.shared.calm_down();
            }
            if !calm {
                self.trouble(case, &mut servers).await;
            }
            let left = self.unfinished().await;
            for n in to_retry.clone() {
                if let Some(id) = ids.get(&n)
                    && !left.contains(id)
                {
                    to_retry.remove(&n);
                    self.retry(id, 100 + n).await;
                }
            }
            if asked.is_empty() && to_retry.is_empty() && self.unfinished().await.is_empty() {
                break;
            }
            if gone > TROUBLE + PATIENCE {
                for run in self.unfinished().await {
                    self.shared.watch.problem(format!("run {run} has not ended"));
                }
                break;
            }
            let pause = 50 + self.rng.below(900);
            sleep(Duration::from_millis(pause)).await;
        }
        drop(servers);
        people.shutdown().await;
        self.verdict().await
    }

    /// One more thing goes wrong, or nothing.
    async fn trouble(&mut self, case: &Case, servers: &mut [JoinSet<()>]) {
        let trouble = case.trouble;
        let some = |rng: &mut Rng| usize::try_from(rng.below(case.servers as u64)).expect("a few");
        if trouble.crashes && self.rng.one_in(12) {
            let n = some(&mut self.rng);
            servers[n].shutdown().await;
            sleep(Duration::from_millis(self.rng.below(3000))).await;
            servers[n] = self.server(n);
        }
        if trouble.steals && self.rng.one_in(20) {
            self.shared.steal_one(self.rng.one_in(2));
        }
        if trouble.outages && self.rng.one_in(25) {
            self.shared.set_away(true);
            sleep(Duration::from_millis(self.rng.below(25_000))).await;
            self.shared.set_away(false);
        }
        if trouble.hangs && self.rng.one_in(15) {
            let n = some(&mut self.rng);
            self.shared.hang(n, Duration::from_millis(2000 + self.rng.below(28_000)));
        }
        if trouble.clocks && self.rng.one_in(20) {
            let n = some(&mut self.rng);
            let millis = i64::try_from(self.rng.below(60_000)).expect("a minute") - 20_000;
            self.clocks[n].jump(millis);
        }
    }

    fn server(&self, n: usize) -> JoinSet<()> {
        let journal = Arc::new(Faulty { shared: Arc::clone(&self.shared), server: n });
        let clock: Arc<dyn Clock> = self.clocks[n].clone();
        let engine = Engine::new(EngineOptions {
            catalog: Arc::clone(&self.catalogs[n]),
            journal: journal.clone(),
            logs: self.shared.store.logs(),
            artifacts: self.shared.store.artifacts(),
            result_cache: journal.clone(),
            registries: Arc::new(Nothing),
            egress: fairlead_step::Egress::open(),
            policy: Policy::open(),
            secrets: Arc::new(Nothing),
            clock: Arc::clone(&clock),
            processes: ProcessOptions {
                environment: Vec::new(),
                grace: Duration::from_millis(500),
                mark: None,
            },
            workspaces: Arc::new(RunFolders::new(self.scratch.clone(), Arc::new(FetchesNothing))),
            scratch: self.scratch.clone(),
            max_parallel: NonZeroUsize::new(3),
            max_runs: self.max_runs,
            runners: None,
            default_pool: None,
            injections: Vec::new(),
            version: "sim".to_owned(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(engine, journal, clock, Arc::clone(&self.shared)));
        tasks
    }

    async fn request(&self, pipeline: usize, n: usize, again: Option<RunRequest>) -> RunId {
        let plan = Arc::clone(&self.plans[pipeline]);
        let now = self.clocks[0].now();
        let request = again.unwrap_or_else(|| RunRequest {
            params: plan.bind(&BTreeMap::new()).expect("defaults"),
            plan,
            event: json!({ "actor": "bob" }),
            event_id: None,
            started_by: None,
            by: "ann".to_owned(),
            workspace: Workspace::local("/"),
            origin: None,
        });
        let id = RunId::mint(1_790_000_000_000 + n as u64, n as u64);
        let blob = PlanBlob::of(&request.plan).expect("a plan");
        let group = request.plan.concurrency().map(|concurrency| {
            let scope = Scope { params: request.params.clone(), ..Scope::default() };
            Group {
                name: concurrency.name(&scope).expect("a name"),
                policy: concurrency.policy,
                max: NonZeroU32::new(concurrency.max).expect("at least 1"),
            }
        });
        let first = Record::first(
            now,
            Request {
                pipeline: request.plan.name().to_owned(),
                plan: blob.digest().clone(),
                params: request.params,
                event: request.event,
                event_id: None,
                by: request.by,
                workspace: request.workspace,
                engine: "sim".to_owned(),
                group: group.as_ref().map(|group| group.name.clone()),
                origin: request.origin,
            },
        );
        let first = first.expect("a record");
        let run = NewRun { id: id.clone(), plan: blob, first, started_by: None, group };
        let shared = Arc::clone(&self.shared);
        Faulty { shared, server: NOBODY }.create(run).await.expect("created");
        id
    }

    /// Makes a run again from one of its steps, or what did not end well.
    async fn retry(&mut self, id: &RunId, n: usize) {
        let stored = self.shared.store.journal().load(id).await.expect("a run");
        let old = Run::restore(&stored).expect("a run");
        let main: Vec<StepId> = old
            .steps()
            .filter(|step| step.plan().phase == fairlead_plan::Phase::Main)
            .map(|step| step.id().clone())
            .collect();
        let from = if self.rng.one_in(2) { vec![self.rng.pick(&main).clone()] } else { Vec::new() };
        // Nothing may be left to be made again.
        if let Ok(request) = RunRequest::retry(&old, &from, None, "cat".to_owned()) {
            self.request(0, n, Some(request)).await;
        }
    }

    async fn unfinished(&self) -> Vec<RunId> {
        let filter = RunFilter { unfinished: true, limit: 1000, ..RunFilter::default() };
        let runs = self.shared.store.journal().list(filter).await.expect("a list");
        runs.into_iter().map(|run| run.id).collect()
    }

    /// People vote at gates, decide of lost attempts, and change their minds.
    fn people(&self, case: &Case) -> impl Future<Output = ()> + Send + use<> {
        let (shared, outside) = (Arc::clone(&self.shared), Arc::clone(&self.outside));
        let mut rng = Rng::of(case.seed, "people");
        let (trouble, clock) = (case.trouble, Arc::clone(&self.clocks[0]));
        async move {
            let journal = shared.store.journal();
            let begin = Instant::now();
            // The runs as they were when somebody last looked.
            let mut known: BTreeMap<RunId, Run> = BTreeMap::new();
            loop {
                sleep(Duration::from_millis(500 + rng.below(4000))).await;
                let troubled = begin.elapsed() < TROUBLE;
                let filter = RunFilter { unfinished: true, limit: 1000, ..RunFilter::default() };
                let Ok(runs) = journal.list(filter).await else { continue };
                for summary in runs {
                    let Ok(stored) = journal.load(&summary.id).await else { continue };
                    let run = match known.entry(summary.id.clone()) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => match Run::restore(&stored) {
                            Ok(run) => entry.insert(run),
                            Err(_) => continue,
                        },
                    };
                    let seen = usize::try_from(run.seq().0).expect("a few");
                    if stored.records[seen..].iter().try_for_each(|new| run.apply(new)).is_err() {
                        continue;
                    }
                    let run = &*run;
                    let mut said = Vec::new();
                    for step in run.steps() {
                        match step.status() {
                            // Nobody may be left who may vote.
                            StepStatus::Open { .. }
                                if begin.elapsed() > GIVE_UP && step.plan().kind == "approval" =>
                            {
                                let reason = CancelReason::Asked { why: None };
                                said.push(Signal::Cancel { by: "cat".to_owned(), reason });
                            }
                            StepStatus::Open { .. } if step.plan().kind == "approval" => {
                                said.extend(votes(
                                    step.id(),
                                    trouble.bad_votes,
                                    troubled,
                                    &mut rng,
                                ));
                            }
                            StepStatus::NeedsAttention { attempt } => {
                                let since = step.attempts().last().map(|last| last.started_at);
                                let quiet = since.is_some_and(|since| {
                                    clock.now().duration_since(since).as_secs() >= QUIET
                                });
                                if quiet && !summary.held {
                                    let done = outside.of(run.id(), step.id()).contains(&attempt);
                                    said.push(decision(run, step.id(), attempt, done, &mut rng));
                                }
                            }
                            StepStatus::Asking { .. } if rng.one_in(6) => {
                                let about = step.id().to_string();
                                said.push(Signal::Notice { about, why: "notified".to_owned() });
                            }
                            StepStatus::Open { .. }
                            | StepStatus::Asking { .. }
                            | StepStatus::Waiting
                            | StepStatus::Running { .. }
                            | StepStatus::Retrying { .. }
                            | StepStatus::Items { .. }
                            | StepStatus::Ended(_) => {}
                        }
                    }
                    if trouble.cancels && troubled && rng.one_in(25) {
                        let reason = CancelReason::Asked { why: None };
                        said.push(Signal::Cancel { by: "bob".to_owned(), reason });
                    }
                    for signal in said {
                        shared.watch.posted(run.id(), &signal);
                        // The run may have ended meanwhile.
                        let _ = journal.post(run.id(), clock.now(), signal).await;
                    }
                }
            }
        }
    }

    async fn verdict(&self) -> End {
        let journal = self.shared.store.journal();
        let filter = RunFilter { limit: 1000, ..RunFilter::default() };
        let mut problems = self.shared.watch.problems();
        problems.extend(self.outside.problems());
        let mut story = String::new();
        let mut rng = self.rng.clone();
        for summary in journal.list(filter).await.expect("a list").into_iter().rev() {
            let stored = journal.load(&summary.id).await.expect("a run");
            story.push_str(&format!("\nrun {} ({})\n", summary.id, summary.status));
            for record in &stored.records {
                let at = record.at().duration_since(crate::ports::dawn()).as_millis();
                story.push_str(&format!("  {at:>7} {:?}\n", record.event()));
            }
            let checked = check::check_run(&stored, &self.outside, &self.shared.watch, &mut rng);
            problems.extend(checked.err().map(|problem| format!("run {}: {problem}", summary.id)));
        }
        End { problems, story }
    }
}

/// What people say at a gate. In the end everybody approves.
fn votes(step: &StepId, bad: bool, troubled: bool, rng: &mut Rng) -> Vec<Signal> {
    let people = [("ann", ""), ("bob", "qa"), ("cat", "dev"), ("dan", "qa")];
    let mut said = Vec::new();
    for (name, group) in people {
        if troubled && !rng.one_in(3) {
            continue;
        }
        let groups = BTreeSet::from([group.to_owned()]);
        let by = Voter { name: name.to_owned(), groups };
        let vote = if troubled && rng.one_in(15) { Vote::Reject } else { Vote::Approve };
        let times = if bad && rng.one_in(4) { 2 } else { 1 };
        for _ in 0..times {
            let (step, by) = (step.clone(), by.clone());
            said.push(Signal::Vote { step, by, vote, reason: None });
        }
    }
    said
}

fn decision(run: &Run, step: &StepId, attempt: u32, done: bool, rng: &mut Rng) -> Signal {
    let text = run.render(step).ok().and_then(|input| input.display().get("text").cloned());
    let decision = match (done, rng.one_in(2)) {
        (true, _) => Decision::Passed { outputs: json!({ "text": text, "list": [] }) },
        (false, true) => Decision::Again,
        (false, false) => Decision::Failed,
    };
    let by = Voter { name: "cat".to_owned(), groups: BTreeSet::new() };
    Signal::Settle { step: step.clone(), attempt, by, decision, reason: None }
}

/// One server: takes up what is to be driven, when it is woken and now and again.
async fn serve(engine: Engine, journal: Arc<Faulty>, clock: Arc<dyn Clock>, shared: Arc<Shared>) {
    let mut wakes = journal.wakes();
    let mut driving: BTreeSet<RunId> = BTreeSet::new();
    // Who was let go, or waits to be admitted, is not asked again at once.
    let mut not_before: BTreeMap<RunId, Instant> = BTreeMap::new();
    let mut drives: JoinSet<(RunId, Result<Driven, DriveError>)> = JoinSet::new();
    loop {
        let filter = RunFilter { unfinished: true, limit: 1000, ..RunFilter::default() };
        let mut runs = journal.list(filter).await.unwrap_or_default();
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        for run in runs {
            let due = match run.status {
                RunStatus::Running | RunStatus::Cancelling | RunStatus::Queued => true,
                RunStatus::Waiting | RunStatus::NeedsAttention => {
                    run.signaled || run.wake_at.is_some_and(|at| at <= clock.now())
                }
                RunStatus::Ended(_) => false,
            };
            let early = not_before.get(&run.id).is_some_and(|from| *from > Instant::now());
            if due && !early && !run.held && driving.insert(run.id.clone()) {
                let engine = engine.clone();
                drives.spawn(async move {
                    let (_canceller, mut cancel) = cancellation();
                    let driven = engine.drive(&run.id, &mut cancel).await.map(|(driven, _)| driven);
                    (run.id, driven)
                });
            }
        }
        tokio::select! {
            biased;
            Some(driven) = drives.join_next() => match driven {
                Ok((run, driven)) => {
                    driving.remove(&run);
                    let pause = match &driven {
                        Ok(Driven::Ended(_)) => Duration::ZERO,
                        Ok(Driven::Parked(parked)) if parked.status == RunStatus::Queued => {
                            Duration::from_secs(5)
                        }
                        Ok(Driven::Parked(_)) => Duration::from_millis(100),
                        Err(_) => Duration::from_secs(1),
                    };
                    not_before.insert(run.clone(), Instant::now() + pause);
                    if let Some(problem) = driven.err().and_then(defect) {
                        shared.watch.problem(format!("run {run}: {problem}"));
                    }
                }
                Err(error) => shared.watch.problem(format!("a drive ended badly: {error}")),
            },
            Some(wake) = wakes.next() => match wake {
                Wake::Run(_) => {}
                Wake::Admission | Wake::All => not_before.clear(),
            },
            () = sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// What an error says of a defect; nothing when it is the world's.
fn defect(error: DriveError) -> Option<String> {
    match &error {
        DriveError::Lease(_)
        | DriveError::Store(_)
        | DriveError::Dispatch(DispatchError::Append { .. } | DispatchError::LeaseLost { .. }) => {
            None
        }
        DriveError::Replay { .. } | DriveError::Dispatch(_) | _ => {
            Some(fairlead_step::error_chain(&error))
        }
    }
}
