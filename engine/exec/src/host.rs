//! The host: one attempt of one step, from its rendered input to its result.
//!
//! Whatever a step does, an attempt ends with a [`StepResult`]: a panic is a failure, a step that
//! does not stop is dropped, and no secret leaves in a log, a message or an output.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{Failure, LogStore, ResultCache, StepResult, bounded_text};
use fairlead_step::{
    Artifacts, CancelHandle, CancelToken, Clock, Confinement, Egress, ErrorClass, HumanDuration,
    InputProblem, Outputs, Ports, Registries, Secret, Step, StepContext, StepError, Verdict,
};
use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::attempts::{AttemptResult, JobSpec};
use crate::log::AttemptLog;
use crate::mask::Mask;
use crate::policy::Policy;
use crate::process::cgroup::CgroupEntry;
use crate::process::{ProcessHost, ProcessOptions};
use crate::scratch::ScratchFolders;
use crate::secrets::{SecretError, SecretProvider, fetch};
use crate::update::Broadcast;
use crate::workspaces::{Layout, WorkspaceLayout};

/// The most bytes of a step's outputs, as JSON: they are kept in the journal.
pub const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// How many times the grace of its processes a step may take to stop before it is dropped.
const STOP_GRACES: u32 = 3;

/// What every attempt of an engine shares.
pub(crate) struct Host {
    pub(crate) policy: Policy,
    pub(crate) secrets: Arc<dyn SecretProvider>,
    pub(crate) logs: Arc<dyn LogStore>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    pub(crate) result_cache: Arc<dyn ResultCache>,
    pub(crate) registries: Arc<dyn Registries>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) processes: Arc<ProcessOptions>,
    pub(crate) workspaces: Arc<dyn WorkspaceLayout>,
    pub(crate) scratch: Arc<ScratchFolders>,
    pub(crate) updates: Broadcast,
    /// The control group of the attempt, for a host of one attempt.
    pub(crate) cgroup: Option<Arc<CgroupEntry>>,
}

/// One attempt to make.
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) kind: Arc<dyn Step>,
    /// Says that the attempt is to stop.
    pub(crate) stop: CancelToken,
    /// Says that its `Started` is durable: the step does not begin before.
    pub(crate) is_written: oneshot::Receiver<()>,
}

/// Why a step was told to stop.
#[derive(Clone, Copy)]
enum Told {
    Cancelled,
    TimedOut(HumanDuration),
}

impl Host {
    /// Makes an attempt, or finds that an earlier result stands for it.
    pub(crate) async fn attempt(&self, mut job: Job) -> AttemptResult {
        let secrets = match job.stop.guard(self.secrets_of(&job.spec)).await {
            Ok(secrets) => secrets,
            Err(error) => return AttemptResult::Made { result: StepResult::of(Err(error)) },
        };
        let mask = Arc::new(Mask::new(&secrets));
        let with = job.spec.input.fill(|name| secrets.get(name).cloned());
        drop(secrets);
        let checked = with.map_err(|names| unknown_secrets(&names)).and_then(|with| {
            job.kind.check(&with).map_err(|problems| refused(&problems))?;
            self.policy.check(&job.spec.pipeline, &*job.kind, &with)?;
            Ok(with)
        });
        let result = match checked {
            Ok(with) => self.run(&mut job, with, &mask).await,
            Err(error) => AttemptResult::Made { result: StepResult::of(Err(error)) },
        };
        match result {
            AttemptResult::Made { result } => {
                AttemptResult::Made { result: presentable(result, &mask) }
            }
            // It was presentable when it was made.
            AttemptResult::CacheHit { .. } | AttemptResult::Lost { .. } => result,
        }
    }

    /// How the containers of an attempt are shut in: what its project says, and what its step says beside
    /// that, where it is less.
    fn confinement(&self, job: &JobSpec) -> Confinement {
        let mut confinement = self.policy.confinement(&job.pipeline);
        confinement.limits = confinement.limits.and(job.limits);
        confinement
    }

    /// Where the secrets of a pipeline come from: those of its project, where there are projects.
    pub(crate) fn secrets_for(&self, pipeline: &str) -> Arc<dyn SecretProvider> {
        self.policy.secrets(pipeline).unwrap_or_else(|| Arc::clone(&self.secrets))
    }

    /// The secrets that the input names, and no others.
    async fn secrets_of(
        &self,
        job: &JobSpec,
    ) -> Result<BTreeMap<String, Secret<String>>, StepError> {
        let secrets = self.secrets_for(&job.pipeline);
        fetch(&*secrets, &job.input.secrets()).await.map_err(|errors| {
            let missing = errors.iter().find_map(|error| match error {
                SecretError::Missing { hint, .. } => Some(hint.clone()),
                SecretError::Unavailable { .. } => None,
            });
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            match missing {
                Some(hint) => StepError::terminal(texts.join(", ")).hint(hint),
                None => StepError::retryable(texts.join(", ")),
            }
        })
    }

    async fn run(&self, job: &mut Job, with: Value, mask: &Arc<Mask>) -> AttemptResult {
        let scratch = match self.scratch.take() {
            Ok(scratch) => scratch,
            Err(error) => {
                let error = StepError::retryable(format!(
                    "cannot make a scratch folder in {}",
                    self.scratch.root().display()
                ))
                .because(error);
                return AttemptResult::Made { result: StepResult::of(Err(error)) };
            }
        };
        let log = Arc::new(AttemptLog::new(
            job.spec.log_key(),
            Arc::clone(&self.logs),
            Arc::clone(&self.clock),
            self.updates.clone(),
            Arc::clone(mask),
        ));
        if (&mut job.is_written).await.is_err() {
            // The run is let go, and nobody hears of this result.
            let message = "its start was not written down".to_owned();
            return AttemptResult::Made { result: StepResult::Cancelled { message } };
        }
        let job = &*job;
        let scratch_path = scratch.path().to_owned();
        let attempt = pin!(async {
            let laying = self.workspaces.lay_out(Layout {
                run: &job.spec.run,
                workspace: &job.spec.workspace,
                log: log.clone(),
                cancel: job.stop.clone(),
            });
            let workspace = match job.stop.guard(laying).await {
                Ok(workspace) => workspace,
                Err(error) => return AttemptResult::Made { result: StepResult::of(Err(error)) },
            };
            let (stop, cancel) = CancelToken::new();
            let ports = Ports {
                info: job.spec.info(),
                scratch: scratch_path,
                log: log.clone(),
                spawn: Arc::new(
                    ProcessHost::new(
                        Arc::clone(&self.processes),
                        &workspace,
                        log.clone(),
                        Arc::clone(mask),
                        cancel.clone(),
                    )
                    .confined(self.cgroup.clone()),
                ),
                workspace,
                registries: Arc::clone(&self.registries),
                artifacts: Arc::clone(&self.artifacts),
                clock: Arc::clone(&self.clock),
                confinement: self.confinement(&job.spec),
                egress: self.egress.clone(),
                history: job.spec.history.clone().map(Arc::from),
                cancel,
            };
            let context = StepContext::new(ports, job.kind.spec());
            let key = match job.spec.cache {
                Some(_) => self.cache_key(job, &with, &context).await,
                None => None,
            };
            if let Some(key) = &key
                && let Some(earlier) = self.recall(job, key, &context).await
            {
                return earlier;
            }
            let work = AssertUnwindSafe(job.kind.run(with, &context)).catch_unwind();
            let result = self.watch(work, stop, job).await;
            if let (Some(key), StepResult::Verdict(Verdict::Passed { outputs })) = (&key, &result)
                && fit(outputs, mask).is_ok()
            {
                self.remember(job, key, outputs, &context).await;
            }
            AttemptResult::Made { result }
        });
        let result = log.store_while(attempt).await;
        self.scratch.give_back(scratch);
        result
    }

    /// Stays with a step until it ends, and tells it to stop when it must.
    async fn watch(
        &self,
        work: impl Future<Output = Result<Result<Verdict, StepError>, Box<dyn Any + Send>>>,
        stop: CancelHandle,
        job: &Job,
    ) -> StepResult {
        let mut work = pin!(work);
        let mut stop = Some(stop);
        let mut told = None;
        let mut until = job.spec.timeout.map(|timeout| Instant::now() + timeout.0);
        let patience = self.processes.grace * STOP_GRACES;
        loop {
            let due = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = &mut work => return settled(answer, told),
                () = job.stop.cancelled(), if told.is_none() => told = Some(Told::Cancelled),
                () = due => match (told, job.spec.timeout) {
                    (None, Some(timeout)) => told = Some(Told::TimedOut(timeout)),
                    (Some(told), _) => return dropped(told, patience),
                    // Without a timeout there is nothing to be due before the step is told.
                    (None, None) => {}
                },
            }
            if let Some(stop) = stop.take_if(|_| told.is_some()) {
                stop.cancel();
                until = Some(Instant::now() + patience);
            }
        }
    }
}

/// The result of a step that ended, perhaps because it was told to.
fn settled(
    answer: Result<Result<Verdict, StepError>, Box<dyn Any + Send>>,
    told: Option<Told>,
) -> StepResult {
    let answer = answer.unwrap_or_else(|panic| {
        Err(StepError::terminal(format!("the step panicked: {}", panic_text(&*panic)))
            .hint("this is a defect of the step; please report it"))
    });
    match (answer, told) {
        // It came to its end all the same: what it did is done.
        (Ok(verdict), _) => StepResult::Verdict(verdict),
        (Err(error), None) if error.class() == ErrorClass::Cancelled => {
            let error = StepError::terminal("the step stopped although nobody told it to")
                .because(error.chain());
            StepResult::of(Err(error))
        }
        (Err(error), None) => StepResult::of(Err(error)),
        (Err(error), Some(Told::Cancelled)) => StepResult::Cancelled { message: error.chain() },
        (Err(_), Some(Told::TimedOut(after))) => StepResult::TimedOut { after },
    }
}

/// The result of a step that did not stop when it was told to.
fn dropped(told: Told, patience: Duration) -> StepResult {
    match told {
        Told::TimedOut(after) => StepResult::TimedOut { after },
        Told::Cancelled => StepResult::Cancelled {
            message: format!(
                "the step was abandoned: it did not stop within {} of being told to",
                HumanDuration(patience)
            ),
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn unknown_secrets(names: &[String]) -> StepError {
    StepError::terminal(format!("the secrets {} are not known", names.join(", ")))
}

fn refused(problems: &[InputProblem]) -> StepError {
    let texts = problems.iter().map(|problem| {
        let place = problem.pointer.trim_start_matches('/').replace('/', ".");
        let at = if place.is_empty() { String::new() } else { format!(".{place}") };
        format!("`with{at}`: {}", problem.message)
    });
    let error = StepError::terminal(texts.collect::<Vec<_>>().join("; "));
    match problems.iter().find_map(|problem| problem.hint.clone()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The result as it may be journaled: bounded, and without secrets.
fn presentable(result: StepResult, mask: &Mask) -> StepResult {
    let text = |text: String| bounded_text(mask.apply(&text));
    match result {
        StepResult::Verdict(Verdict::Passed { outputs }) => match fit(&outputs, mask) {
            Ok(()) => StepResult::Verdict(Verdict::Passed { outputs }),
            Err(error) => StepResult::of(Err(error)),
        },
        StepResult::Verdict(Verdict::Rejected { reason, outputs }) => match fit(&outputs, mask) {
            Ok(()) => StepResult::Verdict(Verdict::Rejected { reason: text(reason), outputs }),
            Err(error) => StepResult::of(Err(error)),
        },
        StepResult::Verdict(Verdict::Skipped { reason }) => {
            StepResult::Verdict(Verdict::Skipped { reason: text(reason) })
        }
        StepResult::Failure(Failure { class, message, hint }) => {
            StepResult::Failure(Failure { class, message: text(message), hint: hint.map(text) })
        }
        StepResult::TimedOut { after } => StepResult::TimedOut { after },
        StepResult::Cancelled { message } => StepResult::Cancelled { message: text(message) },
    }
}

/// Whether outputs may be journaled.
fn fit(outputs: &Outputs, mask: &Mask) -> Result<(), StepError> {
    let size = serde_json::to_vec(outputs).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_OUTPUT_BYTES {
        return Err(StepError::terminal(format!(
            "the outputs of the step have {size} bytes, and at most {MAX_OUTPUT_BYTES} are kept"
        ))
        .hint("hand on large results as artifacts or files"));
    }
    if let Some((place, name)) = mask.find_in(outputs) {
        return Err(StepError::terminal(format!(
            "the output `{place}` of the step holds the secret `{name}`, and outputs are journaled"
        ))
        .hint("let the step keep the secret to itself"));
    }
    Ok(())
}
