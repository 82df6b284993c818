//! `fairlead prune`: retention.

use fairlead_run::AuditAction;
use fairlead_store::{Amount, PruneRules};
use serde_json::{Map, json};

use super::{Context, audit};
use crate::cli::PruneArgs;
use crate::exit::{Exit, Stop};

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
    let amounts = [
        ("records", report.records),
        ("logs", report.logs),
        ("plans", report.plans),
        ("events", report.events),
        ("event keys", report.keys),
        ("cached results", report.remembered),
        ("artifacts", report.artifacts),
    ];
    let output = context.output;
    if args.json {
        let of = |amount: &Amount| json!({ "count": amount.count, "bytes": amount.bytes });
        let amounts: serde_json::Map<String, serde_json::Value> =
            amounts.iter().map(|(name, amount)| (name.replace(' ', "_"), of(amount))).collect();
        output.json(&json!({
            "removed": args.yes,
            "runs": report.runs,
            "amounts": amounts,
        }))?;
    } else {
        for run in &report.runs {
            output.data(format!("run {run}"));
        }
        for (name, amount) in amounts.iter().filter(|(_, amount)| amount.count > 0) {
            output.data(format!("{} {name}, {} bytes", amount.count, amount.bytes));
        }
    }
    let (runs, what) = (report.runs.len(), if args.yes { "went" } else { "would go" });
    let rest = if args.yes { "" } else { "; `--yes` removes them" };
    output.say(format!("{runs} runs {what}{rest}"));
    if args.older_than.is_none() && args.keep_last.is_none() {
        output.say("no rule was given, so no run may go: see `--older-than` and `--keep-last`");
    }
    store.close().await;
    Ok(Exit::Passed)
}
