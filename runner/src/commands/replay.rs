//! `fairlead events replay`: which pipelines an event starts and why the others do not; and the same
//! event once more, as if it had happened again.

use std::path::{Path, PathBuf};

use fairlead_event::{CloudEvent, CloudEventError, SourceEvent};
use fairlead_plan::Plan;
use fairlead_run::{AuditAction, Inserted, NewEvent};
use fairlead_server::once_more;
use serde_json::{Map, Value, json};

use super::events::named;
use super::{Context, audit};
use crate::cli::ReplayArgs;
use crate::exit::{Exit, Stop};
use crate::load;
use crate::output::{Output, Style, tame};

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
    let new = once_more(&document, context.settings.clock.now()).map_err(unreadable)?;
    let key = again(context, &envelope.id, new).await?;
    if args.json {
        context.output.json(&json!({ "id": key, "subject": event.subject() }))?;
    } else {
        context.output.say(format!("stored once more as event {key}: {}", tame(&event.subject())));
        context.output.say("a server that runs hands it out within seconds");
    }
    Ok(Exit::Passed)
}

/// The file that is meant, when it is one and no id.
pub(super) fn file(event: &str) -> Option<PathBuf> {
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
    let views = plans.iter().map(|plan| plan.answer(event).view(plan.name()));
    let views: Vec<Value> = views.collect();
    let output = context.output;
    if args.json {
        output.json(&json!({ "subject": event.subject(), "pipelines": views }))?;
        return Ok(Exit::Passed);
    }
    output.say(tame(&event.subject()));
    tell(output, &views);
    Ok(Exit::Passed)
}

/// Says what pipelines answer, a line each.
pub(super) fn tell(output: &Output, views: &[Value]) {
    let name = |view: &Value| tame(view["pipeline"].as_str().unwrap_or("?")).into_owned();
    let width = views.iter().map(|view| name(view).len()).max().unwrap_or_default();
    for view in views {
        let name = name(view);
        if view["starts"] == true {
            let starts = output.paint(Style::Good, "starts");
            let trigger = view["trigger"].as_str().unwrap_or("?");
            let given = view["params"].as_object().into_iter().flatten();
            let given: String = given.map(|(name, value)| format!(" {name}={value}")).collect();
            output.data(format!("{name:<width$}  {starts}  {}{}", tame(trigger), tame(&given)));
            continue;
        }
        let why: Vec<&str> =
            view["why"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if why.is_empty() {
            output.data(format!("{name:<width$}  no      it waits for no such event"));
        }
        for (at, why) in why.iter().enumerate() {
            let (name, word) = if at == 0 { (name.as_str(), "no") } else { ("", "") };
            output.data(format!("{name:<width$}  {word:<6}  {}", tame(why)));
        }
    }
}
/// Stores the event once more.
async fn again(context: &Context<'_>, of: &str, new: NewEvent) -> Result<String, Stop> {
    let store = context.store().await?;
    let key = new.key.clone();
    let detail = Map::from_iter([("event".to_owned(), json!(key))]);
    audit::record(context, &store, AuditAction::EventRetry, of, None, detail).await?;
    let inserted = store.events().insert(new).await.map_err(|error| Stop::of(&error))?;
    store.close().await;
    match inserted {
        Inserted::New => Ok(key),
        Inserted::Duplicate { .. } | Inserted::Overtaken => {
            Err(Stop::failed("the same event is being replayed at this moment").hint("try again"))
        }
    }
}
