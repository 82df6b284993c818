//! `fairlead schema`: the JSON Schemas that editors and reviews use, generated from the code.

use std::path::Path;

use fairlead_plan::pipeline_schema;
use serde_json::Value;

use super::{Context, serve};
use crate::cli::{SchemaArgs, SchemaName};
use crate::exit::{Exit, Stop};

pub(crate) fn schema(context: &Context<'_>, args: &SchemaArgs) -> Result<Exit, Stop> {
    let openapi = fairlead_server::openapi()
        .map_err(|e| Stop::internal("the API cannot be described").because(&e))?;
    let all: [(&str, Value); 3] = [
        ("pipeline.schema.json", pipeline_schema(&context.catalog)),
        ("server.schema.json", schemars::schema_for!(serve::Config).to_value()),
        ("openapi.json", openapi),
    ];
    if let Some(folder) = &args.write {
        for (name, schema) in &all {
            let path = folder.join(name);
            std::fs::write(&path, text(schema)?).map_err(|e| {
                Stop::failed(format!("cannot write {}", path.display())).because(&e)
            })?;
            context.output.say(format!("wrote {}", path.display()));
        }
        return Ok(Exit::Passed);
    }
    if let Some(folder) = &args.check {
        for (name, schema) in &all {
            check(&folder.join(name), &text(schema)?, folder)?;
        }
        context.output.say("the schemas are fresh");
        return Ok(Exit::Passed);
    }
    let at = match args.name {
        SchemaName::Pipeline => 0,
        SchemaName::Server => 1,
        SchemaName::Openapi => 2,
    };
    context.output.data(text(&all[at].1)?);
    Ok(Exit::Passed)
}

fn text(schema: &Value) -> Result<String, Stop> {
    serde_json::to_string_pretty(schema)
        .map(|text| text + "\n")
        .map_err(|e| Stop::internal("cannot write JSON").because(&e))
}

fn check(path: &Path, fresh: &str, folder: &Path) -> Result<(), Stop> {
    let found = std::fs::read_to_string(path)
        .map_err(|e| Stop::failed(format!("cannot read {}", path.display())).because(&e))?;
    if found == fresh {
        return Ok(());
    }
    Err(Stop::failed(format!("{} is stale", path.display()))
        .hint(format!("run `fairlead schema --write {}`", folder.display())))
}
