//! The pipelines, and starting one by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_event::{Requested, SourceEvent};
use fairlead_plan::Plan;
use fairlead_run::{AuditAction, EventState, EventStore, Right};
use fairlead_step::{Clock, Digest, ImageRef, RunId, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::keyed::RequestKey;
use super::problem::Problem;
use super::webhook::not_stored;
use crate::current::Current;
use crate::definitions::Live;
use crate::identity::Caller;
use crate::ingest::{self, Ingest};
use crate::ports::{ImageResolver, Pipeline, Pipelines, resolve_images};
use crate::triggers::{Started, Starter, Trigger};

/// What requests for runs go through.
#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) pipelines: Current<Pipelines>,
    /// The same, and where they come from.
    pub(crate) live: Current<Live>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) starter: Starter,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
}

/// The most pipelines of a page.
const PAGE: usize = 1000;
/// The source of requests that come through the API.
const SOURCE: &str = "api";

pub(crate) async fn list(
    State(api): State<Requests>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<PipelineList>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let behind =
        |name: &str| query.after.as_deref().is_none_or(|after| after < name) && caller.sees(name);
    let live = api.live.get();
    let mut seen = live.pipelines.iter().filter(|pipeline| behind(pipeline.plan.name())).peekable();
    let page: Vec<&Pipeline> = seen.by_ref().take(limit).collect();
    let next = page.last().filter(|_| seen.peek().is_some());
    let next = next.map(|last| last.plan.name().to_owned());
    let pipelines = page.into_iter().map(|pipeline| {
        let plan = &pipeline.plan;
        PipelineShown {
            name: plan.name().to_owned(),
            description: plan.description().map(str::to_owned),
            source: plan.source_name().to_owned(),
            source_digest: plan.source_digest().clone(),
            from: pipeline.origin.as_deref().map(|origin| json!(origin)),
            on: json!(plan.triggers()),
            params: json!(plan.params()),
        }
    });
    let pipelines = pipelines.collect();
    // What a repository has is for those who may look at all of it.
    let shown = live.repositories.iter().filter(|repository| {
        caller.may_everywhere(Right::View)
            || (!repository.pipelines.is_empty()
                && repository.pipelines.iter().all(|name| caller.sees(name)))
    });
    let repositories = shown.map(|repository| repository.json.clone()).collect();
    Ok(Json(PipelineList { pipelines, repositories, next }))
}

/// The pipelines that the caller may look at.
#[derive(Serialize, ToSchema)]
pub(crate) struct PipelineList {
    pipelines: Vec<PipelineShown>,
    /// The repositories that the server follows, as far as the caller may look at all that they have: the
    /// commit that each is at, and what of it is refused.
    #[schema(value_type = Vec<Object>)]
    repositories: Vec<Value>,
    /// What to ask for as `after` for the next page; null when there is none.
    next: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only pipelines behind this name: `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// How many a page has, at most and when nothing is said 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// A pipeline.
#[derive(Serialize, ToSchema)]
struct PipelineShown {
    name: String,
    description: Option<String>,
    /// Where the server has it from.
    source: String,
    #[schema(value_type = String)]
    source_digest: Digest,
    /// The place in a repository that it comes from; null for a file of the server's own.
    #[schema(value_type = Option<Object>)]
    from: Option<Value>,
    /// Its triggers.
    on: Value,
    /// Its parameters.
    params: Value,
}

/// What a pipeline answers to an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct PipelineAnswer {
    pipeline: String,
    starts: bool,
    /// The trigger that starts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
    /// What the event gives to parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Value>,
    /// Why it does not start: for each filter that is for such events the reason. None when no filter is.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Vec<String>>,
}

impl PipelineAnswer {
    /// The answer of a pipeline. Whether the event is confirmed at its source is not asked.
    pub(crate) fn of(plan: &Plan, event: &SourceEvent) -> Self {
        let name = plan.name();
        let view = plan.answer(event).view(name);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let why = view.get("why").and_then(Value::as_array);
        Self {
            pipeline: name.to_owned(),
            starts: view["starts"] == true,
            trigger: view.get("trigger").and_then(text),
            params: view.get("params").cloned(),
            why: why.map(|why| why.iter().filter_map(text).collect()),
        }
    }
}

/// What a run is asked for with.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    /// Values of parameters, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Map<String, Value>,
}

/// A run that was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunStarted {
    #[schema(value_type = String)]
    run: RunId,
    pipeline: String,
    /// Where the run is shown.
    href: String,
    /// The id of the event that asks for it.
    event: String,
}

/// Starts a run. The same `Idempotency-Key` for the same pipeline answers the same run.
pub(crate) async fn start(
    State(api): State<Requests>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Extension(RequestKey(shown)): Extension<RequestKey>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(pipeline) = api.pipelines.get().get(&name).cloned() else {
        return Err(no_pipeline());
    };
    let pipeline = &pipeline;
    if pipeline.plan.triggers().manual.is_none() {
        let detail = format!("`{name}` does not name `manual` under `on`");
        let status = StatusCode::FORBIDDEN;
        let problem =
            Problem::new(status, "not-manual", "the pipeline is not for requests", detail);
        return Err(problem.hint("add `manual: {}` under `on`"));
    }
    let body: StartBody = if body.is_empty() {
        StartBody::default()
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
    let (pipeline, event) = (pipeline.to_owned(), key.to_owned());
    let answer = RunStarted { run: run.clone(), pipeline, href: place.clone(), event };
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
