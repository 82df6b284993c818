//! `fairlead journal`: a run's journal by itself.
//!
//! The exported form is JSON, a line each: a head that names the format and the run, the stored plan,
//! the records of other runs whose results stand for this one, and the records byte for byte as they are kept, whose hashes so stay what they are.

use std::path::Path;
use std::sync::Arc;

use fairlead_plan::Plan;
use fairlead_run::{KeptRecords, PlanBlob, Record, ReplayError, Run, RunFilter, StoredRun};
use fairlead_step::RunId;
use fairlead_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, named_run, show};
use crate::cli::JournalCommand;
use crate::exit::{Exit, Stop};

/// The name of the exported form.
const FORMAT: &str = "fairlead.dev/journal/v1";

/// The same for a run that refers to results of other runs: their records stand behind the plan.
const FORMAT_WITH_KEPT: &str = "fairlead.dev/journal/v2";

/// The most bytes of an exported journal that is read.
const MAX_EXPORT: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    run: RunId,
}

/// A record of another run, byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptLine {
    kept: String,
    of: RunId,
}

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
        let store = context.store().await?;
        let mut filter = RunFilter { limit: RunFilter::MOST, ..RunFilter::default() };
        loop {
            let page = store.journal().list(filter.clone()).await.map_err(|e| Stop::of(&e))?;
            for run in &page {
                let stored = store.journal().load(&run.id).await.map_err(|e| Stop::of(&e));
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
    let format = if stored.kept.is_empty() { FORMAT } else { FORMAT_WITH_KEPT };
    let head = Head { format: format.to_owned(), run: stored.id.clone() };
    let head = serde_json::to_string(&head)
        .map_err(|e| Stop::internal("the head has no JSON form").because(&e))?;
    context.output.data(head);
    context.output.data(String::from_utf8_lossy(stored.plan.bytes()));
    for ((run, _), record) in &stored.kept {
        let kept = KeptLine { kept: record.bytes().to_owned(), of: run.clone() };
        let line = serde_json::to_string(&kept)
            .map_err(|e| Stop::internal("a kept record has no JSON form").because(&e))?;
        context.output.data(line);
    }
    for record in &stored.records {
        context.output.data(record.bytes());
    }
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
    let store: Store = context.store().await?;
    let run = named_run(&store, name).await?;
    store.journal().load(&run).await.map_err(|e| Stop::of(&e))
}

fn from_file(path: &Path) -> Result<StoredRun, Stop> {
    let text = crate::load::text(path, MAX_EXPORT)?;
    let name = path.display();
    let wrong = |line: usize, problem: String| {
        Stop::failed(format!("{name}:{line}: {problem}"))
            .hint("`fairlead journal export RUN` writes such files")
    };
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    let (_, head) = lines.next().ok_or_else(|| wrong(1, "the file is empty".to_owned()))?;
    let head: Head =
        serde_json::from_str(head).map_err(|e| wrong(1, format!("it is no head: {e}")))?;
    if head.format != FORMAT && head.format != FORMAT_WITH_KEPT {
        return Err(wrong(1, format!("it is in the format `{}`, not `{FORMAT}`", head.format)));
    }
    let (_, plan) = lines.next().ok_or_else(|| wrong(2, "the plan is missing".to_owned()))?;
    let plan = PlanBlob::new(plan.to_owned());
    let read = |n: usize, line: &str| Record::read(line).map_err(|e| wrong(n, e.to_string()));
    let (mut kept, mut records) = (KeptRecords::new(), Vec::new());
    for (n, line) in lines {
        match serde_json::from_str::<KeptLine>(line) {
            Ok(line) if records.is_empty() => {
                let record = read(n, &line.kept)?;
                kept.insert((line.of, record.seq()), record);
            }
            Ok(_) | Err(_) => records.push(read(n, line)?),
        }
    }
    Ok(StoredRun { id: head.run, plan, records, kept })
}
