//! The engine: takes requests for runs, drives them, and tells whoever watches.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use fairlead_plan::{KindMismatch, Plan, RenderError, RunOutcome, Scope, is_trusted};
use fairlead_run::{
    AppendError, Batch, Created, DecodeError, Group, Journal, Lease, LeaseError, LogStore, NewRun,
    Origin, PlanBlob, Record, ReplayError, Request, RerunError, ResultCache, Run, RunEvent,
    RunStatus, SealError, Signal, StoreError, Wake, bounded_text,
};
use fairlead_step::{
    Artifacts, Catalog, Clock, Egress, HumanDuration, ImageRef, Registries, RunId, StepId,
    Workspace, error_chain,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use crate::DispatchError;
use crate::attempts::{Attempts, LocalAttempts, PlacedAttempts};
use crate::cancel::{Cancellation, cancellation};
use crate::dispatcher::{Dispatcher, Driven, LONGEST_SLEEP, Parked, Tools};
use crate::host::Host;
use crate::inject::Injection;
use crate::meter::{Meter, NoMeter};
use crate::policy::{Policy, Refusal};
use crate::process::ProcessOptions;
use crate::scratch::ScratchFolders;
use crate::secrets::{SecretError, SecretProvider, fetch};
use crate::signal_listener::SignalListener;
use crate::slots::Slots;
use crate::update::{Broadcast, Update, Updates};
use crate::workspaces::WorkspaceLayout;

/// What an engine is made of.
pub struct EngineOptions {
    /// The step kinds.
    pub catalog: Arc<Catalog>,
    /// Where the facts of runs are kept.
    pub journal: Arc<dyn Journal>,
    /// Where the logs of attempts are kept.
    pub logs: Arc<dyn LogStore>,
    /// Where artifacts are kept.
    pub artifacts: Arc<dyn Artifacts>,
    /// Where results are cached.
    pub result_cache: Arc<dyn ResultCache>,
    /// The settings and credentials of registries.
    pub registries: Arc<dyn Registries>,
    /// Which hosts steps may speak to.
    pub egress: Egress,
    /// What may run.
    pub policy: Policy,
    /// Where secrets come from. Pipelines that are in a project see those of the project alone.
    pub secrets: Arc<dyn SecretProvider>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What holds for every process.
    pub processes: ProcessOptions,
    /// What lays the workspaces of runs out.
    pub workspaces: Arc<dyn WorkspaceLayout>,
    /// The folder in which each attempt gets a scratch folder. Made when it is not there.
    pub scratch: PathBuf,
    /// How many attempts may run at a time, over all runs; the number of processors, and at least
    /// four, when it is not given.
    pub max_parallel: Option<NonZeroUsize>,
    /// How many runs of the store may go on at a time, those that only wait for people, a moment or
    /// evidence not counted; the others wait to be admitted. No limit when it is not given.
    pub max_runs: Option<NonZeroU32>,
    /// The runners, for steps that name a pool.
    pub runners: Option<Arc<dyn Attempts>>,
    /// The pool of steps that name none; they are made in this process when it is not given.
    pub default_pool: Option<String>,
    /// Faults to inject.
    pub injections: Vec<Injection>,
    /// The version of this build, for the journal.
    pub version: String,
}

/// A run to request.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The plan, which the run is pinned to.
    pub plan: Arc<Plan>,
    /// The parameters, as [`Plan::bind`] answered them, every image resolved.
    pub params: Value,
    /// What expressions see as `event`; an empty object when no event started the run.
    pub event: Value,
    /// The id of the event that started the run, where one did.
    pub event_id: Option<String>,
    /// The dedup key of the stored event that started the run, where one did: one event starts at
    /// most one run of a pipeline.
    pub started_by: Option<String>,
    /// Who asked: a user, or the source of the event.
    pub by: String,
    /// What it works on.
    pub workspace: Workspace,
    /// The run that this one makes again or takes back, where it does.
    pub origin: Option<Origin>,
}

impl RunRequest {
    /// A run that makes `old` again: the steps `from`, those that did not end well, and all that needs
    /// one of them. Under another plan it is made with the parameters that come with that.
    ///
    /// # Errors
    /// As [`Run::to_retry`].
    pub fn retry(
        old: &Run,
        from: &[StepId],
        replan: Option<(Arc<Plan>, Value)>,
        by: String,
    ) -> Result<Self, RerunError> {
        let asked = old.request();
        let (plan, params) =
            replan.unwrap_or_else(|| (Arc::clone(old.plan()), asked.params.clone()));
        let origin = old.to_retry(from, &plan)?;
        Ok(Self { plan, params, ..Self::from_another(old, by, origin) })
    }

    /// A run that takes back what `old` did.
    ///
    /// # Errors
    /// As [`Run::to_undo`].
    pub fn undo(old: &Run, by: String) -> Result<Self, RerunError> {
        let (plan, origin) = old.to_undo()?;
        Ok(Self { plan: Arc::new(plan), ..Self::from_another(old, by, origin) })
    }

    fn from_another(old: &Run, by: String, origin: Origin) -> Self {
        let asked = old.request();
        Self {
            plan: Arc::clone(old.plan()),
            params: asked.params.clone(),
            event: asked.event.clone(),
            event_id: asked.event_id.clone(),
            // The event has started its run; this one a person asks for.
            started_by: None,
            by,
            workspace: asked.workspace.clone(),
            origin: Some(origin),
        }
    }
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// There is a new run. It waits for [`Engine::drive`].
    New(RunId),
    /// The event has started this run of the pipeline before.
    Already(RunId),
}

/// The secrets that a plan names and nobody gave, all of them.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct SecretsMissing(pub Vec<SecretError>);

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The run would have what it may not, all of it.
    #[error("{}", .0.iter().map(|r| format!("{r} ({})", r.hint)).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    /// Secrets are missing.
    #[error(transparent)]
    Secrets(#[from] SecretsMissing),
    /// This build does not have step kinds as the plan knew them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Kinds(Vec<KindMismatch>),
    /// The request does not become a record.
    #[error("the request cannot be written down")]
    Seal(#[from] SealError),
    /// The plan has no stored form.
    #[error("the plan cannot be written down")]
    Plan(#[source] serde_json::Error),
    /// An image is named by a tag that nobody resolved.
    #[error("parameter `{parameter}`: the tag of {image} is not resolved")]
    Unresolved {
        /// The parameter.
        parameter: String,
        /// What was asked for.
        image: ImageRef,
    },
    /// A value that the pipeline names cannot be made.
    #[error("what the pipeline names cannot be told")]
    Values(#[source] RenderError),
    /// The run would read secrets, and what started it may have been made by anybody.
    #[error(
        "a run that a stranger may have started is given no secrets, and its steps read {}",
        .0.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    Untrusted(Vec<String>),
    /// The group it would wait in has no name.
    #[error("the run's concurrency group cannot be told")]
    Group(#[source] RenderError),
    /// The journal did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a run was not driven to its end. It can be resumed, unless another process drives it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// Another process drives it, or the lease could not be taken.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its journal is damaged.
    #[error("the journal of run {run} does not make a run")]
    Replay {
        /// The run.
        run: RunId,
        /// What is wrong.
        #[source]
        source: ReplayError,
    },
    /// It was let go on its way.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

impl DriveError {
    /// Whether the run was written by a newer build, which can go on with it.
    #[must_use]
    pub fn is_of_newer_build(&self) -> bool {
        match self {
            Self::Store(StoreError::Unreadable { source, .. }) => {
                matches!(source, DecodeError::Newer { .. })
            }
            Self::Replay { source, .. } => matches!(source, ReplayError::NewerPlan { .. }),
            Self::Store(_) | Self::Lease(_) | Self::Dispatch(_) => false,
        }
    }

    /// Whether it may go better in a moment: what failed was the way to the store or to the runners, or
    /// the lease.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(_) => !self.is_unreadable() && !self.is_of_newer_build(),
            Self::Lease(error) => !matches!(error, LeaseError::Held { .. }),
            Self::Replay { .. } => false,
            Self::Dispatch(error) => matches!(
                error,
                DispatchError::Append { .. }
                    | DispatchError::LeaseLost { .. }
                    | DispatchError::Unreachable { .. }
            ),
        }
    }

    /// Whether what the store holds of a run that is there makes no run, for this build and for every
    /// older one.
    pub(crate) const fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Self::Replay { .. }
                | Self::Store(
                    StoreError::Unreadable { .. }
                        | StoreError::Damaged { .. }
                        // Its plan or its records are gone.
                        | StoreError::NoSuchRun { .. }
                )
        )
    }
}

/// What became of a signal.
#[derive(Debug)]
pub enum Noted {
    /// It is written down, and the run is this then.
    Taken(Box<Run>),
    /// Somebody drives the run, and deals with it.
    ByDriver,
    /// Nobody can drive the run, for this reason, so the request to stop ended it.
    Ended(String),
    /// A newer build wrote the run, as this says. The signal waits for that one.
    Left(String),
}

/// How long to wait for a run that another process holds for a moment.
const HELD_AGAIN: HumanDuration = HumanDuration(Duration::from_secs(1));

/// Takes requests for runs and drives them. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    tools: Tools,
    version: String,
}

impl Engine {
    /// An engine. It starts no task and does no I/O until it is asked to.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self::measured(options, Arc::new(NoMeter))
    }

    /// The same, and `meter` is told what happens.
    #[must_use]
    pub fn measured(options: EngineOptions, meter: Arc<dyn Meter>) -> Self {
        let parallel = options.max_parallel.map_or_else(
            || std::thread::available_parallelism().map_or(4, |n| n.get().max(4)),
            NonZeroUsize::get,
        );
        let host = Host {
            policy: options.policy,
            secrets: options.secrets,
            logs: options.logs,
            artifacts: options.artifacts,
            result_cache: options.result_cache,
            registries: options.registries,
            egress: options.egress,
            clock: Arc::clone(&options.clock),
            processes: Arc::new(options.processes),
            workspaces: options.workspaces,
            scratch: Arc::new(ScratchFolders::new(options.scratch)),
            updates: Broadcast::new(),
            cgroup: None,
        };
        let host = Arc::new(host);
        let here = LocalAttempts { host: Arc::clone(&host), catalog: Arc::clone(&options.catalog) };
        let tools = Tools {
            catalog: options.catalog,
            journal: options.journal,
            clock: options.clock,
            host,
            attempts: PlacedAttempts { here, elsewhere: options.runners.clone() },
            slots: Slots::new(parallel, options.runners),
            default_pool: options.default_pool.map(Into::into),
            max_runs: options.max_runs,
            listener: SignalListener::new(),
            injections: options.injections,
            meter,
            writes: AtomicU32::new(0),
        };
        Self(Arc::new(Inner { tools, version: options.version }))
    }

    /// Creates a run, which then waits for [`Engine::drive`]. Every secret that the plan names is
    /// asked for first, and every kind of a step that is not kept from another run is looked up.
    ///
    /// # Errors
    /// When secrets or kinds are missing, all of them at once, or the journal does not take the run.
    pub async fn request(&self, request: RunRequest) -> Result<Requested, RequestError> {
        let id = self.new_id();
        self.create(id, request).await
    }

    /// As [`Engine::request`], under an id that was given out before: when there is a run with it, the
    /// same request has created it, and it is the answer.
    ///
    /// # Errors
    /// As [`Engine::request`].
    pub async fn request_as(
        &self,
        id: RunId,
        request: RunRequest,
    ) -> Result<Requested, RequestError> {
        match self.create(id, request).await {
            Err(RequestError::Store(StoreError::RunExists { run })) => Ok(Requested::Already(run)),
            requested => requested,
        }
    }

    /// An id for a run.
    #[must_use]
    pub fn new_id(&self) -> RunId {
        let millis = u64::try_from(self.0.tools.clock.now().as_millisecond()).unwrap_or(0);
        RunId::mint(millis, rand::random())
    }

    /// Whether this engine drives a run now, and so tells of it by itself.
    #[must_use]
    pub fn drives(&self, run: &RunId) -> bool {
        self.0.tools.listener.has(run)
    }

    async fn create(&self, id: RunId, request: RunRequest) -> Result<Requested, RequestError> {
        self.check_kinds(&request).map_err(RequestError::Kinds)?;
        // A tag may move: what is written down is what it stood for when the run was asked for.
        let images = request.plan.params().unresolved(&request.params);
        if let Some((parameter, image)) = images.into_iter().next() {
            return Err(RequestError::Unresolved { parameter, image });
        }
        let refused = self.refused(&request);
        if !refused.is_empty() {
            return Err(RequestError::Refused(refused));
        }
        let scope = request.plan.whole_scope(&request.params, &request.event);
        let scope = scope.map_err(RequestError::Values)?;
        if is_trusted(&request.event) {
            self.check_secrets(&request.plan).await?;
        } else {
            let names = request.plan.secrets_foreseen(&scope);
            if !names.is_empty() {
                return Err(RequestError::Untrusted(names.into_iter().collect()));
            }
        }
        let now = self.0.tools.clock.now();
        let plan = PlanBlob::of(&request.plan).map_err(RequestError::Plan)?;
        let group = group_of(&id, &request, scope).map_err(RequestError::Group)?;
        let first = Record::first(
            now,
            Request {
                pipeline: request.plan.name().to_owned(),
                plan: plan.digest().clone(),
                params: request.params,
                event: request.event,
                event_id: request.event_id,
                by: request.by,
                workspace: request.workspace,
                engine: self.0.version.clone(),
                group: group.as_ref().map(|group| group.name.clone()),
                origin: request.origin,
            },
        )?;
        let run = NewRun { id: id.clone(), plan, first, started_by: request.started_by, group };
        Ok(match self.0.tools.journal.create(run).await? {
            Created::New => Requested::New(id),
            Created::Already(earlier) => Requested::Already(earlier),
        })
    }

    /// Drives a run: a new one, one that was interrupted, whose lost attempts are written down first, or
    /// one that waits. It goes on until it ends, or only waits, and answers which, with the run as it is
    /// then. A run that has ended answers its outcome.
    ///
    /// Dropping the future ends the run's processes and gives the run back, as a crash would.
    ///
    /// A step whose kind this build does not have as the plan knew it, or whose secret is missing, fails
    /// when its attempt would start; the others go on.
    ///
    /// # Errors
    /// When another process drives it, it cannot be read, or its journal fails. Nothing is lost then; it
    /// can be resumed, or ended with [`Engine::abandon`].
    pub async fn drive(
        &self,
        run: &RunId,
        cancel: &mut Cancellation,
    ) -> Result<(Driven, Run), DriveError> {
        let tools = &self.0.tools;
        loop {
            let (lease, state) = self.take_up(run).await?;
            if let Some((outcome, _)) = state.ended() {
                return Ok((Driven::Ended(outcome), state));
            }
            let driven_run = tools.listener.open(run, cancel.canceller());
            let dispatcher = Dispatcher::new(tools, state, lease, driven_run);
            let (driven, state) = Box::pin(dispatcher.drive(cancel)).await?;
            // What was posted while the lease was held, and not seen any more, would wake nobody.
            match driven {
                Driven::Parked(_) if !tools.journal.signals(run).await?.is_empty() => {}
                Driven::Parked(_) | Driven::Ended(_) => return Ok((driven, state)),
            }
        }
    }

    /// Drives a run to its end, however long it waits in between, and answers how it ended and the run
    /// as it is then; `parked` is told what it waits for.
    ///
    /// # Errors
    /// As [`Engine::drive`].
    pub async fn finish(
        &self,
        run: &RunId,
        mut cancel: Cancellation,
        parked: impl Fn(&Parked),
    ) -> Result<(RunOutcome, Run), DriveError> {
        let mut wakes: Option<BoxStream<'static, Wake>> = None;
        loop {
            let until = match self.drive(run, &mut cancel).await {
                Ok((Driven::Ended(outcome), state)) => return Ok((outcome, state)),
                Ok((Driven::Parked(waits), _)) => {
                    parked(&waits);
                    waits.until
                }
                // Whoever notes a vote holds the run for a moment.
                Err(DriveError::Lease(LeaseError::Held { .. })) if wakes.is_some() => {
                    Some(HELD_AGAIN.after(self.0.tools.clock.now()))
                }
                Err(error) => return Err(error),
            };
            match &mut wakes {
                Some(wakes) => self.woken(run, wakes, until, &mut cancel).await,
                // What happened before anybody listened is found by looking once more.
                none => *none = Some(self.0.tools.journal.wakes()),
            }
        }
    }

    /// Waits until a run that only waits is to be driven again.
    async fn woken(
        &self,
        run: &RunId,
        wakes: &mut BoxStream<'static, Wake>,
        until: Option<jiff::Timestamp>,
        cancel: &mut Cancellation,
    ) {
        let left = until.map(|until| {
            let left = until.duration_since(self.0.tools.clock.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        });
        // The clock may be set while it is slept, and a hint may be lost.
        let pause = left.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(1), LONGEST_SLEEP);
        let due = tokio::time::sleep(pause);
        let hint = async {
            while let Some(wake) = wakes.next().await {
                match wake {
                    Wake::Run(woken) if woken != *run => {}
                    Wake::Run(_) | Wake::Admission | Wake::All => return,
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = hint => {}
            () = due => {}
            () = cancel.arrived() => {}
        }
    }

    /// Posts a signal to a run, and writes down what becomes of it at once where nobody drives the
    /// run. A request to stop ends a run that nobody can drive because what the store holds of it makes
    /// no run.
    ///
    /// # Errors
    /// When there is no such run, it has ended, or the store fails; and for every other signal when the
    /// run cannot be read.
    pub async fn signal(&self, run: &RunId, signal: Signal) -> Result<Noted, DriveError> {
        let tools = &self.0.tools;
        let stop = match &signal {
            Signal::Cancel { by, reason } => Some((by.clone(), reason.to_string())),
            Signal::Vote { .. } | Signal::Settle { .. } | Signal::Notice { .. } => None,
        };
        tools.journal.post(run, tools.clock.now(), signal).await?;
        let lease = match tools.journal.acquire(run).await {
            Err(LeaseError::Held { .. }) => return Ok(Noted::ByDriver),
            taken => taken?,
        };
        let state = match (self.read(run).await, stop) {
            (Ok(state), _) => state,
            (Err(error), _) if error.is_of_newer_build() => {
                return Ok(Noted::Left(error_chain(&error)));
            }
            (Err(error), Some((by, reason))) if error.is_unreadable() => {
                let problem = error_chain(&error);
                self.end(lease, by, Some(reason), Some(problem.clone())).await?;
                return Ok(Noted::Ended(problem));
            }
            (Err(error), _) => return Err(error),
        };
        if state.ended().is_some() {
            return Ok(Noted::Taken(Box::new(state)));
        }
        let (canceller, _cancellation) = cancellation();
        let driven_run = tools.listener.open(run, canceller);
        let noted = Box::pin(Dispatcher::new(tools, state, lease, driven_run).note()).await?;
        if noted.ended().is_some() {
            tools.host.workspaces.give_back(run).await;
        }
        Ok(Noted::Taken(Box::new(noted)))
    }

    /// The lease of a run, and the run as its journal says.
    async fn take_up(&self, run: &RunId) -> Result<(Lease, Run), DriveError> {
        let lease = self.0.tools.journal.acquire(run).await?;
        Ok((lease, self.read(run).await?))
    }

    /// A run as its journal says.
    async fn read(&self, run: &RunId) -> Result<Run, DriveError> {
        let stored = self.0.tools.journal.load(run).await?;
        Run::restore(&stored).map_err(|source| DriveError::Replay { run: run.clone(), source })
    }

    /// Ends a run that nothing else can end, such as one whose journal makes no run. Whatever has not
    /// ended of it is cancelled, and no step is made any more, those under `finally` included. Answers
    /// what keeps the run from being driven, where something does.
    ///
    /// # Errors
    /// [`LeaseError::Held`] while a process drives it, and [`StoreError::RunEnded`] when it has ended.
    pub async fn abandon(
        &self,
        run: &RunId,
        by: String,
        reason: Option<String>,
    ) -> Result<Option<String>, DriveError> {
        let lease = self.0.tools.journal.acquire(run).await?;
        let problem = match self.read(run).await {
            Ok(state) if state.ended().is_some() => {
                return Err(StoreError::RunEnded { run: run.clone() }.into());
            }
            Ok(_) => None,
            Err(error) if error.is_unreadable() => Some(error_chain(&error)),
            Err(error) => return Err(error),
        };
        self.end(lease, by, reason, problem.clone()).await?;
        Ok(problem)
    }

    /// Writes the end of a run behind whatever its journal says.
    async fn end(
        &self,
        lease: Lease,
        by: String,
        reason: Option<String>,
        problem: Option<String>,
    ) -> Result<(), DriveError> {
        let tools = &self.0.tools;
        let run = lease.run().clone();
        let head = tools.journal.head(&run).await?;
        let now = tools.clock.now();
        let (by, reason, problem) =
            (bounded_text(by), reason.map(bounded_text), problem.map(bounded_text));
        let record = Record::seal(
            head.seq.next(),
            head.at.map_or(now, |at| at.max(now)),
            head.hash,
            RunEvent::Abandoned { by, reason, problem },
        );
        let record = record.map_err(|source| DispatchError::Seal { run: run.clone(), source })?;
        let batch = Batch {
            run: run.clone(),
            epoch: lease.epoch(),
            records: vec![record.clone()],
            status: RunStatus::Ended(RunOutcome::Cancelled),
            wake_at: None,
            taken: Vec::new(),
        };
        tools.journal.append(batch).await.map_err(|source| match source {
            AppendError::Ended { run } => StoreError::RunEnded { run }.into(),
            source @ (AppendError::Conflict { .. }
            | AppendError::Fenced { .. }
            | AppendError::Store(_)
            | _) => DriveError::Dispatch(DispatchError::Append { run: run.clone(), source }),
        })?;
        tools.host.workspaces.give_back(&run).await;
        tools.host.updates.send(|| Update::Record { run, record });
        Ok(())
    }

    /// Asks a run that this engine drives to stop. False when it drives no such run.
    pub fn cancel(&self, run: &RunId, by: &str, why: Option<String>) -> bool {
        self.0.tools.listener.cancel(run, by, why)
    }

    /// What keeps steps of a run from beginning that could, and have no machine: by step, as far as this
    /// engine drives the run.
    #[must_use]
    pub fn why_waiting(&self, run: &Run) -> BTreeMap<StepId, String> {
        let tools = &self.0.tools;
        let why = tools.slots.why_waiting(run.id());
        if why.is_empty() {
            return BTreeMap::new();
        }
        let waiting = run.steps().filter_map(|step| {
            let demand = tools.demand_of(step.plan());
            Some((step.id().clone(), why.get(&demand)?.clone()))
        });
        waiting.collect()
    }

    /// The updates of every run, from now on.
    #[must_use]
    pub fn subscribe(&self) -> Updates {
        self.0.tools.host.updates.subscribe()
    }

    /// Steps that are kept need no kind.
    fn check_kinds(&self, request: &RunRequest) -> Result<(), Vec<KindMismatch>> {
        let kept = request.origin.iter().flat_map(|origin| &origin.kept);
        let kept: BTreeSet<&StepId> = kept.map(|kept| &kept.step).collect();
        let made = request.plan.steps().iter().filter(|step| step.gate.is_none());
        let made = made.filter(|step| !kept.contains(&step.id));
        let missing = made.filter_map(|step| step.kind_in(&self.0.tools.catalog).err());
        let missing: Vec<KindMismatch> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// What the run would have, and may not, as far as that is known by now.
    fn refused(&self, request: &RunRequest) -> Vec<Refusal> {
        let kept = request.origin.iter().flat_map(|origin| &origin.kept);
        let kept: BTreeSet<&StepId> = kept.map(|kept| &kept.step).collect();
        let scope = Scope {
            params: request.plan.params().seen(&request.params),
            event: request.event.clone(),
            ..Scope::default()
        };
        let tools = &self.0.tools;
        tools.host.policy.foreseen(&request.plan, &tools.catalog, &scope, &kept)
    }

    async fn check_secrets(&self, plan: &Plan) -> Result<(), SecretsMissing> {
        // What a runner needs it looks up itself, and this process need not know it.
        let names = plan.secrets_of(|step| self.0.tools.demand_of(step).pool.is_none());
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let secrets = self.0.tools.host.secrets_for(plan.name());
        fetch(&*secrets, &names).await.map(drop).map_err(SecretsMissing)
    }
}

/// The group that a run belongs to, as its plan says.
fn group_of(id: &RunId, request: &RunRequest, scope: Scope) -> Result<Option<Group>, RenderError> {
    let Some(concurrency) = request.plan.concurrency() else { return Ok(None) };
    let run = json!({ "id": id, "pipeline": request.plan.name(), "by": request.by });
    let scope = Scope { run, ..scope };
    Ok(Some(Group {
        name: concurrency.name(&scope)?,
        policy: concurrency.policy,
        max: NonZeroU32::new(concurrency.max).unwrap_or(NonZeroU32::MIN),
    }))
}
