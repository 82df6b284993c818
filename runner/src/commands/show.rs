//! `fairlead show`: one run, its steps on a time line, their outputs and reasons.

use fairlead_plan::Outcome;
use fairlead_run::{Journal, Record, Run, RunFilter, StepStatus, StepView};
use fairlead_step::{Artifact, StepId};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::runs::status_word;
use super::{Context, load, named_run};
use crate::cli::ShowArgs;
use crate::exit::{Exit, Stop};
use crate::live::took_text;
use crate::output::{Output, Style};

/// How many characters wide the time line is.
const LINE: usize = 40;

pub(crate) async fn show(context: &Context<'_>, args: ShowArgs) -> Result<Exit, Stop> {
    let kept = context.kept().await?;
    let journal = &*kept.journal;
    let id = named_run(journal, &args.run).await?;
    let (stored, run) = load(journal, &id).await?;
    let output = context.output;
    if let Some(place) = &args.artifact {
        let artifact = find_artifact(&run, place)?;
        let bytes = kept.artifact(&id, &artifact.digest).await?;
        output.data(String::from_utf8_lossy(&bytes));
        return Ok(Exit::Passed);
    }
    if args.json {
        let mut json = to_json(&run);
        json["status"] = status(journal, &run).await?.into();
        if args.journal {
            json["journal"] = stored.records.iter().map(record_json).collect();
        }
        output.json(&json)?;
        return Ok(Exit::Passed);
    }
    output.data(timeline(&run, status(journal, &run).await?, output));
    output.data(outputs(&run, output));
    if args.journal {
        for record in &stored.records {
            output.data(record.bytes());
        }
    }
    Ok(Exit::Passed)
}

/// The word for where it is, as `fairlead runs` has it: a run that nobody drives was interrupted.
async fn status(journal: &dyn Journal, run: &Run) -> Result<&'static str, Stop> {
    let this = RunFilter { run: Some(run.id().clone()), limit: 1, ..RunFilter::default() };
    let found = journal.list(this).await.map_err(|e| Stop::of(&e))?;
    let held = found.first().is_some_and(|run| run.held);
    Ok(status_word(run.status(), held))
}

fn record_json(record: &Record) -> Value {
    serde_json::from_str(record.bytes()).unwrap_or(Value::Null)
}

fn find_artifact(run: &Run, place: &str) -> Result<Artifact, Stop> {
    let wrong = |problem: String| {
        Stop::usage(problem)
            .hint("write STEP.OUTPUT, such as `scan.table`; `fairlead show` lists them")
    };
    let (step, output) =
        place.split_once('.').ok_or_else(|| wrong(format!("`{place}` has no `.`")))?;
    let id: StepId = step.parse().map_err(|_| wrong(format!("`{step}` is no step")))?;
    let value = run
        .step(&id)
        .and_then(|view| view.outputs())
        .and_then(|outputs| outputs.get(output))
        .ok_or_else(|| wrong(format!("the run has no output `{place}`")))?;
    serde_json::from_value(value.clone())
        .map_err(|_| wrong(format!("`{place}` is no stored document: {value}")))
}

/// Header and time line; `word` says where the run is.
pub(crate) fn timeline(run: &Run, word: &str, output: &Output) -> String {
    let begin = run.requested_at();
    let last = run.steps().filter_map(|s| s.ended_at().or(s.started_at())).max().unwrap_or(begin);
    let end = run.ended().map_or(last, |(_, at)| at).max(last);
    let total = end.duration_since(begin).unsigned_abs();
    let mut text = format!(
        "\n{} {}  {}  {}  requested by {} at {}\n\n",
        output.paint(Style::Bold, run.plan().name()),
        run.id(),
        output.paint(super::runs::status_style(word), word),
        took_text(total),
        run.request().by,
        begin.strftime("%Y-%m-%d %H:%M:%SZ"),
    );
    let width = run.steps().map(|s| s.id().as_str().len()).max().unwrap_or(4);
    for step in run.steps() {
        text.push_str(&step_line(&step, begin, total.as_secs_f64(), width, output));
    }
    if let Some(wakes) = run.wakes_at().filter(|_| run.only_waits()) {
        text.push_str(&format!("  it only waits, and is looked at again at {wakes}\n"));
    }
    if let Some(cancel) = run.cancellation() {
        text.push_str(&format!("  cancelled by {}: {}\n", cancel.by, cancel.reason));
    }
    text
}

fn step_line(
    step: &StepView<'_>,
    begin: Timestamp,
    total: f64,
    width: usize,
    output: &Output,
) -> String {
    let (mark, style, word) = match step.status() {
        StepStatus::Waiting => ("·", Style::Dim, "waiting"),
        StepStatus::Running { .. } => ("▶", Style::Bold, "running"),
        StepStatus::Items { .. } => ("▶", Style::Bold, "running"),
        StepStatus::Retrying { .. } => ("↻", Style::Warn, "retrying"),
        StepStatus::Open { .. } => ("◇", Style::Bold, "open"),
        StepStatus::Asking { .. } => ("◇", Style::Bold, "asking"),
        StepStatus::NeedsAttention { .. } => ("!", Style::Warn, "attention"),
        StepStatus::Ended(Outcome::Passed) => ("✓", Style::Good, "passed"),
        StepStatus::Ended(Outcome::Rejected) => ("✗", Style::Bad, "rejected"),
        StepStatus::Ended(Outcome::Failed) => ("✗", Style::Bad, "failed"),
        StepStatus::Ended(Outcome::Skipped) => ("–", Style::Dim, "skipped"),
        StepStatus::Ended(Outcome::Cancelled) => ("■", Style::Warn, "cancelled"),
    };
    let (bar, took) = match (step.started_at(), step.ended_at()) {
        (Some(from), Some(to)) => (bar(begin, from, to, total), took(from, to)),
        (Some(_) | None, _) => (" ".repeat(LINE), String::new()),
    };
    let id = step.id();
    let mut line = format!(
        "  {} {id:<width$}  {}  {}  {took:>9}",
        output.paint(style, mark),
        output.paint(style, format!("{word:<9}")),
        output.paint(Style::Dim, bar),
    );
    let attempts = step.attempts().len();
    if attempts > 1 {
        line.push_str(&format!("  {attempts} attempts"));
    }
    line = format!("{}\n", line.trim_end());
    if let Some(reason) = step.reason() {
        line.push_str(&format!("    {:<width$}  {reason}\n", ""));
    }
    if let (StepStatus::Open { .. }, Some(gate)) = (step.status(), step.gate()) {
        line.push_str(&format!("    {:<width$}  {gate}\n", ""));
        for ballot in step.ballots() {
            let (by, at) = (&ballot.by.name, ballot.at);
            line.push_str(&format!("    {:<width$}  {by} approved at {at}\n", ""));
        }
    } else if let Some(due) = step.due() {
        let what =
            if matches!(step.status(), StepStatus::Asking { .. }) { "asked" } else { "tried" };
        line.push_str(&format!("    {:<width$}  it is {what} again at {due}\n", ""));
    }
    if let Some(hint) = step.hint() {
        let hint = format!("{} {hint}", output.paint(Style::Warn, "hint:"));
        line.push_str(&format!("    {:<width$}  {hint}\n", ""));
    }
    line
}

fn took(from: Timestamp, to: Timestamp) -> String {
    took_text(to.duration_since(from).unsigned_abs())
}

/// When a step ran within the run, as a bar.
fn bar(begin: Timestamp, from: Timestamp, to: Timestamp, total: f64) -> String {
    let place = |at: Timestamp| {
        if total <= 0.0 {
            return 0;
        }
        let share = at.duration_since(begin).as_secs_f64() / total;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the share lies between 0 and 1"
        )]
        let column = (share.clamp(0.0, 1.0) * LINE as f64).round() as usize;
        column
    };
    let start = place(from).min(LINE - 1);
    let end = place(to).clamp(start + 1, LINE);
    format!("{}{}{}", "·".repeat(start), "█".repeat(end - start), "·".repeat(LINE - end))
}

/// The outputs of every step, one a line.
fn outputs(run: &Run, output: &Output) -> String {
    let mut text = String::new();
    for step in run.steps() {
        let Some(Value::Object(outputs)) = step.outputs() else { continue };
        for (name, value) in outputs.iter().filter(|(_, value)| !value.is_null()) {
            let place = output.paint(Style::Dim, format!("{}.{name}", step.id()));
            text.push_str(&format!("  {place}  {}\n", brief(value)));
        }
    }
    text
}

/// A value on one line: texts as they are, documents by name.
fn brief(value: &Value) -> String {
    let whole = match value {
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        Value::Object(_) => match serde_json::from_value::<Artifact>(value.clone()) {
            Ok(artifact) => {
                format!("{} ({} bytes, {})", artifact.name, artifact.size, artifact.digest)
            }
            Err(_) => value.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    };
    if whole.chars().count() > 160 {
        return whole.chars().take(159).chain(['…']).collect();
    }
    whole
}

/// A run as JSON: what programs read.
pub(crate) fn to_json(run: &Run) -> Value {
    let steps: Map<String, Value> =
        run.steps().map(|step| (step.id().to_string(), step_json(&step))).collect();
    json!({
        "run": run.id(),
        "pipeline": run.plan().name(),
        "status": run.status().name(),
        "plan": run.request().plan,
        "source": run.plan().source_digest(),
        "by": run.request().by,
        "params": run.request().params,
        "event": run.request().event,
        "workspace": run.request().workspace,
        "requested_at": run.requested_at(),
        "ended_at": run.ended().map(|(_, at)| at),
        "wake_at": run.wakes_at().filter(|_| run.only_waits()),
        "journal": {"records": run.seq().0, "head": run.head().to_string()},
        "steps": steps,
    })
}

fn step_json(step: &StepView<'_>) -> Value {
    let attempts: Vec<Value> = step
        .attempts()
        .iter()
        .map(|attempt| {
            let (ended_at, end) =
                attempt.ended.as_ref().map(|(at, end)| (at, end.to_string())).unzip();
            json!({
                "attempt": attempt.number,
                "started_at": attempt.started_at,
                "ended_at": ended_at,
                "end": end,
            })
        })
        .collect();
    json!({
        "uses": step.plan().kind,
        "item": step.item().map(|item| &item.value),
        "item_key": step.item().map(|item| &item.key),
        "gate": step.gate(),
        "approvals": step.ballots().iter().map(|ballot| json!({
            "by": ballot.by.name, "at": ballot.at, "reason": ballot.reason,
        })).collect::<Vec<_>>(),
        "due": step.due(),
        "status": step.status().name(),
        "started_at": step.started_at(),
        "ended_at": step.ended_at(),
        "attempts": attempts,
        "reason": step.reason(),
        "hint": step.hint(),
        "outputs": step.outputs(),
    })
}
