//! `fairlead approve`, `reject`, `settle`, `cancel` and `abandon`: what people have to say to a run.

use std::path::Path;

use fairlead_exec::{DriveError, Engine, MAX_OUTPUT_BYTES, Noted};
use fairlead_run::{
    ApplyError, AuditAction, CancelReason, Decision, Groups, LeaseError, Run, Signal, StepStatus,
    StoreError, Vote, Voter,
};
use fairlead_step::{RunId, StepId};
use fairlead_store::Store;

use super::{Context, audit, drive, load, named_run};
use crate::cli::{CancelArgs, SettleArgs, VoteArgs, WhoArgs};
use crate::exit::{Exit, Stop};
use crate::forges::ForgeLogins;
use crate::projects::Permits;

/// The most bytes of a file with groups.
const MAX_GROUPS: u64 = 1 << 20;

pub(crate) async fn vote(context: &Context<'_>, args: VoteArgs, vote: Vote) -> Result<Exit, Stop> {
    let by = voter(&args.who)?;
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let (_, state) = load(&*store.journal(), &run).await?;
    // It is looked at here for a clear answer, and again where it is written down.
    let now = context.settings.clock.now();
    state.check_vote_at(&args.step, &by, vote, now).map_err(|e| refused(&state, &e))?;
    let action = match vote {
        Vote::Approve => AuditAction::StepApprove,
        Vote::Reject => AuditAction::StepReject,
    };
    let target = format!("{run}/{}", args.step);
    let reason = told(context, &store, action, &target, &by.name, args.reason).await?;
    let signal = Signal::Vote { step: args.step.clone(), by: by.clone(), vote, reason };
    let said = format!("{} at `{}` by {}", vote, args.step, by.name);
    say(context, store, &run, signal, said, Some(&args.step)).await
}

pub(crate) async fn settle(context: &Context<'_>, args: SettleArgs) -> Result<Exit, Stop> {
    let by = voter(&args.who)?;
    let decision = match (args.passed, args.again) {
        (true, _) => {
            let text = args.outputs.as_deref().unwrap_or("{}");
            if text.len() > MAX_OUTPUT_BYTES {
                return Err(Stop::usage(format!(
                    "`--outputs` has {} bytes, and at most {MAX_OUTPUT_BYTES} are kept",
                    text.len()
                )));
            }
            let outputs: serde_json::Value = serde_json::from_str(text)
                .map_err(|e| Stop::usage("`--outputs` is no JSON").because(&e))?;
            if !outputs.is_object() {
                return Err(Stop::usage("`--outputs` is no JSON object")
                    .hint("write the outputs by name, such as `{\"tag\": \"v1\"}`"));
            }
            Decision::Passed { outputs }
        }
        (false, true) => Decision::Again,
        (false, false) => Decision::Failed,
    };
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let (_, state) = load(&*store.journal(), &run).await?;
    let attempt = match state.step(&args.step).map(|step| step.status()) {
        Some(StepStatus::NeedsAttention { attempt }) => attempt,
        Some(_) | None => {
            let error = state.check_settle(&args.step, 1).err();
            return Err(error.map_or_else(
                || Stop::usage(format!("`{}` asks for no decision", args.step)),
                |error| refused(&state, &error),
            ));
        }
    };
    let step = args.step.clone();
    let said = format!("`{step}` settled as {decision} by {}", by.name);
    let target = format!("{run}/{step}");
    let action = AuditAction::StepSettle;
    let reason = told(context, &store, action, &target, &by.name, args.reason).await?;
    let signal = Signal::Settle { step, attempt, by, decision, reason };
    say(context, store, &run, signal, said, Some(&args.step)).await
}

pub(crate) async fn cancel(context: &Context<'_>, args: CancelArgs) -> Result<Exit, Stop> {
    let by = voter(&args.who)?.name;
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    // A run that cannot be read can be told to stop all the same.
    if let Ok((_, state)) = load(&*store.journal(), &run).await
        && !state.can_cancel()
    {
        return Err(Stop::usage(match state.ended() {
            Some((outcome, _)) => format!("run {run} has ended: {outcome}"),
            None => format!("run {run} is stopping, and there is nothing more to stop"),
        }));
    }
    let (action, target) = (AuditAction::RunCancel, run.to_string());
    let why = told(context, &store, action, &target, &by, args.reason).await?;
    let signal = Signal::Cancel { by, reason: CancelReason::Asked { why } };
    say(context, store, &run, signal, "told to stop".to_owned(), None).await
}

pub(crate) async fn abandon(context: &Context<'_>, args: CancelArgs) -> Result<Exit, Stop> {
    let by = voter(&args.who)?.name;
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let engine = idle_engine(context, &store);
    let (action, target) = (AuditAction::RunAbandon, run.to_string());
    let reason = told(context, &store, action, &target, &by, args.reason).await?;
    let problem = engine.abandon(&run, by, reason).await.map_err(|error| match error {
        DriveError::Lease(LeaseError::Held { .. }) => Stop::usage(error.to_string()).hint(format!(
            "`fairlead cancel {run}` tells it to stop; a process that does not stop has to be ended \
             first"
        )),
        DriveError::Store(StoreError::RunEnded { .. }) => Stop::usage(error.to_string()),
        DriveError::Lease(_)
        | DriveError::Store(_)
        | DriveError::Replay { .. }
        | DriveError::Dispatch(_)
        | _ => Stop::of(&error),
    })?;
    if let Some(problem) = problem {
        context.output.say(format!("run {run} could not be driven: {problem}"));
    }
    context.output.say(format!("run {run}: abandoned; it is cancelled"));
    store.close().await;
    Ok(Exit::Passed)
}

/// An engine that takes signals and makes no attempt.
fn idle_engine(context: &Context<'_>, store: &Store) -> Engine {
    let permits = Permits::open();
    let access = context.forge_access(ForgeLogins::default(), permits.egress.clone());
    context.engine(
        store,
        None,
        None,
        Vec::new(),
        permits,
        context.workspaces(context.fetcher(store, access)),
    )
}

/// Writes down what somebody is about to say to a run, and answers the reason as the run has it: it tells
/// who spoke, where that is not who it is said to be.
async fn told(
    context: &Context<'_>,
    store: &Store,
    action: AuditAction,
    target: &str,
    by: &str,
    reason: Option<String>,
) -> Result<Option<String>, Stop> {
    let detail = reason.iter().map(|reason| ("reason".to_owned(), reason.as_str().into()));
    audit::record(context, store, action, target, Some(by), detail.collect()).await?;
    let person = drive::person();
    if by == person {
        return Ok(reason);
    }
    let spoke = format!("{person} on behalf of {by}");
    Ok(Some(match reason {
        Some(reason) => format!("{spoke}: {reason}"),
        None => spoke,
    }))
}

/// Posts a signal, and says what became of it.
async fn say(
    context: &Context<'_>,
    store: Store,
    run: &RunId,
    signal: Signal,
    said: String,
    step: Option<&StepId>,
) -> Result<Exit, Stop> {
    let engine = idle_engine(context, &store);
    let noted = Box::pin(engine.signal(run, signal)).await.map_err(|e| Stop::of(&e))?;
    let output = context.output;
    match noted {
        Noted::ByDriver => {
            output.say(format!("run {run}: {said}; the process that drives it goes on"));
        }
        Noted::Ended(problem) => {
            output.say(format!("run {run} could not be driven: {problem}"));
            output.say(format!("run {run}: {said}; it is cancelled"));
        }
        Noted::Left(problem) => {
            output.say(format!("run {run} is not for this build: {problem}"));
            output.say(format!(
                "run {run}: {said}, as soon as such a build takes it up; `fairlead abandon {run}` ends \
                 it at once"
            ));
        }
        Noted::Taken(state) => {
            let now = match step.and_then(|step| state.step(step)) {
                Some(view) => format!("`{}` is {}", view.id(), view.status().name()),
                None => format!("the run is {}", state.status()),
            };
            output.say(format!("run {run}: {said}; {now}"));
            if state.ended().is_none() && !state.only_waits() {
                output.say(format!(
                    "a server that uses this store goes on with it, or `fairlead resume {run}`"
                ));
            }
        }
    }
    store.close().await;
    Ok(Exit::Passed)
}

fn refused(run: &Run, error: &ApplyError) -> Stop {
    Stop::usage(error.to_string())
        .hint(format!("`fairlead explain {}` says what the run waits for", run.id()))
}

/// Who speaks, with the groups that the file gives them.
fn voter(who: &WhoArgs) -> Result<Voter, Stop> {
    let name = who.name.clone().unwrap_or_else(drive::person);
    Ok(groups(who.groups.as_deref())?.voter(name))
}

/// The groups in a file; none without one.
pub(crate) fn groups(path: Option<&Path>) -> Result<Groups, Stop> {
    let Some(path) = path else { return Ok(Groups::default()) };
    let text = crate::load::text(path, MAX_GROUPS)?;
    serde_saphyr::from_str(&text).map_err(|e| {
        Stop::usage(format!("{} is no list of groups", path.display()))
            .because(&e)
            .hint("write `GROUP: [USER, USER]`, a line for each group")
    })
}
