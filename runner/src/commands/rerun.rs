//! `fairlead retry` and `fairlead undo`: runs that begin from another one.

use std::path::Path;
use std::sync::Arc;

use fairlead_exec::RunRequest;
use fairlead_plan::ParamProblem;
use fairlead_run::{AuditAction, Origin, RerunError, Run, RunFilter, RunStatus};
use fairlead_step::{RunId, Workspace};
use fairlead_store::Store;
use serde_json::Map;

use super::{Context, audit, drive, load, named_run};
use crate::cli::{RetryArgs, UndoArgs};
use crate::exit::{Exit, Stop};

pub(crate) async fn retry(context: &Context<'_>, args: RetryArgs) -> Result<Exit, Stop> {
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let (_, old) = load(&*store.journal(), &run).await?;
    let replan = match &args.replan {
        None => None,
        Some(file) => {
            let plan = crate::load::plan(file, &context.catalog, context.output)?;
            let params = old.params_for(&plan).map_err(|problems| unfit(&problems))?;
            Some((Arc::new(plan), params))
        }
    };
    let by = args.drive.name.clone().unwrap_or_else(drive::person);
    let mut request =
        RunRequest::retry(&old, &args.from, replan, by).map_err(|error| refused(&run, &error))?;
    request.workspace = place(&run, &old, args.workspace.as_deref())?;
    if let Some(Origin { kept, .. }) = &request.origin {
        let names: Vec<&str> = kept.iter().map(|kept| kept.step.as_str()).collect();
        context.output.say(match names.as_slice() {
            [] => format!("nothing of run {run} is kept"),
            names => format!("kept of run {run}: {}", names.join(", ")),
        });
    }
    let (action, by) = (AuditAction::RunRetry, request.by.clone());
    audit::record(context, &store, action, run.as_str(), Some(&by), Map::new()).await?;
    Ok(drive::request_and_drive_in(context, store, request, args.drive).await?.0)
}

fn unfit(problems: &[ParamProblem]) -> Stop {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Stop::usage(format!("the parameters do not fit the new plan: {}", lines.join("; ")))
}

pub(crate) async fn undo(context: &Context<'_>, args: UndoArgs) -> Result<Exit, Stop> {
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let (_, old) = load(&*store.journal(), &run).await?;
    let by = args.drive.name.clone().unwrap_or_else(drive::person);
    let mut request = RunRequest::undo(&old, by).map_err(|error| refused(&run, &error))?;
    let output = context.output;
    output.say(format!("to take back run {run}, in this order:"));
    for step in request.plan.steps() {
        let of = step.undoes.as_ref().map_or(String::new(), |of| format!(" takes back `{of}`"));
        output.data(format!("  {} ({}){of}", step.id, step.kind));
    }
    if args.dry_run {
        output.say("nothing was done; without `--dry-run` it is");
        return Ok(Exit::Passed);
    }
    if !args.once_more
        && let Some((earlier, status)) = taken_back(&store, &run).await?
    {
        return Err(Stop::usage(format!("run {earlier} takes it back already: it is {status}"))
            .hint("`--once-more` takes it back all the same"));
    }
    request.workspace = place(&run, &old, args.workspace.as_deref())?;
    let (action, by) = (AuditAction::RunUndo, request.by.clone());
    audit::record(context, &store, action, run.as_str(), Some(&by), Map::new()).await?;
    Ok(drive::request_and_drive_in(context, store, request, args.drive).await?.0)
}

/// What the new run works on: the folder that is named, or what the old run worked on. A folder of this
/// machine is not anything that could be made again.
fn place(run: &RunId, old: &Run, named: Option<&Path>) -> Result<Workspace, Stop> {
    if let Some(named) = named {
        return drive::local(named);
    }
    let workspace = &old.request().workspace;
    match workspace {
        Workspace::Local { path } if !path.is_dir() => {
            let folder = path.display();
            Err(Stop::usage(format!("the folder {folder}, in which run {run} worked, is gone"))
                .hint("put it back, or name another one with the same files: `--workspace DIR`"))
        }
        Workspace::Local { .. }
        | Workspace::Empty {}
        | Workspace::Git(_)
        | Workspace::Archive { .. } => Ok(workspace.clone()),
    }
}

/// A run that has taken `run` back, or is about to.
async fn taken_back(store: &Store, run: &RunId) -> Result<Option<(RunId, RunStatus)>, Stop> {
    let filter = RunFilter { origin: Some(run.clone()), limit: 100, ..RunFilter::default() };
    let later = store.journal().list(filter).await.map_err(|e| Stop::of(&e))?;
    for summary in later {
        let (_, state) = load(&*store.journal(), &summary.id).await?;
        if state.takes_back() {
            return Ok(Some((summary.id, summary.status)));
        }
    }
    Ok(None)
}

fn refused(run: &RunId, error: &RerunError) -> Stop {
    let stop = Stop::usage(error.to_string());
    match error {
        RerunError::NotEnded { .. } => stop.hint(format!(
            "`fairlead resume {run}` goes on with it, `fairlead cancel {run}` ends it"
        )),
        RerunError::NothingLeft { .. } => {
            stop.hint("`--from STEP` makes a step again although it passed")
        }
        RerunError::NoSuchStep { .. } => stop.hint(format!("`fairlead show {run}` has its steps")),
        RerunError::NotMain { .. }
        | RerunError::NothingToUndo { .. }
        | RerunError::IsUndo { .. }
        | _ => stop,
    }
}
