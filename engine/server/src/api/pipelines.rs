//! The pipelines, and starting one by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_event::{Requested, SourceEvent};
use fairlead_run::{AuditAction, EventState, EventStore};
use fairlead_step::{Clock, ImageRef, RunId, Workspace};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keyed::RequestKey;
use super::problem::Problem;
use super::webhook::not_stored;
use crate::identity::Caller;
use crate::ingest::{self, Ingest};
use crate::ports::{ImageResolver, Pipeline, Pipelines, resolve_images};
use crate::triggers::{Started, Starter, Trigger};

/// What requests for runs go through.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) starter: Starter,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
}

/// The source of requests that come through the API.
const SOURCE: &str = "api";

pub(crate) async fn list(
    State(pipelines): State<Arc<Pipelines>>,
    Extension(caller): Extension<Caller>,
) -> Json<Value> {
    let seen = pipelines.iter().filter(|pipeline| caller.sees(pipeline.plan.name()));
    let pipelines = seen.map(|pipeline| {
        let plan = &pipeline.plan;
        json!({
            "name": plan.name(),
            "description": plan.description(),
            "source": plan.source_name(),
            "source_digest": plan.source_digest(),
            "on": plan.triggers(),
            "params": plan.params(),
        })
    });
    Json(json!({ "pipelines": pipelines.collect::<Vec<_>>() }))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    params: Map<String, Value>,
}

/// Starts a run. The same `Idempotency-Key` for the same pipeline answers the same run.
pub(crate) async fn start(
    State(api): State<Requests>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Extension(RequestKey(shown)): Extension<RequestKey>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(pipeline) = api.pipelines.get(&name) else {
        return Err(no_pipeline());
    };
    if pipeline.plan.triggers().manual.is_none() {
        let detail = format!("`{name}` does not name `manual` under `on`");
        let status = StatusCode::FORBIDDEN;
        let problem =
            Problem::new(status, "not-manual", "the pipeline is not for requests", detail);
        return Err(problem.hint("add `manual: {}` under `on`"));
    }
    let body: Body = if body.is_empty() {
        Body::default()
    } else {
        serde_json::from_slice(&body).map_err(|e| {
            Problem::bad_request(format!("the body is not `{{\"params\": {{…}}}}`: {e}"))
        })?
    };
    let given: BTreeMap<String, Value> = body.params.clone().into_iter().collect();
    let plan = &pipeline.plan;
    let filled = plan.requested(&given).and_then(|given| Ok((plan.bind(&given)?, given)));
    if let Err(problems) = &filled {
        return Err(Problem::params(&format!("those of `{name}`"), problems));
    }
    let (bound, mut given) = filled.unwrap_or_default();
    // Of this caller alone: another one's key is another one.
    let key = match shown {
        Some(shown) => shown.key.hex().to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    };
    let request = Requested {
        pipeline: name.clone(),
        params: body.params,
        by: caller.name().to_owned(),
        key,
    };
    let event = SourceEvent::Requested(request.clone());
    let template = event.template_value();
    // Before anything is kept: a request whose image is not there leaves nothing behind. One that came
    // before has its run, whatever its tag stands for by now.
    if api.events.event(event.dedup_key().as_str()).await?.is_none() {
        let images = resolved(&api, pipeline, bound).await?;
        given.extend(images.into_iter().map(|(name, image)| (name, image.to_string().into())));
    }
    let detail = Map::from_iter([("event".to_owned(), event.dedup_key().to_string().into())]);
    caller.record(AuditAction::RunRequest, name.clone(), None, detail).await?;
    let accepted = api.ingest.accept(SOURCE, event).await.map_err(not_stored)?;
    let key = accepted.id;
    if accepted.duplicate {
        same_request(&api, &key, &request).await?;
        if let Some(first) = api.events.runs_of(&key).await?.into_iter().next() {
            return Ok(started(&first.run, &name, &key, StatusCode::OK));
        }
    }
    // Stored first, so that the request is not lost when the process ends here: the outbox and the
    // triggers would then do what follows.
    let by = request.by.clone();
    let trigger = Trigger { key: &key, event: template, by, workspace: Workspace::EMPTY };
    let run = api.starter.request_run(pipeline, &given, trigger).await;
    let run = run.map_err(|why| {
        tracing::error!(event = key, "{why}");
        Problem::unavailable(why).hint("the request is kept, and tried again")
    })?;
    match run {
        Started::Run(run) => {
            api.events.mark_handled(&key, api.clock.now()).await?;
            let status = if accepted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
            Ok(started(&run, &name, &key, status))
        }
        // Its event is tried as any other, and given up with this reason.
        Started::Refused(why) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new(status, "no-run", "there cannot be such a run", why))
        }
    }
}

/// The answer for a name that no pipeline has, and to those who may not look at the one that has it.
pub(crate) fn no_pipeline() -> Problem {
    Problem::missing("there is no such pipeline").hint("GET /api/v1/pipelines lists the pipelines")
}

fn started(run: &RunId, pipeline: &str, key: &str, status: StatusCode) -> Response {
    let place = format!("/api/v1/runs/{run}");
    let answer = json!({ "run": run, "pipeline": pipeline, "href": place, "event": key });
    let mut response = (status, Json(answer)).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// What the tags of images among the parameters stand for.
async fn resolved(
    api: &Requests,
    pipeline: &Pipeline,
    mut params: Value,
) -> Result<Vec<(String, ImageRef)>, Problem> {
    let (resolver, deadline) = (&*api.images, api.registry);
    let answer = resolve_images(resolver, &pipeline.plan, &mut params, deadline).await;
    answer.map_err(|problems| {
        let errors: Vec<String> = problems
            .iter()
            .map(|problem| match &problem.hint {
                Some(hint) => format!("{problem}; {hint}"),
                None => problem.to_string(),
            })
            .collect();
        let away = problems.iter().all(|problem| problem.away);
        let status = match away {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let detail = format!("the images of `{}` cannot be resolved", pipeline.plan.name());
        let problem = Problem::new(status, "image", "an image cannot be resolved", detail);
        let problem = problem.errors(errors);
        if away { problem.hint("nothing was kept; ask again later") } else { problem }
    })
}

/// Refuses a key that was used for another request, or for one of which nothing is left: its run was
/// removed, and must not be made again.
async fn same_request(api: &Requests, key: &str, request: &Requested) -> Result<(), Problem> {
    let Some(stored) = api.events.event(key).await? else { return Err(removed()) };
    match ingest::read(&stored.document) {
        Ok(SourceEvent::Requested(first)) if first.params == request.params => {
            // What was refused then is a dead letter, and may be asked for again.
            let over = match stored.state() {
                EventState::Handled => api.events.runs_of(key).await?.is_empty(),
                EventState::Pending | EventState::Dead => false,
            };
            if over { Err(removed()) } else { Ok(()) }
        }
        _ => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key",
            "the key was used before",
            "the `Idempotency-Key` came before with other parameters",
        )
        .hint("make a new key for a new request")),
    }
}

/// The request was answered before, and its run is gone.
fn removed() -> Problem {
    let detail = "the `Idempotency-Key` came before, and retention has removed the run since";
    Problem::new(StatusCode::CONFLICT, "run-removed", "the run is gone", detail)
        .hint("make a new key for a new request")
}
