//! What expressions read of steps: outputs, of items too, and how they ended.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Names, Part, Problem, Reader, problem};
use crate::code::{CYCLE, UNKNOWN_OUTPUT, UNKNOWN_STEP, WRONG_PHASE};
use crate::expression::{Key, Reference};
use crate::schema::{self, Found};
use crate::{Outcome, suggest};

impl Names<'_> {
    pub(super) fn step(
        &self,
        name: &str,
        reference: &Reference,
        reader: Reader<'_>,
    ) -> Result<Option<Value>, Problem> {
        let Some(step) = self.steps.get(name) else {
            let help = match (self.hyphenated(name), self.near(name)) {
                (Some(id), _) => format!("a name with `-` is written `steps['{id}']`"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("there are {}", suggest::list(self.steps.keys().copied())),
            };
            return Err(problem(UNKNOWN_STEP, format!("there is no step `{name}`"), Some(help)));
        };
        let mut of_item = false;
        if let Reader::Step { id, phase: own, part } = reader {
            if id == name && !matches!(part, Part::Undo(_)) {
                let message = format!("step `{name}` reads itself");
                return Err(problem(CYCLE, message, None));
            }
            // What takes an item back reads what that item gave.
            of_item = id == name && step.items.is_some();
            if own < step.phase {
                let (own, later) = (own.key(), step.phase.key());
                let message =
                    format!("`{name}` runs after every step under `{own}`, so none can read it");
                let help = format!("move `{name}` from `{later}` to `{own}`");
                return Err(problem(WRONG_PHASE, message, Some(help)));
            }
        }
        let path = reference.path.get(1..).unwrap_or_default();
        if path.is_empty() && reference.computed {
            let help = format!("write `steps.{name}.<output>`");
            let message = "which output this reads cannot be known beforehand";
            return Err(problem(UNKNOWN_OUTPUT, message, Some(help)));
        }
        match (&step.items, step.outputs) {
            (Some(keys), outputs) if !of_item => self.all_items(name, *keys, outputs, reference),
            (Some(_) | None, Some(outputs)) => output_of(name, outputs, path, reference),
            (Some(_) | None, None) => Ok(None),
        }
    }

    /// What is read of a step that is made for each item: `items` or `by_key`.
    fn all_items(
        &self,
        name: &str,
        keys: Option<&BTreeSet<String>>,
        outputs: Option<&Value>,
        reference: &Reference,
    ) -> Result<Option<Value>, Problem> {
        let path = reference.path.get(1..).unwrap_or_default();
        let each = || outputs.cloned().unwrap_or(Value::Bool(true));
        match path {
            [] => Ok(None),
            [Key::Name(list)] if list == "items" && !reference.computed => {
                Ok(Some(json!({ "type": "array", "items": each() })))
            }
            [Key::Name(map)] if map == "by_key" && !reference.computed => {
                Ok(Some(json!({ "type": "object", "additionalProperties": each() })))
            }
            [Key::Name(list)] if list == "items" || list == "by_key" => Ok(None),
            [Key::Name(list), Key::Index, rest @ ..] if list == "items" => match outputs {
                Some(outputs) => output_of(name, outputs, rest, reference),
                None => Ok(None),
            },
            [Key::Name(map), Key::Name(key), rest @ ..] if map == "by_key" => {
                if let Some(keys) = keys.filter(|keys| !keys.contains(key)) {
                    let names = || keys.iter().map(String::as_str);
                    let near =
                        if self.slips.take() { suggest::nearest(key, names()) } else { None };
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are {}", suggest::list(names())),
                    };
                    let message = format!("step `{name}` has no item `{key}`");
                    return Err(problem(UNKNOWN_OUTPUT, message, Some(help)));
                }
                match outputs {
                    Some(outputs) => output_of(name, outputs, rest, reference),
                    None => Ok(None),
                }
            }
            [Key::Name(outcome)] if outcome == "outcome" => Ok(Some(outcome_schema())),
            [Key::Name(list), ..] if list == "items" || list == "by_key" => {
                let message = format!("`steps.{name}.{list}` has no such part");
                let help =
                    format!("one item is `steps.{name}.items[0]`, or `steps.{name}.by_key.<key>`");
                Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
            }
            [first, ..] => {
                let (message, help) = match first {
                    Key::Index => (
                        format!("step `{name}` is a mapping, with `items` and `by_key` in it"),
                        format!("write `steps.{name}.items[0]`"),
                    ),
                    Key::Name(missing) => (
                        format!("step `{name}` has no output `{missing}` but one for each item"),
                        format!(
                            "`steps.{name}.items` is the list of what they gave, and \
                             `steps.{name}.by_key` has it by key"
                        ),
                    ),
                };
                Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
            }
        }
    }
    /// Whether a read of a step is of its outcome and not of its outputs.
    pub(crate) fn reads_outcome(&self, reference: &Reference) -> bool {
        let Some(step) = reference.name(0).and_then(|name| self.steps.get(name)) else {
            return false;
        };
        match (&step.items, step.outputs) {
            (Some(_), _) => reference.path.len() == 2 && reference.name(1) == Some("outcome"),
            (None, Some(outputs)) => is_outcome(reference, outputs),
            (None, None) => false,
        }
    }
}

/// Follows `path` into what a step gives.
fn output_of(
    name: &str,
    outputs: &Value,
    path: &[Key],
    reference: &Reference,
) -> Result<Option<Value>, Problem> {
    match schema::follow(outputs, path, outputs) {
        Found::Schema(schema) if !reference.computed => Ok(Some(schema)),
        Found::Schema(_) | Found::Open => Ok(None),
        Found::Missing { .. } if is_outcome(reference, outputs) => Ok(Some(outcome_schema())),
        Found::Missing { name: missing, known } => {
            let known = || known.iter().map(String::as_str);
            let help = match suggest::nearest(&missing, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known().len() == 0 => "it has no outputs".into(),
                None => format!("there are {}", suggest::list(known())),
            };
            let message = if path.len() == 1 {
                format!("step `{name}` has no output `{missing}`")
            } else {
                format!("this output of step `{name}` has no `{missing}`")
            };
            Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
        }
    }
}

fn outcome_schema() -> Value {
    json!({ "type": "string", "enum": Outcome::ALL.map(Outcome::name) })
}

/// `steps.<id>.outcome`, unless the step has an output of that name.
fn is_outcome(reference: &Reference, outputs: &Value) -> bool {
    reference.path.len() == 2
        && reference.name(1) == Some("outcome")
        && outputs.pointer("/properties/outcome").is_none()
}
