//! A run as its journal has it, for clients that make the run of it themselves.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use fairlead_run::RunFilter;
use fairlead_step::StepId;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::runs::{RunsApi, run_id};

/// The journal in its exported form, a line each.
pub(crate) async fn export(
    State(api): State<RunsApi>,
    Path(run): Path<String>,
) -> Result<Response, Problem> {
    let stored = api.journal.load(&run_id(&run)?).await?;
    let text = stored.export().map_err(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "journal", "the journal has no JSON form", error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// The attempts of a run that have logs.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogList {
    logs: Vec<LoggedAttempt>,
}

/// An attempt that has a log.
#[derive(Serialize, ToSchema)]
struct LoggedAttempt {
    #[schema(value_type = String)]
    step: StepId,
    attempt: u32,
}

/// Which attempts have logs.
pub(crate) async fn logs(
    State(api): State<RunsApi>,
    Path(run): Path<String>,
) -> Result<Json<LogList>, Problem> {
    let run = run_id(&run)?;
    let this = RunFilter { run: Some(run.clone()), limit: 1, ..RunFilter::default() };
    if api.journal.list(this).await?.is_empty() {
        return Err(Problem::missing(format!("there is no run {run}")));
    }
    let logs = api.logs.logs_of(&run).await?;
    let logs = logs.into_iter().map(|log| LoggedAttempt { step: log.step, attempt: log.attempt });
    Ok(Json(LogList { logs: logs.collect() }))
}
