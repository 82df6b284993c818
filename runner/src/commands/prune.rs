//! `fairlead prune`: retention.

use fairlead_run::AuditAction;
use fairlead_store::{Amount, PruneReport, PruneRules};
use serde_json::{Map, Value, json};

use super::{Context, audit};
use crate::cli::PruneArgs;
use crate::exit::{Exit, Stop};
use crate::output::Output;

/// What is counted of what goes, in the order in which it is told.
const AMOUNTS: [&str; 7] =
    ["records", "logs", "plans", "events", "event_keys", "cached_results", "artifacts"];

pub(crate) async fn prune(context: &Context<'_>, args: PruneArgs) -> Result<Exit, Stop> {
    let store = context.store().await?;
    let mut rules = PruneRules::at(context.settings.clock.now());
    if let Some(age) = args.older_than {
        rules = rules.older_than(age.0);
    }
    if let Some(count) = args.keep_last {
        rules = rules.keep_last(count);
    }
    if args.yes {
        let detail = Map::from_iter([
            ("older_than".to_owned(), json!(args.older_than)),
            ("keep_last".to_owned(), json!(args.keep_last)),
        ]);
        let action = AuditAction::StorePrune;
        audit::record(context, &store, action, "store", None, detail).await?;
    }
    let report = store.prune(&rules, !args.yes).await.map_err(|e| Stop::of(&e))?;
    store.close().await;
    tell(context.output, &args, &as_json(&report, args.yes))?;
    Ok(Exit::Passed)
}

/// A report as JSON.
pub(crate) fn as_json(report: &PruneReport, removed: bool) -> Value {
    let amounts = [
        ("records", report.records),
        ("logs", report.logs),
        ("plans", report.plans),
        ("events", report.events),
        ("event keys", report.keys),
        ("cached results", report.cached_results),
        ("artifacts", report.artifacts),
    ];
    let of = |amount: &Amount| json!({ "count": amount.count, "bytes": amount.bytes });
    let amounts: Map<String, Value> =
        amounts.iter().map(|(name, amount)| (name.replace(' ', "_"), of(amount))).collect();
    json!({ "removed": removed, "runs": report.runs, "amounts": amounts })
}

/// Says what went, or would go.
pub(crate) fn tell(output: &Output, args: &PruneArgs, report: &Value) -> Result<(), Stop> {
    let runs = report.get("runs").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.json {
        output.json(report)?;
    } else {
        for run in runs.iter().filter_map(Value::as_str) {
            output.data(format!("run {run}"));
        }
        for name in AMOUNTS {
            let amount = &report["amounts"][name];
            let number = |key: &str| amount.get(key).and_then(Value::as_u64).unwrap_or(0);
            let (count, bytes) = (number("count"), number("bytes"));
            if count > 0 {
                output.data(format!("{count} {}, {bytes} bytes", name.replace('_', " ")));
            }
        }
    }
    let (runs, what) = (runs.len(), if args.yes { "went" } else { "would go" });
    let rest = if args.yes { "" } else { "; `--yes` removes them" };
    output.say(format!("{runs} runs {what}{rest}"));
    if args.older_than.is_none() && args.keep_last.is_none() {
        output.say("no rule was given, so no run may go: see `--older-than` and `--keep-last`");
    }
    Ok(())
}
