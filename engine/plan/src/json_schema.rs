//! The JSON Schema of a pipeline file, for editors and for whoever checks one without Fairlead.

use fairlead_event::Triggers;
use fairlead_step::{Catalog, CheckoutOptions, HumanDuration};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::placement::{BYTES_PATTERN, CPU_PATTERN, LABEL_PATTERN};
use crate::spec::API_VERSION;
use crate::{ConcurrencyPolicy, ForEach, Outcome, ParamType, Retry, RunOutcome};

/// The JSON Schema (2020-12) of a pipeline over the step kinds of `catalog`: `uses` selects the
/// schema of `with`, in which an expression may stand for any value.
#[must_use]
pub fn pipeline_schema(catalog: &Catalog) -> Value {
    let kinds: Vec<Value> = catalog
        .specs()
        .map(|spec| json!({ "const": spec.kind, "description": spec.summary }))
        .collect();
    let mut inputs = Map::new();
    let mut selections = Vec::new();
    for spec in catalog.specs() {
        let mut schema = spec.input_schema.clone();
        let required = schema.get("required").is_some_and(|list| *list != json!([]));
        // A schema that refers into itself keeps the parts it refers to at the root.
        rebase(&mut schema, &format!("#/$defs/inputs/{}", spec.kind));
        inputs.insert(spec.kind.to_owned(), with_expressions(schema));
        let with = format!("#/$defs/inputs/{}", spec.kind);
        let mut then = json!({ "properties": { "with": { "$ref": with } } });
        if required {
            then["required"] = json!(["with"]);
        }
        selections.push(json!({
            "if": { "properties": { "uses": { "const": spec.kind } }, "required": ["uses"] },
            "then": then,
        }));
    }
    let outcomes = |names: Vec<&str>| {
        json!({ "anyOf": [
            { "enum": names },
            { "type": "array", "items": { "enum": names }, "minItems": 1 },
        ] })
    };
    let step_outcomes = outcomes(Outcome::ALL.map(Outcome::name).to_vec());
    let run_outcomes =
        outcomes(RunOutcome::ALL.map(RunOutcome::name).into_iter().chain(["always"]).collect());
    let failures = [RunOutcome::Rejected, RunOutcome::Failed, RunOutcome::Cancelled];
    let failures = outcomes(failures.map(RunOutcome::name).to_vec());
    // The pattern is that of `StepId`, whose own schema is that of the text it is read from.
    let id = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,62}$" });
    let uses = json!({ "description": "The step kind.", "oneOf": kinds });
    let with = json!({
        "description": "The inputs of the step. `{{ … }}` reads parameters, the event, and the \
                        outputs of other steps.",
        "type": ["object", "null"],
    });
    let retry = retry();
    let undo = json!({
        "description": "How the step is taken back, on request. Its expressions also read what the \
                        step itself gave.",
        "type": "object",
        "required": ["uses"],
        "additionalProperties": false,
        "properties": {
            "uses": uses.clone(),
            "with": with.clone(),
            "retry": retry.clone(),
            "timeout": plain::<HumanDuration>(),
        },
        "allOf": selections.clone(),
    });
    selections.push(json!({
        "if": { "required": ["uses"] },
        "then": { "properties": { "approval": false, "wait": { "$ref": "#/$defs/ask_again" } } },
        "else": {
            "properties": {
                "with": false, "retry": false, "timeout": false, "cache": false,
                "for_each": false, "on_undo": false, "pool": false, "labels": false,
                "resources": false, "wait": { "$ref": "#/$defs/pause" },
            },
            "oneOf": [{ "required": ["approval"] }, { "required": ["wait"] }],
        },
    }));
    let mut step = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "uses": uses,
            "with": with,
            "approval": { "$ref": "#/$defs/approval" },
            "wait": {
                "description": "Beside `uses`: how long a \"no\" is asked again. Without it: a \
                                pause.",
            },
            "for_each": { "$ref": "#/$defs/for_each" },
            "cache": {
                "description": "Remembers the result by all that went in; for kinds that are pure.",
                "anyOf": [
                    { "type": "boolean" },
                    {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": { "ttl": plain::<HumanDuration>() },
                    },
                ],
            },
            "on_undo": undo,
            "needs": {
                "description": "Steps to wait for, beside those that expressions read.",
                "anyOf": [
                    { "type": "array", "items": id.clone() },
                    { "type": "object", "propertyNames": id.clone(), "additionalProperties": step_outcomes },
                ],
            },
            "when": {
                "description": "An expression; the step is skipped when it is false.",
                "type": ["string", "boolean"],
            },
            "retry": retry,
            "timeout": plain::<HumanDuration>(),
            "pool": {
                "description": "The pool whose runners may make the attempts of the step.",
                "type": "string",
                "pattern": LABEL_PATTERN,
            },
            "labels": { "$ref": "#/$defs/labels" },
            "resources": { "$ref": "#/$defs/resources" },
            "description": { "type": "string" },
        },
        "allOf": selections,
    });
    let main_step = step.clone();
    step["properties"]["on"] = json!({
        "description": "The outcomes of the run for which the step runs; all when left away.",
        "anyOf": run_outcomes["anyOf"],
    });
    let mut failure_step = main_step.clone();
    failure_step["properties"]["on"] = json!({
        "description": "The outcomes of the main steps for which the step runs; rejected, failed and \
                        cancelled when left away.",
        "anyOf": failures["anyOf"],
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fairlead pipeline",
        "type": "object",
        "required": ["apiVersion", "kind", "name", "steps"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": "Pipeline" },
            "name": id.clone(),
            "description": { "type": "string" },
            "on": plain::<Triggers>(),
            "params": {
                "description": "What a run is given. A parameter without a default must be given.",
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$" },
                "additionalProperties": { "$ref": "#/$defs/param" },
            },
            "vars": {
                "description": "Values with a name, each made once when a run is asked for. `{{ … }}` \
                                reads parameters, the event, and the other values.",
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$" },
            },
            "timeout": plain::<HumanDuration>(),
            "concurrency": { "$ref": "#/$defs/concurrency" },
            "workspace": { "$ref": "#/$defs/workspace" },
            "steps": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": id.clone(),
                "additionalProperties": { "$ref": "#/$defs/step" },
            },
            "on_failure": {
                "description": "Steps that run after the main steps, when those did not pass.",
                "type": "object",
                "propertyNames": id.clone(),
                "additionalProperties": { "$ref": "#/$defs/failure_step" },
            },
            "finally": {
                "description": "Steps that run after all others have ended, however they ended.",
                "type": "object",
                "propertyNames": id,
                "additionalProperties": { "$ref": "#/$defs/finally_step" },
            },
        },
        "$defs": {
            "param": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "type": { "enum": ParamType::ALL.map(ParamType::name) },
                    "default": { "type": ["string", "number", "boolean"] },
                    "pattern": { "type": "string", "format": "regex" },
                    "enum": { "type": "array", "minItems": 1 },
                    "description": { "type": "string" },
                },
            },
            "step": main_step,
            "failure_step": failure_step,
            "finally_step": step,
            "approval": approval(),
            "pause": pause(),
            "ask_again": ask_again(),
            "for_each": for_each(),
            "labels": labels(),
            "resources": resources(),
            "concurrency": concurrency(),
            "workspace": workspace(),
            "inputs": inputs,
            "expression": { "type": "string", "pattern": r"\{\{[\s\S]*\}\}" },
        },
    })
}

fn retry() -> Value {
    json!({
        "description": "How often a failed attempt is made again.",
        "type": "object",
        "required": ["max"],
        "additionalProperties": false,
        "properties": {
            "max": { "type": "integer", "minimum": 0, "maximum": Retry::MOST },
            "backoff": {
                "description": "The first and the longest wait, as in `2s..1m`. Each wait is drawn \
                                between a half of it and the whole.",
                "type": "string",
                "pattern": r"^\s*(\d+(d|h|m|s|ms))+(\s*\.\.\s*(\d+(d|h|m|s|ms))+)?\s*$",
            },
            "on": {
                "description": "Which failures: of the infrastructure, those and timeouts, or any.",
                "enum": ["infra", "timeout", "any"],
            },
        },
    })
}

fn approval() -> Value {
    let names = |description: &str, least: usize| {
        json!({
            "description": description,
            "type": "array",
            "items": { "type": "string", "minLength": 1, "maxLength": 200 },
            "minItems": least,
        })
    };
    json!({
        "description": "People decide whether the run goes on.",
        "type": "object",
        "required": ["from"],
        "additionalProperties": false,
        "properties": {
            "from": names("The users and groups who may approve.", 1),
            "min": {
                "description": "How many must approve; 1 when left away.",
                "type": "integer",
                "minimum": 1,
            },
            "order": {
                "description": "Whether the entries of `from` approve in their order.",
                "enum": ["any", "sequential"],
            },
            "expires": plain::<HumanDuration>(),
            "not": names(
                "Who may not approve: `requester`, `builder`, `approvers` of other gates, users and \
                 groups.",
                0,
            ),
        },
    })
}

fn pause() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "for": plain::<HumanDuration>(),
            "until": {
                "description": "A time with its zone, or a template that gives one.",
                "type": "string",
            },
        },
        "oneOf": [{ "required": ["for"] }, { "required": ["until"] }],
    })
}

fn ask_again() -> Value {
    json!({
        "type": "object",
        "required": ["deadline"],
        "additionalProperties": false,
        "properties": {
            "deadline": plain::<HumanDuration>(),
            "every": plain::<HumanDuration>(),
        },
    })
}

fn for_each() -> Value {
    let list = json!({
        "anyOf": [
            { "type": "array", "minItems": 1, "maxItems": ForEach::MOST },
            { "$ref": "#/$defs/expression" },
        ],
    });
    json!({
        "description": "Makes the step once for each item of a list; `item` and `item_key` are read \
                        in expressions.",
        "anyOf": [
            list.clone(),
            {
                "type": "object",
                "required": ["items"],
                "additionalProperties": false,
                "properties": {
                    "items": list,
                    "key": {
                        "description": "The expression that gives an item's key, as `item.name`.",
                        "type": "string",
                    },
                    "max_parallel": {
                        "description": "How many items are worked on at a time.",
                        "type": "integer",
                        "minimum": 1,
                    },
                },
            },
        ],
    })
}

fn labels() -> Value {
    json!({
        "description": "The labels that a runner must have to make the attempts of the step.",
        "type": "object",
        "propertyNames": { "pattern": LABEL_PATTERN },
        "additionalProperties": { "type": "string", "pattern": LABEL_PATTERN },
    })
}

fn resources() -> Value {
    let bytes = |description: &str| {
        json!({
            "description": description,
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": BYTES_PATTERN },
            ],
        })
    };
    json!({
        "description": "How much one attempt of the step may take.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "memory": bytes("Main memory, as in `512Mi`."),
            "cpu": {
                "description": "Processors, as in `2`, `0.5` or `500m`.",
                "anyOf": [
                    { "type": "number", "exclusiveMinimum": 0, "maximum": 1024 },
                    { "type": "string", "pattern": CPU_PATTERN },
                ],
            },
            "pids": {
                "description": "Processes and threads at a time.",
                "type": "integer",
                "minimum": 1,
            },
            "disk": bytes("Room on the disk, as in `10Gi`."),
        },
    })
}

fn concurrency() -> Value {
    let group = json!({
        "description": "The name of the group, in which templates may stand.",
        "type": "string",
        "minLength": 1,
    });
    json!({
        "description": "Which runs must not go on at the same time.",
        "anyOf": [
            group.clone(),
            {
                "type": "object",
                "required": ["group"],
                "additionalProperties": false,
                "properties": {
                    "group": group,
                    "policy": {
                        "description": "What a newcomer does when there is no room.",
                        "enum": ConcurrencyPolicy::ALL.map(ConcurrencyPolicy::name),
                    },
                    "max": {
                        "description": "How many runs of the group may go on; 1 when left away.",
                        "type": "integer",
                        "minimum": 1,
                    },
                },
            },
        ],
    })
}

fn workspace() -> Value {
    json!({
        "description": "How much of the commit that started a run is laid out.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "depth": {
                "description": "How many commits of history come with it; 1 when left away.",
                "anyOf": [
                    { "type": "integer", "minimum": 1, "maximum": i32::MAX },
                    { "const": "all" },
                ],
            },
            "sparse": {
                "description": "The folders that are wanted; everything when left away.",
                "type": "array",
                "items": { "type": "string", "minLength": 1 },
                "maxItems": CheckoutOptions::MOST_FOLDERS,
            },
            "partial": {
                "description": "Whether what is not wanted now stays at the forge.",
                "type": "boolean",
            },
        },
    })
}

/// The schema of a type of ours, everything inlined.
fn plain<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Moves references within a schema to where the schema now stands.
fn rebase(schema: &mut Value, base: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let target = (key == "$ref").then(|| value.as_str()?.strip_prefix('#')).flatten();
                match target {
                    Some(rest) => *value = Value::String(format!("{base}{rest}")),
                    None => rebase(value, base),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, base)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets an expression stand for every value within `schema`, but not for the whole.
fn with_expressions(mut schema: Value) -> Value {
    descend(&mut schema);
    schema
}

fn descend(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, part) in map.iter_mut() {
        match (key.as_str(), part) {
            ("properties" | "patternProperties" | "$defs", Value::Object(parts)) => {
                parts.values_mut().for_each(or_expression);
            }
            ("items" | "additionalProperties", part @ Value::Object(_)) => or_expression(part),
            ("prefixItems", Value::Array(parts)) => parts.iter_mut().for_each(or_expression),
            ("anyOf" | "oneOf" | "allOf", Value::Array(parts)) => {
                parts.iter_mut().for_each(descend);
            }
            _ => {}
        }
    }
}

fn or_expression(schema: &mut Value) {
    descend(schema);
    // The constant that tells variants apart is never filled.
    if schema.get("const").is_some() || !schema.is_object() {
        return;
    }
    let own = std::mem::take(schema);
    let description = own.get("description").cloned();
    *schema = json!({ "anyOf": [own, { "$ref": "#/$defs/expression" }] });
    if let Some(description) = description {
        schema["description"] = description;
    }
}
