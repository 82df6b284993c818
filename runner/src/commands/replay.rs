//! `fairlead events replay`: which pipelines an event starts and why the others do not; and the same
//! event once more, as if it had happened again.

use std::path::{Path, PathBuf};

use fairlead_event::{CloudEvent, CloudEventError, SourceEvent};
use fairlead_plan::{Answer, Plan};
use fairlead_run::{Inserted, NewEvent};
use fairlead_step::Digest;
use serde_json::{Value, json};

use super::Context;
use super::events::named;
use crate::cli::ReplayArgs;
use crate::exit::{Exit, Stop};
use crate::load;
use crate::output::{Style, tame};

/// The most bytes of an event in a file.
const MAX_EVENT: u64 = NewEvent::MAX_BYTES as u64;

pub(crate) async fn replay(context: &Context<'_>, args: ReplayArgs) -> Result<Exit, Stop> {
    let document = match file(&args.event) {
        Some(path) => load::text(&path, MAX_EVENT)?,
        None => {
            let store = context.store().await?;
            let stored = named(&store, &args.event).await?;
            store.close().await;
            stored.document
        }
    };
    let unreadable = |error: CloudEventError| {
        Stop::usage(format!("`{}` is no event", tame(&args.event))).because(&error).hint(
            "it is a CloudEvent as JSON, as `fairlead events show --json` has it under `event`",
        )
    };
    let envelope = CloudEvent::from_json(document.as_bytes()).map_err(unreadable)?;
    let event = SourceEvent::from_cloud_event(&envelope).map_err(unreadable)?;
    if args.dry_run {
        return answers(context, &args, &event);
    }
    let key = once_more(context, envelope).await?;
    if args.json {
        context.output.json(&json!({ "id": key, "subject": event.subject() }))?;
    } else {
        context.output.say(format!("stored once more as event {key}: {}", tame(&event.subject())));
        context.output.say("a server that runs hands it out within seconds");
    }
    Ok(Exit::Passed)
}

/// The file that is meant, when it is one and no id.
fn file(event: &str) -> Option<PathBuf> {
    let path = Path::new(event);
    let named = event.contains(['/', '.']) || path.is_file();
    named.then(|| path.to_owned())
}

/// Says what each pipeline answers.
fn answers(context: &Context<'_>, args: &ReplayArgs, event: &SourceEvent) -> Result<Exit, Stop> {
    if args.pipelines.is_empty() {
        return Err(Stop::usage("there are no pipelines to ask")
            .hint("name their files or folders with `--pipelines PATH`"));
    }
    let files = load::pipeline_files(&args.pipelines)?;
    let plans = files.iter().map(|file| load::plan(file, &context.catalog, context.output));
    let plans: Vec<Plan> = plans.collect::<Result<_, _>>()?;
    let answers: Vec<(&str, Answer)> =
        plans.iter().map(|plan| (plan.name(), plan.answer(event))).collect();
    let output = context.output;
    if args.json {
        let views: Vec<Value> = answers.iter().map(|(name, answer)| answer.view(name)).collect();
        output.json(&json!({ "subject": event.subject(), "pipelines": views }))?;
        return Ok(Exit::Passed);
    }
    output.say(tame(&event.subject()));
    let width = answers.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, answer) in &answers {
        match answer {
            Answer::Starts(pulled) => {
                let starts = output.paint(Style::Good, "starts");
                let given = pulled.given.iter().map(|(name, value)| format!(" {name}={value}"));
                let given: String = given.collect();
                output.data(format!("{name:<width$}  {starts}  {}{}", pulled.kind, tame(&given)));
            }
            Answer::No(reasons) if reasons.is_empty() => {
                output.data(format!("{name:<width$}  no      it waits for no such event"));
            }
            Answer::No(reasons) => {
                for (at, reason) in reasons.iter().enumerate() {
                    let (name, word) = if at == 0 { (*name, "no") } else { ("", "") };
                    output
                        .data(format!("{name:<width$}  {word:<6}  {}", tame(&reason.to_string())));
                }
            }
        }
    }
    Ok(Exit::Passed)
}

/// Stores the event under an identity of its own, so that it starts once more what it starts.
async fn once_more(context: &Context<'_>, envelope: CloudEvent) -> Result<String, Stop> {
    let now = context.settings.clock.now();
    let digest = Digest::sha256(format!("replay/{}/{now}", envelope.id).as_bytes()).to_string();
    let key = digest.rsplit(':').next().unwrap_or_default().to_owned();
    let document = CloudEvent { id: key.clone(), time: Some(now), ..envelope }.to_json();
    let new = NewEvent {
        key: key.clone(),
        id: key.clone(),
        received_at: now,
        due_at: now,
        document,
        push: None,
    };
    let store = context.store().await?;
    let inserted = store.events().insert(new).await.map_err(|error| Stop::of(&error))?;
    store.close().await;
    match inserted {
        Inserted::New => Ok(key),
        Inserted::Duplicate { .. } | Inserted::Overtaken => {
            Err(Stop::failed("the same event is being replayed at this moment").hint("try again"))
        }
    }
}
