//! Commands at a server: what changes something there is asked of it; what only reads goes the way of the
//! store, over the client's ports.

use std::path::Path;

use fairlead_run::{EventView, Journal as _, RunFilter, Vote};
use fairlead_step::{Digest, RunId, StepId};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, events, load, login, named_run, prune, replay, show};
use crate::cli::{
    CancelArgs, Command, DriveArgs, EventsCommand, PruneArgs, ReplayArgs, RetryArgs, RunArgs,
    SettleArgs, StepsCommand, UndoArgs, VoteArgs,
};
use crate::client::{Client, Failed, Followed};
use crate::exit::{Exit, Stop};
use crate::live::Live;
use crate::output::{Style, tame};
use crate::workspaces::archive;

/// How often to look whether a run only waits, when nobody wants to wait with it.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// What became of a command.
pub(crate) enum Done {
    /// The server did it.
    Here(Exit),
    /// It only reads, or has to do with this machine alone.
    AsIfHere(Box<Command>),
}

pub(crate) async fn run(
    context: &Context<'_>,
    client: &Client,
    command: Command,
) -> Result<Done, Stop> {
    let exit = match command {
        Command::Run(args) => start(context, client, args).await?,
        Command::Approve(args) => vote(context, client, args, Vote::Approve).await?,
        Command::Reject(args) => vote(context, client, args, Vote::Reject).await?,
        Command::Settle(args) => settle(context, client, args).await?,
        Command::Cancel(args) => end(context, client, args, "cancel").await?,
        Command::Abandon(args) => end(context, client, args, "abandon").await?,
        Command::Retry(args) => retry(context, client, args).await?,
        Command::Undo(args) => undo(context, client, args).await?,
        Command::Prune(args) => prune_there(context, client, args).await?,
        Command::Events(command) => events_there(context, client, command).await?,
        Command::Login(args) => login::login(context, client, args).await?,
        Command::Logout => login::logout(context, client)?,
        Command::Whoami { json } => login::whoami(context, client, json).await?,
        Command::Resume(_) => {
            return Err(Stop::usage("a server goes on with its runs by itself").hint(
                "`fairlead logs -f RUN` follows one, `fairlead explain RUN` says what it waits for",
            ));
        }
        Command::Serve(_)
        | Command::Runner(_)
        | Command::Db(_)
        | Command::Doctor(_)
        | Command::Verify(_)
        | Command::Policy(_)
        | Command::Trace(_)
        | Command::Key(_)
        | Command::Token(_)
        | Command::Audit(_)
        | Command::Steps(StepsCommand::Run { .. }) => {
            return Err(Stop::usage("this command is for this machine, and a server is named")
                .hint("take `--server`, `--profile` or FAIRLEAD_SERVER away"));
        }
        command @ (Command::Inspect(_)
        | Command::Lint(_)
        | Command::Graph(_)
        | Command::Runs(_)
        | Command::Show(_)
        | Command::Explain(_)
        | Command::Logs(_)
        | Command::Journal(_)
        | Command::Steps(StepsCommand::List | StepsCommand::Reference { .. })
        | Command::Sbom(_)
        | Command::Schema(_)
        | Command::GuardProcesses(_)
        | Command::Completions { .. }) => return Ok(Done::AsIfHere(Box::new(command))),
    };
    Ok(Done::Here(exit))
}

async fn start(context: &Context<'_>, client: &Client, args: RunArgs) -> Result<Exit, Stop> {
    not_for_servers(&args.drive)?;
    if args.event.is_some() {
        return Err(Stop::usage("`--event` is for runs of this machine")
            .hint("a server takes events from its sources"));
    }
    let mut params = serde_json::Map::new();
    for text in &args.set {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Stop::usage(format!("`--set {text}` has no `=`")).hint("write `--set NAME=VALUE`")
        })?;
        params.insert(name.to_owned(), value.into());
    }
    let name = args.file.to_str().filter(|name| is_pipeline_name(name));
    let answer = match name.filter(|_| !args.file.exists()) {
        // One of the server's own pipelines.
        Some(name) => {
            let path = format!("/api/v1/pipelines/{name}/runs");
            client.post(&path, &json!({ "params": params })).await
        }
        None => {
            let source = crate::load::source(&args.file)?;
            let packed = pack(context, client, &args.workspace, args.with_git).await?;
            let body = json!({
                "source": { "name": args.file.display().to_string(), "text": source.text() },
                "params": params,
                "archive": packed,
            });
            client.post("/api/v1/runs", &body).await
        }
    };
    let (_, answer) = answer.map_err(Failed::stop)?;
    watch(context, client, &run_of(&answer)?, &args.drive).await
}

fn is_pipeline_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    !name.is_empty() && name.bytes().all(plain)
}

/// Packs the folder and brings it to the server.
async fn pack(
    context: &Context<'_>,
    client: &Client,
    folder: &Path,
    with_git: bool,
) -> Result<Digest, Stop> {
    let folder = folder.canonicalize().map_err(|e| {
        Stop::usage(format!("the workspace {} cannot be used", folder.display())).because(&e)
    })?;
    let file = tempfile::NamedTempFile::new()
        .map_err(|e| Stop::failed("cannot make a file to pack into").because(&e))?;
    let (from, to) = (folder.clone(), file.path().to_owned());
    let packed = tokio::task::spawn_blocking(move || archive::pack(&from, &to, with_git)).await;
    let packed = packed.map_err(|e| Stop::internal("packing ended").because(&e))?;
    let packed = packed.map_err(|e| {
        Stop::usage(format!("the workspace {} cannot be packed", folder.display()))
            .because(&e)
            .hint("`--workspace DIR` names another folder")
    })?;
    let amount = packed.amount;
    context.output.say(format!(
        "packed {} files, {} bytes, as {} bytes",
        amount.entries, amount.bytes, packed.size
    ));
    let uploaded = client.upload(&packed.digest, file.path(), packed.size).await;
    uploaded.map_err(Failed::stop)?;
    Ok(packed.digest)
}

/// Options that say how this machine makes attempts.
fn not_for_servers(args: &DriveArgs) -> Result<(), Stop> {
    if args.max_parallel.is_some() || !args.inject.is_empty() || args.config.is_some() {
        return Err(Stop::usage(
            "`--max-parallel`, `--inject` and `--config` are for runs of this machine",
        )
        .hint("the server has settings of its own"));
    }
    Ok(())
}

fn run_of(answer: &Value) -> Result<RunId, Stop> {
    let run = answer.get("run").and_then(Value::as_str).unwrap_or_default();
    run.parse().map_err(|e| Stop::failed("the server names no run").because(&e))
}

/// Stays with a run until it has ended, or only waits where that is enough, and answers how it stands.
async fn watch(
    context: &Context<'_>,
    client: &Client,
    run: &RunId,
    args: &DriveArgs,
) -> Result<Exit, Stop> {
    let output = context.output;
    let (_, state) = load(client, run).await?;
    output.say(format!("{} {run} of {}", output.paint(Style::Bold, "run"), state.plan().name()));
    let steps: Vec<StepId> = state.plan().steps().iter().map(|step| step.id.clone()).collect();
    let interrupts = tokio::spawn(cancel_when_interrupted(client.clone(), run.clone()));
    let mut live = Live::new(output, run.clone(), args.quiet, &steps);
    let following = client.follow(run, |followed| {
        match followed {
            Followed::Update(update) => {
                live.show(&update);
            }
            Followed::Cut => output.say(
                "(the connection was cut: lines may be missing here; `fairlead logs` has them)",
            ),
        }
        true
    });
    let followed = tokio::select! {
        followed = following => followed.map_err(Failed::stop),
        rests = rests(client, run), if args.no_wait => rests,
    };
    interrupts.abort();
    drop(live);
    followed?;
    let (_, state) = load(client, run).await?;
    output.say(show::timeline(&state, state.status().name(), output));
    let exit = match state.ended() {
        Some((outcome, _)) => Exit::from(outcome),
        None => Exit::Waits,
    };
    if exit == Exit::Waits {
        let status = state.status();
        output.say(format!("the run is {status}; `fairlead explain {run}` says what for"));
    } else if exit != Exit::Passed {
        output.say(format!("see `fairlead show {run}` and `fairlead logs {run}`"));
    }
    if args.json {
        output.json(&show::to_json(&state))?;
    }
    Ok(exit)
}

/// Ready when the run only waits.
async fn rests(client: &Client, run: &RunId) -> Result<(), Stop> {
    loop {
        tokio::time::sleep(LOOK).await;
        let this = RunFilter { run: Some(run.clone()), limit: 1, ..RunFilter::default() };
        let found = client.list(this).await.map_err(|e| Stop::of(&e))?;
        if found.first().is_some_and(|run| !run.held && run.status.rests()) {
            return Ok(());
        }
    }
}

/// Tells the run to stop at the first and the second signal; the third is for a person who has lost
/// patience, and leaves the run to the server.
async fn cancel_when_interrupted(client: Client, run: RunId) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for _ in 0..2 {
        let why = tokio::select! {
            _ = interrupt.recv() => "interrupted from the keyboard",
            _ = terminate.recv() => "the client was told to terminate",
        };
        let path = format!("/api/v1/runs/{run}/cancel");
        let _ = client.post(&path, &json!({ "reason": why })).await;
    }
    interrupt.recv().await;
    #[expect(clippy::exit, reason = "the server has everything, and goes on")]
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

/// A body with what is given of a name and a reason.
fn word(name: Option<&String>, reason: Option<&String>) -> Value {
    let mut body = json!({});
    for (key, value) in [("by", name), ("reason", reason)] {
        if let Some(value) = value {
            body[key] = value.as_str().into();
        }
    }
    body
}

/// Says what became of what a person said to a run.
fn told(context: &Context<'_>, run: &RunId, said: &str, answer: &Value) -> Exit {
    let output = context.output;
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    if let Some(problem) = text("problem") {
        output.say(format!("run {run} could not be driven: {problem}"));
    }
    match text("status") {
        Some("told") | None => {
            output.say(format!("run {run}: {said}; the process that drives it goes on"));
        }
        Some(status) => output.say(format!("run {run}: {said}; the run is {status}")),
    }
    Exit::Passed
}

fn at_step(run: &RunId, step: &StepId, what: &str) -> String {
    let step = step.as_str().replace('[', "%5B").replace(']', "%5D");
    format!("/api/v1/runs/{run}/steps/{step}/{what}")
}

async fn vote(
    context: &Context<'_>,
    client: &Client,
    args: VoteArgs,
    vote: Vote,
) -> Result<Exit, Stop> {
    let run = named_run(client, &args.run).await?;
    let body = word(args.who.name.as_ref(), args.reason.as_ref());
    let path = at_step(&run, &args.step, &vote.to_string());
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    Ok(told(context, &run, &format!("{vote} at `{}`", args.step), &answer))
}

async fn settle(context: &Context<'_>, client: &Client, args: SettleArgs) -> Result<Exit, Stop> {
    let run = named_run(client, &args.run).await?;
    let mut body = word(args.who.name.as_ref(), args.reason.as_ref());
    let decision = match (args.passed, args.again) {
        (true, _) => "passed",
        (false, true) => "again",
        (false, false) => "failed",
    };
    body["decision"] = decision.into();
    if let Some(outputs) = &args.outputs {
        body["outputs"] = serde_json::from_str(outputs)
            .map_err(|e| Stop::usage("`--outputs` is no JSON").because(&e))?;
    }
    let path = at_step(&run, &args.step, "settle");
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    Ok(told(context, &run, &format!("`{}` settled as {decision}", args.step), &answer))
}

async fn end(
    context: &Context<'_>,
    client: &Client,
    args: CancelArgs,
    what: &str,
) -> Result<Exit, Stop> {
    let run = named_run(client, &args.run).await?;
    let body = word(args.who.name.as_ref(), args.reason.as_ref());
    let path = format!("/api/v1/runs/{run}/{what}");
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    let said = if what == "cancel" { "told to stop" } else { "abandoned" };
    Ok(told(context, &run, said, &answer))
}

async fn retry(context: &Context<'_>, client: &Client, args: RetryArgs) -> Result<Exit, Stop> {
    not_for_servers(&args.drive)?;
    let run = named_run(client, &args.run).await?;
    let mut body = word(None, None);
    body["from"] = json!(args.from);
    if let Some(file) = &args.replan {
        let source = crate::load::source(file)?;
        body["replan"] = json!({ "name": file.display().to_string(), "text": source.text() });
    }
    if let Some(folder) = &args.workspace {
        body["archive"] = json!(pack(context, client, folder, false).await?);
    }
    let path = format!("/api/v1/runs/{run}/retry");
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    let kept = answer.get("kept").and_then(Value::as_array);
    let kept: Vec<&str> = kept.into_iter().flatten().filter_map(Value::as_str).collect();
    context.output.say(match kept.as_slice() {
        [] => format!("nothing of run {run} is kept"),
        names => format!("kept of run {run}: {}", names.join(", ")),
    });
    watch(context, client, &run_of(&answer)?, &args.drive).await
}

async fn undo(context: &Context<'_>, client: &Client, args: UndoArgs) -> Result<Exit, Stop> {
    not_for_servers(&args.drive)?;
    let output = context.output;
    let run = named_run(client, &args.run).await?;
    let mut body = word(None, None);
    body["dry_run"] = args.dry_run.into();
    body["once_more"] = args.once_more.into();
    if let Some(folder) = args.workspace.as_deref().filter(|_| !args.dry_run) {
        body["archive"] = json!(pack(context, client, folder, false).await?);
    }
    let path = format!("/api/v1/runs/{run}/undo");
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    output.say(format!("to take back run {run}, in this order:"));
    for step in answer.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let of = text("undoes").map_or(String::new(), |of| format!(" takes back `{of}`"));
        let (id, kind) = (text("id").unwrap_or("?"), text("kind").unwrap_or("?"));
        output.data(format!("  {id} ({kind}){of}"));
    }
    if args.dry_run {
        output.say("nothing was done; without `--dry-run` it is");
        return Ok(Exit::Passed);
    }
    watch(context, client, &run_of(&answer)?, &args.drive).await
}

async fn prune_there(
    context: &Context<'_>,
    client: &Client,
    args: PruneArgs,
) -> Result<Exit, Stop> {
    let body = json!({
        "older_than": args.older_than,
        "keep_last": args.keep_last,
        "dry_run": !args.yes,
    });
    let (_, report) = client.post("/api/v1/prune", &body).await.map_err(Failed::stop)?;
    prune::tell(context.output, &args, &report)?;
    Ok(Exit::Passed)
}

async fn events_there(
    context: &Context<'_>,
    client: &Client,
    command: EventsCommand,
) -> Result<Exit, Stop> {
    let output = context.output;
    match command {
        EventsCommand::Replay(args) => return replay_there(context, client, args).await,
        EventsCommand::List(args) => {
            let mut path = format!("/api/v1/events?limit={}", args.limit.max(1));
            if let Some(state) = args.only {
                path.push_str(&format!("&state={}", state.name()));
            }
            if let Some(before) = &args.before {
                path.push_str(&format!("&before={}", event_id(client, before).await?));
            }
            let mut answer = client.get(&path).await.map_err(Failed::stop)?;
            let views: Vec<EventView> = serde_json::from_value(answer["events"].take())
                .map_err(|e| Stop::failed("the server's events cannot be read").because(&e))?;
            events::tell_list(output, &views, &args)?;
        }
        EventsCommand::Show { id, pipelines: _, json } => {
            let id = event_id(client, &id).await?;
            let shown = client.get(&format!("/api/v1/events/{id}")).await.map_err(Failed::stop)?;
            events::tell_event(output, shown, json)?;
        }
        EventsCommand::Retry { id, json } => {
            let id = event_id(client, &id).await?;
            let path = format!("/api/v1/events/{id}/retry");
            let (_, answer) =
                client.post(&path, &serde_json::json!({})).await.map_err(Failed::stop)?;
            if json {
                output.json(&answer)?;
            } else {
                output.say("the event is due: the server hands it out within seconds");
            }
        }
    }
    Ok(Exit::Passed)
}

/// Lets an event of the server happen once more, or says what its pipelines answer.
async fn replay_there(
    context: &Context<'_>,
    client: &Client,
    args: ReplayArgs,
) -> Result<Exit, Stop> {
    if !args.pipelines.is_empty() || replay::file(&args.event).is_some() {
        return Err(Stop::usage("a server asks its own pipelines about its own events").hint(
            "without `--server` the files that `--pipelines` names are asked, also about an event in a file",
        ));
    }
    let id = event_id(client, &args.event).await?;
    let path = format!("/api/v1/events/{id}/replay");
    let body = json!({ "dry_run": args.dry_run });
    let (_, answer) = client.post(&path, &body).await.map_err(Failed::stop)?;
    if args.json {
        context.output.json(&answer)?;
        return Ok(Exit::Passed);
    }
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or("?");
    if args.dry_run {
        context.output.say(tame(text("subject")));
    } else {
        let (key, subject) = (tame(text("id")), tame(text("subject")));
        context.output.say(format!("stored once more as event {key}: {subject}"));
    }
    let views = answer.get("pipelines").and_then(Value::as_array);
    replay::tell(context.output, views.map(Vec::as_slice).unwrap_or_default());
    Ok(Exit::Passed)
}

/// The whole id of an event, of which a person may give the beginning.
async fn event_id(client: &Client, id: &str) -> Result<String, Stop> {
    if !id.bytes().all(|b| b.is_ascii_alphanumeric()) || id.len() < events::FEWEST {
        return Err(events::too_short(id));
    }
    let found = client.get("/api/v1/events?limit=1000").await.map_err(Failed::stop)?;
    let found = found.get("events").and_then(Value::as_array).cloned().unwrap_or_default();
    let ids = found.iter().filter_map(|event| event.get("id")?.as_str());
    let mut begin = ids.filter(|found| found.starts_with(id));
    match (begin.next(), begin.next()) {
        (Some(only), None) => Ok(only.to_owned()),
        // It may be older than those.
        (None, _) => Ok(id.to_owned()),
        (Some(_), Some(_)) => Err(events::ambiguous(id)),
    }
}
