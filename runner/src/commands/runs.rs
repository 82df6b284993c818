//! `fairlead runs`: the newest runs, one a line.

use fairlead_run::{RunFilter, RunStatus, RunSummary};
use serde_json::{Value, json};

use super::Context;
use crate::cli::RunsArgs;
use crate::exit::{Exit, Stop};
use crate::live::took_text;
use crate::output::{Output, Style};

pub(crate) async fn runs(context: &Context<'_>, args: RunsArgs) -> Result<Exit, Stop> {
    let journal = context.kept().await?.journal;
    let filter = RunFilter {
        run: None,
        pipeline: args.pipeline,
        unfinished: args.unfinished,
        ended_since: None,
        before: None,
        origin: None,
        limit: args.limit.min(RunFilter::MOST),
    };
    let runs = journal.list(filter).await.map_err(|e| Stop::of(&e))?;
    if args.json {
        let list: Vec<Value> = runs.iter().map(to_json).collect();
        context.output.json(&list)?;
        return Ok(Exit::Passed);
    }
    if runs.is_empty() {
        context.output.say("there are no such runs; `fairlead run FILE` starts one");
        return Ok(Exit::Passed);
    }
    let width = runs.iter().map(|run| run.pipeline.len()).max().unwrap_or(8).max(8);
    context.output.data(format!(
        "{:<18}  {:<width$}  {:<15}  {:<20}  {:>10}  {}",
        "RUN", "PIPELINE", "STATUS", "REQUESTED", "TOOK", "BY"
    ));
    for run in &runs {
        context.output.data(line(run, width, context.output));
    }
    Ok(Exit::Passed)
}

/// The word for where a run is. One that nobody drives and that has not ended was interrupted.
pub(crate) fn status_word(status: RunStatus, held: bool) -> &'static str {
    match status {
        RunStatus::Running | RunStatus::Cancelling if !held => "interrupted",
        RunStatus::Queued
        | RunStatus::Running
        | RunStatus::Waiting
        | RunStatus::NeedsAttention
        | RunStatus::Cancelling
        | RunStatus::Ended(_) => status.name(),
    }
}

pub(crate) fn status_style(word: &str) -> Style {
    match word {
        "passed" => Style::Good,
        "failed" | "rejected" => Style::Bad,
        "interrupted" | "needs-attention" | "cancelled" | "cancelling" => Style::Warn,
        _ => Style::Bold,
    }
}

fn line(run: &RunSummary, width: usize, output: &Output) -> String {
    let word = status_word(run.status, run.held);
    let status = output.paint(status_style(word), format!("{word:<15}"));
    let took = run.ended_at.map_or(String::new(), |end| {
        took_text(end.duration_since(run.requested_at).unsigned_abs())
    });
    let at = run.requested_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    format!("{}  {:<width$}  {status}  {at:<20}  {took:>10}  {}", run.id, run.pipeline, run.by)
}

fn to_json(run: &RunSummary) -> Value {
    json!({
        "run": run.id,
        "pipeline": run.pipeline,
        "status": status_word(run.status, run.held),
        "by": run.by,
        "requested_at": run.requested_at,
        "ended_at": run.ended_at,
    })
}
