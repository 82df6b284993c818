//! `fairlead steps`: the kinds, their reference, and one step run by itself.

use std::path::Path;
use std::sync::Arc;

use fairlead_exec::RunRequest;
use fairlead_plan::{Compiled, compile};
use fairlead_step::{Step, StepSpec};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Context, drive, pipeline_source};
use crate::cli::{DriveArgs, StepsCommand};
use crate::exit::{Exit, Stop};
use crate::output::Style;
use crate::{load, report};

pub(crate) async fn steps(context: &Context<'_>, command: StepsCommand) -> Result<Exit, Stop> {
    match command {
        StepsCommand::List => {
            for spec in context.catalog.specs() {
                let kind = context.output.paint(Style::Bold, format!("{:<10}", spec.kind));
                context.output.data(format!("{kind} {}", spec.summary));
            }
            Ok(Exit::Passed)
        }
        StepsCommand::Reference { kind, json } => reference(context, &kind, json),
        StepsCommand::Run { kind, with, workspace, drive } => {
            run(context, &kind, &with, &workspace, drive).await
        }
    }
}

fn find(context: &Context<'_>, kind: &str) -> Result<Arc<dyn Step>, Stop> {
    context.catalog.get(kind).cloned().ok_or_else(|| {
        Stop::usage(format!("there is no step kind `{kind}`"))
            .hint("`fairlead steps list` names all")
    })
}

/// The word that serde has for a unit variant.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|v| v.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn reference(context: &Context<'_>, kind: &str, as_json: bool) -> Result<Exit, Stop> {
    let step = find(context, kind)?;
    let spec: &StepSpec = step.spec();
    let capabilities: Vec<String> = spec.capabilities.iter().map(word).collect();
    if as_json {
        context.output.json(&json!({
            "kind": spec.kind,
            "summary": spec.summary,
            "version": spec.version,
            "effect": spec.effect,
            "capabilities": capabilities,
            "input": spec.input_schema,
            "output": spec.output_schema,
        }))?;
        return Ok(Exit::Passed);
    }
    let output = context.output;
    output.data(format!("{}: {}", output.paint(Style::Bold, spec.kind), spec.summary));
    output.data(format!("version {}, effect {}", spec.version, word(spec.effect)));
    output.data(format!("capabilities: {}", capabilities.join(", ")));
    for (title, schema) in [("with:", &spec.input_schema), ("outputs:", &spec.output_schema)] {
        output.data(format!("\n{}", output.paint(Style::Bold, title)));
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mark = if required.contains(&name.as_str()) { " (required)" } else { "" };
            let kind = type_of(property);
            output.data(format!("  {}: {kind}{mark}", output.paint(Style::Good, name)));
            if let Some(text) = property["description"].as_str() {
                for line in text.lines() {
                    output.data(format!("      {line}"));
                }
            }
        }
    }
    Ok(Exit::Passed)
}

/// A schema's type in a word or two.
fn type_of(schema: &Value) -> String {
    if let Some(format) = schema["format"].as_str() {
        return format.to_owned();
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().filter(|v| !v.is_null()).map(plain).collect();
        return values.join(" | ");
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(options) = schema[choice].as_array() {
            let options = options
                .iter()
                .filter(|o| o["type"] != "null")
                .map(|option| option.get("const").map_or_else(|| type_of(option), plain));
            return options.collect::<Vec<_>>().join(" | ");
        }
    }
    let kind = match schema["type"].as_array() {
        Some(kinds) => {
            kinds.iter().filter(|k| *k != "null").map(plain).collect::<Vec<_>>().join(" | ")
        }
        None => plain(&schema["type"]),
    };
    match kind.as_str() {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&schema["additionalProperties"]))
        }
        "null" => "any".to_owned(),
        _ => kind,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

async fn run(
    context: &Context<'_>,
    kind: &str,
    with: &[String],
    workspace: &Path,
    args: DriveArgs,
) -> Result<Exit, Stop> {
    let step = find(context, kind)?;
    let (source, id) = pipeline_source::one_step(&*step, with)?;
    let plan = match compile(&source, &context.catalog) {
        Ok(Compiled { plan, .. }) => plan,
        Err(findings) => {
            report::tell(&findings, context.output);
            return Err(Stop::told(Exit::Usage)
                .hint(format!("`fairlead steps reference {kind}` has the inputs")));
        }
    };
    let params = load::params(&plan, &[])?;
    let request = RunRequest {
        plan: Arc::new(plan),
        params,
        event: drive::no_event(),
        event_id: None,
        started_by: None,
        by: args.name.clone().unwrap_or_else(drive::person),
        workspace: drive::local(workspace)?,
        origin: None,
    };
    let json = args.json;
    let (exit, state) = drive::request_and_drive(context, request, args).await?;
    // The outputs are the data of this command; the whole run only where it is asked for.
    if !json && let Some(outputs) = state.step(&id).and_then(|step| step.outputs()) {
        context.output.json(outputs)?;
    }
    Ok(exit)
}
