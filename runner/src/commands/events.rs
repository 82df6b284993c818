//! `fairlead events`: what happened outside, what became of it, and handing an event out again.

use fairlead_event::{CloudEvent, SourceEvent};
use fairlead_plan::Plan;
use fairlead_run::{AuditAction, EventFilter, EventState, EventView, Retried, StoredEvent};
use fairlead_store::Store;
use serde_json::{Map, Value, json};

use super::{Context, audit, replay::replay};
use crate::cli::{EventsCommand, EventsListArgs};
use crate::exit::{Exit, Stop};
use crate::load;
use crate::output::{Output, Style, tame};

/// How much of an id a list shows; `show` and `retry` take so much, too.
const SHOWN: usize = 12;
/// The fewest characters of an id that name an event.
pub(crate) const FEWEST: usize = 6;

pub(crate) async fn events(context: &Context<'_>, command: EventsCommand) -> Result<Exit, Stop> {
    if let EventsCommand::Replay(args) = command {
        return replay(context, args).await;
    }
    let store = context.store().await?;
    let output = context.output;
    match command {
        // It may need no store.
        EventsCommand::Replay(_) => {}
        EventsCommand::List(args) => list(&store, output, args).await?,
        EventsCommand::Show { id, pipelines, json } => {
            let plans = if pipelines.is_empty() {
                None
            } else {
                let files = load::pipeline_files(&pipelines)?;
                let plans = files.iter().map(|file| load::plan(file, &context.catalog, output));
                Some(plans.collect::<Result<Vec<Plan>, _>>()?)
            };
            show(&store, output, &id, plans.as_deref(), json).await?;
        }
        EventsCommand::Retry { id, json } => retry(context, &store, &id, json).await?,
    }
    store.close().await;
    Ok(Exit::Passed)
}

async fn list(store: &Store, output: &Output, args: EventsListArgs) -> Result<(), Stop> {
    let before = match &args.before {
        Some(id) => Some(named(store, id).await?.key),
        None => None,
    };
    let limit = args.limit.min(EventFilter::MOST);
    let filter = EventFilter { state: args.only, prefix: None, before, limit };
    let found = store.events().list(filter).await.map_err(|e| Stop::of(&e))?;
    let views: Vec<EventView> = found.iter().map(StoredEvent::view).collect();
    tell_list(output, &views, &args)
}

/// Shows events, a line each.
pub(crate) fn tell_list(
    output: &Output,
    views: &[EventView],
    args: &EventsListArgs,
) -> Result<(), Stop> {
    if args.json {
        return output.json(&views);
    }
    if views.is_empty() {
        let which = args.only.map_or("no".to_owned(), |state| format!("no {state}"));
        output.say(format!("there are {which} events"));
        return Ok(());
    }
    output.data(format!(
        "{:<SHOWN$}  {:<8}  {:<20}  {:>5}  {}",
        "EVENT", "STATE", "RECEIVED", "TRIED", "ABOUT"
    ));
    for event in views {
        let id: String = event.id.chars().take(SHOWN).collect();
        let state = output.paint(style(event.state), format!("{:<8}", event.state.name()));
        let at = event.received_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let about = event.subject.as_deref().unwrap_or("?");
        let line = format!("{id:<SHOWN$}  {state}  {at:<20}  {:>5}", event.attempts);
        output.data(format!("{line}  {}", tame(about)));
        if let Some(reason) = &event.reason {
            output.data(format!("{:<SHOWN$}  {}", "", tame(reason)));
        }
    }
    Ok(())
}

const fn style(state: EventState) -> Style {
    match state {
        EventState::Pending => Style::Warn,
        EventState::Handled => Style::Good,
        EventState::Dead => Style::Bad,
    }
}

async fn show(
    store: &Store,
    output: &Output,
    id: &str,
    plans: Option<&[Plan]>,
    json: bool,
) -> Result<(), Stop> {
    let event = named(store, id).await?;
    let runs = store.events().runs_of(&event.key).await.map_err(|e| Stop::of(&e))?;
    let runs: Vec<Value> =
        runs.iter().map(|run| json!({ "pipeline": run.pipeline, "run": run.run })).collect();
    let document = serde_json::from_str(&event.document);
    let document = document.unwrap_or_else(|_| Value::String(event.document.clone()));
    let mut shown = serde_json::to_value(event.view())
        .map_err(|e| Stop::internal("cannot write JSON").because(&e))?;
    shown["runs"] = json!(runs);
    shown["event"] = document;
    if let Some(plans) = plans
        && let Ok(envelope) = CloudEvent::from_json(event.document.as_bytes())
        && let Ok(event) = SourceEvent::from_cloud_event(&envelope)
    {
        let answers = plans.iter().map(|plan| plan.answer(&event).view(plan.name()));
        shown["pipelines"] = answers.collect();
    }
    tell_event(output, shown, json)
}

/// Shows an event with what it says and the runs that it started, as the API has it.
pub(crate) fn tell_event(output: &Output, mut shown: Value, json: bool) -> Result<(), Stop> {
    if json {
        return output.json(&shown);
    }
    let (runs, document) = (shown["runs"].take(), shown["event"].take());
    let answers = shown["pipelines"].take();
    if let Value::Object(shown) = &mut shown {
        shown.remove("runs");
        shown.remove("pipelines");
        shown.remove("event");
    }
    let view: EventView = serde_json::from_value(shown)
        .map_err(|e| Stop::failed("the event cannot be read").because(&e))?;
    let line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            output.data(format!("{name:<10} {}", tame(&value)));
        }
    };
    let state = output.paint(style(view.state), view.state.name());
    output.data(format!("{:<10} {}", "event", tame(&view.id)));
    output.data(format!("{:<10} {state}", "state"));
    line("type", view.kind);
    line("source", view.source);
    line("about", view.subject);
    line("received", Some(view.received_at.to_string()));
    line("published", view.published_at.map(|at| at.to_string()));
    line("handled", view.handled_at.map(|at| at.to_string()));
    line("given up", view.dead_at.map(|at| at.to_string()));
    line("tried", Some(view.attempts.to_string()));
    line("next", view.next_at.map(|at| at.to_string()));
    line("reason", view.reason);
    for run in runs.as_array().into_iter().flatten() {
        let text = |key: &str| run.get(key).and_then(Value::as_str).unwrap_or("?");
        line("run", Some(format!("{} of {}", text("run"), text("pipeline"))));
    }
    if let Some(answers) = answers.as_array() {
        super::replay::tell(output, answers);
    }
    let document = serde_json::to_string_pretty(&document)
        .map_err(|e| Stop::internal("cannot write JSON").because(&e))?;
    output.data(document);
    Ok(())
}

async fn retry(context: &Context<'_>, store: &Store, id: &str, json: bool) -> Result<(), Stop> {
    let event = named(store, id).await?;
    let now = context.settings.clock.now();
    let action = AuditAction::EventRetry;
    audit::record(context, store, action, &event.key, None, Map::new()).await?;
    match store.events().retry(&event.key, now).await.map_err(|e| Stop::of(&e))? {
        Retried::Due if json => {
            context.output.json(&json!({ "id": event.key, "state": EventState::Pending }))
        }
        Retried::Due => {
            let said = "the event is due: a server that runs hands it out within seconds";
            context.output.say(said);
            Ok(())
        }
        Retried::Handled => {
            Err(Stop::failed(format!("event {} is handled: there is nothing to try", event.key))
                .hint("`fairlead retry RUN` makes one of its runs again"))
        }
        Retried::Unknown => Err(unknown(id)),
    }
}

/// The event with this id, or the only one whose id begins so.
pub(super) async fn named(store: &Store, id: &str) -> Result<StoredEvent, Stop> {
    let exact = store.events().event(id).await.map_err(|e| Stop::of(&e))?;
    if let Some(event) = exact {
        return Ok(event);
    }
    if id.len() < FEWEST {
        return Err(too_short(id));
    }
    let filter = EventFilter { prefix: Some(id.to_owned()), limit: 2, ..EventFilter::default() };
    let mut found = store.events().list(filter).await.map_err(|e| Stop::of(&e))?.into_iter();
    match (found.next(), found.next()) {
        (Some(event), None) => Ok(event),
        (Some(_), Some(_)) => Err(ambiguous(id)),
        (None, _) => Err(unknown(id)),
    }
}

pub(crate) fn too_short(id: &str) -> Stop {
    Stop::usage(format!("`{}` is too short for the id of an event", tame(id)))
        .hint(format!("give at least {FEWEST} characters of it"))
}

pub(crate) fn ambiguous(id: &str) -> Stop {
    Stop::usage(format!("several events begin with `{}`", tame(id)))
        .hint("give more of the id: `fairlead events list --json` has all of it")
}

fn unknown(id: &str) -> Stop {
    Stop::usage(format!("there is no event `{}`", tame(id)))
        .hint("`fairlead events list` shows the newest; retention removes those that are over")
}
