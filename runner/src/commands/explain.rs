//! `fairlead explain`: why a run and its steps are where they are.

use fairlead_run::{Around, RunFilter};

use super::{Context, load, named_run};
use crate::cli::ExplainArgs;
use crate::exit::{Exit, Stop};

pub(crate) async fn explain(context: &Context<'_>, args: ExplainArgs) -> Result<Exit, Stop> {
    let journal = context.kept().await?.journal;
    let id = named_run(&*journal, &args.run).await?;
    let (_, run) = load(&*journal, &id).await?;
    let output = context.output;
    if let Some(step) = &args.step {
        let Some(told) = run.explain_step(step) else {
            return Err(Stop::usage(format!("run {id} has no step `{step}`"))
                .hint(format!("`fairlead show {id}` has its steps")));
        };
        if args.json {
            output.json(&told)?;
        } else {
            output.data(told.to_string());
        }
        return Ok(Exit::Passed);
    }
    let signals = journal.signals(&id).await.map_err(|e| Stop::of(&e))?.len();
    let this = RunFilter { run: Some(id.clone()), limit: 1, ..RunFilter::default() };
    let listed = journal.list(this).await.map_err(|e| Stop::of(&e))?;
    let held = listed.first().is_some_and(|run| run.held);
    let told = run.explain(Around { held, signals });
    if args.json {
        output.json(&told)?;
    } else {
        output.data(told.to_string());
    }
    Ok(Exit::Passed)
}
