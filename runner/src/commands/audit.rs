//! `fairlead audit`: what callers have changed, and whether the log of it is whole.

use fairlead_run::{
    AuditAction, AuditEntry, AuditRecord, MOST_ENTRIES, RecordHash, Seq, check_audit,
};
use fairlead_store::Store;
use serde_json::{Map, Value, json};

use super::{Context, drive};
use crate::cli::AuditCommand;
use crate::exit::{Exit, Stop};
use crate::output::tame;

pub(crate) async fn audit(context: &Context<'_>, command: AuditCommand) -> Result<Exit, Stop> {
    let store = context.store().await?;
    match command {
        AuditCommand::List { limit, json } => list(context, &store, limit, json).await?,
        AuditCommand::Verify { through } => verify(context, &store, through.as_deref()).await?,
        AuditCommand::Export { after } => export(context, &store, Seq(after)).await?,
    }
    store.close().await;
    Ok(Exit::Passed)
}

/// Writes down what is about to be done to a store from this command line. Where that is not possible it
/// is not done.
pub(crate) async fn record(
    context: &Context<'_>,
    store: &Store,
    action: AuditAction,
    target: &str,
    on_behalf_of: Option<&str>,
    detail: Map<String, Value>,
) -> Result<(), Stop> {
    let actor = drive::person();
    let entry = AuditEntry {
        on_behalf_of: on_behalf_of.filter(|name| *name != actor).map(str::to_owned),
        actor,
        via: "the command line".to_owned(),
        address: None,
        action,
        target: target.to_owned(),
        detail,
    };
    let now = context.settings.clock.now();
    store.audit().append(now, entry).await.map(drop).map_err(|e| Stop::of(&e))
}

async fn page(store: &Store, after: Seq, limit: usize) -> Result<Vec<AuditRecord>, Stop> {
    store.audit().read(after, limit).await.map_err(|e| Stop::of(&e))
}

async fn list(context: &Context<'_>, store: &Store, limit: usize, json: bool) -> Result<(), Stop> {
    let head = store.audit().head().await.map_err(|e| Stop::of(&e))?;
    let last = head.map_or(0, |(seq, _)| seq.0);
    let limit = limit.min(MOST_ENTRIES);
    let records = page(store, Seq(last.saturating_sub(limit as u64)), limit).await?;
    let output = context.output;
    if json {
        let shown: Vec<Value> = records
            .iter()
            .map(|record| {
                json!({
                    "seq": record.seq().0,
                    "at": record.at(),
                    "hash": record.hash().to_string(),
                    "entry": record.entry(),
                })
            })
            .collect();
        return output.json(&shown);
    }
    if records.is_empty() {
        output.say("nobody has changed anything yet");
        return Ok(());
    }
    for record in &records {
        let AuditEntry { actor, via, on_behalf_of, address, action, target, detail } =
            record.entry();
        let at = record.at().strftime("%Y-%m-%d %H:%M:%SZ");
        let other = on_behalf_of.as_ref().map(|name| format!(" on behalf of {}", tame(name)));
        let other = other.unwrap_or_default();
        let from = address.as_ref().map(|from| format!(" from {}", tame(from)));
        let from = from.unwrap_or_default();
        let who = format!("{}{other} ({}{from})", tame(actor), tame(via));
        let seq = record.seq().0;
        output.data(format!("{seq:>6}  {at}  {action:<14}  {}  {who}", tame(target)));
        for (name, value) in detail {
            output.data(format!("{:>8}{}: {}", "", tame(name), tame(&value.to_string())));
        }
    }
    Ok(())
}

async fn verify(context: &Context<'_>, store: &Store, through: Option<&str>) -> Result<(), Stop> {
    let through = through.map(place).transpose()?;
    let (mut end, mut met) = (None, through.is_none());
    loop {
        let after = end.map_or(Seq(0), |(seq, _)| seq);
        let records = page(store, after, MOST_ENTRIES).await?;
        if records.is_empty() {
            break;
        }
        met |= records.iter().any(|record| through == Some((record.seq(), record.hash())));
        end = check_audit(end, &records).map_err(|e| {
            Stop::failed("the audit log is not whole").because(&e).hint(
                "compare it with an export: somebody has written to the database by other means",
            )
        })?;
    }
    if !met {
        return Err(Stop::failed("the audit log does not lead through the given place")
            .hint("it was written anew, or cut off and gone on with; compare it with an export"));
    }
    match end {
        None => context.output.say("the audit log is empty"),
        Some((seq, hash)) => {
            context
                .output
                .say(format!("{seq} entries, each behind the one before it; the last is"));
            context.output.data(format!("{seq}:{hash}"));
        }
    }
    Ok(())
}

fn place(text: &str) -> Result<(Seq, RecordHash), Stop> {
    let place = text
        .split_once(':')
        .and_then(|(seq, hash)| Some((Seq(seq.parse().ok()?), RecordHash::from_hex(hash)?)));
    place.ok_or_else(|| {
        Stop::usage(format!("`{}` is no place in an audit log", tame(text)))
            .hint("give what `fairlead audit verify` has printed: SEQ:HASH")
    })
}

async fn export(context: &Context<'_>, store: &Store, after: Seq) -> Result<(), Stop> {
    let mut after = after;
    loop {
        let records = page(store, after, MOST_ENTRIES).await?;
        let Some(last) = records.last() else { return Ok(()) };
        after = last.seq();
        for record in &records {
            context.output.data(record.bytes());
        }
    }
}
