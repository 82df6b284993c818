//! The runs: the list, one of them, its logs, and telling it to stop.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use fairlead_run::{Journal, LogKey, LogLine, LogStore, Run, RunFilter, RunSummary, StepView};
use fairlead_step::{Digest, RunId, StepId, Stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only this run.
    #[serde(default)]
    run: Option<String>,
    /// Only runs of this pipeline.
    #[serde(default)]
    pipeline: Option<String>,
    /// Only runs that have not ended.
    #[serde(default)]
    unfinished: bool,
    /// Only runs that make this one again or take it back.
    #[serde(default)]
    origin: Option<String>,
    /// Only runs that are older than this one: `next` of the page before.
    #[serde(default)]
    before: Option<String>,
    /// How many a page has: 50 when nothing is said, at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of runs, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunPage {
    runs: Vec<RunLine>,
    /// What to ask for as `before` for the next page; null when there is none.
    #[schema(value_type = Option<String>)]
    next: Option<RunId>,
}

/// A run, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RunLine {
    #[schema(value_type = String)]
    pub(crate) run: RunId,
    pipeline: String,
    /// `queued`, `running`, `waiting`, `needs-attention`, `cancelling`, or how it ended: `passed`, `rejected`,
    /// `failed`, `cancelled`.
    status: &'static str,
    /// Who asked for it.
    by: String,
    requested_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// Whether a live process drives it.
    driven: bool,
    /// The concurrency group whose turns it waits for.
    group: Option<String>,
    /// The run that it makes again or takes back.
    #[schema(value_type = Option<String>)]
    origin: Option<RunId>,
    /// When it is looked at again, where it only waits and time matters to it.
    wake_at: Option<Timestamp>,
}

impl From<&RunSummary> for RunLine {
    fn from(run: &RunSummary) -> Self {
        Self {
            run: run.id.clone(),
            pipeline: run.pipeline.clone(),
            status: run.status.name(),
            by: run.by.clone(),
            requested_at: run.requested_at,
            ended_at: run.ended_at,
            driven: run.held,
            group: run.group.clone(),
            origin: run.origin.clone(),
            wake_at: run.wake_at,
        }
    }
}

/// A run, whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunShown {
    #[schema(value_type = String)]
    run: RunId,
    pipeline: String,
    /// The digest of the plan that it is pinned to.
    #[schema(value_type = String)]
    plan: Digest,
    /// The file that its pipeline comes from; of one of a repository with its commit.
    source: String,
    status: &'static str,
    by: String,
    /// Its parameters, by name.
    params: Value,
    /// What expressions see as `event`.
    event: Value,
    /// The id of the event that started it.
    event_id: Option<String>,
    requested_at: Timestamp,
    ended_at: Option<Timestamp>,
    wake_at: Option<Timestamp>,
    group: Option<String>,
    origin: Option<OriginShown>,
    queued: Option<QueueShown>,
    /// How it ended.
    outcome: Option<&'static str>,
    /// How many records its journal has.
    records: u64,
    /// The hash of the last one.
    head: String,
    steps: Vec<StepShown>,
}

/// The run that another one begins from.
#[derive(Serialize, ToSchema)]
struct OriginShown {
    #[schema(value_type = String)]
    run: RunId,
    /// `retry` or `undo`.
    purpose: String,
    /// The steps from which it is made again.
    #[schema(value_type = Vec<String>)]
    from: Vec<StepId>,
}

/// What a run waits for that has not got its turn.
#[derive(Serialize, ToSchema)]
struct QueueShown {
    group: Option<String>,
    #[schema(value_type = Option<String>)]
    behind: Option<RunId>,
    since: Timestamp,
}

/// A step of a run.
#[derive(Serialize, ToSchema)]
struct StepShown {
    #[schema(value_type = String)]
    id: StepId,
    /// The kind of step, or the word for a gate.
    kind: String,
    /// What it is made for, of a `for_each`.
    item: Option<Value>,
    item_key: Option<String>,
    /// The gate, where it is one.
    gate: Option<Value>,
    due: Option<Timestamp>,
    approvals: Vec<ApprovalShown>,
    status: &'static str,
    reason: Option<String>,
    hint: Option<String>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    outputs: Option<Value>,
    attempts: Vec<AttemptShown>,
}

/// A vote for a gate.
#[derive(Serialize, ToSchema)]
struct ApprovalShown {
    by: String,
    at: Timestamp,
    reason: Option<String>,
}

/// An attempt at a step.
#[derive(Serialize, ToSchema)]
struct AttemptShown {
    number: u32,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// How it ended, for people.
    end: Option<String>,
}

/// A part of the log of an attempt.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogShown {
    /// Null when the step has said nothing yet.
    attempt: Option<u32>,
    lines: Vec<LineShown>,
    /// What to ask for as `from` for what follows.
    next: u64,
    /// Whether nothing more had been said.
    at_end: bool,
}

/// A line of a log.
#[derive(Serialize, ToSchema)]
struct LineShown {
    at: Timestamp,
    /// `stdout`, `stderr` or `step`.
    stream: &'static str,
    text: String,
}

pub(crate) async fn list(
    State(api): State<RunsApi>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<RunPage>, Problem> {
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
    Ok(Json(RunPage { runs: seen.iter().map(RunLine::from).collect(), next }))
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
) -> Result<Json<RunShown>, Problem> {
    let run = restore(&*api.journal, &run_id(&run)?).await?;
    let request = run.request();
    let ended = run.ended();
    Ok(Json(RunShown {
        run: run.id().clone(),
        pipeline: request.pipeline.clone(),
        plan: request.plan.clone(),
        source: run.plan().source_name().to_owned(),
        status: run.status().name(),
        by: request.by.clone(),
        params: request.params.clone(),
        event: request.event.clone(),
        event_id: request.event_id.clone(),
        requested_at: run.requested_at(),
        ended_at: ended.map(|(_, at)| at),
        wake_at: run.wakes_at().filter(|_| run.only_waits()),
        group: request.group.clone(),
        origin: request.origin.as_ref().map(|origin| OriginShown {
            run: origin.run.clone(),
            purpose: origin.purpose.to_string(),
            from: origin.from.clone(),
        }),
        queued: run.queued().map(|queue| QueueShown {
            group: queue.group.clone(),
            behind: queue.behind.clone(),
            since: queue.since,
        }),
        outcome: ended.map(|(outcome, _)| outcome.name()),
        records: run.seq().0,
        head: run.head().to_string(),
        steps: run.steps().map(|step| show_step(&step)).collect(),
    }))
}

fn show_step(step: &StepView<'_>) -> StepShown {
    let attempts = step.attempts().iter().map(|attempt| {
        let ended = attempt.ended.as_ref();
        AttemptShown {
            number: attempt.number,
            started_at: attempt.started_at,
            ended_at: ended.map(|(at, _)| *at),
            end: ended.map(|(_, end)| end.to_string()),
        }
    });
    let approvals = step.ballots().iter().map(|ballot| ApprovalShown {
        by: ballot.by.name.clone(),
        at: ballot.at,
        reason: ballot.reason.clone(),
    });
    StepShown {
        id: step.id().clone(),
        kind: step.plan().kind.clone(),
        item: step.item().map(|item| item.value.clone()),
        item_key: step.item().map(|item| item.key.clone()),
        gate: step.gate().and_then(|gate| serde_json::to_value(gate).ok()),
        due: step.due(),
        approvals: approvals.collect(),
        status: step.status().name(),
        reason: step.reason(),
        hint: step.hint().map(str::to_owned),
        started_at: step.started_at(),
        ended_at: step.ended_at(),
        outputs: step.outputs().cloned(),
        attempts: attempts.collect(),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// The number of the attempt; the last one when it is not given.
    #[serde(default)]
    attempt: Option<u32>,
    /// The place to begin at: `next` of the part before.
    #[serde(default)]
    from: u64,
    /// How many bytes a part has: 262144 when nothing is said, at most 4194304.
    #[serde(default)]
    max_bytes: Option<usize>,
}

pub(crate) async fn log(
    State(api): State<RunsApi>,
    Path((run, step)): Path<(String, String)>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<LogShown>, Problem> {
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
        return Ok(Json(LogShown { attempt: None, lines: Vec::new(), next: 0, at_end: true }));
    };
    let key = LogKey { run, step, attempt };
    let bytes = query.max_bytes.unwrap_or(LOG_PAGE).clamp(1, MAX_LOG_PAGE);
    let page = api.logs.read(&key, query.from, bytes).await?;
    let line =
        |line: LogLine| LineShown { at: line.at, stream: stream(line.stream), text: line.text };
    let lines = page.lines.into_iter().map(line).collect();
    Ok(Json(LogShown { attempt: Some(attempt), lines, next: page.next, at_end: page.at_end }))
}

pub(crate) const fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Step => "step",
    }
}
