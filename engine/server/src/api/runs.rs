//! The runs: the list, one of them, its logs, and telling it to stop.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use fairlead_run::{Journal, LogKey, LogStore, Run, RunFilter, RunSummary, StepView};
use fairlead_step::{RunId, StepId, Stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::identity::Caller;

/// What the runs are looked up in.
#[derive(Clone)]
pub(crate) struct RunsApi {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) logs: Arc<dyn LogStore>,
}

/// How many runs a page has when nobody says.
const PAGE: usize = 50;
/// How many pages of runs are looked through for one of those that the caller may look at.
const PAGES: usize = 20;
/// How many bytes of a log a page has when nobody says, and at most.
const LOG_PAGE: usize = 256 << 10;
const MAX_LOG_PAGE: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only this one.
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    pipeline: Option<String>,
    #[serde(default)]
    unfinished: bool,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(api): State<RunsApi>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, RunFilter::MOST);
    let before = query.before.as_deref().map(run_id).transpose()?;
    let mut filter = RunFilter {
        run: query.run.as_deref().map(run_id).transpose()?,
        pipeline: query.pipeline,
        unfinished: query.unfinished,
        ended_since: None,
        origin: query.origin.as_deref().map(run_id).transpose()?,
        before,
        limit,
    };
    let (mut seen, mut next) = (Vec::new(), None);
    for _ in 0..PAGES {
        let page = api.journal.list(filter.clone()).await?;
        let is_full = page.len() == filter.limit;
        next = is_full.then(|| page.last().map(|run| run.id.clone())).flatten();
        seen.extend(page.into_iter().filter(|run| caller.sees(&run.pipeline)));
        // What the caller may not look at makes a page shorter, so that more is looked up.
        if next.is_none() || seen.len() == limit {
            break;
        }
        filter.limit = limit - seen.len();
        filter.before = next.clone();
    }
    let runs: Vec<Value> = seen.iter().map(summary).collect();
    Ok(Json(json!({ "runs": runs, "next": next })))
}

fn summary(run: &RunSummary) -> Value {
    json!({
        "run": run.id,
        "pipeline": run.pipeline,
        "status": run.status.name(),
        "by": run.by,
        "requested_at": run.requested_at,
        "ended_at": run.ended_at,
        "driven": run.held,
        "group": run.group,
        "origin": run.origin,
        "wake_at": run.wake_at,
    })
}

pub(crate) fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|e: fairlead_step::IdError| Problem::bad_request(e.to_string()))
}

/// A run, restored from its journal.
pub(crate) async fn restore(journal: &dyn Journal, run: &RunId) -> Result<Run, Problem> {
    let stored = journal.load(run).await?;
    Run::restore(&stored).map_err(|error| {
        tracing::error!(%run, "the journal does not make a run: {error}");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "journal", "the journal is damaged", error.to_string())
    })
}

pub(crate) async fn show(
    State(api): State<RunsApi>,
    Path(run): Path<String>,
) -> Result<Json<Value>, Problem> {
    let run = restore(&*api.journal, &run_id(&run)?).await?;
    let request = run.request();
    let ended = run.ended();
    let steps: Vec<Value> = run.steps().map(|step| show_step(&step)).collect();
    Ok(Json(json!({
        "run": run.id(),
        "pipeline": request.pipeline,
        "plan": request.plan,
        "status": run.status().name(),
        "by": request.by,
        "params": request.params,
        "event": request.event,
        "event_id": request.event_id,
        "requested_at": run.requested_at(),
        "ended_at": ended.map(|(_, at)| at),
        "wake_at": run.wakes_at().filter(|_| run.only_waits()),
        "group": request.group,
        "origin": request.origin.as_ref().map(|origin| json!({
            "run": origin.run, "purpose": origin.purpose.to_string(), "from": origin.from,
        })),
        "queued": run.queued().map(|queue| json!({
            "group": queue.group, "behind": queue.behind, "since": queue.since,
        })),
        "outcome": ended.map(|(outcome, _)| outcome.name()),
        "records": run.seq().0,
        "head": run.head().to_string(),
        "steps": steps,
    })))
}

fn show_step(step: &StepView<'_>) -> Value {
    let attempts = step.attempts().iter().map(|attempt| {
        let ended = attempt.ended.as_ref();
        json!({
            "number": attempt.number,
            "started_at": attempt.started_at,
            "ended_at": ended.map(|(at, _)| at),
            "end": ended.map(|(_, end)| end.to_string()),
        })
    });
    json!({
        "id": step.id(),
        "kind": step.plan().kind,
        "item": step.item().map(|item| &item.value),
        "item_key": step.item().map(|item| &item.key),
        "gate": step.gate(),
        "due": step.due(),
        "approvals": step.ballots().iter().map(|ballot| json!({
            "by": ballot.by.name, "at": ballot.at, "reason": ballot.reason,
        })).collect::<Vec<_>>(),
        "status": step.status().name(),
        "reason": step.reason(),
        "hint": step.hint(),
        "started_at": step.started_at(),
        "ended_at": step.ended_at(),
        "outputs": step.outputs(),
        "attempts": attempts.collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// The last one when it is not given.
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    max_bytes: Option<usize>,
}

pub(crate) async fn log(
    State(api): State<RunsApi>,
    Path((run, step)): Path<(String, String)>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let run = run_id(&run)?;
    let step: StepId =
        step.parse().map_err(|e: fairlead_step::IdError| Problem::bad_request(e.to_string()))?;
    let logs = api.logs.logs_of(&run).await?;
    let last = logs.iter().filter(|log| log.step == step).map(|log| log.attempt).max();
    let Some(attempt) = query.attempt.or(last) else {
        // A step that has said nothing has no log; a step that is not there has none either.
        let restored = restore(&*api.journal, &run).await?;
        if restored.step(&step).is_none() {
            return Err(Problem::missing(format!("run {run} has no step `{step}`")));
        }
        return Ok(Json(json!({ "attempt": null, "lines": [], "next": 0, "at_end": true })));
    };
    let key = LogKey { run, step, attempt };
    let bytes = query.max_bytes.unwrap_or(LOG_PAGE).clamp(1, MAX_LOG_PAGE);
    let page = api.logs.read(&key, query.from, bytes).await?;
    let lines = page
        .lines
        .iter()
        .map(|line| json!({ "at": line.at, "stream": stream(line.stream), "text": line.text }));
    Ok(Json(json!({
        "attempt": attempt,
        "lines": lines.collect::<Vec<_>>(),
        "next": page.next,
        "at_end": page.at_end,
    })))
}

pub(crate) const fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Step => "step",
    }
}
