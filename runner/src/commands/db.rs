//! `fairlead db`: the advisory database.

use std::sync::Arc;

use fairlead_step_scan::{Database, Source, UpdateOptions};
use serde_json::json;

use super::Context;
use crate::cli::DbCommand;
use crate::exit::{Exit, Stop};

pub(crate) async fn db(context: &Context<'_>, command: DbCommand) -> Result<Exit, Stop> {
    match command {
        DbCommand::Update { from, ecosystems } => update(context, &from, ecosystems).await,
        DbCommand::Info { json } => info(context, json),
    }
}

async fn update(
    context: &Context<'_>,
    from: &str,
    ecosystems: Option<Vec<String>>,
) -> Result<Exit, Stop> {
    let output = context.output.clone();
    let mut options = UpdateOptions::new(context.settings.clock.now());
    options.ecosystems = ecosystems;
    options.progress = Some(Arc::new(move |line: &str| output.say(line)));
    let dir = &context.settings.advisories;
    let report = Database::update(Source::parse(from), dir, options)
        .await
        .map_err(|e| Stop::of(&e).hint(e.hint()))?;
    let output = context.output;
    for feed in &report.feeds {
        let how = if feed.fetched { "fetched" } else { "from disk" };
        let bad = if feed.bad > 0 { format!(", {} bad", feed.bad) } else { String::new() };
        output.say(format!("{:<12} {:>7} records {how}{bad}", feed.ecosystem, feed.records));
        if let Some(first) = &feed.first_bad {
            output.say(format!("  the first bad record: {first}"));
        }
    }
    for skipped in &report.skipped {
        output.say(format!("{skipped:<12} skipped"));
    }
    if report.faults > 0 {
        output.say(format!("{} records have ranges that make no sense:", report.faults));
        for fault in &report.faults_named {
            output.say(format!("  {fault}"));
        }
    }
    let state = if report.changed() { "is new" } else { "is what it was" };
    output.say(format!("the database {state}: {} records, {} bytes", report.records, report.size));
    output.data(report.digest.to_string());
    Ok(Exit::Passed)
}

fn info(context: &Context<'_>, as_json: bool) -> Result<Exit, Stop> {
    let database =
        Database::open(&context.settings.advisories).map_err(|e| Stop::of(&e).hint(e.hint()))?;
    let info = database.info();
    if as_json {
        context.output.json(&json!({
            "digest": info.digest,
            "format": info.format,
            "size": info.size,
            "records": info.records,
            "newest": info.newest,
            "ecosystems": info.ecosystems,
            "newest_of": info.newest_of,
            "source": info.source,
            "updated_at": info.updated_at,
        }))?;
        return Ok(Exit::Passed);
    }
    let newest = info.newest.map_or_else(|| "none".to_owned(), |at| at.to_string());
    context.output.data(format!(
        "digest      {}\nrecords     {}\nnewest      {newest}\nupdated     {}\nsource      {}",
        info.digest, info.records, info.updated_at, info.source
    ));
    for (ecosystem, records) in &info.ecosystems {
        let family = ecosystem.split(':').next().unwrap_or(ecosystem);
        let newest = info.newest_of.get(family).map(|at| at.split('T').next().unwrap_or(at));
        let newest = newest.unwrap_or("no date");
        context.output.data(format!("{ecosystem:<20} {records:>8}  newest of {newest}"));
    }
    Ok(Exit::Passed)
}
