//! `fairlead run` and `fairlead resume`: one run, driven to its end in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{
    DriveError, Driven, Engine, RequestError, Requested, RunRequest, SecretError, SecretsMissing,
    cancellation,
};
use fairlead_oci::Client;
use fairlead_plan::{Plan, RunOutcome};
use fairlead_run::{LeaseError, Run};
use fairlead_step::{RunId, StepId, Workspace};
use fairlead_store::Store;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::serve::Config;
use super::{Context, named_run, preflight, show};
use crate::cli::{DriveArgs, ResumeArgs, RunArgs};
use crate::exit::{Exit, Stop};
use crate::forges::ForgeLogins;
use crate::live::Live;
use crate::load;
use crate::output::Style;
use crate::projects::Permits;

pub(crate) async fn run(context: &Context<'_>, args: RunArgs) -> Result<Exit, Stop> {
    let plan = load::plan(&args.file, &context.catalog, context.output)?;
    let params = load::params(&plan, &args.set)?;
    let (event_id, event) = match &args.event {
        Some(path) => load::event(path).map(|(id, event)| (Some(id), event))?,
        None => (None, no_event()),
    };
    let request = RunRequest {
        plan: Arc::new(plan),
        params,
        event,
        event_id,
        started_by: None,
        by: args.drive.name.clone().unwrap_or_else(person),
        workspace: local(&args.workspace)?,
        origin: None,
    };
    Ok(request_and_drive(context, request, args.drive).await?.0)
}

/// Requests a run, drives it, and answers how it ended with its last state.
pub(crate) async fn request_and_drive(
    context: &Context<'_>,
    request: RunRequest,
    args: DriveArgs,
) -> Result<(Exit, Run), Stop> {
    let store = context.store().await?;
    request_and_drive_in(context, store, request, args).await
}

/// The same, in a store that is open already.
pub(crate) async fn request_and_drive_in(
    context: &Context<'_>,
    store: Store,
    mut request: RunRequest,
    args: DriveArgs,
) -> Result<(Exit, Run), Stop> {
    resolve_images(context, &mut request).await?;
    preflight::check(context, &request).await?;
    let engine = engine_for(context, &store, &args)?;
    let plan = Arc::clone(&request.plan);
    let run = match engine.request(request).await {
        Ok(Requested::New(run) | Requested::Already(run)) => run,
        Err(RequestError::Secrets(missing)) => return Err(secrets_missing(missing)),
        Err(error @ RequestError::Kinds(_)) => {
            return Err(Stop::usage(error.to_string())
                .hint("`--replan FILE` makes it by the pipeline file as it is now"));
        }
        Err(error) => return Err(Stop::of(&error)),
    };
    drive(context, &store, &engine, &run, &plan, &args).await
}

pub(crate) async fn resume(context: &Context<'_>, args: ResumeArgs) -> Result<Exit, Stop> {
    let store = context.store().await?;
    let run = named_run(&*store.journal(), &args.run).await?;
    let (_, state) = super::load(&*store.journal(), &run).await?;
    if let Some((outcome, _)) = state.ended() {
        context.output.say(format!("run {run} has ended already: {outcome}"));
        return Ok(outcome.into());
    }
    let engine = engine_for(context, &store, &args.drive)?;
    Ok(drive(context, &store, &engine, &run, state.plan(), &args.drive).await?.0)
}

/// An engine that drives runs as the command line says.
fn engine_for(context: &Context<'_>, store: &Store, args: &DriveArgs) -> Result<Engine, Stop> {
    let logins = match &args.config {
        Some(path) => Config::read(path)?.logins()?,
        None => ForgeLogins::default(),
    };
    let permits = Permits::open();
    let access = context.forge_access(logins, permits.egress.clone());
    let workspaces = context.workspaces(context.fetcher(store, access));
    Ok(context.engine(store, args.max_parallel, None, args.inject.clone(), permits, workspaces))
}

async fn drive(
    context: &Context<'_>,
    store: &Store,
    engine: &Engine,
    run: &RunId,
    plan: &Plan,
    args: &DriveArgs,
) -> Result<(Exit, Run), Stop> {
    let output = context.output;
    output.say(format!("{} {run} of {}", output.paint(Style::Bold, "run"), plan.name()));
    let steps: Vec<StepId> = plan.steps().iter().map(|step| step.id.clone()).collect();
    let mut updates = engine.subscribe();
    let (canceller, listening) = cancellation();
    let by = args.name.clone().unwrap_or_else(person);
    let interrupts = tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        // Two have an effect; the third is for a person who has lost patience.
        for _ in 0..2 {
            let why = tokio::select! {
                _ = interrupt.recv() => "interrupted from the keyboard",
                _ = terminate.recv() => "the process was told to terminate",
            };
            canceller.cancel(by.clone(), Some(why.to_owned()));
        }
        interrupt.recv().await;
        #[expect(clippy::exit, reason = "the journal has everything; the run can be resumed")]
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    let mut live = Live::new(output, run.clone(), args.quiet, &steps);
    // A task of its own, on the threads that its steps run on: what follows from the end of a step
    // need not wait for this thread, which shows it.
    let mut driving = tokio::spawn({
        let (engine, run) = (engine.clone(), run.clone());
        let no_wait = args.no_wait;
        Box::pin(async move {
            let mut listening = listening;
            if no_wait {
                return engine.drive(&run, &mut listening).await;
            }
            let (outcome, state) = engine.finish(&run, listening, |_| {}).await?;
            Ok((Driven::Ended(outcome), state))
        })
    });
    let driven = tokio::select! {
        biased;
        driven = &mut driving => driven,
        // The display has shown the end, or will see no more: only the drive matters now.
        () = live.follow(&mut updates) => driving.await,
    };
    let driven = driven.map_err(|e| Stop::internal("the drive of the run ended").because(&e))?;
    interrupts.abort();
    // What was told before the end came and is not shown yet.
    if driven.is_ok() {
        let rest = live.follow(&mut updates);
        let _ = tokio::time::timeout(Duration::from_millis(200), rest).await;
    }
    drop(live);

    let (driven, state) = driven.map_err(|error| not_driven(run, &error))?;
    output.say(show::timeline(&state, state.status().name(), output));
    if let Driven::Parked(parked) = driven {
        let until = parked.until.map_or(String::new(), |until| format!(" until {until}"));
        output.say(format!(
            "the run is {}{until}; `fairlead explain {run}` says what for",
            parked.status
        ));
    } else if driven != Driven::Ended(RunOutcome::Passed) {
        output.say(format!("see `fairlead show {run}` and `fairlead logs {run}`"));
    }
    if args.json {
        output.json(&show::to_json(&state))?;
    }
    store.close().await;
    let exit = match driven {
        Driven::Ended(outcome) => outcome.into(),
        Driven::Parked(_) => Exit::Waits,
    };
    Ok((exit, state))
}

fn not_driven(run: &RunId, error: &DriveError) -> Stop {
    let mut stop = Stop::of(error);
    stop.exit = Exit::Interrupted;
    match error {
        DriveError::Lease(LeaseError::Held { .. }) => {
            stop.hint("it is driven by another process; watch it with `fairlead show`")
        }
        error if error.is_of_newer_build() => stop.hint(format!(
            "a newer build goes on with it; `fairlead abandon {run}` ends it with this one"
        )),
        DriveError::Replay { .. } => stop.hint(format!(
            "`fairlead journal verify {run}` says where it is damaged, `fairlead cancel {run}` ends it"
        )),
        DriveError::Lease(_) | DriveError::Store(_) | DriveError::Dispatch(_) | _ => stop.hint(format!("nothing is lost: go on with `fairlead resume {run}`")),
    }
}

pub(crate) fn secrets_missing(missing: SecretsMissing) -> Stop {
    let stop = Stop::usage(missing.to_string());
    missing.0.iter().filter_map(secret_hint).fold(stop, Stop::hint)
}

fn secret_hint(error: &SecretError) -> Option<String> {
    if let SecretError::Missing { name, hint } = error {
        Some(format!("for `{name}`, {hint}"))
    } else {
        None
    }
}

/// The folder by its absolute path: a run that is resumed elsewhere means the same folder.
pub(crate) fn local(path: &Path) -> Result<Workspace, Stop> {
    path.canonicalize().map(Workspace::local).map_err(|e| {
        Stop::usage(format!("the workspace {} cannot be used", path.display())).because(&e)
    })
}

/// Who is at the keyboard: as the shell says, or as the system knows the user of the process. Somebody
/// who votes or asks for a run has a name, in a container and under cron, too.
pub(crate) fn person() -> String {
    let said = ["USER", "LOGNAME"].into_iter().find_map(crate::settings::variable);
    said.and_then(|user| user.into_string().ok())
        .or_else(|| whoami::username().ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(user_number)
}

/// The user of the process where the system has no name for it.
fn user_number() -> String {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self")
        .map_or_else(|_| "unknown-user".to_owned(), |process| format!("uid-{}", process.uid()))
}

/// How long a registry may take to say what a tag stands for.
const RESOLVE: Duration = Duration::from_secs(30);

/// Resolves the tags of the images that the run is asked with. A tag may move; the run is about what it
/// stands for now.
async fn resolve_images(context: &Context<'_>, request: &mut RunRequest) -> Result<(), Stop> {
    let plan = Arc::clone(&request.plan);
    if plan.params().unresolved(&request.params).is_empty() {
        return Ok(());
    }
    let resolver = super::serve::Registry(Client::new(context.settings.registries.clone()));
    let answer =
        fairlead_server::resolve_images(&resolver, &plan, &mut request.params, RESOLVE).await;
    match answer {
        Ok(images) => {
            for (name, image) in images {
                context.output.say(format!("{name}: {image}"));
            }
            Ok(())
        }
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let text = texts.join("; ");
            let away = problems.iter().any(|problem| problem.away);
            let stop = if away { Stop::failed(text) } else { Stop::usage(text) };
            let mut hints: Vec<String> = problems.into_iter().filter_map(|p| p.hint).collect();
            hints.dedup();
            Err(hints.into_iter().fold(stop, Stop::hint))
        }
    }
}

/// An empty event, for runs that no event started.
pub(crate) fn no_event() -> Value {
    json!({})
}
