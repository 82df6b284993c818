//! The `on:` block: each filter checked key by key, so that all of its errors are told at once.

use fairlead_event::{GitPush, Manual, RegistryPush, TriggerKind, Triggers};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::code::{BAD_TRIGGER, NOT_SUPPORTED, UNKNOWN_KEY, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node, single};
use crate::{Diagnostic, suggest};

/// A `when` of a filter, with its place.
pub(crate) struct TriggerWhen<'n> {
    pub(crate) kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub(crate) index: usize,
    pub(crate) node: &'n Node,
}

/// Reads the block. What is wrong is told, and left out of the answer.
pub(crate) fn read<'n>(
    node: Option<&'n Node>,
    found: &mut Vec<Diagnostic>,
) -> (Triggers, Vec<TriggerWhen<'n>>) {
    const KEYS: [&str; 3] = ["registry.push", "git.push", "manual"];
    let mut triggers = Triggers::default();
    let mut conditions = Vec::new();
    let entries = match node.map(|node| &node.content) {
        None => return (triggers, conditions),
        Some(Content::Map(entries)) => entries,
        Some(_) => {
            let node = node.map_or_else(Default::default, |node| node.span);
            let message = "`on` wants a mapping of triggers";
            let finding = Diagnostic::error(WRONG_SHAPE, node, message);
            found.push(finding.help("as in `on: {manual: {}}`"));
            return (triggers, conditions);
        }
    };
    for Entry { key, key_span, value } in entries {
        match key.as_str() {
            "registry.push" => {
                let filters = filters::<RegistryPush>(key, value, found);
                whens(TriggerKind::RegistryPush, value, &mut conditions);
                triggers.registry_push = filters.into_iter().collect();
            }
            "git.push" => {
                let filters = filters::<GitPush>(key, value, found);
                whens(TriggerKind::GitPush, value, &mut conditions);
                triggers.git_push = filters.into_iter().collect();
            }
            "manual" => {
                triggers.manual = Some(Manual::default());
                if value.content != Content::Null {
                    filter::<Manual>(key, value, found);
                }
            }
            "schedule" => {
                let message = "`schedule` is known, but not supported by this version";
                let finding = Diagnostic::error(NOT_SUPPORTED, *key_span, message);
                found.push(finding.help("let cron call `fairlead run`"));
            }
            other => {
                let message = format!("there is no trigger `{other}`");
                let finding = Diagnostic::error(UNKNOWN_KEY, *key_span, message);
                found.push(match suggest::nearest(other, KEYS) {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding.help(format!("there are {}", suggest::list(KEYS))),
                });
            }
        }
    }
    (triggers, conditions)
}

fn whens<'n>(kind: TriggerKind, value: &'n Node, out: &mut Vec<TriggerWhen<'n>>) {
    let nodes = match &value.content {
        Content::List(items) => items.iter().collect(),
        Content::Null
        | Content::Bool(_)
        | Content::Number(_)
        | Content::Text(_)
        | Content::Map(_) => vec![value],
    };
    let whens = nodes.into_iter().enumerate();
    let whens = whens.filter_map(|(index, node)| Some((index, node.get("when")?)));
    out.extend(whens.map(|(index, entry)| TriggerWhen { kind, index, node: &entry.value }));
}

/// One filter or a list of them; nothing behind the key is a filter that lets everything in.
fn filters<T: DeserializeOwned + JsonSchema + Default>(
    key: &str,
    node: &Node,
    found: &mut Vec<Diagnostic>,
) -> Vec<T> {
    match &node.content {
        Content::List(items) => {
            // A broken filter still says which event the pipeline waits for.
            items.iter().map(|item| filter(key, item, found).unwrap_or_default()).collect()
        }
        Content::Null => vec![T::default()],
        Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::Map(_) => {
            vec![filter(key, node, found).unwrap_or_default()]
        }
    }
}

fn filter<T: DeserializeOwned + JsonSchema>(
    trigger: &str,
    node: &Node,
    found: &mut Vec<Diagnostic>,
) -> Option<T> {
    let Content::Map(entries) = &node.content else {
        let message = format!("`{trigger}` wants a mapping, and this is {}", node.describe());
        found.push(Diagnostic::error(WRONG_SHAPE, node.span, message));
        return None;
    };
    let schema = schemars::schema_for!(T);
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|list| list.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let before = found.len();
    for Entry { key, key_span, value } in entries {
        if !known.contains(&key.as_str()) {
            let message = format!("`{trigger}` has no key `{key}`");
            let finding = Diagnostic::error(UNKNOWN_KEY, *key_span, message);
            found.push(match suggest::nearest(key, known.iter().copied()) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None if known.is_empty() => finding.help("it has no settings"),
                None => finding.help(format!("it has {}", suggest::list(known.iter().copied()))),
            });
            continue;
        }
        // Each entry of a list is tried alone, so that each has its own place.
        let parts: Vec<(&Node, Value)> = match &value.content {
            Content::List(items) => {
                items.iter().map(|item| (item, Value::Array(vec![item.json()]))).collect()
            }
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Map(_) => vec![(value, value.json())],
        };
        for (place, part) in parts {
            if let Err(error) = serde_json::from_value::<T>(single(key, part)) {
                let message = format!("`{key}` of `{trigger}`: {error}");
                found.push(Diagnostic::error(BAD_TRIGGER, place.span, message));
            }
        }
    }
    if found.len() > before {
        return None;
    }
    match serde_json::from_value(node.json()) {
        Ok(filter) => Some(filter),
        Err(error) => {
            found.push(Diagnostic::error(BAD_TRIGGER, node.span, format!("`{trigger}`: {error}")));
            None
        }
    }
}
