//! `fairlead graph`: the steps of a pipeline, drawn.

use fairlead_plan::draw::{Statuses, dot, mermaid, terminal};

use super::Context;
use crate::cli::{GraphArgs, GraphFormat};
use crate::exit::{Exit, Stop};
use crate::load;

pub(crate) fn graph(context: &Context<'_>, args: &GraphArgs) -> Result<Exit, Stop> {
    let plan = load::plan(&args.file, &context.catalog, context.output)?;
    let none = Statuses::new();
    context.output.data(match args.format {
        GraphFormat::Terminal => terminal(&plan, &none),
        GraphFormat::Dot => dot(&plan, &none),
        GraphFormat::Mermaid => mermaid(&plan, &none),
    });
    Ok(Exit::Passed)
}
