//! What people have to say to a run: votes at its gates, decisions about lost attempts, and to stop.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_exec::{DriveError, Engine, Noted};
use fairlead_plan::RunOutcome;
use fairlead_run::{
    ApplyError, Around, AuditAction, CancelReason, Decision, Journal, LeaseError, RunFilter,
    RunStatus, Signal, StepStatus, StoreError, Vote,
};
use fairlead_step::{Clock, RunId, StepId, error_chain};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::read;
use super::problem::Problem;
use super::runs::{restore, run_id};
use crate::identity::{Caller, InNameOf};
use crate::runs::Supervisor;

/// What decisions about runs go through.
#[derive(Clone)]
pub(crate) struct Decisions {
    pub(crate) engine: Engine,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A vote, or a word to stop.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WordBody {
    /// In whose name, where that is not the caller's own. It takes the leave to speak for others.
    #[serde(default)]
    by: Option<String>,
    /// Why, for people.
    #[serde(default)]
    reason: Option<String>,
}

/// A decision about a lost attempt.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettleBody {
    /// As for a vote.
    #[serde(default)]
    by: Option<String>,
    /// The attempt it is about; the one that waits when it is not given.
    #[serde(default)]
    attempt: Option<u32>,
    decision: Word,
    /// What the step would have given, where it took effect.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    outputs: Option<Value>,
    /// Why, for people.
    #[serde(default)]
    reason: Option<String>,
}

/// What is decided of a lost attempt.
#[derive(Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// It took effect.
    Passed,
    /// It did not, and the step has failed.
    Failed,
    /// It is made again.
    Again,
}

/// What became of what was said to a run.
#[derive(Serialize, ToSchema)]
pub(crate) struct Told {
    #[schema(value_type = String)]
    run: RunId,
    /// `told` when whoever drives the run deals with it; otherwise where the run is.
    status: &'static str,
    /// Why the run could not be driven, where it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Why a run is where it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes `Explanation`, which knows nothing of descriptions")]
pub(crate) struct ExplanationShown {
    run: String,
    status: String,
    /// The reasons, a sentence each.
    why: Vec<String>,
    /// What would let it go on; any one of them.
    unblocks: Vec<UnblockShown>,
    /// What a person types for those of them that a person can bring about, or look into.
    commands: Vec<String>,
    /// Its steps, in the order of the plan.
    steps: Vec<StepExplanationShown>,
}

/// Why a step is where it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as for the run")]
struct StepExplanationShown {
    step: String,
    status: String,
    why: Vec<String>,
    unblocks: Vec<UnblockShown>,
    commands: Vec<String>,
}

/// Something that lets a run or a step go on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as for the run")]
struct UnblockShown {
    /// `approval`, `time`, `evidence`, `settlement`, `step-ends`, `run-ends`, `any-run-ends` or `resumption`;
    /// each has keys of its own.
    by: String,
    step: Option<String>,
    run: Option<String>,
    /// Of an approval: how many more.
    missing: Option<u32>,
    /// Of an approval: users and groups.
    from: Option<Vec<String>>,
    at: Option<Timestamp>,
    asks_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    attempt: Option<u32>,
}

pub(crate) async fn approve(
    State(api): State<Decisions>,
    Extension(caller): Extension<Caller>,
    Path(place): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    vote(&api, &caller, place, &body, Vote::Approve).await
}

pub(crate) async fn reject(
    State(api): State<Decisions>,
    Extension(caller): Extension<Caller>,
    Path(place): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    vote(&api, &caller, place, &body, Vote::Reject).await
}

async fn vote(
    api: &Decisions,
    caller: &Caller,
    (run, step): (String, String),
    body: &[u8],
    vote: Vote,
) -> Result<Response, Problem> {
    let (run, step) = (run_id(&run)?, step_id(&step)?);
    let WordBody { by, reason } = read(body)?;
    let by = in_name_of(caller, by)?;
    let state = restore(&*api.journal, &run).await?;
    let now = api.clock.now();
    state.check_vote_at(&step, &by.voter, vote, now).map_err(|error| refused(&error))?;
    let action = match vote {
        Vote::Approve => AuditAction::StepApprove,
        Vote::Reject => AuditAction::StepReject,
    };
    record(caller, action, format!("{run}/{step}"), &by, &reason).await?;
    let reason = by.reason(caller.subject(), reason);
    tell(api, &run, Signal::Vote { step, by: by.voter, vote, reason }).await
}

pub(crate) async fn settle(
    State(api): State<Decisions>,
    Extension(caller): Extension<Caller>,
    Path((run, step)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    let (run, step) = (run_id(&run)?, step_id(&step)?);
    let SettleBody { by, attempt: meant, decision, outputs, reason } = read(&body)?;
    let by = in_name_of(&caller, by)?;
    if outputs.is_some() && decision != Word::Passed {
        return Err(Problem::bad_request("`outputs` stand beside the decision `passed` alone"));
    }
    let outputs = outputs.unwrap_or_else(|| json!({}));
    if !outputs.is_object() {
        return Err(Problem::bad_request("`outputs` is no object"));
    }
    let decision = match decision {
        Word::Passed => Decision::Passed { outputs },
        Word::Failed => Decision::Failed,
        Word::Again => Decision::Again,
    };
    let state = restore(&*api.journal, &run).await?;
    let attempt = match state.step(&step).map(|step| step.status()) {
        Some(StepStatus::NeedsAttention { attempt }) => meant.unwrap_or(attempt),
        // Refused below, with the reason.
        Some(_) | None => 0,
    };
    state.check_settle(&step, attempt).map_err(|error| refused(&error))?;
    record(&caller, AuditAction::StepSettle, format!("{run}/{step}"), &by, &reason).await?;
    let reason = by.reason(caller.subject(), reason);
    tell(&api, &run, Signal::Settle { step, attempt, by: by.voter, decision, reason }).await
}

pub(crate) async fn cancel(
    State(api): State<Decisions>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let run = run_id(&run)?;
    let WordBody { by, reason } = if body.is_empty() { WordBody::default() } else { read(&body)? };
    let by = in_name_of(&caller, by)?;
    // A run that cannot be read can be told to stop all the same.
    if let Ok(state) = restore(&*api.journal, &run).await
        && !state.can_cancel()
    {
        return Err(not_possible(match state.ended() {
            Some((outcome, _)) => format!("the run has ended: {outcome}"),
            None => "everything that can be stopped is stopping".to_owned(),
        }));
    }
    record(&caller, AuditAction::RunCancel, run.to_string(), &by, &reason).await?;
    let why = by.reason(caller.subject(), reason);
    let by = by.voter.name;
    tell(&api, &run, Signal::Cancel { by, reason: CancelReason::Asked { why } }).await
}

/// Ends a run that nothing else can end.
pub(crate) async fn abandon(
    State(api): State<Decisions>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let run = run_id(&run)?;
    let WordBody { by, reason } = if body.is_empty() { WordBody::default() } else { read(&body)? };
    let by = in_name_of(&caller, by)?;
    record(&caller, AuditAction::RunAbandon, run.to_string(), &by, &reason).await?;
    let reason = by.reason(caller.subject(), reason);
    let problem = api.engine.abandon(&run, by.voter.name, reason).await.map_err(undone)?;
    // Whatever this server knows of it is looked at once more, and forgotten.
    api.supervisor.begin(run.clone());
    let status = RunStatus::Ended(RunOutcome::Cancelled).name();
    Ok(Json(Told { run, status, problem }).into_response())
}

fn not_possible(detail: String) -> Problem {
    let title = "the run cannot be told to stop";
    Problem::new(StatusCode::CONFLICT, "not-possible", title, detail)
}

/// Why an engine did not do what it was asked for a run.
fn undone(error: DriveError) -> Problem {
    match error {
        DriveError::Store(error @ StoreError::RunEnded { .. }) => not_possible(error.to_string()),
        DriveError::Lease(error @ LeaseError::Held { .. }) => not_possible(error.to_string())
            .hint("tell it to stop, or end the process that drives it"),
        DriveError::Store(error) | DriveError::Lease(LeaseError::Store(error)) => {
            Problem::from(error)
        }
        DriveError::Lease(_) | DriveError::Replay { .. } | DriveError::Dispatch(_) | _ => {
            Problem::unavailable(error_chain(&error))
        }
    }
}

pub(crate) async fn explain(
    State(api): State<Decisions>,
    Path(run): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = run_id(&run)?;
    let run = restore(&*api.journal, &id).await?;
    let signals = api.journal.signals(&id).await?.len();
    let this = RunFilter { run: Some(id), limit: 1, ..RunFilter::default() };
    let held = api.journal.list(this).await?.first().is_some_and(|run| run.held);
    let mut told = run.explain(Around { held, signals });
    told.wait_for_machines(&api.engine.why_waiting(&run));
    let told = serde_json::to_value(told);
    told.map(Json).map_err(|error| Problem::unavailable(error.to_string()))
}

/// Posts a signal. 200 when what became of it is written; 202 when whoever drives the run deals with
/// it.
async fn tell(api: &Decisions, run: &RunId, signal: Signal) -> Result<Response, Problem> {
    let noted = api.engine.signal(run, signal).await.map_err(undone)?;
    let ended = RunStatus::Ended(RunOutcome::Cancelled).name();
    let (status, now, problem) = match &noted {
        Noted::Taken(state) => (StatusCode::OK, state.status().name(), None),
        Noted::ByDriver => (StatusCode::ACCEPTED, "told", None),
        Noted::Ended(problem) => (StatusCode::OK, ended, Some(problem.clone())),
        Noted::Left(problem) => (StatusCode::ACCEPTED, "told", Some(problem.clone())),
    };
    match noted {
        // What follows from it is done here, unless another server is faster.
        Noted::Taken(_) | Noted::Ended(_) => api.supervisor.begin(run.clone()),
        Noted::ByDriver | Noted::Left(_) => {}
    }
    let answer = Told { run: run.clone(), status: now, problem };
    Ok((status, Json(answer)).into_response())
}

/// In whose name the caller speaks.
fn in_name_of(caller: &Caller, by: Option<String>) -> Result<InNameOf, Problem> {
    if by.as_ref().is_some_and(|by| by.trim().is_empty()) {
        return Err(Problem::bad_request("`by` names nobody"));
    }
    caller.in_name_of(by).ok_or_else(|| {
        let detail = format!("`{}` may not speak in the name of another", caller.name());
        let title = "this vote would be another's";
        Problem::new(StatusCode::FORBIDDEN, "in-name-of", title, detail)
            .hint("leave `by` out, or use a token that may speak for others")
    })
}

/// Writes down what is about to be done, once it is known that it can be.
async fn record(
    caller: &Caller,
    action: AuditAction,
    target: String,
    by: &InNameOf,
    reason: &Option<String>,
) -> Result<(), StoreError> {
    let reason = reason.iter().map(|reason| ("reason".to_owned(), reason.as_str().into()));
    caller.record(action, target, by.other.as_deref(), reason.collect()).await
}

fn step_id(text: &str) -> Result<StepId, Problem> {
    text.parse().map_err(|e: fairlead_step::IdError| Problem::bad_request(e.to_string()))
}

fn refused(error: &ApplyError) -> Problem {
    let said = error.to_string();
    if matches!(error, ApplyError::NoSuchStep { .. }) {
        return Problem::missing(said);
    }
    if matches!(error, ApplyError::MayNotVote { .. }) {
        let title = "this vote does not count";
        return Problem::new(StatusCode::FORBIDDEN, "may-not-vote", title, said);
    }
    // Whatever else stands in the way, it may be otherwise later.
    Problem::new(StatusCode::CONFLICT, "not-now", "the run does not ask for this now", said)
}
