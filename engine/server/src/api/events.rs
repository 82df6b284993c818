//! The events: the list, one of them, and handing one out again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use fairlead_run::{
    AuditAction, EventFilter, EventState, EventStore, EventView, Inserted, Retried,
};
use fairlead_step::{Clock, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use utoipa::{IntoParams, ToSchema};

use super::body::read;
use super::pipelines::PipelineAnswer;
use super::problem::Problem;
use crate::current::Current;
use crate::identity::Caller;
use crate::ingest::{self, once_more};
use crate::ports::Pipelines;

/// What the events are looked up in.
#[derive(Clone)]
pub(crate) struct EventsApi {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) pipelines: Current<Pipelines>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when an event is due.
    pub(crate) due: Arc<Notify>,
}

/// How many events a page has when nobody says.
const PAGE: usize = 50;
/// The longest id that is looked up.
const MAX_ID: usize = 255;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only events in this state: `pending`, `handled` or `dead`.
    #[serde(default)]
    state: Option<String>,
    /// Only events that are older than this one: `next` of the page before.
    #[serde(default)]
    before: Option<String>,
    /// How many a page has: 50 when nothing is said, at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventPage {
    #[schema(value_type = Vec<EventLine>)]
    events: Vec<EventView>,
    /// What to ask for as `before` for the next page; null when there is none.
    next: Option<String>,
}

/// An event, whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventShown {
    #[serde(flatten)]
    #[schema(value_type = EventLine)]
    view: EventView,
    /// The runs that it started.
    runs: Vec<EventRunShown>,
    /// What each pipeline of this server answers to it.
    pipelines: Vec<PipelineAnswer>,
    /// The CloudEvent; a text where it cannot be read.
    event: Value,
}

/// A run that an event started.
#[derive(Serialize, ToSchema)]
struct EventRunShown {
    pipeline: String,
    #[schema(value_type = String)]
    run: RunId,
}

/// An event that is handed out again.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventDue {
    id: String,
    /// `pending`.
    #[schema(value_type = String)]
    state: EventState,
}

/// Whether to store the event once more, or only to say what would come of it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// Only says which pipelines would start, and why the others would not.
    #[serde(default)]
    dry_run: bool,
}

/// What an event comes to that is stored once more.
#[derive(Serialize, ToSchema)]
pub(crate) struct Replayed {
    /// The id of the new event; null when it was only asked.
    id: Option<String>,
    /// What it is about.
    subject: String,
    /// What each pipeline of this server answers to it.
    pipelines: Vec<PipelineAnswer>,
}

/// An event, in a list.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes `EventView`, which knows nothing of descriptions")]
struct EventLine {
    id: String,
    /// `pending`, `handled` or `dead`.
    state: String,
    /// The type of the CloudEvent, when it can be read.
    r#type: Option<String>,
    source: Option<String>,
    /// What it is about.
    subject: Option<String>,
    received_at: Timestamp,
    published_at: Option<Timestamp>,
    handled_at: Option<Timestamp>,
    /// When it was given up.
    dead_at: Option<Timestamp>,
    /// How often somebody began to handle it.
    attempts: u32,
    /// When the store hands it out, while it is pending.
    next_at: Option<Timestamp>,
    /// Why it is not handled.
    reason: Option<String>,
}

pub(crate) async fn list(
    State(api): State<EventsApi>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<EventPage>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let state = query.state.map(|state| state.parse::<EventState>()).transpose();
    let state = state.map_err(|error| Problem::bad_request(error.to_string()))?;
    let before = query.before.map(known_id).transpose()?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, EventFilter::MOST);
    let filter = EventFilter { state, prefix: None, before, limit };
    let events = api.events.list(filter).await?;
    let next = (events.len() == limit).then(|| events.last().map(|event| event.key.clone()));
    let views: Vec<EventView> = events.iter().map(fairlead_run::StoredEvent::view).collect();
    Ok(Json(EventPage { events: views, next: next.flatten() }))
}

pub(crate) async fn show(
    State(api): State<EventsApi>,
    Path(id): Path<String>,
) -> Result<Json<EventShown>, Problem> {
    let id = known_id(id)?;
    let event = api.events.event(&id).await?.ok_or_else(|| no_event(&id))?;
    let runs = api.events.runs_of(&id).await?;
    let runs = runs.into_iter().map(|run| EventRunShown { pipeline: run.pipeline, run: run.run });
    let (runs, pipelines) = (runs.collect(), answers(&api.pipelines.get(), &event.document));
    // What cannot be read is shown as it is.
    let document = serde_json::from_str(&event.document);
    let document = document.unwrap_or_else(|_| Value::String(event.document.clone()));
    Ok(Json(EventShown { view: event.view(), runs, pipelines, event: document }))
}

/// What each pipeline answers to a stored event; nothing where it cannot be read.
fn answers(pipelines: &Pipelines, document: &str) -> Vec<PipelineAnswer> {
    let Ok(event) = ingest::read(document) else { return Vec::new() };
    pipelines.iter().map(|pipeline| PipelineAnswer::of(&pipeline.plan, &event)).collect()
}

/// Lets an event happen once more, under an identity of its own; or only says what would come of it.
pub(crate) async fn replay(
    State(api): State<EventsApi>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Replayed>), Problem> {
    let id = known_id(id)?;
    let body: ReplayBody = if body.is_empty() { ReplayBody::default() } else { read(&body)? };
    let stored = api.events.event(&id).await?.ok_or_else(|| no_event(&id))?;
    let event = ingest::read(&stored.document).map_err(|error| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem::new(status, "event", "the event cannot be read", error.to_string())
    })?;
    let subject = event.subject();
    let pipelines = answers(&api.pipelines.get(), &stored.document);
    if body.dry_run {
        return Ok((StatusCode::OK, Json(Replayed { id: None, subject, pipelines })));
    }
    let new = once_more(&stored.document, api.clock.now())
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let (key, detail) = (new.key.clone(), Map::from_iter([("event".to_owned(), json!(new.key))]));
    caller.record(AuditAction::EventRetry, id, None, detail).await?;
    match api.events.insert(new).await? {
        Inserted::New => {
            api.due.notify_one();
            Ok((StatusCode::CREATED, Json(Replayed { id: Some(key), subject, pipelines })))
        }
        Inserted::Duplicate { .. } | Inserted::Overtaken => {
            Err(Problem::unavailable("the same event is being replayed at this moment"))
        }
    }
}

pub(crate) async fn retry(
    State(api): State<EventsApi>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<EventDue>), Problem> {
    let id = known_id(id)?;
    caller.record(AuditAction::EventRetry, id.clone(), None, Map::new()).await?;
    match api.events.retry(&id, api.clock.now()).await? {
        Retried::Due => {
            tracing::info!(event = id, by = caller.name(), "the event is handed out again");
            api.due.notify_one();
            Ok((StatusCode::ACCEPTED, Json(EventDue { id, state: EventState::Pending })))
        }
        Retried::Handled => {
            let detail = format!("event `{id}` is handled: there is nothing to try again");
            let status = StatusCode::CONFLICT;
            Err(Problem::new(status, "handled", "the event is handled", detail)
                .hint("`fairlead retry RUN` makes one of its runs again"))
        }
        Retried::Unknown => Err(no_event(&id)),
    }
}

fn known_id(id: String) -> Result<String, Problem> {
    if id.len() > MAX_ID || id.contains(char::is_control) {
        return Err(Problem::bad_request("an event has no such id"));
    }
    Ok(id)
}

fn no_event(id: &str) -> Problem {
    Problem::missing(format!("there is no event `{id}`"))
        .hint("retention removes events that are over: docs/store.md")
}
