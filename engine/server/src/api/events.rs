//! The events: the list, one of them, and handing one out again.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use fairlead_run::{AuditAction, EventFilter, EventState, EventStore, EventView, Retried};
use fairlead_step::Clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::problem::Problem;
use crate::identity::Caller;

/// What the events are looked up in.
#[derive(Clone)]
pub(crate) struct EventsApi {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when an event is due.
    pub(crate) due: Arc<Notify>,
}

/// How many events a page has when nobody says.
const PAGE: usize = 50;
/// The longest id that is looked up.
const MAX_ID: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(api): State<EventsApi>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let state = query.state.map(|state| state.parse::<EventState>()).transpose();
    let state = state.map_err(|error| Problem::bad_request(error.to_string()))?;
    let before = query.before.map(known_id).transpose()?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, EventFilter::MOST);
    let filter = EventFilter { state, prefix: None, before, limit };
    let events = api.events.list(filter).await?;
    let next = (events.len() == limit).then(|| events.last().map(|event| event.key.clone()));
    let views: Vec<EventView> = events.iter().map(fairlead_run::StoredEvent::view).collect();
    Ok(Json(json!({ "events": views, "next": next.flatten() })))
}

pub(crate) async fn show(
    State(api): State<EventsApi>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = known_id(id)?;
    let event = api.events.event(&id).await?.ok_or_else(|| no_event(&id))?;
    let runs = api.events.runs_of(&id).await?;
    let runs = runs.iter().map(|run| json!({ "pipeline": run.pipeline, "run": run.run }));
    let runs: Vec<Value> = runs.collect();
    // What cannot be read is shown as it is.
    let document = serde_json::from_str(&event.document);
    let document = document.unwrap_or_else(|_| Value::String(event.document.clone()));
    let mut shown = serde_json::to_value(event.view()).unwrap_or_default();
    shown["runs"] = json!(runs);
    shown["event"] = document;
    Ok(Json(shown))
}

pub(crate) async fn retry(
    State(api): State<EventsApi>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let id = known_id(id)?;
    caller.record(AuditAction::EventRetry, id.clone(), None, Map::new()).await?;
    match api.events.retry(&id, api.clock.now()).await? {
        Retried::Due => {
            tracing::info!(event = id, by = caller.name(), "the event is handed out again");
            api.due.notify_one();
            Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "state": EventState::Pending }))))
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
