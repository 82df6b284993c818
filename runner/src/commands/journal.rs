//! `fairlead journal`: a run's journal by itself.

use std::path::Path;
use std::sync::Arc;

use fairlead_plan::Plan;
use fairlead_run::{ImportError, MAX_EXPORT_BYTES, Record, ReplayError, Run, RunFilter, StoredRun};
use serde_json::Value;

use super::{Context, named_run, show};
use crate::cli::JournalCommand;
use crate::exit::{Exit, Stop};

pub(crate) async fn journal(context: &Context<'_>, command: JournalCommand) -> Result<Exit, Stop> {
    match command {
        JournalCommand::Verify { journals, all } => verify(context, journals, all).await,
        JournalCommand::Export { run } => export(context, &run).await,
        JournalCommand::Replay { journal, until, json } => {
            replay(context, &journal, until, json).await
        }
    }
}

async fn verify(context: &Context<'_>, journals: Vec<String>, all: bool) -> Result<Exit, Stop> {
    let mut damaged = 0_u64;
    let mut whole = 0_u64;
    let mut look = |name: &str, stored: Result<StoredRun, Stop>| {
        let checked = stored.and_then(|stored| {
            Run::restore(&stored).map_err(|e| Stop::of(&e)).map(|run| (stored.records.len(), run))
        });
        match checked {
            Ok((records, run)) => {
                whole += 1;
                let (head, status) = (run.head(), run.status());
                context.output.data(format!("{name}  whole  {records} records  {status}  {head}"));
            }
            Err(stop) => {
                damaged += 1;
                context.output.data(format!("{name}  DAMAGED  {}", stop.message));
            }
        }
    };
    if all {
        let journal = context.kept().await?.journal;
        let mut filter = RunFilter { limit: RunFilter::MOST, ..RunFilter::default() };
        loop {
            let page = journal.list(filter.clone()).await.map_err(|e| Stop::of(&e))?;
            for run in &page {
                let stored = journal.load(&run.id).await.map_err(|e| Stop::of(&e));
                look(run.id.as_str(), stored);
            }
            match page.last() {
                Some(last) if page.len() == RunFilter::MOST => {
                    filter.before = Some(last.id.clone());
                }
                Some(_) | None => break,
            }
        }
    } else {
        for name in &journals {
            look(name, load(context, name).await);
        }
    }
    context.output.say(format!("{whole} whole, {damaged} damaged"));
    Ok(if damaged == 0 { Exit::Passed } else { Exit::Failed })
}

async fn export(context: &Context<'_>, run: &str) -> Result<Exit, Stop> {
    let stored = load(context, run).await?;
    let text = stored.export();
    let text = text.map_err(|e| Stop::internal("the journal has no JSON form").because(&e))?;
    context.output.data(text.trim_end_matches('\n'));
    Ok(Exit::Passed)
}

async fn replay(
    context: &Context<'_>,
    name: &str,
    until: Option<u64>,
    json: bool,
) -> Result<Exit, Stop> {
    let stored = load(context, name).await?;
    let plan: Plan =
        serde_json::from_slice(stored.plan.bytes()).map_err(|e| Stop::of(&ReplayError::Plan(e)))?;
    let plan = Arc::new(plan);
    let last = until.unwrap_or(u64::MAX);
    let records: Vec<Record> =
        stored.records.into_iter().take_while(|record| record.seq().0 <= last).collect();
    let Some((first, rest)) = records.split_first() else {
        return Err(Stop::usage("there is no record so early").hint("the first one is number 1"));
    };
    let mut run = Run::replay_keeping(stored.id, plan, std::slice::from_ref(first), &stored.kept)
        .map_err(|e| Stop::of(&e))?;
    let output = context.output;
    let tell = |record: &Record, run: &Run| {
        if !json {
            let (seq, at, status) = (record.seq(), record.at(), run.status());
            output.data(format!("{seq:>5}  {at:<30}  {status:<15}  {}", fact(record)));
        }
    };
    tell(first, &run);
    for record in rest {
        run.apply(record)
            .map_err(|source| Stop::of(&ReplayError::Impossible { seq: record.seq(), source }))?;
        tell(record, &run);
    }
    if json {
        output.json(&show::to_json(&run))?;
    } else {
        output.say(show::timeline(&run, run.status().name(), output));
    }
    Ok(Exit::Passed)
}

/// What a record says, without what ties it to the others.
fn fact(record: &Record) -> String {
    let value: Value = serde_json::from_str(record.bytes()).unwrap_or(Value::Null);
    let Some(Value::Object(fact)) = value.get("fact").cloned() else { return String::new() };
    let kind = fact.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rest: serde_json::Map<String, Value> =
        fact.into_iter().filter(|(name, _)| name != "type" && name != "token").collect();
    let text = Value::Object(rest).to_string();
    if text.chars().count() > 160 {
        let short: String = text.chars().take(159).collect();
        return format!("{kind} {short}…");
    }
    format!("{kind} {text}")
}

/// The journal of a run in the store, or of one in a file that was exported.
async fn load(context: &Context<'_>, name: &str) -> Result<StoredRun, Stop> {
    let path = Path::new(name);
    if path.is_file() {
        return from_file(path);
    }
    let kept = context.kept().await?;
    let run = named_run(&*kept.journal, name).await?;
    kept.journal.load(&run).await.map_err(|e| Stop::of(&e))
}

fn from_file(path: &Path) -> Result<StoredRun, Stop> {
    let text = crate::load::text(path, MAX_EXPORT_BYTES)?;
    StoredRun::import(&text).map_err(|ImportError { line, problem }| {
        Stop::failed(format!("{}:{line}: {problem}", path.display()))
            .hint("`fairlead journal export RUN` writes such files")
    })
}
