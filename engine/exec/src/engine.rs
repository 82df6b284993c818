//! The engine: takes requests for runs, drives them, and tells whoever watches.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fairlead_plan::{KindMismatch, Plan, RunOutcome};
use fairlead_run::{
    Created, Journal, LeaseError, LogStore, NewRun, PlanBlob, Record, ReplayError, Request, Run,
    SealError, StoreError,
};
use fairlead_step::{Artifacts, Catalog, Clock, Registries, RunId};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::cancel::{Cancellation, Canceller};
use crate::dispatcher::{DispatchError, Dispatcher, Tools};
use crate::host::Host;
use crate::inject::Injection;
use crate::process::ProcessOptions;
use crate::scratch::ScratchFolders;
use crate::secrets::{SecretError, SecretProvider, fetch};
use crate::update::{Broadcast, Updates};

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
    /// The settings and credentials of registries.
    pub registries: Arc<dyn Registries>,
    /// Where secrets come from.
    pub secrets: Arc<dyn SecretProvider>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What holds for every process.
    pub processes: ProcessOptions,
    /// The folder in which each attempt gets a scratch folder. Made when it is not there.
    pub scratch: PathBuf,
    /// How many attempts may run at a time, over all runs; the number of processors, and at least
    /// four, when it is not given.
    pub max_parallel: Option<NonZeroUsize>,
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
    /// The parameters, as [`Plan::bind`] answered them.
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
    /// The folder that relative paths in `with` start from.
    pub workspace: PathBuf,
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
    /// Secrets are missing.
    #[error(transparent)]
    Secrets(#[from] SecretsMissing),
    /// The request does not become a record.
    #[error("the request cannot be written down")]
    Seal(#[from] SealError),
    /// The plan has no stored form.
    #[error("the plan cannot be written down")]
    Plan(#[source] serde_json::Error),
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
    /// This build does not have the step kinds that the plan was made with.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Kinds(Vec<KindMismatch>),
    /// Secrets are missing.
    #[error(transparent)]
    Secrets(#[from] SecretsMissing),
    /// It was let go on its way.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

/// Takes requests for runs and drives them. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    tools: Tools,
    version: String,
    /// The runs that are driven here, and how to stop them.
    driven: Mutex<BTreeMap<RunId, Canceller>>,
}

impl Engine {
    /// An engine. It starts no task and does no I/O until it is asked to.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        let parallel = options.max_parallel.map_or_else(
            || std::thread::available_parallelism().map_or(4, |n| n.get().max(4)),
            NonZeroUsize::get,
        );
        let host = Host {
            secrets: options.secrets,
            logs: options.logs,
            artifacts: options.artifacts,
            registries: options.registries,
            clock: Arc::clone(&options.clock),
            processes: Arc::new(options.processes),
            scratch: ScratchFolders::new(options.scratch),
            updates: Broadcast::new(),
        };
        let tools = Tools {
            catalog: options.catalog,
            journal: options.journal,
            clock: options.clock,
            host: Arc::new(host),
            slots: Arc::new(Semaphore::new(parallel.min(Semaphore::MAX_PERMITS))),
            injections: options.injections,
        };
        Self(Arc::new(Inner { tools, version: options.version, driven: Mutex::default() }))
    }

    /// Creates a run, which then waits for [`Engine::drive`]. Every secret that the plan names is
    /// asked for first.
    ///
    /// # Errors
    /// When secrets are missing, all of them at once, or the journal does not take the run.
    pub async fn request(&self, request: RunRequest) -> Result<Requested, RequestError> {
        self.check_secrets(&request.plan).await?;
        let now = self.0.tools.clock.now();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let id = RunId::mint(millis, rand::random());
        let plan = PlanBlob::of(&request.plan).map_err(RequestError::Plan)?;
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
            },
        )?;
        let run = NewRun { id: id.clone(), plan, first, started_by: request.started_by };
        Ok(match self.0.tools.journal.create(run).await? {
            Created::New => Requested::New(id),
            Created::Already(earlier) => Requested::Already(earlier),
        })
    }

    /// Drives a run to its end: a new one, or one that was interrupted, whose lost attempts are
    /// written down first. A run that has ended answers its outcome.
    ///
    /// Dropping the future ends the run's processes and gives the run back, as a crash would.
    ///
    /// # Errors
    /// When another process drives it, it cannot be read, this build lacks its step kinds, a secret
    /// is missing, or its journal fails. Nothing is lost then; it can be resumed.
    pub async fn drive(
        &self,
        run: &RunId,
        mut cancel: Cancellation,
    ) -> Result<RunOutcome, DriveError> {
        let tools = &self.0.tools;
        let lease = tools.journal.acquire(run).await?;
        let _driven = Driven::register(&self.0, run, cancel.canceller());
        let stored = tools.journal.load(run).await?;
        let restored = Run::restore(&stored);
        drop(stored);
        let state = restored.map_err(|source| DriveError::Replay { run: run.clone(), source })?;
        if let Some((outcome, _)) = state.ended() {
            return Ok(outcome);
        }
        state.plan().check_against(&tools.catalog).map_err(DriveError::Kinds)?;
        self.check_secrets(state.plan()).await?;
        Ok(Box::pin(Dispatcher::new(tools, state, lease).drive(&mut cancel)).await?)
    }

    /// Asks a run that this engine drives to stop. False when it drives no such run.
    pub fn cancel(&self, run: &RunId, by: &str, why: Option<String>) -> bool {
        let driven = self.0.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.get(run).map(|canceller| canceller.cancel(by, why)).is_some()
    }

    /// The updates of every run, from now on.
    #[must_use]
    pub fn subscribe(&self) -> Updates {
        self.0.tools.host.updates.subscribe()
    }

    async fn check_secrets(&self, plan: &Plan) -> Result<(), SecretsMissing> {
        let names = plan.secrets();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        fetch(&*self.0.tools.host.secrets, &names).await.map(drop).map_err(SecretsMissing)
    }
}

/// The entry of a driven run, for as long as it is driven.
struct Driven<'e> {
    engine: &'e Inner,
    run: &'e RunId,
}

impl<'e> Driven<'e> {
    fn register(engine: &'e Inner, run: &'e RunId, canceller: Canceller) -> Self {
        let mut driven = engine.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.insert(run.clone(), canceller);
        drop(driven);
        Self { engine, run }
    }
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        let mut driven = self.engine.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.remove(self.run);
    }
}
