//! The engine: takes requests for runs, drives them, and tells whoever watches.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use fairlead_plan::{KindMismatch, Plan, RenderError, RunOutcome, Scope};
use fairlead_run::{
    AgainError, Created, Group, Journal, Lease, LeaseError, LogStore, NewRun, Origin, PlanBlob,
    Record, Remembered, ReplayError, Request, Run, SealError, Signal, StoreError, Wake,
};
use fairlead_step::{
    Artifacts, Catalog, Clock, HumanDuration, ImageRef, Registries, RunId, StepId,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::DispatchError;
use crate::cancel::{Cancellation, cancellation};
use crate::dispatcher::{Dispatcher, Driven, LONGEST_SLEEP, Parked, Tools};
use crate::ears::Ears;
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
    /// Where results are remembered.
    pub remembered: Arc<dyn Remembered>,
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
    /// How many runs of the store may go on at a time, those that only wait for people, a moment or
    /// evidence not counted; the others wait for their turn. No limit when it is not given.
    pub max_runs: Option<NonZeroU32>,
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
    /// The folder that relative paths in `with` start from.
    pub workspace: PathBuf,
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
    ) -> Result<Self, AgainError> {
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
    pub fn undo(old: &Run, by: String) -> Result<Self, AgainError> {
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
    /// Secrets are missing.
    #[error(transparent)]
    Secrets(#[from] SecretsMissing),
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
    /// The group whose turns it would wait for has no name.
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
        let parallel = options.max_parallel.map_or_else(
            || std::thread::available_parallelism().map_or(4, |n| n.get().max(4)),
            NonZeroUsize::get,
        );
        let host = Host {
            secrets: options.secrets,
            logs: options.logs,
            artifacts: options.artifacts,
            remembered: options.remembered,
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
            max_runs: options.max_runs,
            ears: Ears::new(),
            injections: options.injections,
            writes: AtomicU32::new(0),
        };
        Self(Arc::new(Inner { tools, version: options.version }))
    }

    /// Creates a run, which then waits for [`Engine::drive`]. Every secret that the plan names is
    /// asked for first.
    ///
    /// # Errors
    /// When secrets are missing, all of them at once, or the journal does not take the run.
    pub async fn request(&self, request: RunRequest) -> Result<Requested, RequestError> {
        // A tag may move: what is written down is what it stood for when the run was asked for.
        let images = request.plan.params().unresolved(&request.params);
        if let Some((parameter, image)) = images.into_iter().next() {
            return Err(RequestError::Unresolved { parameter, image });
        }
        self.check_secrets(&request.plan).await?;
        let now = self.0.tools.clock.now();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let id = RunId::mint(millis, rand::random());
        let plan = PlanBlob::of(&request.plan).map_err(RequestError::Plan)?;
        let group = group_of(&id, &request).map_err(RequestError::Group)?;
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
    /// # Errors
    /// When another process drives it, it cannot be read, this build lacks its step kinds, a secret
    /// is missing, or its journal fails. Nothing is lost then; it can be resumed.
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
            state.plan().check_against(&tools.catalog).map_err(DriveError::Kinds)?;
            self.check_secrets(state.plan()).await?;
            let ear = tools.ears.open(run, cancel.canceller());
            let dispatcher = Dispatcher::new(tools, state, lease, ear);
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
                    Wake::Run(_) | Wake::Turns | Wake::All => return,
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
    /// run. Answers the run as it is then; none where somebody drives it, who deals with the signal.
    ///
    /// # Errors
    /// When there is no such run, it has ended, or the store fails.
    pub async fn signal(&self, run: &RunId, signal: Signal) -> Result<Option<Run>, DriveError> {
        let tools = &self.0.tools;
        tools.journal.post(run, tools.clock.now(), signal).await?;
        let (lease, state) = match self.take_up(run).await {
            Err(DriveError::Lease(LeaseError::Held { .. })) => return Ok(None),
            taken => taken?,
        };
        if state.ended().is_some() {
            return Ok(Some(state));
        }
        let (canceller, _cancellation) = cancellation();
        let ear = tools.ears.open(run, canceller);
        Ok(Some(Box::pin(Dispatcher::new(tools, state, lease, ear).note()).await?))
    }

    /// The lease of a run, and the run as its journal says.
    async fn take_up(&self, run: &RunId) -> Result<(Lease, Run), DriveError> {
        let journal = &self.0.tools.journal;
        let lease = journal.acquire(run).await?;
        let stored = journal.load(run).await?;
        let state = Run::restore(&stored)
            .map_err(|source| DriveError::Replay { run: run.clone(), source })?;
        Ok((lease, state))
    }

    /// Asks a run that this engine drives to stop. False when it drives no such run.
    pub fn cancel(&self, run: &RunId, by: &str, why: Option<String>) -> bool {
        self.0.tools.ears.cancel(run, by, why)
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

/// The group that a run belongs to, as its plan says.
fn group_of(id: &RunId, request: &RunRequest) -> Result<Option<Group>, RenderError> {
    let Some(concurrency) = request.plan.concurrency() else { return Ok(None) };
    let event = if request.event.is_null() { json!({}) } else { request.event.clone() };
    let scope = Scope {
        params: request.plan.params().seen(&request.params),
        event,
        steps: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        run: json!({ "id": id, "pipeline": request.plan.name(), "by": request.by }),
    };
    Ok(Some(Group {
        name: concurrency.name(&scope)?,
        policy: concurrency.policy,
        max: NonZeroU32::new(concurrency.max).unwrap_or(NonZeroU32::MIN),
    }))
}
