//! A pipeline of one step, for `fairlead steps run`.

use fairlead_plan::Source;
use fairlead_step::{ImageRef, Step, StepId, schema_format};
use serde_json::{Map, Value, json};

use crate::exit::Stop;

/// The text of a pipeline with one step. JSON is YAML, so it goes through the same checks as a
/// file, and expressions such as `{{ secrets.cosign }}` work.
pub(crate) fn one_step(step: &dyn Step, with: &[String]) -> Result<(Source, StepId), Stop> {
    let spec = step.spec();
    let (mut inputs, mut params) = (Map::new(), Map::new());
    for text in with {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Stop::usage(format!("`--with {text}` has no `=`")).hint("write `--with NAME=VALUE`")
        })?;
        let schema = &spec.input_schema["properties"][name];
        // A person has a tag where the step wants a digest: it is resolved as that of a parameter is.
        if schema["format"] == schema_format::IMAGE && is_tagged(value) {
            params.insert(name.to_owned(), json!({ "type": "image", "default": value }));
            inputs.insert(name.to_owned(), format!("{{{{ params.{name} }}}}").into());
            continue;
        }
        inputs.insert(name.to_owned(), read(value, schema));
    }
    let id: StepId = spec.kind.parse().map_err(|_| {
        Stop::internal(format!("the kind `{}` does not do as the name of a step", spec.kind))
    })?;
    let pipeline = json!({
        "apiVersion": "fairlead.dev/v1",
        "kind": "Pipeline",
        "name": format!("step-{}", spec.kind),
        "params": params,
        "steps": {id.as_str(): {"uses": spec.kind, "with": inputs}},
    });
    Ok((Source::new("the command line", pipeline.to_string()), id))
}

/// Whether a text names an image by a tag.
fn is_tagged(text: &str) -> bool {
    text.parse::<ImageRef>().is_ok_and(|image| image.tag.is_some())
}

/// A text where the input takes texts; JSON elsewhere, and a text again where it is none.
fn read(value: &str, schema: &Value) -> Value {
    let takes_text = match &schema["type"] {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if takes_text || value.contains("{{") {
        return Value::String(value.to_owned());
    }
    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_what_the_input_takes() {
        let text = json!({"type": ["string", "null"]});
        let list = json!({"type": "array"});
        assert_eq!(read("12", &text), json!("12"));
        assert_eq!(read("[1]", &list), json!([1]));
        assert_eq!(read("{{ params.x }}", &list), json!("{{ params.x }}"));
        assert_eq!(read("plain", &list), json!("plain"));
    }
}
