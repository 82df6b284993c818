//! Runs of pipelines that come with the request, and runs that begin from another one.
//!
//! What a pipeline of the server may do goes with its name. So a file of a client may not have the name of
//! one of them, and a run of one of them is made again by the server's own file alone, on what it worked on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_exec::{RequestError, Requested, RunRequest};
use fairlead_plan::{MAX_SOURCE_BYTES, Plan, Source, compile};
use fairlead_run::{AuditAction, Journal, Origin, RerunError, Run, RunFilter};
use fairlead_step::{Artifacts, Catalog, Digest, RunId, StepId, Workspace, error_chain};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::artifacts;
use super::body::read;
use super::keyed::RequestKey;
use super::problem::Problem;
use super::runs::{restore, run_id};
use crate::current::Current;
use crate::identity::Caller;
use crate::ports::{ImageResolver, Pipelines, resolve_images};
use crate::triggers::Starter;

/// What such requests go through.
#[derive(Clone)]
pub(crate) struct FileRequests {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pipelines: Current<Pipelines>,
    pub(crate) starter: Starter,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
}

/// A pipeline file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// What findings call it.
    name: String,
    /// The file itself, as YAML.
    text: String,
}

/// A pipeline file that is to be run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileBody {
    source: File,
    /// Values of parameters, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    params: Map<String, Value>,
    /// The digest of the packed folder that the run works on; an empty folder when it is not given.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    archive: Option<Digest>,
}

/// How a run is made again.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBody {
    /// Steps that are made again although they ended well, with all that needs them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    from: Vec<StepId>,
    /// Another pipeline file than the first time.
    #[serde(default)]
    replan: Option<File>,
    /// Another packed folder than the first time, by its digest.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    archive: Option<Digest>,
}

/// How a run is taken back.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoBody {
    /// Another packed folder than the first time, by its digest.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    archive: Option<Digest>,
    /// Only says what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Does it although another run has done it.
    #[serde(default)]
    once_more: bool,
}

/// A run that was asked for; what is left out is not asked about.
#[derive(Serialize, Default, ToSchema)]
pub(crate) struct RunBegun {
    /// None when nothing was to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    /// Where the run is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    href: Option<String>,
    /// Of a retry: the steps whose results are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    kept: Option<Vec<StepId>>,
    /// Of taking back: the steps that do it, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<UndoStep>>,
}

/// A step that takes something back.
#[derive(Serialize, ToSchema)]
struct UndoStep {
    #[schema(value_type = String)]
    id: StepId,
    kind: String,
    /// The step that it takes back.
    #[schema(value_type = Option<String>)]
    undoes: Option<StepId>,
}

pub(crate) async fn start(
    State(api): State<FileRequests>,
    Extension(caller): Extension<Caller>,
    Extension(key): Extension<RequestKey>,
    body: Bytes,
) -> Result<Response, Problem> {
    let FileBody { source, params, archive } = read(&body)?;
    let plan = api.compiled(source)?;
    if api.pipelines.get().get(plan.name()).is_some() {
        let detail = format!("this server has a pipeline `{}` of its own", plan.name());
        let status = StatusCode::CONFLICT;
        return Err(Problem::new(status, "name-taken", "the name is taken", detail)
            .hint("ask for that one by its name, or give the file another `name`"));
    }
    let given: BTreeMap<String, Value> = params.into_iter().collect();
    let fitting = format!("those of `{}`", plan.name());
    let params = plan.bind(&given).map_err(|problems| Problem::params(&fitting, &problems))?;
    let workspace = api.workspace(archive).await?.unwrap_or(Workspace::EMPTY);
    let request = RunRequest {
        plan: Arc::new(plan),
        params,
        event: json!({}),
        event_id: None,
        started_by: None,
        by: caller.name().to_owned(),
        workspace,
        origin: None,
    };
    let detail = Map::from_iter([("source".to_owned(), json!(request.plan.source_digest()))]);
    caller.record(AuditAction::RunRequest, request.plan.name(), None, detail).await?;
    api.begin(key, request, RunBegun::default()).await
}

pub(crate) async fn retry(
    State(api): State<FileRequests>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    Extension(key): Extension<RequestKey>,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: RetryBody = if body.is_empty() { RetryBody::default() } else { read(&body)? };
    let id = run_id(&run)?;
    let old = restore(&*api.journal, &id).await?;
    let replan = match body.replan {
        None => None,
        Some(file) => {
            let plan = api.compiled(file)?;
            api.check_replan(&old, &plan)?;
            let params = old
                .params_for(&plan)
                .map_err(|problems| Problem::params("the new plan", &problems))?;
            Some((Arc::new(plan), params))
        }
    };
    let by = caller.name().to_owned();
    let mut request =
        RunRequest::retry(&old, &body.from, replan, by).map_err(|error| refused(&error))?;
    request.workspace = api.workspace_again(&old, body.archive).await?;
    let kept = request.origin.iter().flat_map(|Origin { kept, .. }| kept);
    let kept = kept.map(|kept| kept.step.clone()).collect();
    let said = RunBegun { kept: Some(kept), ..RunBegun::default() };
    caller.record(AuditAction::RunRetry, id.to_string(), None, Map::new()).await?;
    api.begin(key, request, said).await
}

pub(crate) async fn undo(
    State(api): State<FileRequests>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    Extension(key): Extension<RequestKey>,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: UndoBody = if body.is_empty() { UndoBody::default() } else { read(&body)? };
    let id = run_id(&run)?;
    let old = restore(&*api.journal, &id).await?;
    let by = caller.name().to_owned();
    let mut request = RunRequest::undo(&old, by).map_err(|error| refused(&error))?;
    let steps = request.plan.steps().iter();
    let steps = steps.map(|step| UndoStep {
        id: step.id.clone(),
        kind: step.kind.clone(),
        undoes: step.undoes.clone(),
    });
    let said = RunBegun { steps: Some(steps.collect()), ..RunBegun::default() };
    if body.dry_run {
        return Ok(Json(said).into_response());
    }
    if !body.once_more
        && let Some(earlier) = api.taken_back(&old, &key).await?
    {
        let detail = format!("run {earlier} takes it back already");
        return Err(Problem::new(StatusCode::CONFLICT, "undone", "it is taken back", detail)
            .hint("`once_more` takes it back all the same"));
    }
    request.workspace = api.workspace_again(&old, body.archive).await?;
    caller.record(AuditAction::RunUndo, id.to_string(), None, Map::new()).await?;
    api.begin(key, request, said).await
}

impl FileRequests {
    fn compiled(&self, file: File) -> Result<Plan, Problem> {
        if file.text.len() > MAX_SOURCE_BYTES {
            return Err(Problem::bad_request(format!(
                "the file has more than {MAX_SOURCE_BYTES} bytes"
            )));
        }
        let name: String = file.name.chars().take(200).collect();
        let compiled = compile(&Source::new(name, file.text), &self.catalog);
        compiled.map(|compiled| compiled.plan).map_err(|findings| {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let errors = findings.to_string().lines().map(str::to_owned).collect();
            let detail = "the pipeline file has findings";
            Problem::new(status, "pipeline", "the file is no pipeline", detail)
                .errors(errors)
                .hint("`fairlead lint FILE` shows where they are")
        })
    }

    /// The archive as a workspace, when it is there.
    async fn workspace(&self, archive: Option<Digest>) -> Result<Option<Workspace>, Problem> {
        let Some(digest) = archive else { return Ok(None) };
        drop(self.artifacts.read(&digest).await.map_err(artifacts::problem)?);
        Ok(Some(Workspace::Archive { digest }))
    }

    /// What a run works on that begins from another one.
    async fn workspace_again(
        &self,
        old: &Run,
        archive: Option<Digest>,
    ) -> Result<Workspace, Problem> {
        let workspace = match self.workspace(archive).await? {
            None => old.request().workspace.clone(),
            Some(_) if self.pipelines.get().get(old.plan().name()).is_some() => {
                return Err(not_of_clients(old));
            }
            Some(workspace) => workspace,
        };
        if let Workspace::Local { path } = &workspace {
            let detail = format!("it worked in {}, a folder of the command line", path.display());
            let status = StatusCode::CONFLICT;
            return Err(Problem::new(status, "local", "the run is of a machine", detail)
                .hint("`fairlead retry` on that machine makes it again"));
        }
        Ok(workspace)
    }

    /// A run is made again by another file only where that is the server's own, or its pipeline came from
    /// a client.
    fn check_replan(&self, old: &Run, plan: &Plan) -> Result<(), Problem> {
        let pipelines = self.pipelines.get();
        let of = |name: &str| pipelines.get(name).map(|known| known.plan.source_digest());
        match (of(old.plan().name()), of(plan.name())) {
            (None, None) => Ok(()),
            (_, Some(known)) if known == plan.source_digest() => Ok(()),
            (Some(_), _) | (None, Some(_)) => Err(not_of_clients(old)),
        }
    }

    /// A run that takes `old` back already, unless this very request asked for it.
    async fn taken_back(&self, old: &Run, key: &RequestKey) -> Result<Option<RunId>, Problem> {
        let filter =
            RunFilter { origin: Some(old.id().clone()), limit: 100, ..RunFilter::default() };
        let ours = key.0.as_ref().map(|shown| &shown.run);
        for summary in self.journal.list(filter).await? {
            if ours == Some(&summary.id) {
                continue;
            }
            let state = restore(&*self.journal, &summary.id).await?;
            if state.takes_back() {
                return Ok(Some(summary.id));
            }
        }
        Ok(None)
    }

    /// Creates the run, or finds the one that the same request made, and answers it.
    async fn begin(
        &self,
        RequestKey(shown): RequestKey,
        mut request: RunRequest,
        said: RunBegun,
    ) -> Result<Response, Problem> {
        let plan = Arc::clone(&request.plan);
        if !plan.params().unresolved(&request.params).is_empty() {
            let images = &*self.images;
            let resolved = resolve_images(images, &plan, &mut request.params, self.registry).await;
            resolved.map_err(|problems| {
                let errors = problems.iter().map(ToString::to_string).collect();
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let detail = format!("the images of `{}` cannot be resolved", plan.name());
                Problem::new(status, "image", "an image cannot be resolved", detail).errors(errors)
            })?;
        }
        let requested =
            self.starter.begin(shown.map(|shown| shown.run), request).await.map_err(not_begun)?;
        let (run, status) = match requested {
            Requested::New(run) => (run, StatusCode::CREATED),
            Requested::Already(run) => (run, StatusCode::OK),
        };
        let said = RunBegun {
            pipeline: Some(plan.name().to_owned()),
            href: Some(format!("/api/v1/runs/{run}")),
            run: Some(run),
            ..said
        };
        Ok((status, Json(said)).into_response())
    }
}

fn not_of_clients(old: &Run) -> Problem {
    let name = old.plan().name();
    let detail =
        format!("`{name}` is a pipeline of this server: its runs are made again by its own file");
    Problem::new(StatusCode::FORBIDDEN, "not-of-clients", "that is the server's to say", detail)
        .hint("change the pipeline where the server has it from")
}

fn refused(error: &RerunError) -> Problem {
    let status = StatusCode::CONFLICT;
    Problem::new(status, "not-now", "the run cannot be begun from", error.to_string())
}

fn not_begun(error: RequestError) -> Problem {
    if let RequestError::Store(error) = error {
        return error.into();
    }
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "no-run", "there cannot be such a run", error_chain(&error))
}
