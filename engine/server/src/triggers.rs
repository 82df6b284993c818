//! The triggers: events are matched with the triggers of every pipeline, and start
//! runs, each event at most one of each pipeline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Deliveries, Delivery, SourceEvent};
use fairlead_exec::{RequestError, Requested, RunRequest};
use fairlead_run::StoredEvent;
use fairlead_step::{RunId, Workspace, error_chain};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::attempts::{self, Attempted, Failure};
use crate::commits;
use crate::evidence;
use crate::images::{Truth, look_up, resolve_images};
use crate::ingest;
use crate::pipelines::Pipeline;
use crate::server::Shared;

/// How many events are handled at a time that have just come.
const AT_A_TIME: usize = 16;
/// After how long an event is not a quick one, whose place is for others.
const QUICK: Duration = Duration::from_secs(5);
/// How many events are handled at a time beside those, because they take long: a checkout of a large
/// repository, a registry that does not answer.
const LONG_AT_A_TIME: usize = 48;
/// The longest pause before the bus is asked for an event again that the store could not be asked
/// about, in units of the first one.
const LONGEST: u32 = 60;

/// Handles what the bus hands out, until the server stops. An event that cannot be handled is the
/// store's to hand out again, and no longer that of the bus.
pub(crate) async fn run(shared: &Arc<Shared>, mut deliveries: Deliveries) {
    let slots = Arc::new(Semaphore::new(AT_A_TIME));
    let long_slots = Arc::new(Semaphore::new(LONG_AT_A_TIME));
    loop {
        let delivery = tokio::select! {
            delivery = deliveries.next() => delivery,
            () = shared.stopping.cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let (shared, long_slots) = (Arc::clone(shared), Arc::clone(&long_slots));
        shared.clone().tasks.spawn(async move {
            let mut answering = std::pin::pin!(answer(&shared, delivery));
            if tokio::time::timeout(QUICK, &mut answering).await.is_ok() {
                return;
            }
            // What is slow goes on, beside the places of what is quick while there is room for that.
            let slot = match long_slots.try_acquire_owned() {
                Ok(long) => {
                    drop(slot);
                    long
                }
                Err(_) => slot,
            };
            answering.await;
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
    let (id, tries) = (event.id.clone(), delivery.attempt);
    let attempted = attended(&delivery, attempts::attempt(shared, &id)).await;
    let answered = match attempted {
        Attempted::Noted => delivery.done().await,
        Attempted::Away { why } => {
            let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
            let pause: Duration = shared.options.retry * (1 << doublings).min(LONGEST);
            tracing::warn!(event = id, tries, "event is asked for again in {pause:?}: {why}");
            delivery.later(pause).await
        }
    };
    tell(answered);
}

/// Does the work, and lets the bus know that it goes on for as long as it does.
async fn attended<T>(delivery: &Delivery, work: impl Future<Output = T>) -> T {
    let Some(patience) = delivery.patience() else { return work.await };
    let mut work = std::pin::pin!(work);
    loop {
        // Often enough that a word may be lost.
        match tokio::time::timeout(patience / 3, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(delivery.progress().await),
        }
    }
}

fn tell(answered: Result<(), fairlead_event::BusError>) {
    if let Err(error) = answered {
        // The message comes again, and finds its event handled or claimed.
        tracing::debug!("{error}");
    }
}

/// Lets every pipeline have its say about an event that this server has claimed, and starts the runs.
pub(crate) async fn handle(shared: &Shared, stored: &StoredEvent) -> Result<(), Failure> {
    let event = ingest::read(&stored.document)
        .map_err(|error| Failure::Never(format!("the event cannot be read: {error}")))?;
    let source = source_of(&stored.document);
    let from = From { key: &stored.key, source: &source, received_at: stored.received_at };
    start(shared, from, event).await
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

/// Starts what the event starts.
async fn start(shared: &Shared, from: From<'_>, event: SourceEvent) -> Result<(), Failure> {
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
                    match request_run(shared, pipeline, &given, trigger).await? {
                        Started::Run(_) => Ok(()),
                        Started::Refused(why) => Err(Failure::Never(why)),
                    }
                }
                None => {
                    let name = request.pipeline;
                    Err(Failure::Never(format!("there is no pipeline `{name}` any more")))
                }
            };
        }
        SourceEvent::ImagePushed(_) | SourceEvent::GitPushed(_) => event,
    };
    if let SourceEvent::ImagePushed(push) = &event {
        evidence::tell(shared, push, young(shared, from.received_at)).await?;
    }
    let wanted = |pipeline: &&Pipeline| pipeline.plan.triggers().matches(&event);
    let wanted: Vec<&Pipeline> = shared.ports.pipelines.iter().filter(wanted).collect();
    if wanted.is_empty() {
        tracing::debug!(event = key, "no pipeline waits for {}", event.subject());
        return Ok(());
    }
    let Some(event) = confirmed(shared, from, event).await? else { return Ok(()) };
    let mut workspace = None;
    // One pipeline that cannot be started keeps no other from it.
    let mut refused = Vec::new();
    for pipeline in wanted {
        let name = pipeline.plan.name();
        let given = BTreeMap::new();
        let params = match pipeline.plan.bind(&given) {
            Ok(params) => params,
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let problems = problems.join("; ");
                refused.push(format!("`{name}` cannot be started by an event: {problems}"));
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
                match request_run(shared, pipeline, &given, trigger).await? {
                    Started::Run(_) => {}
                    Started::Refused(why) => {
                        refused.push(format!("`{name}` cannot be started: {why}"));
                    }
                }
            }
            Ok(None) => tracing::debug!(event = key, "`{name}` does not want the event"),
            Err(error) => {
                refused.push(format!("`{name}` cannot decide about the event: {error}"));
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Never(refused.join("; "))) }
}

/// The event as its registry or its forge confirms it; none when it does not.
async fn confirmed(
    shared: &Shared,
    from: From<'_>,
    event: SourceEvent,
) -> Result<Option<SourceEvent>, String> {
    let From { key, source, received_at } = from;
    let push = match &event {
        SourceEvent::ImagePushed(push) => push,
        SourceEvent::GitPushed(push) => {
            let young = young(shared, received_at);
            let push = commits::confirmed(shared, key, source, push.clone(), young).await?;
            return Ok(push.map(SourceEvent::GitPushed));
        }
        SourceEvent::Requested(_) => return Ok(Some(event)),
    };
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
            let accepted = shared.ingest.accept(source, now).await;
            accepted.map(|_| None).map_err(|error| error.to_string())
        }
    }
}

/// Whether the registry or the forge may not yet show what was reported at this time.
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

/// The run of a pipeline that an event has started, if it has.
async fn earlier_run(shared: &Shared, key: &str, pipeline: &str) -> Result<Option<RunId>, String> {
    let runs = shared.ports.events.runs_of(key).await.map_err(|error| error_chain(&error))?;
    Ok(runs.into_iter().find(|run| run.pipeline == pipeline).map(|run| run.run))
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
    let mut params = match pipeline.plan.bind(given) {
        Ok(params) => params,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let why = problems.join("; ");
            tracing::error!(event = key, "`{name}` cannot be started: {why}");
            return Ok(Started::Refused(why));
        }
    };
    if !pipeline.plan.params().unresolved(&params).is_empty() {
        // The run that there is knows what the tag stood for; what it stands for now is nothing to it.
        if let Some(run) = earlier_run(shared, key, name).await? {
            return Ok(Started::Run(run));
        }
        let deadline = shared.options.registry;
        let images = &*shared.ports.images;
        if let Err(problems) = resolve_images(images, &pipeline.plan, &mut params, deadline).await {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let why = texts.join("; ");
            if problems.iter().all(|problem| problem.away) {
                return Err(format!("cannot start `{name}`: {why}"));
            }
            tracing::error!(event = key, "`{name}` cannot be started: {why}");
            return Ok(Started::Refused(why));
        }
    }
    let request = RunRequest {
        plan: Arc::clone(&pipeline.plan),
        params,
        event: trigger.event,
        event_id: Some(key.to_owned()),
        started_by: Some(key.to_owned()),
        by: trigger.by,
        workspace: Workspace::local(
            trigger.workspace.unwrap_or_else(|| pipeline.workspace.clone()),
        ),
        origin: None,
    };
    match shared.ports.engine.request(request).await {
        Ok(Requested::New(run)) => {
            tracing::info!(event = key, %run, "`{name}` is started");
            shared.supervisor.begin(run.clone());
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
