//! The consumer: events from the bus are matched with the triggers of every pipeline, and start
//! runs, each event at most one of each pipeline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Deliveries, Delivery, SourceEvent};
use fairlead_exec::{RequestError, Requested, RunRequest};
use fairlead_step::{RunId, error_chain};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::images::{Truth, look_up};
use crate::intake;
use crate::news;
use crate::pipelines::Pipeline;
use crate::server::Shared;

/// How many events are handled at a time.
const AT_A_TIME: usize = 16;
/// How often the bus is asked for an event again. Then the sweep has it.
const ATTEMPTS: u64 = 12;
/// The longest pause between two attempts, in units of the first one.
const LONGEST: u32 = 60;

/// What handling an event came to.
#[derive(Debug)]
pub(crate) enum Handled {
    /// It is done with.
    Done,
    /// Something was away; the same again may work.
    Later {
        /// What, for the log.
        why: String,
    },
}

/// Handles what the bus hands out, until the server stops.
pub(crate) async fn run(shared: &Arc<Shared>, mut deliveries: Deliveries) {
    let slots = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let delivery = tokio::select! {
            delivery = deliveries.next() => delivery,
            () = shared.stopping.cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let shared = Arc::clone(shared);
        shared.clone().tasks.spawn(async move {
            answer(&shared, delivery).await;
            drop(slot);
        });
    }
}

async fn answer(shared: &Shared, delivery: Delivery) {
    let event = match &delivery.event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!("a message on the bus is no event, and is dropped: {error}");
            tell(delivery.done().await);
            return;
        }
    };
    let id = event.id.clone();
    let attempt = delivery.attempt;
    let answered = match handle(shared, &id).await {
        Handled::Done => delivery.done().await,
        Handled::Later { why } if attempt >= ATTEMPTS => {
            tracing::warn!(event = id, attempt, "event stays pending for the sweep: {why}");
            delivery.done().await
        }
        Handled::Later { why } => {
            let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
            let pause: Duration = shared.options.retry * (1 << doublings).min(LONGEST);
            tracing::warn!(event = id, attempt, "event is tried again in {pause:?}: {why}");
            delivery.later(pause).await
        }
    };
    tell(answered);
}

fn tell(answered: Result<(), fairlead_event::BusError>) {
    if let Err(error) = answered {
        // The message comes again, and finds its event handled.
        tracing::debug!("{error}");
    }
}

/// Lets every pipeline have its say about a stored event, starts the runs, and marks the event as
/// handled. May be called any number of times, also at the same time, for the same event.
pub(crate) async fn handle(shared: &Shared, key: &str) -> Handled {
    let later = |error: &fairlead_run::StoreError| Handled::Later { why: error_chain(error) };
    let stored = match shared.ports.events.event(key).await {
        Ok(Some(stored)) => stored,
        Ok(None) => {
            tracing::warn!(event = key, "the bus has an event that is not in this store; dropped");
            return Handled::Done;
        }
        Err(error) => return later(&error),
    };
    if stored.handled_at.is_some() {
        return Handled::Done;
    }
    match intake::read(&stored.event.document) {
        Ok(event) => {
            let from = From {
                key,
                source: &source_of(&stored.event.document),
                received_at: stored.event.received_at,
            };
            let handled = start(shared, from, event).await;
            if let Err(why) = handled {
                return Handled::Later { why };
            }
        }
        Err(error) => tracing::error!(event = key, "a stored event cannot be read: {error}"),
    }
    match shared.ports.events.mark_handled(key, shared.ports.clock.now()).await {
        Ok(()) => Handled::Done,
        Err(error) => later(&error),
    }
}

/// The name of the source in a stored event.
fn source_of(document: &str) -> String {
    let event = fairlead_event::CloudEvent::from_json(document.as_bytes());
    let source = event.map(|event| event.source).unwrap_or_default();
    source.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What is known of an event besides what it says.
#[derive(Clone, Copy)]
struct From<'a> {
    /// Its identity.
    key: &'a str,
    /// The name of its source.
    source: &'a str,
    /// When it was first reported.
    received_at: Timestamp,
}

/// Starts what the event starts. An error says what was away.
async fn start(shared: &Shared, from: From<'_>, event: SourceEvent) -> Result<(), String> {
    let From { key, source, .. } = from;
    let event = match event {
        SourceEvent::Requested(request) => {
            return match shared.ports.pipelines.get(&request.pipeline) {
                Some(pipeline) => {
                    let given: BTreeMap<String, Value> = request.params.into_iter().collect();
                    let trigger = Trigger {
                        key,
                        event: json!({ "kind": "manual", "actor": request.by }),
                        by: request.by,
                        workspace: None,
                    };
                    request_run(shared, pipeline, &given, trigger).await.map(|_| ())
                }
                None => {
                    let name = request.pipeline;
                    tracing::warn!(event = key, "ignored: there is no pipeline `{name}` any more");
                    Ok(())
                }
            };
        }
        SourceEvent::ImagePushed(_) | SourceEvent::GitPushed(_) => event,
    };
    if let SourceEvent::ImagePushed(push) = &event {
        news::tell(shared, push, young(shared, from.received_at)).await?;
    }
    let wanted = |pipeline: &&Pipeline| pipeline.plan.triggers().matches(&event);
    let wanted: Vec<&Pipeline> = shared.ports.pipelines.iter().filter(wanted).collect();
    if wanted.is_empty() {
        tracing::debug!(event = key, "no pipeline waits for {}", event.subject());
        return Ok(());
    }
    let Some(event) = confirmed(shared, from, event).await? else { return Ok(()) };
    let mut workspace = None;
    for pipeline in wanted {
        let name = pipeline.plan.name();
        let given = BTreeMap::new();
        let params = match pipeline.plan.bind(&given) {
            Ok(params) => params,
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let problems = problems.join("; ");
                tracing::error!(event = key, "`{name}` cannot be started by an event: {problems}");
                continue;
            }
        };
        match pipeline.plan.triggered_by(&event, &params) {
            Ok(Some(_)) => {
                let by = format!("source {source}");
                if workspace.is_none() {
                    workspace = check_out(shared, key, source, &event).await?;
                }
                let workspace = workspace.clone();
                let trigger = Trigger { key, event: event.template_value(), by, workspace };
                request_run(shared, pipeline, &given, trigger).await?;
            }
            Ok(None) => tracing::debug!(event = key, "`{name}` does not want the event"),
            Err(error) => {
                tracing::error!(event = key, "`{name}` cannot decide about the event: {error}");
            }
        }
    }
    Ok(())
}

/// The event as the registry confirms it; none when it does not. An event that is no image needs no
/// confirmation: the forge's repository is read by the run itself, at the commit.
async fn confirmed(
    shared: &Shared,
    from: From<'_>,
    event: SourceEvent,
) -> Result<Option<SourceEvent>, String> {
    let From { key, source, received_at } = from;
    let SourceEvent::ImagePushed(push) = &event else { return Ok(Some(event)) };
    let question = look_up(&*shared.ports.images, push);
    let subject = event.subject();
    match tokio::time::timeout(shared.options.registry, question).await {
        Err(_) => Err(format!("the registry of {subject} did not answer in time")),
        Ok(Err(error)) => Err(format!("cannot look {subject} up: {}", error.chain())),
        Ok(Ok(Truth::Holds(push))) => Ok(Some(SourceEvent::ImagePushed(push))),
        Ok(Ok(Truth::Gone | Truth::Moved(_))) if young(shared, received_at) => {
            Err(format!("the registry does not show {subject} yet"))
        }
        Ok(Ok(Truth::Gone)) => {
            tracing::warn!(event = key, "ignored: {subject} is not at its registry any more");
            Ok(None)
        }
        Ok(Ok(Truth::Moved(observed))) => {
            let now = SourceEvent::ImagePushed(observed);
            tracing::warn!(event = key, "ignored: {subject} was overtaken by {}", now.subject());
            // What overtook it is taken in here, for its own report may have been lost.
            let accepted = shared.intake.accept(source, now).await;
            accepted.map(|_| None).map_err(|error| error.to_string())
        }
    }
}

/// Whether the registry may not yet show what was reported at this time.
fn young(shared: &Shared, received_at: Timestamp) -> bool {
    let age = shared.ports.clock.now().duration_since(received_at);
    SignedDuration::try_from(shared.options.settle).is_ok_and(|settle| age < settle)
}

/// The folder with what was pushed; none when the run works in the server's own.
async fn check_out(
    shared: &Shared,
    key: &str,
    source: &str,
    event: &SourceEvent,
) -> Result<Option<PathBuf>, String> {
    let SourceEvent::GitPushed(push) = event else { return Ok(None) };
    if !shared.ports.sources.get(source).is_some_and(|source| source.checkout) {
        return Ok(None);
    }
    let checkout = shared.ports.workspaces.checkout(push, key).await;
    checkout.map_err(|error| format!("cannot check {} out: {}", event.subject(), error.chain()))
}

/// What starts a run.
pub(crate) struct Trigger<'a> {
    /// The identity of the event: it starts one run of a pipeline.
    pub(crate) key: &'a str,
    /// What expressions see as `event`.
    pub(crate) event: Value,
    /// Who asked.
    pub(crate) by: String,
    /// The folder that the run works in; the pipeline's own when none is given.
    pub(crate) workspace: Option<PathBuf>,
}

/// What a trigger came to.
pub(crate) enum Started {
    /// It has this run.
    Run(RunId),
    /// There cannot be a run, and this is why. The log has it, too.
    Refused(String),
}

/// Creates the run of this pipeline that the trigger starts, or finds it, and begins to drive it. An
/// error says what was away.
pub(crate) async fn request_run(
    shared: &Shared,
    pipeline: &Pipeline,
    given: &BTreeMap<String, Value>,
    trigger: Trigger<'_>,
) -> Result<Started, String> {
    let (key, name) = (trigger.key, pipeline.plan.name());
    let params = match pipeline.plan.bind(given) {
        Ok(params) => params,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let why = problems.join("; ");
            tracing::error!(event = key, "`{name}` cannot be started: {why}");
            return Ok(Started::Refused(why));
        }
    };
    let request = RunRequest {
        plan: Arc::clone(&pipeline.plan),
        params,
        event: trigger.event,
        event_id: Some(key.to_owned()),
        started_by: Some(key.to_owned()),
        by: trigger.by,
        workspace: trigger.workspace.unwrap_or_else(|| pipeline.workspace.clone()),
        origin: None,
    };
    match shared.ports.engine.request(request).await {
        Ok(Requested::New(run)) => {
            tracing::info!(event = key, %run, "`{name}` is started");
            shared.drives.begin(run.clone());
            Ok(Started::Run(run))
        }
        Ok(Requested::Already(run)) => {
            tracing::debug!(event = key, %run, "`{name}` was started by this event before");
            Ok(Started::Run(run))
        }
        Err(
            error @ (RequestError::Kinds(_)
            | RequestError::Seal(_)
            | RequestError::Plan(_)
            | RequestError::Group(_)),
        ) => {
            let why = error_chain(&error);
            tracing::error!(event = key, "`{name}` cannot be started: {why}");
            Ok(Started::Refused(why))
        }
        Err(error) => Err(format!("cannot start `{name}`: {}", error_chain(&error))),
    }
}
